"""What a board tells of its power, clocks and temperature, and clocks that are set only as long as the runner lives.

Standard library of Python 3.8. The tools' text goes to the host as it is and is read there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reading import end, first_line, said_by

if TYPE_CHECKING:
    from collections.abc import Iterator

_MORE_PATH = ":/usr/local/bin:/usr/bin:/usr/sbin:/sbin"
_INTERVAL_MS = 100
_WORTHWHILE_S = 0.5  # what is timed for less has too few readings
_THROTTLED = "/sys/devices/platform/soc/soc:firmware/get_throttled"  # of a Raspberry Pi


def program(name: str) -> str | None:
    """The path of a program; the search path of a command over ssh is short."""
    return shutil.which(name, path=os.environ.get("PATH", "") + _MORE_PATH)


def as_root(command: list[str]) -> list[str]:
    """The command by sudo, which does not ask; as it is where this is root already."""
    return command if os.geteuid() == 0 else [program("sudo") or "sudo", "-n", *command]


def described() -> dict[str, Any]:
    """The texts of the board's tools, of those that there are."""
    facts: dict[str, Any] = {}
    nvpmodel, clocks = program("nvpmodel"), program("jetson_clocks")
    if nvpmodel:
        facts["nvpmodel"] = said_by([nvpmodel, "-q"])[1]
    if clocks:
        code, text = said_by(as_root([clocks, "--show"]))
        facts["jetson_clocks"] = text
        facts["jetson_clocks_code"] = code
    if program("tegrastats"):
        with Tegrastats() as readings:
            time.sleep(_WORTHWHILE_S)
        facts["tegrastats"] = readings.lines
    throttled = first_line(_THROTTLED)
    if throttled:
        facts["get_throttled"] = throttled
    return facts


class Tegrastats:
    """tegrastats while a block runs; `lines` are those of the block."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.timed: list[tuple[float, str]] = []
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Tegrastats:
        command = [str(program("tegrastats")), "--interval", str(_INTERVAL_MS)]
        with contextlib.suppress(OSError):
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            self.thread = threading.Thread(target=self._read, daemon=True)
            self.thread.start()
        return self

    def _read(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.timed.append((time.monotonic(), line.decode(errors="replace").rstrip()))

    def __exit__(self, *error: object) -> None:
        if self.process is not None:
            end(self.process)
            self.thread.join(2)
            self.lines = self.between(0.0, time.monotonic())

    def between(self, start: float, end: float) -> list[str]:
        """The lines of a span of time, at most 200 of them, evenly."""
        lines = [line for at, line in self.timed if start <= at <= end]
        return lines[:: max(1, -(-len(lines) // 200))]


def install(runner: Any) -> None:
    """Read the power beside what the runner times in Python, where that lasts long enough."""

    @contextlib.contextmanager
    def watch(job: dict[str, Any], message: dict[str, Any]) -> Iterator[None]:
        if max(job["most_seconds"], job.get("sustained_s") or 0) < _WORTHWHILE_S or not program("tegrastats"):
            yield
            return
        with Tegrastats() as readings:
            yield
        message["tegrastats"] = readings.lines

    runner.WATCH.append(watch)


class Clocks:
    """The highest clocks, for as long as this process lives.

    A process of its own waits for the end of this one, however it comes, and restores what was before.
    """

    def __init__(self, folder: str) -> None:
        self.store = str(Path(folder) / f"clocks-{os.getpid()}")
        self.guard = self.pipe = 0

    def lock(self) -> str:
        """Set them; why not, where they could not be set."""
        tool = program("jetson_clocks")
        if tool is None:
            return "there is no jetson_clocks"
        code, text = said_by(as_root([tool, "--store", self.store]))
        if code:
            return " ".join(text.split())[:200] or f"jetson_clocks --store ended with {code}"
        self._watch(as_root([tool, "--restore", self.store]))
        code, text = said_by(as_root([tool]))
        if code:
            self.restore()
            return " ".join(text.split())[:200] or f"jetson_clocks ended with {code}"
        return ""

    def restore(self) -> None:
        """End the wait, and with it the clocks that were set."""
        if self.guard:
            os.close(self.pipe)
            os.waitpid(self.guard, 0)
            self.guard = 0

    def _watch(self, restore: list[str]) -> None:
        read, self.pipe = os.pipe()
        self.guard = os.fork()
        if self.guard:
            os.close(read)
            return
        try:
            os.setsid()  # not killed with the group
            os.close(self.pipe)
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):  # the channel closes without this process
                os.dup2(nowhere, stream)
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            os.read(read, 1)  # the end of the pipe
            said_by(restore)
        finally:
            os._exit(0)
