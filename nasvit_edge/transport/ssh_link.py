"""A runner behind ssh: started by one command, asked line by line, started again where the connection is lost.

The runner's source travels as the first line, so nothing has to be there but Python. Nothing that a user, a device
file or a model names becomes part of a command's text: the remote command is one constant, all else is JSON.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import re
import shlex
import shutil
import socket
import time
from collections import deque
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from nasvit_edge import files
from nasvit_edge.device import Device
from nasvit_edge.errors import DeviceError, MeasurementError
from nasvit_edge.listening import Listener
from nasvit_edge.records import Record, Whole, content
from nasvit_edge.transport.answers import Broken, Failure, Full, Garbled, Lost, Message, fitted
from nasvit_edge.transport.last_words import crash, with_last_words
from nasvit_edge.transport.process import LineProcess
from nasvit_edge.transport.ssh_errors import Trouble, remote_trouble, trouble
from nasvit_edge.transport.ways import Ways
from nasvit_edge.transport.wire import BootRequest, EndRequest

_BOOT = (
    'import sys; sys.version_info < (3, 8) and sys.exit("Python %d.%d is too old" % sys.version_info[:2]); '
    'import json; request = json.loads(sys.stdin.readline()); exec(request["boot"])'
)
_LOAD = """
import types
for name, source in request["modules"]:
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(source, name + ".py", "exec"), module.__dict__)
sys.modules["remote"].main(request)
"""
_HOST = (  # what the runner needs
    ("forks", "host/forks.py"),
    ("reading", "host/reading.py"),
    ("elsewhere", "host/elsewhere.py"),
    ("waiting", "host/waiting.py"),
    ("arm_cores", "host/arm_cores.py"),
    ("emulation", "host/emulation.py"),
    ("machine", "host/machine.py"),
)
_MODULES = (
    ("board", "jetson/board.py"),
    ("complaints", "jetson/complaints.py"),
    ("engines", "jetson/engines.py"),
    ("tensorrt_python", "jetson/tensorrt_python.py"),
    ("remote", "linux-ssh/remote.py"),
)
_OPTIONS = {
    "BatchMode": "yes",  # nothing is asked: no password, no host key
    "StrictHostKeyChecking": "yes",
    "ConnectTimeout": "10",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
    "ControlPath": "none",  # a shared connection would not notice that its network is away
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "RemoteCommand": "none",
    "PermitLocalCommand": "no",
    "LogLevel": "INFO",
}
_ADDRESS = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9:_][A-Za-z0-9._:%-]*")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_START_S = 90.0  # a loaded board starts Python, and another runner may have to go first
_LOSSES = 3  # of the connection at one request, each time after it was back
_CRASHES = 2  # of the runner at one request: then that is why it crashes
_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0)


class Started(Record, frozen=True, kw_only=True):
    """What the runner says when it is started; `died` is what the one before was doing when it died, if it did."""

    folder: Annotated[str, Meta(min_length=1)]
    files: tuple[str, ...] = ()
    free_bytes: Whole = 0
    python: str = ""
    clocks_refused: str = ""
    died: str = ""


class _GoneError(Exception):
    """The child died before it was asked."""


class SshLink:
    """The connection to one device.

    Attributes:
        folder: the runner's, there; empty before the first start.
        started: what the runner said at its last start; None before the first.
        starts: how often it was started.
        losses: how often it was lost since it last answered.
    """

    def __init__(self, device: Device, ways: Ways, listener: Listener) -> None:
        self.device, self.ways, self.note = device, ways, listener.note
        self.command = ssh_command(device)
        self.said: deque[str] = deque(maxlen=20)
        self.child = LineProcess(self._command, self.said.append)
        self.started: Started | None = None
        self.folder, self.starts, self.losses, self._starting, self._asking = "", 0, 0, False, False

    def ask(self, request: Message, timeout_s: float) -> Message | Failure:
        """The answer, or why the runner failed at it or did not answer in time; `Broken` where it died of it.

        ssh's exit code is 255 for a lost connection and for a runner that died of a signal: the runner's next start tells.

        Raises:
            DeviceError: the device is away for longer than is waited for, or does not let us in any more.
        """
        name, lost, crashes = str(request["id"]), 0, 0
        while lost < _LOSSES:
            self._wait_until_there()
            answer = self._request(request, timeout_s)
            if not isinstance(answer, Lost) or answer.code is None:
                return self._answered(answer, request)  # where it hangs, a new runner ends the old one
            if answer.code != 255:
                return Broken(id=name, error=f"the runner ended ({crash(list(self.said), answer.code)})")
            how = crash(list(self.said))
            if not self._died(name):
                lost += 1
                self.note(f"the connection to {self.device.name} was lost and is there again")
                continue
            crashes += 1
            if crashes == _CRASHES:
                return Broken(id=name, error=f"the runtime crashed {crashes} times at it ({how})")
            self.note(f"the runner on {self.device.name} crashed at {name!r} ({how}): trying it once more")
        return Broken(id=name, error=f"the connection was lost {lost} times at it")

    def start(self) -> None:
        """Connect and start the runner; DeviceError where that does not work at once."""
        problem = self._start()
        if problem is not None:
            raise self._error(problem)

    def fresh(self) -> None:
        """End the runner's process; the next request starts another."""
        self.child.close()

    def end(self) -> None:
        """End the runner and remove its folder; says where it could not."""
        if not self.folder:
            self.child.close()
            return
        try:
            if self._asking:
                self.child.close()  # it is in the middle of something
            problem = None if self._alive() else self._start()
            answer = (
                None if problem else self.child.request(content(EndRequest(id="end", ask="end")), _START_S)
            )
        except (DeviceError, MeasurementError, _GoneError):
            answer = None
        finally:
            self.child.close()
        if not isinstance(answer, dict) or not answer.get("ended"):
            self.note(
                f"the folder {self.folder!r} is still on {self.device.name}: a later profile uses or removes it"
            )
        self.folder = ""

    def _died(self, name: str) -> bool:
        """Start the runner again, after a longer pause each time; whether the last one died of what it was asked."""
        self.losses += 1
        if self.losses > 1:
            self.ways.waiting()
            time.sleep(_PAUSES_S[min(self.losses - 2, len(_PAUSES_S) - 1)])
        self._wait_until_there()
        return self.started is not None and self.started.died == name

    def _answered(self, answer: Message | Failure, request: Message) -> Message | Failure:
        """The answer; where a fork of the runner crashed, with its last words."""
        if not isinstance(answer, Lost) and request.get("ask") != "put":
            self.losses = 0
        return with_last_words(answer, self.said) if isinstance(answer, Broken) else answer

    def _request(self, request: Message, timeout_s: float) -> Message | Failure:
        self.said.clear()
        self._asking = True
        try:
            answer = self.child.request(request, timeout_s)
        except _GoneError:
            answer = Lost(id=str(request["id"]), error="the runner died", code=255)
        self._asking = False
        return answer

    def _wait_until_there(self) -> None:
        """Start the runner where it is not running, for as long as is waited for a device that is away."""
        since, tries = time.monotonic(), 0
        while not self._alive():
            problem = self._start()
            if problem is None:
                return
            spent = time.monotonic() - since
            if not problem.passes:
                raise self._error(problem)
            if spent >= self.ways.wait_s:
                raise self._error(
                    Trouble(f"away for {spent:.0f} s: {problem.found}", problem.todo, passes=False)
                )
            if tries == 0:
                self.note(
                    f"{self.device.name} is away ({problem.found}): waiting up to {self.ways.wait_s:g} s"
                )
            pause = _PAUSES_S[min(tries, len(_PAUSES_S) - 1)]
            self.ways.waiting()
            time.sleep(max(0.0, min(pause, self.ways.wait_s - spent)))
            tries += 1

    def _alive(self) -> bool:
        return self.child.process is not None and self.child.process.poll() is None

    def _start(self) -> Trouble | None:
        """Start the runner; why not, where it did not start."""
        self.said.clear()
        self.child.close()
        self._starting = True
        try:
            answer = self.child.request(self._boot(), _START_S)
        finally:
            self._starting = False
        if isinstance(answer, dict) and answer.get("folder"):
            self.started = fitted(Started, answer | {"folder": str(answer["folder"])})
            self.folder = self.started.folder
            self.starts += 1
            return None
        self.child.close()
        return self._trouble(
            answer if isinstance(answer, Failure) else Failure(id="boot", error="it said nothing")
        )

    def _trouble(self, answer: Failure) -> Trouble:
        command_line, host, user, known = destination(self.device)
        match answer:
            case Lost(code=None):
                return Trouble(answer.error, "see that it is not busy or out of memory", passes=True)
            case Lost(code=255):
                return trouble(list(self.said), host, user, command_line, known)
            case Lost(code=int(code)):
                return remote_trouble(code, list(self.said), self.device.python or "python3", command_line)
            case Full():
                what = "its disk is full"
                todo = "free some space there, or give another `folder` in device.toml"
            case Garbled():
                what = f"its shell prints something before commands: {answer.error[:160]}"
                todo = "its shell's start-up files may print only when somebody is there (case $- in *i*) ... esac)"
            case _:
                what = f"there is no folder for files: {answer.error}"
                todo = "give one as `folder` in device.toml"
        return Trouble(what, todo, passes=False)

    def _error(self, problem: Trouble) -> DeviceError:
        return DeviceError(problem.found, problem.todo, device=self.device.name)

    def _command(self) -> list[str]:
        if not self._starting:
            raise _GoneError
        return self.command

    def _boot(self) -> Message:
        shipped = files.shipped("devices")
        host_files, other = (
            [(name, shipped / path) for name, path in listed] for listed in (_HOST, _MODULES)
        )
        sources = [*host_files, ("runner", self.device.runner), *other]
        request = BootRequest(
            id="boot",
            boot=_LOAD,
            modules=tuple((name, files.read_bytes(path, "runner").decode()) for name, path in sources),
            base=self.device.folder,
            owner=_owner(self.device),
            folder=self.folder,
            tool=self.device.tool,
            lock_clocks=self.ways.lock_clocks,
        )
        return dict(content(request))


def ssh_command(device: Device) -> list[str]:
    """The command that starts the runner.

    Raises:
        DeviceError: there is no ssh here; an address, user or key that cannot be.
    """
    if shutil.which("ssh") is None:
        raise DeviceError(
            "ssh is not installed here", "run: sudo apt install openssh-client", device=device.name
        )
    options = [part for key, value in _OPTIONS.items() for part in ("-o", f"{key}={value}")]
    remote = shlex.join(["exec", device.python or "python3", "-u", "-c", _BOOT])
    return ["ssh", "-T", *options, *_login(device), "--", device.address, remote]


def _login(device: Device) -> list[str]:
    """Port, user and key, checked."""
    wrong = {
        "address": not _ADDRESS.fullmatch(device.address),
        "user": bool(device.user) and not _USER.fullmatch(device.user),
        "key": "%" in device.key or "${" in device.key,  # ssh would put something in their place
    }
    for key, bad in wrong.items():
        if bad:
            possible = "a path without '%' or '${'" if key == "key" else "letters, digits and .:_-"
            value = getattr(device, key)
            raise DeviceError(f"{key} is {value!r}", f"possible is {possible}", device=device.name)
    options = ["-p", str(device.port)] if device.port else []
    options += ["-l", device.user] if device.user else []
    if device.key:
        path = Path(device.key).expanduser()
        if not path.is_file():
            raise DeviceError(f"key {device.key!r} is no file here", device=device.name)
        options += ["-i", str(path.absolute()), "-o", "IdentitiesOnly=yes"]
    return options


def destination(device: Device) -> tuple[str, str, str, str]:
    """For messages: the ssh command, the host, the user, and the host as known_hosts writes it."""
    login, _, host = device.address.rpartition("@")
    user = device.user or login
    port = ["-p", str(device.port)] if device.port else []
    command_line = shlex.join(["ssh", *port, f"{user}@{host}" if user else host])
    known = f"[{host}]:{device.port}" if device.port not in (0, 22) else host
    return command_line, host, repr(user) if user else "that is set", shlex.quote(known)


def _owner(device: Device) -> str:
    """What folders of this host and user on a device are found again by."""
    name = ""
    with contextlib.suppress(OSError, KeyError):
        name = getpass.getuser()
    return hashlib.sha256(f"{socket.gethostname()} {name} {device.name}".encode()).hexdigest()[:12]
