"""How much of a core a process had while a block ran, and how long its threads waited for one. Standard library of Python 3.8."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from pathlib import Path
from typing import Any

_TASKS = Path("/proc/self/task")
_STEP_S = 0.001


class CoreTime:
    """What the process had of its cores in the blocks that this was entered for.

    A thread that is ready and gets no core waits: Linux counts that of each, as the second number of its `schedstat`. The thread that waited
    longest says how far the work was held up, however many others had a core of their own.
    """

    def __init__(self) -> None:
        self.spent_s = self.busy_s = 0.0
        self._waited_ns: dict[str, int] = {}
        self._is_told = False

    def __enter__(self) -> CoreTime:
        self._waits = waits()
        self._used, self._start = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.spent_s += time.perf_counter() - self._start
        self.busy_s += time.process_time() - self._used
        for thread, waited in waits().items():
            if (
                thread in self._waits
            ):  # one that began meanwhile, or ended, is none of the runtime's that compute
                self._is_told = True
                self._waited_ns[thread] = self._waited_ns.get(thread, 0) + waited - self._waits[thread]

    def shares(self) -> dict[str, Any]:
        """`cpu_share`: cores that the process kept busy. `waited_share`: of the time, what one thread waited for a core, at most; where it is told."""
        spent = max(self.spent_s, 1e-9)
        windows = sys.platform == "win32"  # whose clock of a process steps by 16 ms
        cpu = {} if windows else {"cpu_share": round(self.busy_s / spent, 3)}
        if not self._is_told:
            return cpu
        return {**cpu, "waited_share": round(max(self._waited_ns.values()) / 1e9 / spent, 3)}


def rest(longest_s: float = 0.1) -> None:
    """Until no other thread of the process computes: a runtime's look for more work for a while after a call, on cores that others need."""
    end = time.perf_counter() + longest_s
    while _others_run() and time.perf_counter() < end:
        time.sleep(_STEP_S)


def _others_run() -> bool:
    with contextlib.suppress(OSError):
        this = str(threading.get_native_id())
        return any(_runs(task) for task in _TASKS.iterdir() if task.name != this)
    return False


def _runs(task: Path) -> bool:
    """Whether a thread has a core or waits for one; its state stands after its name, which may hold anything in brackets."""
    with contextlib.suppress(OSError, IndexError):
        return (task / "stat").read_bytes().rpartition(b")")[2].split()[0] == b"R"
    return False


def waits() -> dict[str, int]:
    """Thread -> nanoseconds it has waited for a core so far; none where the system does not count them."""
    counted: dict[str, int] = {}
    with contextlib.suppress(OSError):
        for task in _TASKS.iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):  # it ended meanwhile
                counted[task.name] = int((task / "schedstat").read_bytes().split()[1])
    return counted
