"""Signals that ask a run to end: the step under way is finished, and nothing that only waits keeps it."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

AFTER_STOP_S = 5.0  # what processes that train together wait for each other then, to end at the same step
VALIDATION_S = 2.0  # what a validation may still take then
LOOK_S = 0.25  # how often whoever waits looks for a signal
T = TypeVar("T")


class CalledAway(Exception):  # noqa: N818 - no error: there was nothing but waiting
    """The run is asked to end while it waits."""


class Stop:
    """Whether a signal came, and which."""

    def __init__(self) -> None:
        self.came: list[int] = []

    def __call__(self) -> bool:
        return bool(self.came)


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Hears SIGTERM and Ctrl-C: the step under way is finished first; a second Ctrl-C interrupts at once."""
    stop = Stop()

    def hear(number: int, frame: object) -> None:
        del frame
        if stop() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.came.append(number)

    handlers: dict[int, Any] = {}
    with contextlib.suppress(ValueError):  # not the main thread: signals stay as they are
        for number in map(int, (signal.SIGTERM, signal.SIGINT)):
            handlers[number] = signal.signal(number, hear)
    try:
        yield stop
    finally:
        for number, before in handlers.items():
            signal.signal(number, before)


class Leave:
    """For one wait: when to leave it.

    Args:
        stop: whether a signal asks the run to end.
        after_s: what is waited for may still take so long then.
    """

    def __init__(self, stop: Callable[[], bool], after_s: float) -> None:
        self.stop, self.after_s, self._asked = stop, after_s, -1.0

    def check(self) -> None:
        """CalledAway where it is time; to be asked again and again."""
        if not self.stop():
            return
        now = time.monotonic()
        self._asked = now if self._asked < 0 else self._asked
        if now - self._asked >= self.after_s:
            raise CalledAway


def beside(work: Callable[[], T], stop: Callable[[], bool], after_s: float = VALIDATION_S) -> T:
    """What `work` returns or raises, done in a thread: a signal is heard though it waits for a disk or a process.

    Raises:
        CalledAway: it was not done in time after a signal; it is left to itself.
    """
    done: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    threads = torch.get_num_threads()

    def run() -> None:
        torch.set_num_threads(threads)  # a new thread has as many as there are cores
        try:
            done.put((work(), None))
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            done.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    leave = Leave(stop, after_s)
    while True:
        with contextlib.suppress(queue.Empty):
            outcome, error = done.get(timeout=LOOK_S)
            break
        leave.check()
    if error is not None:
        raise error
    return outcome
