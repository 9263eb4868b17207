"""What `runner.py` needs besides where it is started over ssh: a private folder, files put into it, and an end that
leaves nothing behind. Standard library of Python 3.8; see devices/PROTOCOL.md for the requests.

The runner's process holds a lock in its folder. When its channel closes it ends with everything that it started; a
later start finds the folder again, and one that nobody came back to is removed after a day.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import faulthandler
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import select
import shutil
import signal
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from machine import usable_cores

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "nasvit-edge-"
_DAY_S, _IDLE_S, _EVICT_S, _GRACE_S = 86400.0, 1800.0, 40.0, 1.0
_NAME = re.compile(r"[0-9a-f]{64}\.[a-z]{1,8}")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FILES = ("put", "drop")  # what is asked of the folder alone


class Requests:
    """Lines on stdin; ends when the channel closes, or when nobody asked for half an hour."""

    def __init__(self, folder: Folder, stream: int = 0) -> None:
        self.folder, self.stream, self.rest = folder, stream, b""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            while b"\n" not in self.rest:
                if not select.select([self.stream], [], [], _IDLE_S)[0] or not self._read():
                    return
            line, _, self.rest = self.rest.partition(b"\n")
            yield json.loads(line)

    def wait(self, pipe: int) -> None:
        """Until there is something in `pipe`; if the channel closes first, this process group ends at once."""
        while True:
            ready = select.select([pipe, self.stream], [], [])[0]
            if self.stream in ready and not self._read():
                self.folder.leave()
                os.killpg(os.getpgrp(), signal.SIGKILL)
            if pipe in ready:
                return

    def _read(self) -> bool:
        part = os.read(self.stream, 1 << 20)
        self.rest += part
        return bool(part)


class Folder:
    """The private folder of one host on this device."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path, self.lock = path, lock

    def put(self, request: dict[str, Any]) -> dict[str, Any]:
        """Write a part of a file; with the last one, its hash is checked and it takes its name."""
        target = self._file(request["name"])
        partial = target.with_name(target.name + ".part")
        try:
            self._write(partial, request["offset"], base64.b64decode(request["data"]))
        except OSError as error:
            if error.errno not in _FULL:
                raise
            partial.unlink()
            return {"error": "no space left", "free_bytes": shutil.disk_usage(self.path).free}
        if request["last"]:
            if _sha256(partial) != request["name"][:64]:
                partial.unlink()
                return {"error": "the file arrived damaged"}
            partial.replace(target)
        return {"put": request["name"]}

    def drop(self, names: list[str]) -> dict[str, Any]:
        """Remove files and what was built from them."""
        for name in names:
            self._file(name)
            for other in self.path.glob(name[:64] + "*"):
                other.unlink()
        return {"dropped": len(names), "free_bytes": shutil.disk_usage(self.path).free}

    def begin(self, name: str) -> None:
        """Keep what is about to be done: where the process dies of it, the next one can tell."""
        with contextlib.suppress(OSError):
            self._doing.write_text(json.dumps([boot(), name]), encoding="utf-8")

    def leave(self) -> None:
        """It is done, or given up: this process does not die of it."""
        with contextlib.suppress(OSError):
            self._doing.unlink()

    def died(self) -> str:
        """What an earlier process was doing when it died, told once; empty where none did, or the board went down with it."""
        try:
            when, name = json.loads(self._doing.read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError):
            return ""
        self.leave()
        return str(name) if when == boot() else ""

    @property
    def _doing(self) -> Path:
        return self.path / "doing"

    def remove(self) -> dict[str, Any]:
        """Remove all of it."""
        shutil.rmtree(self.path)
        return {"ended": True}

    def described(self) -> dict[str, Any]:
        """Where it is, what is in it, and how much space is left."""
        names = sorted(path.name for path in self.path.iterdir() if _NAME.fullmatch(path.name))
        return {"folder": str(self.path), "files": names, "free_bytes": shutil.disk_usage(self.path).free}

    def _file(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"no name of a file: {name!r}")
        return self.path / name

    def _write(self, path: Path, offset: int, data: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as stream:
            if os.fstat(descriptor).st_size < offset:
                raise ValueError("a part of the file is missing")
            os.ftruncate(descriptor, offset)
            stream.seek(offset)
            while data:
                data = data[stream.write(data) or 0 :]


def _sha256(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        for part in iter(lambda: stream.read(1 << 20), b""):
            hasher.update(part)
    return hasher.hexdigest()


def open_folder(base: str, owner: str, known: str) -> Folder:
    """The folder of before, one that this host left here, or a new one."""
    if known and _is_mine(Path(known)):
        return Folder(Path(known), _evict(Path(known)))
    bases: list[Any] = (
        [base] if base else [os.environ.get("XDG_CACHE_HOME") or "~/.cache", tempfile.gettempdir()]
    )
    problem: OSError | None = None
    for place in bases:
        try:
            place = Path(place).expanduser()
            place.mkdir(parents=True, exist_ok=True)
            _remove_stale(place)
            return _adopted(place, owner) or _made(place, owner)
        except OSError as error:
            problem = error
        except RuntimeError:  # no home
            continue
    raise problem or OSError("no folder")


def _adopted(place: Path, owner: str) -> Folder | None:
    for path in _folders(place):
        if path.name.startswith(f"{_PREFIX}{owner}-"):
            lock = _locked(path)
            if lock is not None:
                return Folder(path, lock)
    return None


def _made(place: Path, owner: str) -> Folder:
    path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{owner}-", dir=place))
    try:
        return Folder(path, _evict(path))
    except OSError:
        shutil.rmtree(path, ignore_errors=True)
        raise


def _remove_stale(place: Path) -> None:
    for path in _folders(place):
        with contextlib.suppress(OSError):
            marked = path / "lock"
            used = (marked if marked.exists() else path).lstat().st_mtime
            if time.time() - used > _DAY_S:
                lock = _locked(path)
                if lock is not None:
                    shutil.rmtree(path, ignore_errors=True)
                    os.close(lock)


def _folders(place: Path) -> list[Path]:
    return [path for path in sorted(place.iterdir()) if path.name.startswith(_PREFIX) and _is_mine(path)]


def _is_mine(path: Path) -> bool:
    """A real folder (no link) of this user."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _locked(path: Path) -> int | None:
    """The lock of a folder, with this process's id in it; None where another process holds it."""
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
    except BlockingIOError:
        os.close(lock)
        return None
    except OSError:
        os.close(lock)
        raise
    return lock


def _evict(path: Path) -> int:
    """The lock, taken from a runner whose channel was lost: it may still be measuring."""
    start, killed = time.monotonic(), False
    while time.monotonic() - start < _EVICT_S:
        lock = _locked(path)
        if lock is not None:
            if killed:
                Folder(path, lock).leave()  # it did not die of its work
            return lock
        if time.monotonic() - start > _GRACE_S:
            with contextlib.suppress(OSError, ValueError):
                holder = int((path / "lock").read_text(encoding="utf-8"))
                if holder > 1:
                    killed = killed or _is_there(holder)  # else only its forks hold the lock
                    os.killpg(holder, signal.SIGKILL)
        time.sleep(0.05)
    raise OSError(errno.EBUSY, f"another runner does not leave {path}")


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def boot() -> str:
    """What tells a start of the system from every other; empty where it does not say."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return ""


class Remote:
    """Answers requests in a folder."""

    def __init__(self, runner: Any, board: Any, engines: Any, folder: Folder, requests: Requests) -> None:
        self.runner, self.board, self.engines = runner, board, engines
        self.folder, self.requests = folder, requests

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request, an error included."""
        if request.get("ask") not in _FILES:
            self.folder.begin(str(request["id"]))
        try:
            message = self._answer(request)
        except Exception as error:
            message = {"error": " ".join(str(error).split())[:300] or type(error).__name__}
        self.folder.leave()
        return {**message, "id": request["id"]}

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        asked = request.get("ask", "measure")
        if asked == "put":
            return self.folder.put(request)
        if asked == "drop":
            return self.folder.drop(request["names"])
        if asked == "about":
            return self._about(request)
        if any(job.get("runtime") == "tensorrt" for job in request.get("jobs", [request])):
            self.engines.version()  # asked once, not in every fork
        return self.runner.isolated(request, self.requests.wait)

    def _about(self, request: dict[str, Any]) -> dict[str, Any]:
        message: dict[str, Any] = self.runner.caught(request)
        message.setdefault("runtimes", {}).update(self.engines.version())
        missing = [name for name in ("numpy",) if importlib.util.find_spec(name) is None]
        now = {k: v for k, v in self.runner.state().items() if not isinstance(v, list)}
        return {
            **message,
            "cores_by_clock": usable_cores(),
            "conditions": {**now, **message.get("conditions", {})},
            "missing": missing,
            "board": self.board.described(),
        }


def main(options: dict[str, Any]) -> None:
    """Answer requests until the end is asked for or the channel closes; `options` is the first request."""
    runner, board, engines = (sys.modules[name] for name in ("runner", "board", "engines"))
    with contextlib.suppress(OSError):  # a leader of a session is one of its group already
        os.setpgid(0, 0)
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a runtime prints goes to stderr, not between the answers
    faulthandler.enable()  # tells the signal that it dies of

    def say(answer: dict[str, Any]) -> None:
        lines.write(json.dumps(answer) + "\n")
        lines.flush()

    try:
        folder = open_folder(options["base"], options["owner"], options["folder"])
        os.utime(folder.lock)
    except OSError as error:
        full = "no space left" if error.errno in _FULL else f"{error.strerror}: {error.filename}"
        say({"id": options["id"], "error": full})
        return
    engines.install(runner, options["tool"], str(folder.path))
    board.install(runner)
    clocks = board.Clocks(str(folder.path))
    refused = clocks.lock() if options["lock_clocks"] else ""
    python = ".".join(map(str, sys.version_info[:3]))
    state = {"python": python, "clocks_refused": refused, "died": folder.died()}
    say({"id": options["id"], **folder.described(), **state})
    requests = Requests(folder)
    remote = Remote(runner, board, engines, folder, requests)
    try:
        for request in requests:
            if request.get("ask") == "end":
                clocks.restore()
                say({"id": request["id"], **folder.remove()})
                return
            say(remote.answer(request))
    except BrokenPipeError:
        pass
    finally:
        clocks.restore()
