"""A real OpenSSH server of the tests' own: its keys, its port on loopback, a user of its own where the tests are root."""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from conftest import require_tool

from nasvit_edge import files
from nasvit_edge.device import Device, parse_device


class Sshd:
    """The server, its clients' configuration, and devices behind it.

    `bin` is first on the search path of its sessions; `home` is the user's; `key` what it accepts.
    """

    def __init__(self, root: Path, user: str, home: Path) -> None:
        self.root, self.user, self.home = root, user, home
        self.key, self.bin, self.keys = root / "client" / "key", root / "bin", root / "authorized"
        self.config = root / "client" / "config"
        self.known = root / "client" / "known_hosts"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        (root / "client").mkdir(mode=0o700)
        self.bin.mkdir()
        for key in (self.key, root / "host", root / "other"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
            subprocess.run(command, check=True)
        self.keys.write_text(self.key.with_suffix(".pub").read_text())
        self.config.write_text(f'UserKnownHostsFile "{self.known}"\nGlobalKnownHostsFile /dev/null\n')
        self.trust()
        self.python = self.program("python", interpreter(user))

    def start(self, host_key: str = "host", path: str = "/usr/local/bin:/usr/bin:/bin") -> None:
        """Start it and wait until it answers."""
        lines = f"""
            ListenAddress 127.0.0.1
            Port {self.port}
            HostKey {self.root / host_key}
            AuthorizedKeysFile {self.keys}
            PidFile none
            StrictModes no
            UsePAM no
            PasswordAuthentication no
            KbdInteractiveAuthentication no
            PrintMotd no
            MaxStartups 100
            SetEnv PATH={self.bin}:{path}
        """
        (self.root / "sshd_config").write_text(textwrap.dedent(lines))
        command = [sshd_path(), "-D", "-e", "-f", str(self.root / "sshd_config")]
        log = (self.root / "sshd.log").open("ab")
        self.process = subprocess.Popen(command, stderr=log, start_new_session=True)
        log.close()
        wait_until(lambda: answers(self.port), "sshd")

    def stop(self) -> None:
        """Kill it with all its sessions; what they started learns it from its closed channel."""
        if self.process is not None:
            for pid in [*descendants(self.process.pid), self.process.pid]:
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{pid}/comm").read_text().startswith("sshd"):
                        os.kill(pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def trust(self, host_key: str = "host", port: int | None = None) -> None:
        """Let clients know the server by a key."""
        kind, key = (self.root / f"{host_key}.pub").read_text().split()[:2]
        self.known.write_text(f"[127.0.0.1]:{port or self.port} {kind} {key}\n")

    def program(self, name: str, text: str) -> Path:
        """An executable in `bin`."""
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def device(self, **changes: object) -> Device:
        """A device behind the server."""
        table: dict[str, object] = {
            "schema": 2,
            "name": "board",
            "about": "a board of the tests",
            "transport": "ssh",
            "runtimes": ["onnxruntime", "tensorrt"],
            "runner": str(files.shipped("devices") / "host" / "runner.py"),
            "address": "127.0.0.1",
            "port": self.port,
            "user": self.user,
            "key": str(self.key),
            "python": str(self.python),
            "folder": str(self.home / "work"),
        }
        return parse_device(table | changes, self.root / "device.toml")

    def left(self) -> list[str]:
        """What is left in the folder of devices."""
        return sorted(path.name for path in (self.home / "work").glob("*"))


@contextlib.contextmanager
def ssh_configured(ssh: Path, config: Path) -> Iterator[None]:
    """The `ssh` that is found first is this one, which uses a configuration."""
    ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {shlex.quote(str(config))} "$@"\n')
    ssh.chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{ssh.parent}:{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


@contextlib.contextmanager
def running_sshd() -> Iterator[Sshd]:
    """A server with an empty home; the `ssh` that is found first uses its configuration."""
    require_tool("openssh-server", sshd_path() != "")
    require_tool("openssh-client", shutil.which("ssh") is not None)
    root = Path(tempfile.mkdtemp(prefix="sshd-", dir="/tmp"))
    root.chmod(0o755)
    home = root / "home"
    home.mkdir()
    user = made_user(home)
    server = Sshd(root, user, home)
    try:
        with ssh_configured(root / "client" / "ssh", server.config):
            server.start()
            yield server
    finally:
        server.stop()
        if user != me():
            subprocess.run([system_tool("userdel"), "--force", user], check=False, capture_output=True)
        shutil.rmtree(root, ignore_errors=True)


def made_user(home: Path) -> str:
    """An unprivileged user where that can be made and can run Python; else who runs the tests."""
    if os.geteuid() != 0:
        return me()
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd as root wants it
    useradd = system_tool("useradd")
    if not useradd or interpreter("other") == "":
        return me()
    user = f"edge-{uuid.uuid4().hex[:8]}"
    command = [
        useradd,
        "--password",
        "*",
        "--no-create-home",
        "--home-dir",
        str(home),
        "--shell",
        "/bin/sh",
        user,
    ]
    subprocess.run(command, check=True)
    account = pwd.getpwnam(user)
    os.chown(home, account.pw_uid, account.pw_gid)
    return user


def interpreter(user: str) -> str:
    """A script that is this Python for a user, or the system's with this one's packages; empty where there is none."""
    packages = sysconfig.get_paths()["purelib"]
    if user == me() or readable(Path(sys.executable).resolve()):
        return f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n'
    system = Path(f"/usr/bin/python3.{sys.version_info[1]}")
    if not system.exists() or not readable(Path(packages)):
        return ""
    return f'#!/bin/sh\nPYTHONPATH={shlex.quote(packages)} exec {system} "$@"\n'


def readable(path: Path) -> bool:
    """Whether anybody may get at a path."""
    return all(part.stat().st_mode & stat.S_IXOTH for part in [path, *path.parents])


def me() -> str:
    """Who runs the tests."""
    return pwd.getpwuid(os.geteuid()).pw_name


def sshd_path() -> str:
    """The server's program."""
    return system_tool("sshd")


def system_tool(name: str) -> str:
    """The path of an administrator's program, which not every search path has; empty where there is none."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin") or ""


def descendants(pid: int) -> list[int]:
    """The processes below one; those of a session that left its parent too."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    pids, level = [], [pid]
    while level:
        level = [child for child, parent in parents.items() if parent in level]
        pids += level
    return pids


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as client:
        return client.recv(3) == b"SSH"
    return False


def wait_until(done: object, what: str, seconds: float = 30.0) -> None:
    """Until something is true, for a bounded time."""
    deadline = time.monotonic() + seconds
    while not done():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds} s"
        time.sleep(0.02)


class Proxy:
    """A TCP proxy that can stop forwarding, as a network does that is away: nothing is closed, nothing arrives."""

    def __init__(self, port: int) -> None:
        self.to, self.stalled, self.open = port, False, True
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.server.getsockname()[1])
        self.moved = self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while self.open:
                client, _ = self.server.accept()
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self.to)) as server:
            other, cuts = {client: server, server: client}, self.cuts
            while self.open and self.cuts == cuts:
                if self.stalled:
                    time.sleep(0.02)
                    continue
                for ready in select.select(list(other), [], [], 0.05)[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return
                    self.moved += len(data)
                    other[ready].sendall(data)

    def cut(self) -> None:
        """End what goes through it now."""
        self.cuts += 1

    def close(self) -> None:
        """End it and what goes through it."""
        self.open = False
        self.server.close()
