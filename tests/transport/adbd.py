"""A small adbd: the ADB wire protocol over TCP on loopback, shell commands run for real in a folder of the test's.

Paths below /data/local/tmp and /sys/devices/system/cpu are those of `root`; programs in `root/bin` come first.
Sources: `protocol.txt`, `SYNC.TXT` and `shell_protocol.h` of Android's adb.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

_VERSION, _MOST = 0x01000001, 256 * 1024
_FEATURES = "shell_v2,cmd"
_MAPPED = re.compile(r"/data/local/tmp|/sys/devices/system/cpu")


def _packet(command: bytes, first: int, second: int, data: bytes = b"") -> bytes:
    number = struct.unpack("<I", command)[0]
    head = struct.pack("<6I", number, first, second, len(data), sum(data) & 0xFFFFFFFF, number ^ 0xFFFFFFFF)
    return head + data


class Adbd:
    """A device on a port.

    Attributes:
        authorised: without it no key is ever accepted.
        bytes_left: of files, after which the connection is dropped once; None for no limit.
        away_s: how long it cannot be connected to after it was dropped.
        room: bytes it takes before it is full; None for no limit.
        commands: the shell commands that came.
    """

    def __init__(
        self, root: Path, *, authorised: bool = True, shell_v2: bool = True, environment=None
    ) -> None:
        self.root, self.authorised, self.shell_v2 = root, authorised, shell_v2
        self.environment = environment or {}
        self.path = f"{root / 'bin'}:{os.environ['PATH']}"
        self.bytes_left: int | None = None
        self.room: int | None = None
        self.drop_at: str | None = (
            None  # a shell command with this text: the connection is dropped once it runs
        )
        self.away_s = 0.0
        self.commands: list[str] = []
        self.connections: list[_Connection] = []
        self.port = 0
        self.listener: socket.socket | None = None
        self.closed = False
        (root / "data/local/tmp").mkdir(parents=True, exist_ok=True)
        (root / "bin").mkdir(exist_ok=True)

    def __enter__(self) -> Adbd:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True
        self.drop()

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self.port}"

    def mapped(self, text: str) -> str:
        """A path or command line with this device's paths below `root`."""
        return _MAPPED.sub(lambda match: f"{self.root}{match[0]}", text)

    def drop(self) -> None:
        """Unplugged: every connection ends and none is taken until `plug`."""
        if self.listener is not None:
            with contextlib.suppress(OSError):
                self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self.listener = None
        for connection in list(self.connections):
            connection.end()

    def plug(self) -> None:
        if self.listener is None and not self.closed:
            self._listen()

    def drop_for_a_while(self) -> None:
        self.drop()
        threading.Timer(self.away_s, self.plug).start()

    def _listen(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", self.port))  # the same port again: SO_REUSEADDR
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = listener.accept()
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = _Connection(self, stream)
                self.connections.append(connection)
                threading.Thread(target=connection.serve, daemon=True).start()


class _Connection:
    def __init__(self, adbd: Adbd, stream: socket.socket) -> None:
        self.adbd, self.stream = adbd, stream
        self.lock = threading.Lock()
        self.services: dict[int, _Service] = {}
        self.next = 1

    def send(self, *packet) -> None:
        with self.lock, contextlib.suppress(OSError):
            self.stream.sendall(_packet(*packet))

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self.stream.shutdown(socket.SHUT_RDWR)
        for service in list(self.services.values()):
            service.end()
        if self in self.adbd.connections:
            self.adbd.connections.remove(self)

    def serve(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                command, first, second, length, _, _ = struct.unpack("<6I", self._read(24))
                self._handle(struct.pack("<I", command), first, second, self._read(length))
        self.end()
        self.stream.close()

    def _read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            part = self.stream.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return bytes(data)

    def _handle(self, command: bytes, first: int, second: int, data: bytes) -> None:
        if command in (b"CNXN", b"AUTH"):
            self._greet()
        elif command == b"OPEN":
            self._open(first, data.rstrip(b"\0").decode())
        elif command == b"WRTE" and second in self.services:
            service = self.services[second]
            self.send(b"OKAY", second, first)
            service.feed(data)
        elif command == b"OKAY" and second in self.services:
            self.services[second].ready.release()
        elif command == b"CLSE" and second in self.services:
            self.services.pop(second).end()

    def _greet(self) -> None:
        if not self.adbd.authorised:
            self.send(b"AUTH", 1, 0, os.urandom(20))  # a token, again and again: no key will do
            time.sleep(0.05)
            return
        features = _FEATURES if self.adbd.shell_v2 else "cmd"
        banner = (
            f"device::ro.product.name=test;ro.product.model=test;ro.product.device=test;features={features}"
        )
        self.send(b"CNXN", _VERSION, _MOST, banner.encode())

    def _open(self, remote: int, name: str) -> None:
        kind, _, argument = name.partition(":")
        local, self.next = self.next, self.next + 1
        makers = {"shell": _Shell, "sync": _Sync}
        maker = makers.get(kind.split(",")[0])
        if maker is None:
            self.send(b"CLSE", 0, remote)
            return
        service = self.services[local] = maker(self, local, remote, kind, argument)
        self.send(b"OKAY", local, remote)
        threading.Thread(target=service.run, daemon=True).start()


class _Service:
    def __init__(self, connection: _Connection, local: int, remote: int, kind: str, argument: str) -> None:
        self.connection, self.local, self.remote = connection, local, remote
        self.kind, self.argument, self.adbd = kind, argument, connection.adbd
        self.ready = threading.Semaphore(1)  # one packet at a time is acknowledged
        self.incoming = bytearray()
        self.arrived = threading.Condition()
        self.over = False

    def feed(self, data: bytes) -> None:
        with self.arrived:
            self.incoming += data
            self.arrived.notify_all()

    def take(self, count: int) -> bytes:
        with self.arrived:
            while len(self.incoming) < count:
                if self.over:
                    raise EOFError
                self.arrived.wait(1.0)
            data = bytes(self.incoming[:count])
            del self.incoming[:count]
            return data

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), _MOST // 4):
            while not self.ready.acquire(timeout=0.2):
                if self.over:
                    raise EOFError
            self.connection.send(b"WRTE", self.local, self.remote, data[start : start + _MOST // 4])

    def end(self) -> None:
        with self.arrived:
            self.over = True
            self.arrived.notify_all()

    def close(self) -> None:
        self.connection.services.pop(self.local, None)
        self.connection.send(b"CLSE", self.local, self.remote)

    def run(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            self.work()
        self.close()

    def work(self) -> None:
        raise NotImplementedError


class _Shell(_Service):
    """`shell:COMMAND`, or `shell,v2,...:COMMAND` with stdout, stderr and exit code in packets."""

    process: subprocess.Popen | None = None

    def work(self) -> None:
        self.adbd.commands.append(self.argument)
        packets = "v2" in self.kind.split(",")
        root = self.adbd.root
        environment = self.adbd.environment | {"PATH": self.adbd.path, "ADBD_ROOT": str(root)}
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", self.adbd.mapped(self.argument)],
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if self.adbd.drop_at is not None and self.adbd.drop_at in self.argument:
            self.adbd.drop_at = None
            threading.Timer(0.15, self.adbd.drop_for_a_while).start()
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            while data := os.read(stream.fileno(), 32768):
                self.write(struct.pack("<BI", 1, len(data)) + data if packets else data)
        code = self.process.wait()
        if packets:
            self.write(struct.pack("<BIB", 3, 1, code & 0xFF))
        while not self.over and not self.ready.acquire(timeout=0.1):  # the last packet is acknowledged
            pass

    def end(self) -> None:
        super().end()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGHUP)  # what the real one does


class _Sync(_Service):
    """`sync:` with STAT, SEND and RECV of version 1."""

    def work(self) -> None:
        while True:
            kind, length = struct.unpack("<4sI", self.take(8))
            text = self.take(length).decode()
            if kind == b"QUIT":
                return
            if kind == b"STAT":
                self._stat(Path(self.adbd.mapped(text)))
            elif kind == b"SEND":
                path, _, mode = text.rpartition(",")
                self._receive(Path(self.adbd.mapped(path)), int(mode))
            elif kind == b"RECV":
                self._give(Path(self.adbd.mapped(text)))
            else:
                self._fail(f"unknown command {kind!r}")

    def _fail(self, reason: str) -> None:
        self.write(struct.pack("<4sI", b"FAIL", len(reason)) + reason.encode())

    def _stat(self, path: Path) -> None:
        try:
            status = path.stat()
            values = (status.st_mode, min(status.st_size, 0xFFFFFFFF), int(status.st_mtime))
        except OSError:
            values = (0, 0, 0)
        self.write(struct.pack("<4s3I", b"STAT", *values))

    def _receive(self, path: Path, mode: int) -> None:
        problem = None
        with contextlib.ExitStack() as stack:
            try:
                stream = stack.enter_context(path.open("wb"))
            except OSError as error:
                problem = f"couldn't create file: {error.strerror}"
            while True:
                kind, length = struct.unpack("<4sI", self.take(8))
                if kind == b"DONE":
                    break
                data = self.take(length)
                self._count(length)
                if problem is None and self.adbd.room is not None:
                    self.adbd.room -= length
                    if self.adbd.room < 0:
                        problem = "write failed: No space left on device"
                if problem is None:
                    stream.write(data)
        if problem is None:
            path.chmod(mode & 0o777)
            self.write(struct.pack("<4sI", b"OKAY", 0))
        else:
            path.unlink(missing_ok=True)
            self._fail(problem)

    def _count(self, length: int) -> None:
        if self.adbd.bytes_left is not None:
            self.adbd.bytes_left -= length
            if self.adbd.bytes_left < 0:
                self.adbd.bytes_left = None
                self.adbd.drop_for_a_while()
                raise EOFError

    def _give(self, path: Path) -> None:
        try:
            data = path.read_bytes()
        except OSError as error:
            self._fail(f"open failed: {error.strerror}")
            return
        parts = (data[start : start + 65536] for start in range(0, len(data), 65536))
        chunks = b"".join(struct.pack("<4sI", b"DATA", len(part)) + part for part in parts)
        self.write(chunks + struct.pack("<4sI", b"DONE", 0))


class Server:
    """An adb server of the test's own, on its own port and with its own keys."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ADB_", "ANDROID_"))}
        self.environment = kept | {
            "HOME": str(home),
            "ANDROID_ADB_SERVER_PORT": str(self.port),
            "TMPDIR": str(home),
        }

    def __enter__(self) -> Server:
        program = str(shutil.which("adb"))
        self.process = subprocess.Popen(
            [program, "-P", str(self.port), "nodaemon", "server"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            time.sleep(0.05)
        raise RuntimeError("adb's server does not start")

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def adb(self, *arguments: str) -> str:
        done = subprocess.run(
            ["adb", *arguments], env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout + done.stderr
