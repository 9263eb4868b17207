"""An audit hook that notes what a process opens, starts and calls; it cannot be removed, so it lives in a process of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_PROCESS = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "pty.spawn",
)
_NETWORK = (
    "socket.connect",
    "socket.sendto",
    "socket.getaddrinfo",
    "socket.bind",
    "urllib.Request",
    "webbrowser.open",
)
_NETWORK += ("http.client.connect", "ftplib.connect", "smtplib.connect")
_CHANGES = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.truncate",
)
_CHANGES += ("shutil.rmtree", "shutil.copyfile", "shutil.move")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_DEVICES = ("/dev/null", "/dev/tty")


class Watch:
    """Notes what is not expected: any process or connection, a change outside `writable`, anything at all in `forbidden`."""

    def __init__(self, writable: Sequence[Path], forbidden: Path) -> None:
        self.writable = [os.path.realpath(path) for path in writable]
        self.forbidden = os.path.realpath(forbidden)
        self.noted: list[str] = []
        self.busy = False

    def start(self) -> None:
        """From here on for as long as the process lives."""
        sys.addaudithook(self._event)

    def taken(self) -> list[str]:
        """What was noted since the last time."""
        notes, self.noted = self.noted, []
        return notes

    def _event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.busy:
            return
        self.busy = True
        try:
            if self._is_unexpected(event, arguments):
                self.noted.append(f"{event} {str(arguments)[:200]}")
        finally:
            self.busy = False

    def _is_unexpected(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event in (*_PROCESS, *_NETWORK):
            return True
        if event == "open":
            path, mode, flags = arguments
            changes = bool(set(mode or "") & set("wax+")) or bool((flags or 0) & _WRITES)
            return self._is_outside([path], changes)
        if event in _CHANGES:
            return self._is_outside([a for a in arguments if isinstance(a, str | bytes | os.PathLike)], True)
        return event in ("os.listdir", "os.scandir") and self._is_outside(arguments[:1], False)

    def _is_outside(self, paths: Sequence[Any], changes: bool) -> bool:
        for given in paths:
            if isinstance(given, int) or given is None:
                continue
            path = os.path.realpath(os.fsdecode(given))
            if _inside(path, self.forbidden):
                return True
            if changes and path not in _DEVICES and not any(_inside(path, root) for root in self.writable):
                return True
        return False


def _inside(path: str, root: str) -> bool:
    return path == root or path.startswith(root + os.sep)
