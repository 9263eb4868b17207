"""Batches for training: in order of a seed, varied by a recipe, made by worker processes.

Every random choice is a function of the seed, the step (or epoch) and the place in the global batch: workers, ranks
and accumulated parts change who makes a batch, never what is in it, and a resumed run sees what it would have seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch.utils.data import Dataset

from nasvit_edge.data_sets import Images
from nasvit_edge.errors import DataError, NasvitEdgeError
from nasvit_edge.space import SearchSpace
from nasvit_edge.train import shared_memory
from nasvit_edge.train.augment import Augmenter, Draws
from nasvit_edge.train.making import Batch, Beside, Keys, WorkerError, Workers
from nasvit_edge.train.recipe import Augment
from nasvit_edge.train.stopping import Leave
from nasvit_edge.units import show_seconds

_ORDER, IMAGES, _MIXING = range(3)  # streams of random numbers
_AHEAD = 8  # batches that a worker makes ahead, at most
STALLED_S = 300.0  # without a batch: whatever images are read from no longer answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a batch is waited for.

    Attributes:
        stop: whether a signal asks the run to end.
        after_stop_s: what a batch may still take then.
        stalled_s: what a batch may take at all.
        advice: what is said then.
    """

    stop: Callable[[], bool] = lambda: False
    after_stop_s: float = 0.0
    stalled_s: float = STALLED_S
    advice: str = "see that it does"


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

        Raises:
            DataError: the batches of the workers do not fit into shared memory.
        """
        self.steps_per_epoch = slices.steps
        self.waited_s = 0.0
        self._parts, self._first = parts, rank * parts
        self._slices, self._workers = slices, workers
        self._ahead = min(_AHEAD, parts + 1)
        if workers:  # beside those that are made ahead a step holds its own
            shared_memory.check(slices.batch_bytes(), workers * self._ahead + parts)
        self._making: Workers | Beside | None = None

    def steps(self, first: int, last: int, patience: Patience | None = None) -> Iterator[list[Batch]]:
        """The batches of steps `first` to `last - 1`, across epochs: a step is the list of this rank's parts.

        Only the newest of several iterators goes on.

        Raises:
            DataError: an image that cannot be read, a worker that was lost, no batch for too long.
            CalledAway: the run was asked to end while it waited.
        """
        parts = range(self._first, self._first + self._parts)
        making = self._start(Keys((step, part) for step in range(first, last) for part in parts))
        for step in range(first, last):
            if self._making is not making:
                raise RuntimeError("these steps were given up: the loader was closed, or asked for others")
            yield [self._next(making, step, patience or Patience()) for _ in parts]

    def _start(self, keys: Keys) -> Workers | Beside:
        self.close()
        if self._workers:
            self._making = Workers(self._slices, keys, self._workers, self._ahead)
        else:
            self._making = Beside(self._slices.__getitem__, keys)
        return self._making

    def _next(self, making: Workers | Beside, step: int, patience: Patience) -> Batch:
        started = time.perf_counter()
        try:
            item = self._awaited(making, step, patience)
            if isinstance(item, WorkerError):
                raise DataError(item.text)
        except BaseException:
            self.close()
            raise
        self.waited_s += time.perf_counter() - started
        return item

    def _awaited(self, making: Workers | Beside, step: int, patience: Patience) -> Batch | WorkerError:
        started, leave = time.monotonic(), Leave(patience.stop, patience.after_stop_s)
        while (item := making.take()) is None:
            leave.check()
            if (spent := time.monotonic() - started) > patience.stalled_s:
                raise DataError(
                    f"images {self._slices.name!r}: no batch for step {step + 1} in {show_seconds(spent)}: "
                    f"where they are read from does not answer; {patience.advice}"
                )
        assert isinstance(item, Batch | WorkerError)
        return item

    def close(self) -> None:
        """End the worker processes."""
        making, self._making = self._making, None
        if making is not None:
            making.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Slices(Dataset[Batch | WorkerError]):
    """A data set whose item (step, slice) is a whole batch, which a child makes: a function of the seed and the item."""

    def __init__(self, name: str, images: int, batch_size: int, slices: int, seed: int) -> None:
        """A step takes `batch_size * slices` of so many images.

        Raises:
            DataError: fewer images than one step takes.
        """
        self.name, whole = name, batch_size * slices
        if images < whole:
            raise DataError(
                f"images {name!r}: {images} are fewer than the {whole} of one step; use a smaller batch or more images"
            )
        self.batch_size, self.slices, self.seed = batch_size, slices, seed % (1 << 63)
        self.count, self.steps = images, images // whole
        self._order = (-1, np.empty(0, np.int64))  # of the epoch that was asked for last

    def __getitem__(self, key: tuple[int, int]) -> Batch | WorkerError:
        try:
            return self.made(*key)
        except NasvitEdgeError as error:
            return WorkerError(str(error))
        except (MemoryError, RuntimeError) as error:  # the latter is torch's word for it too
            if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
                raise
            return WorkerError(
                f"images {self.name!r}: memory ran out while a batch was made; use fewer --workers"
            )

    def made(self, step: int, index: int) -> Batch:
        """The batch of a slice of a step."""
        raise NotImplementedError

    def batch_bytes(self) -> int:
        """What the tensors of a batch take."""
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

    def batch_bytes(self) -> int:
        return self.batch_size * self.augmenter.image_bytes()

    def made(self, step: int, index: int) -> Batch:
        part, count = self.part(index), self.batch_size * self.slices
        draws = Draws.make(self.augmenter.augment, count, self.rng(IMAGES, step), part)
        chosen = torch.from_numpy(self.chosen(step, part))
        pixels = self.images.some(chosen, whole=self.augmenter.augment.crop == "resized")
        images = self.augmenter.images(pixels, draws)
        seed = int(self.rng(_MIXING, step, index).integers(0, 2**63))
        return Batch(*self.augmenter.mixed(images, self.images.labels[chosen], seed))
