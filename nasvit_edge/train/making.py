"""Who makes batches: worker processes, or a thread of this one. Neither can keep whoever waits for it from leaving."""

from __future__ import annotations

import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from nasvit_edge import processes
from nasvit_edge.errors import DataError
from nasvit_edge.train import shared_memory
from nasvit_edge.train.stopping import LOOK_S

_ORDERLY_S = 1.0  # workers may take so long to end by themselves
_SLOW = "DataLoader timed out"  # how torch begins to say that there is nothing yet
_RAISED = "in DataLoader worker process"  # what it adds to an exception of a worker
Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one pass takes."""

    images: Tensor  # (B, 3, S, S) float32, channels last
    targets: Tensor  # (B,) int64, or probabilities (B, classes) float32; of scenes (B, h, w) int64

    @property
    def nbytes(self) -> int:
        return self.images.nbytes + self.targets.nbytes


@dataclass(frozen=True, slots=True)
class WorkerError:
    """A user's error on its way out of a worker, which would add its traceback to an exception."""

    text: str


class Keys(Sampler[Key]):
    """What to make, in order."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self.keys = list(keys)

    def __iter__(self) -> Iterator[Key]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


class Workers:
    """Processes that make the items of a data set ahead, in order; they end with this one."""

    def __init__(self, items: Dataset[Any], keys: Keys, count: int, ahead: int) -> None:
        loader: DataLoader[Any] = DataLoader(
            items,
            batch_size=None,  # an item is a batch already
            sampler=keys,
            num_workers=count,
            prefetch_factor=ahead,
            collate_fn=_shared,
            worker_init_fn=_start,
            timeout=LOOK_S,
            generator=torch.Generator(),  # its own: else every iterator draws from the caller's
        )
        try:
            self._made = _started(loader)
        except OSError as error:  # no memory for another process, no room for a semaphore
            raise DataError(
                f"processes that load images cannot be started: {error.strerror}; use fewer --workers, or none (--workers 0)"
            ) from None
        self.processes = list(self._made._workers)

    def take(self) -> Any:
        """The next item; None where there is none yet.

        Raises:
            DataError: a worker was lost; says how.
        """
        try:
            return next(self._made)
        except (RuntimeError, OSError, EOFError) as error:
            if str(error).startswith(_SLOW):
                return None
            if _RAISED in str(error):
                raise  # a bug of ours
            how = processes.lost(self.processes)
            reason = f"it {how}" if how else (str(error).splitlines() or [""])[0] or type(error).__name__
            raise DataError(
                f"a process that loads images was lost: {reason}; use fewer --workers, or none (--workers 0)"
            ) from None

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        orderly = threading.Thread(target=self._made._shutdown_workers, daemon=True)
        orderly.start()  # it may wait for a lock that a killed worker held
        orderly.join(_ORDERLY_S)
        processes.end(self.processes)
        orderly.join(_ORDERLY_S)


class Beside:
    """A thread that makes items one by one, each when it is asked for."""

    def __init__(self, make: Callable[[Key], Any], keys: Iterable[Key]) -> None:
        self._keys, self._waiting = iter(keys), False
        self._asked: queue.SimpleQueue[Key | None] = queue.SimpleQueue()
        self._made: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threads = torch.get_num_threads()
        threading.Thread(target=self._serve, args=(make, threads), daemon=True).start()

    def take(self) -> Any:
        """The next item; None where there is none yet."""
        if not self._waiting:
            self._asked.put(next(self._keys))
            self._waiting = True
        try:
            item = self._made.get(timeout=LOOK_S)
        except queue.Empty:
            return None
        self._waiting = False
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Let the thread end, once it has made what it is at."""
        self._asked.put(None)

    def _serve(self, make: Callable[[Key], Any], threads: int) -> None:
        torch.set_num_threads(threads)  # a new thread has as many as there are cores
        while (key := self._asked.get()) is not None:
            try:
                self._made.put(make(key))
            except BaseException as error:  # noqa: BLE001 - whoever waits for the item is told
                self._made.put(error)


def _started(loader: DataLoader[Any]) -> Any:
    """Its iterator, without its handler of SIGCHLD: that raises wherever the caller is when a worker is lost, while
    the next batch tells of it as well."""
    child = getattr(signal, "SIGCHLD", None)
    if child is None or threading.current_thread() is not threading.main_thread():
        return iter(loader)
    before = signal.getsignal(child)
    try:
        return iter(loader)
    finally:
        signal.signal(child, before or signal.SIG_DFL)


def _shared(item: Any) -> Any:
    """A batch in shared memory. Without room for it the thread that sends it would drop it, and nobody would know."""
    if not isinstance(item, Batch):
        return item
    try:
        for tensor in (item.images, item.targets):
            tensor.share_memory_()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        reason = (str(error).splitlines() or [""])[0][:160]
        return WorkerError(
            f"a batch of {item.nbytes} bytes found no room in shared memory ({reason}): "
            f"{shared_memory.ways_out(item.nbytes)}"
        )
    return item


def _start(_worker: int) -> None:
    """Ctrl-C and SIGTERM are the training process's, which ends its workers; they also end when it is gone."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.excepthook = _unless_lost
    processes.end_with_parent()


def _unless_lost(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A batch that the training process stopped taking is no news: threads that serve it would print a traceback."""
    if not issubclass(kind, OSError | EOFError):
        sys.__excepthook__(kind, error, trace)
