"""Processes that work for this one: they end with it, and one that is lost or stalled is an error that says how."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from typing import Any

from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.units import show_seconds

SILENT_S = 600.0  # a pool in which no process has computed anything for so long is stalled
_KNOWN = {
    "SIGKILL": "was killed (kill -9): as a rule memory had run out",
    "SIGBUS": "ended with a bus error: as a rule shared memory (/dev/shm) had run out "
    "(docker run --shm-size=1g gives a container more)",
    "SIGSEGV": "crashed (segmentation fault)",
}
_ACCESS_VIOLATION = 0xC0000005  # how Windows tells a crash
# of `subprocess.Popen`, start_new_session and creationflags: Ctrl-C is for this process, not for what it started
SESSION, GROUP = True, getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
_LOOK_S = 1.0
_WORK_S = 0.02  # of a processor: less is not worth a sign of life


# mallopt's options, of <malloc.h>, and what they are set to
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_REUSED = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 << 20}


class LostProcessError(NasvitEdgeError):
    """A process was lost."""


class StalledProcessError(NasvitEdgeError):
    """A process is there and does nothing."""


@functools.cache
def reuse_memory() -> None:
    """Have this process keep the memory that it frees, where the C library is glibc.

    Else a large tensor is mapped anew each time, and the system clears every page of it: subnets on batches of photographs took three
    times as long.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL("libc.so.6")
            for option, value in _REUSED.items():
                library.mallopt(option, value)


def fate(code: int | None) -> str:
    """How a process with this exit code was lost; None: it is still there."""
    if code is None:
        return "no longer answers"
    if code == _ACCESS_VIOLATION:
        return _KNOWN["SIGSEGV"]
    if code >= 0:
        return f"ended with exit code {code}"
    name = str(-code)
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
    return _KNOWN.get(name, f"was ended by signal {name}")


def lost(processes: Sequence[BaseProcess], seconds: float = 1.0) -> str:
    """`fate` of the first of these that is gone; "" where all are still there after some seconds."""
    until = time.monotonic() + seconds
    while True:
        codes = [code for process in processes if (code := process.exitcode) is not None]
        telling = [code for code in codes if code != -signal.SIGTERM]  # a pool ends the others by it
        if telling or time.monotonic() > until:
            return fate((telling or codes)[0]) if codes else ""
        time.sleep(0.02)


def end(processes: Sequence[BaseProcess], seconds: float = 5.0) -> None:
    """End processes, whatever they are doing and whichever signals they ignore.

    One that the system itself holds (a disk that does not answer) is left to it after some seconds.
    """
    for process in processes:
        process.kill()
    until = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))


def end_all(leader: int) -> None:
    """End a process that leads its session or group (`SESSION`, `GROUP`), and what it started."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(leader, signal.SIGKILL)
            return
    import psutil

    with contextlib.suppress(psutil.Error):
        whole = psutil.Process(leader)
        for process in (whole, *whole.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                process.kill()


def end_with_parent(on_work: Callable[[], None] = lambda: None) -> None:
    """From now on this process ends when the one that started it is gone, whatever it is doing.

    `on_work` is called now and then, as long as it computes anything.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent, on_work), daemon=True).start()


def _watch(parent: Any, on_work: Callable[[], None]) -> None:
    last = 0.0
    while (
        parent.is_alive() if sys.platform == "win32" else os.getppid() == parent.pid
    ):  # orphans keep the number there
        spent = time.process_time() - time.thread_time()  # by all threads but this one
        if spent - last > _WORK_S:
            last = spent
            on_work()
        time.sleep(_LOOK_S)
    os._exit(1)


class Pool:
    """Processes that each were prepared by `start(*arguments)`; what is raised there is raised by every call.

    Args:
        who: what they are called in messages, like "a process that measures subnets".
        silent_s: how long none of them may compute anything while there is something to do.
    """

    def __init__(
        self,
        count: int,
        start: Callable[..., object],
        arguments: tuple[Any, ...],
        *,
        who: str,
        silent_s: float = SILENT_S,
    ) -> None:
        self.who, self.silent_s, self.processes = who, silent_s, list[BaseProcess]()
        context = multiprocessing.get_context("spawn")
        try:
            self._signs = context.RawValue("Q", 0)
            self._pool = ProcessPoolExecutor(count, context, _begin, (self._signs, start, arguments))
        except OSError as error:  # no room for a semaphore
            raise LostProcessError(
                f"{who} cannot be started: {error.strerror}; see that /dev/shm has room"
            ) from None

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """What `function` returns for each item, in order; whatever ends this early ends the processes.

        Raises:
            LostProcessError: a process was lost; says how.
            StalledProcessError: none has computed anything for `silent_s`.
        """
        try:
            futures = [self._pool.submit(_call, function, item) for item in items]
            self.processes = list((self._pool._processes or {}).values())
            for future in futures:
                yield self._result(future)
        except BrokenProcessPool:
            how = lost(self.processes) or "ended"
            self.close()
            raise LostProcessError(f"{self.who} was lost: it {how}") from None
        except BaseException:
            self.close()
            raise

    def _result(self, future: Future[Any]) -> Any:
        signs, since = self._signs.value, time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                return future.result(timeout=_LOOK_S)
            if future.done():  # it is the call's own
                return future.result(timeout=0)
            if self._signs.value != signs:
                signs, since = self._signs.value, time.monotonic()
            elif (silent := time.monotonic() - since) > self.silent_s:
                raise StalledProcessError(
                    f"{self.who} is stalled: it computed nothing for {show_seconds(silent)}; "
                    "see that the disk it reads from answers"
                )

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        end(self.processes)


_failed: BaseException | None = None


def _begin(signs: Any, start: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    """Ctrl-C is the first process's, which ends the others."""
    global _failed
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def on_work() -> None:
        signs.value += 1

    end_with_parent(on_work)
    try:
        start(*arguments)
    except Exception as error:  # noqa: BLE001 - raised where it is heard
        _failed = error


def _call(function: Callable[[Any], Any], item: Any) -> Any:
    if _failed is not None:
        raise _failed
    return function(item)
