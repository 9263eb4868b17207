"""The adb program: which device, commands on it, files to and from it, and waiting for one that was unplugged."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nasvit_edge.errors import DeviceError
from nasvit_edge.listening import Listener
from nasvit_edge.transport.outputs.android import ListedDevice, listed

_SETTLE_S = 4.0  # a device that was just found may say `offline` or `authorizing` for so long
_POLL_S = 0.5
_COMMAND_S = 60.0
_ALLOW = "accept 'Allow USB debugging?' on its screen, then run the same command again"
_AGAIN = "unplug it and plug it in again, or run: adb reconnect offline"
_STATES = {  # what is wrong, and what to do
    "unauthorized": ("has not allowed this computer", _ALLOW),
    "authorizing": ("has not allowed this computer yet", _ALLOW),
    "offline": ("is offline", _AGAIN),
    "connecting": ("is still connecting", _AGAIN),
    "no permissions": (
        "may not be opened by this user",
        "run: apt install android-sdk-platform-tools-common (udev rules), then plug it in again",
    ),
}


class AwayError(DeviceError):
    """The device is not there now; it may come back."""


class HungError(DeviceError):
    """A command did not end in time, on a device that is there."""


@dataclass(slots=True)
class Adb:
    """One device, by the real adb client; `ANDROID_ADB_SERVER_PORT` and `ANDROID_SERIAL` count.

    Attributes:
        wanted: the serial that was asked for; empty for the only device.
        wait_s: how long a device that is away is waited for.
        serial: of the device once `find` found it.
        waiting: called again and again while the device is away; what it raises ends the wait.
        mark: what no program on the device prints: it divides their outputs.
    """

    wanted: str
    wait_s: float
    listener: Listener
    serial: str = ""
    mark: str = field(default_factory=lambda: f"nasvit-edge-{secrets.token_hex(8)}")
    waiting: Callable[[], None] = lambda: None

    def version(self) -> str:
        """The client's version; DeviceError where there is no adb."""
        match = re.search(r"^Version (\S+)", self._adb("version")[1], re.MULTILINE)
        return match[1] if match else "unknown"

    def find(self) -> None:
        """Choose the device.

        Raises:
            DeviceError: none, several, or one that cannot be used as it is; says what to do.
        """
        wanted = self.wanted or os.environ.get("ANDROID_SERIAL", "")
        until = time.monotonic() + _SETTLE_S
        while True:
            devices = self._listed(wanted)
            problem = _problem(devices, wanted)
            if problem is None:
                self.serial = _those(devices, wanted)[0].serial
                return
            if problem[1] not in ("offline", "authorizing", "connecting") or time.monotonic() > until:
                raise problem[0]
            time.sleep(_POLL_S)

    def shell(self, command: str, timeout_s: float = _COMMAND_S) -> tuple[int, str]:
        """Exit code and output (stdout and stderr) of a command line for the device's shell.

        Raises:
            AwayError: the connection broke off before the command ended.
            HungError: it did not end in time.
        """
        script = f'{{ {command}\n}} </dev/null 2>&1; c=$?; echo; echo "{self.mark} end $c"'
        output = self._on_device(["shell", script], timeout_s)[1].replace("\r\n", "\n")
        body, _, end = output.rpartition(f"\n{self.mark} end ")
        if not end.strip().isdigit():
            raise AwayError(f"device {self.serial!r} broke off: {_line(output)}")
        return int(end), body

    def push(self, sources: Sequence[Path], target: str) -> None:
        """Copy files; AwayError where the connection broke off, DeviceError where the device has no room."""
        code, output = self._on_device(["push", *map(str, sources), target], 600.0)
        if code == 0:
            return
        if "No space left" in output or "Disk quota" in output:
            raise DeviceError(
                f"device {self.serial!r} is full: no space left in {target!r}",
                "free some space on it, or give another `folder` in device.toml",
            )
        if any(word in output for word in ("Permission denied", "Read-only", "Not a directory")):
            raise DeviceError(
                f"device {self.serial!r} takes no files in {target!r}: {_line(output)}",
                "give another `folder` in device.toml",
            )
        raise AwayError(f"device {self.serial!r} broke off while files were copied: {_line(output)}")

    def pull(self, sources: Sequence[str], target: Path) -> None:
        """Copy files from the device; AwayError where that failed."""
        code, output = self._on_device(["pull", *sources, str(target)], 600.0)
        if code:
            raise AwayError(f"device {self.serial!r} gave no file: {_line(output)}")

    def wait_back(self, reason: object) -> None:
        """Wait for a device that went away; DeviceError where it stays away for `wait_s`."""
        self.listener.note(f"{reason}; waiting up to {self.wait_s:g} s for it")
        until = time.monotonic() + self.wait_s
        problem = (DeviceError("is not connected"), "")
        while True:
            devices = self._listed(self.serial, reconnect=True)
            here = _those(devices, self.serial)
            problem = _problem(devices, self.serial) or problem
            if here and here[0].state == "device" and self._answers():
                self.listener.note(f"device {self.serial!r} is back")
                return
            if time.monotonic() > until:
                what, todo = problem[0].what, problem[0].todo
                raise DeviceError(
                    f"device {self.serial!r} did not come back in {self.wait_s:g} s: {what}", todo
                )
            self.waiting()
            time.sleep(_POLL_S)

    def _answers(self) -> bool:
        try:
            return self.shell("true", 10.0)[0] == 0
        except (AwayError, HungError):
            return False

    def _listed(self, wanted: str, reconnect: bool = False) -> list[ListedDevice]:
        """Devices; one that is wanted by ADDRESS:PORT is connected first."""
        devices = listed(self._adb("devices")[1])
        here = _those(devices, wanted) if wanted else devices
        if (
            ":" in wanted
            and not wanted.startswith("emulator")
            and (not here or (reconnect and here[0].state != "device"))
        ):
            if here:  # a dead connection is in the way of a new one
                self._adb("disconnect", wanted)
            self._adb("connect", wanted)
            devices = listed(self._adb("devices")[1])
        return devices

    def _on_device(self, arguments: Sequence[str], timeout_s: float) -> tuple[int, str]:
        try:
            return self._adb("-s", self.serial, *arguments, timeout_s=timeout_s)
        except subprocess.TimeoutExpired:
            state = _those(self._listed(self.serial), self.serial)
            if state and state[0].state == "device":
                raise HungError(f"no answer in {timeout_s:g} s") from None
            raise AwayError(f"device {self.serial!r} went away") from None

    def _adb(self, *arguments: str, timeout_s: float = 0.0) -> tuple[int, str]:
        """Exit code and output of the client; without a `timeout_s` a hang is an error."""
        program = shutil.which("adb")
        if program is None:
            raise DeviceError(
                "adb is not installed", "run: apt install adb (or put Android's platform-tools on PATH)"
            )
        try:
            process = subprocess.run(
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout_s or _COMMAND_S,
                check=False,
                start_new_session=True,  # Ctrl-C is for us: the device is still to be cleaned up
            )
        except OSError as error:
            raise DeviceError(f"adb does not start: {program!r}: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            if timeout_s:
                raise
            raise DeviceError(f"'adb {arguments[0]}' does not answer", "run: adb kill-server") from None
        output = process.stdout.decode(errors="replace")
        if "cannot connect to daemon" in output or "failed to start daemon" in output:
            raise DeviceError(f"adb's server does not run: {_line(output)}", "run: adb kill-server")
        return process.returncode, output


def _those(devices: Sequence[ListedDevice], wanted: str) -> list[ListedDevice]:
    return [one for one in devices if not wanted or one.serial == wanted]


def _problem(devices: Sequence[ListedDevice], wanted: str) -> tuple[DeviceError, str] | None:
    """Why there is no one device to use, with its state; None where there is."""
    those = _those(devices, wanted)
    names = ", ".join(f"{one.serial} ({one.state})" for one in devices)
    if not those and wanted:
        todo = f"there are: {names or 'none'}; plug it in, or run: adb devices"
        return DeviceError(f"device {wanted!r} is not connected", todo), ""
    if not those:
        todo = "plug one in, allow USB debugging (Settings, Developer options), then run: adb devices"
        return DeviceError("no Android device is connected", todo), ""
    if len(those) > 1:
        todo = f"give one with --serial or as `serial` in device.toml, as in: --serial {those[0].serial}"
        return DeviceError(f"several devices are connected: {names}", todo), ""
    one = those[0]
    if one.state == "device":
        return None
    what, todo = _STATES.get(one.state, (f"is in state {one.state!r}", "start Android on it"))
    return DeviceError(f"device {one.serial!r} {what}", todo), one.state


def _line(output: str) -> str:
    """The line of an output that says most."""
    lines = [line.strip() for line in output.splitlines() if line.strip() and "files pushed" not in line]
    errors = [line for line in lines if "error" in line or "failed" in line or "adb:" in line]
    return repr((errors or lines or ["no answer"])[-1][:200])
