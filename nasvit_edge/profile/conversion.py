"""Converting the models of a profile, on all cores where a conversion takes long.

Workers are processes of `python -m nasvit_edge.profile.conversion`: items in on stdin, a line per finished
one out on stdout.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from nasvit_edge.errors import ExportError
from nasvit_edge.listening import Listener
from nasvit_edge.profile.models import Item, Models
from nasvit_edge.units import show_seconds

SLOW = "{}: what takes long"  # the progress of what is converted in parallel
_FEW = 12  # not worth a second process that loads the converter
_BATCH = 4
_ATTEMPTS = 3
_ONE = threading.Lock()
_SILENT_S = 600.0  # no model takes so long
_END_S = 5.0


def convert_all(
    items: Sequence[Item], models: Models, listener: Listener, what: str = "converting"
) -> dict[str, tuple[str, str]]:
    """Item id -> (model file, hash of its graph). Slow conversions run in parallel and are kept.

    `what` is how progress calls it.

    One caller at a time: converters are not made for threads, and use all cores anyway.
    """
    with _ONE:
        return _converted(items, models, listener, what)


def _converted(
    items: Sequence[Item], models: Models, listener: Listener, what: str
) -> dict[str, tuple[str, str]]:
    slow = [item for item in items if models.takes_a_second(item)]
    if len(slow) > _FEW:
        for _ in range(_ATTEMPTS):  # a converter that crashes is started again
            missing = [item for item in _parts(slow, models) if not models.is_kept(item)]
            if len(missing) <= _FEW:
                break
            _in_parallel(missing, models, listener, SLOW.format(what))
    converted = {}
    for index, item in enumerate(items):
        path, graph = models.path(item)
        converted[item.id] = (str(path), graph)
        listener.progress(index + 1, len(items), what)
    return converted


def _parts(items: Sequence[Item], models: Models) -> list[Item]:
    return list(dict.fromkeys(part for item in items for part in models.parts(item)))


def _in_parallel(items: Sequence[Item], models: Models, listener: Listener, what: str = "converting") -> None:
    batches: queue.SimpleQueue[Sequence[Item]] = queue.SimpleQueue()
    for start in range(0, len(items), _BATCH):
        batches.put(items[start : start + _BATCH])
    done: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    workers = [_Worker(models, batches, done) for _ in range(min(os.cpu_count() or 1, 8))]
    try:
        finished, alive = 0, len(workers)
        while alive:
            try:
                count = done.get(timeout=_SILENT_S)
            except queue.Empty:
                raise ExportError(
                    f"converting models is stalled: none was finished in {show_seconds(_SILENT_S)}; "
                    "see that the disk with the cache answers, then run the same command again"
                ) from None
            alive -= count is None
            finished += count or 0
            listener.progress(finished, len(items), what)
    finally:
        for worker in workers:
            worker.close()


class _Worker:
    """One process and the thread that feeds it."""

    def __init__(self, models: Models, batches: Any, done: Any) -> None:
        command = [sys.executable, "-m", "nasvit_edge.profile.conversion"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.thread = threading.Thread(target=self._feed, args=(models, batches, done), daemon=True)
        self.thread.start()

    def _feed(self, models: Models, batches: Any, done: Any) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError, queue.Empty, ValueError):
            pickle.dump(models, self.process.stdin)
            while True:
                batch = batches.get_nowait()
                pickle.dump(batch, self.process.stdin)
                self.process.stdin.flush()
                for _ in batch:
                    if not self.process.stdout.readline():
                        raise OSError("the worker died")
                    done.put(1)
        done.put(None)

    def close(self) -> None:
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=_END_S)
        self.thread.join(_END_S)
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()


def main() -> None:
    """Convert what comes in; the answer to each item is its id."""
    import torch

    torch.set_num_threads(1)
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    models = pickle.load(sys.stdin.buffer)
    with contextlib.suppress(EOFError):
        while True:
            for item in pickle.load(sys.stdin.buffer):
                models.path(item)
                lines.write(f"{item.id}\n")
                lines.flush()


if __name__ == "__main__":
    main()
