"""Batches for training: in order of a seed, varied by a recipe, made by worker processes.

Every random choice is a function of the seed, the step (or epoch) and the place in the global batch: workers, ranks
and accumulated parts change who makes a batch, never what is in it, and a resumed run sees what it would have seen.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from nasvit_edge.data_sets import Images
from nasvit_edge.errors import DataError, NasvitEdgeError
from nasvit_edge.space import SearchSpace
from nasvit_edge.train.augment import Augmenter, Draws
from nasvit_edge.train.recipe import Augment

_ORDER, IMAGES, _MIXING = range(3)  # streams of random numbers
_AHEAD = 8  # batches that a worker makes ahead, at most


@dataclass(frozen=True, slots=True)
class Batch:
    """What one pass takes."""

    images: Tensor  # (B, 3, S, S) float32, channels last
    targets: Tensor  # (B,) int64, or probabilities (B, classes) float32; of scenes (B, h, w) int64


@dataclass(frozen=True, slots=True)
class _Failure:
    """A user's error on its way out of a worker, which would add its traceback to an exception."""

    text: str


class Steps:
    """Batches of a training set, step by step; a context manager, which ends the worker processes.

    Attributes:
        steps_per_epoch: an epoch's incomplete last step is dropped.
        waited_s: seconds spent waiting for batches since the loader was made.
    """

    def __init__(self, slices: Slices, *, parts: int, rank: int, workers: int) -> None:
        """A step takes all slices of a step of `slices`; rank r's part p is slice `r * parts + p`.

        Args:
            workers: processes that make batches; 0: none, they are made while the step waits.
        """
        self.steps_per_epoch = slices.steps
        self.waited_s = 0.0
        self._parts, self._first = parts, rank * parts
        self._slices = slices
        self._keys = _Keys()
        self._loader = _loader(self._slices, self._keys, workers, parts) if workers else None
        self._running: object = None

    def steps(self, first: int, last: int) -> Iterator[list[Batch]]:
        """The batches of steps `first` to `last - 1`, across epochs: a step is the list of this rank's parts.

        Only the newest of several iterators goes on.

        Raises:
            DataError: an image that cannot be read.
        """
        parts = range(self._first, self._first + self._parts)
        self._keys.keys = [(step, part) for step in range(first, last) for part in parts]
        made = _started(self._loader) if self._loader else map(self._slices.__getitem__, self._keys)
        self._running = running = object()
        for _ in range(first, last):
            if self._running is not running:
                raise RuntimeError("these steps were given up: the loader was closed, or asked for others")
            started = time.perf_counter()
            taken = [self._next(made) for _ in parts]
            self.waited_s += time.perf_counter() - started
            yield taken

    def _next(self, made: Iterator[Any]) -> Batch:
        try:
            item = next(made)
        except (RuntimeError, OSError, EOFError) as error:
            if self._loader is None:
                raise
            self.close()
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            raise DataError(
                f"a process that loads images was lost ({reason}); memory may have run out: use fewer --workers"
            ) from None
        if isinstance(item, _Failure):
            self.close()
            raise DataError(item.text)
        assert isinstance(item, Batch)
        return item

    def close(self) -> None:
        """End the worker processes."""
        self._running = None
        loader, self._loader = self._loader, None
        iterator = getattr(loader, "_iterator", None)
        if iterator is not None and hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()  # else they live until the iterator is collected

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Keys(Sampler[tuple[int, int]]):
    """(step, slice) of the batches to make, in order."""

    def __init__(self) -> None:
        self.keys: list[tuple[int, int]] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


class Slices(Dataset[Batch | _Failure]):
    """A data set whose item (step, slice) is a whole batch, which a child makes: a function of the seed and the item."""

    def __init__(self, name: str, images: int, batch_size: int, slices: int, seed: int) -> None:
        """A step takes `batch_size * slices` of so many images.

        Raises:
            DataError: fewer images than one step takes.
        """
        whole = batch_size * slices
        if images < whole:
            raise DataError(
                f"images {name!r}: {images} are fewer than the {whole} of one step; use a smaller batch or more images"
            )
        self.batch_size, self.slices, self.seed = batch_size, slices, seed % (1 << 63)
        self.count, self.steps = images, images // whole
        self._order = (-1, np.empty(0, np.int64))  # of the epoch that was asked for last

    def __getitem__(self, key: tuple[int, int]) -> Batch | _Failure:
        try:
            return self.made(*key)
        except NasvitEdgeError as error:
            return _Failure(str(error))

    def made(self, step: int, index: int) -> Batch:
        """The batch of a slice of a step."""
        raise NotImplementedError

    def part(self, index: int) -> slice:
        """A slice's places in the global batch."""
        return slice(index * self.batch_size, (index + 1) * self.batch_size)

    def chosen(self, step: int, part: slice) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Which images: the epoch's permutation, step by step."""
        epoch, index = divmod(step, self.steps)
        if self._order[0] != epoch:
            self._order = (epoch, self.rng(_ORDER, epoch).permutation(self.count))
        start = index * self.batch_size * self.slices
        return self._order[1][start + part.start : start + part.stop]

    def rng(self, *stream: int) -> np.random.Generator:
        """Random numbers of a stream, which the seed and its numbers name."""
        return np.random.default_rng([self.seed, *stream])


class Loader(Steps):
    """Batches of images that have a label each."""

    def __init__(
        self,
        images: Images,
        augment: Augment,
        space: SearchSpace,
        *,
        size: int,
        batch_size: int,
        parts: int = 1,
        rank: int = 0,
        world: int = 1,
        seed: int = 0,
        workers: int = 1,
    ) -> None:
        """A step takes `batch_size * parts * world` images; rank r's part p is slice `r * parts + p` of them.

        Args:
            size: side of the images in pixels.
            workers: processes that make batches; 0: none, they are made while the step waits.

        Raises:
            DataError: fewer images than one step takes.
        """
        augmenter = Augmenter(augment, space, size)
        slices = _ImageSlices(images, augmenter, batch_size, parts * world, seed)
        super().__init__(slices, parts=parts, rank=rank, workers=workers)


class _ImageSlices(Slices):
    """Of images and an augmenter."""

    def __init__(self, images: Images, augmenter: Augmenter, batch_size: int, slices: int, seed: int) -> None:
        super().__init__(images.name, len(images), batch_size, slices, seed)
        self.images, self.augmenter = images, augmenter

    def made(self, step: int, index: int) -> Batch:
        part, count = self.part(index), self.batch_size * self.slices
        draws = Draws.make(self.augmenter.augment, count, self.rng(IMAGES, step), part)
        chosen = torch.from_numpy(self.chosen(step, part))
        pixels = self.images.some(chosen, whole=self.augmenter.augment.crop == "resized")
        images = self.augmenter.images(pixels, draws)
        seed = int(self.rng(_MIXING, step, index).integers(0, 2**63))
        return Batch(*self.augmenter.mixed(images, self.images.labels[chosen], seed))


def _loader(slices: Slices, keys: _Keys, workers: int, parts: int) -> DataLoader[Any]:
    return DataLoader(
        slices,
        batch_size=None,  # an item is a batch already
        sampler=keys,
        num_workers=workers,
        prefetch_factor=min(_AHEAD, parts + 1),
        persistent_workers=True,
        collate_fn=_as_it_is,
        worker_init_fn=_start,
        generator=torch.Generator(),  # its own: else every iterator draws from the caller's
    )


def _started(loader: DataLoader[Any]) -> Iterator[Any]:
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


def _as_it_is(item: Any) -> Any:
    return item


def _start(_worker: int) -> None:
    """Ctrl-C and SIGTERM are the training process's, which ends its workers; they also end when it is gone."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.excepthook = _unless_lost


def _unless_lost(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A batch that the training process stopped taking is no news: threads that serve it would print a traceback."""
    if not issubclass(kind, OSError | EOFError):
        sys.__excepthook__(kind, error, trace)
