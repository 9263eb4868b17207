"""The accuracy of subnets, measured on images after batch-norm calibration.

Every subnet is materialised and calibrated by itself, so no statistics leak from one to another, and all are judged
on the same images. What was measured is kept: asking again costs nothing. Several are shared among processes, and,
under torchrun, among its machines.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasvit_edge import cache, data_sets, digests, processes
from nasvit_edge.data_sets import Labelled
from nasvit_edge.data_sets.splits import CALIBRATION_MOST
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.preparation import PUBLISHED
from nasvit_edge.processes import Pool
from nasvit_edge.searching.accuracy import quality_of
from nasvit_edge.space import SearchSpace, SubnetConfig

if TYPE_CHECKING:
    from nasvit_edge.model.supernet import Supernet
    from nasvit_edge.train.calibration import Calibration
    from nasvit_edge.train.world import World

_FEWEST = 4  # subnets that are worth starting processes for
_OTHERS_S = 6 * 3600.0  # processes under torchrun wait for each other: others may have larger subnets


@dataclass(frozen=True, slots=True)
class Source:
    """What another process needs to measure the same: names and paths, no weights.

    Attributes:
        split: the images that are judged on, as `data_sets.split_to_judge` takes it.
        calibration_images: at most so many, of which batches are drawn.
        chain: how the images that are judged on are prepared (`Preparation.chain`).
        in_order: class folders whose names do not say which label they are take the labels in order.
    """

    supernet: str
    space: SearchSpace
    data: str
    split: str = "validation"
    calibration_images: int = CALIBRATION_MOST
    chain: str = PUBLISHED
    in_order: bool = False

    def loaded(self, *, workers: int | None = None, listener: Listener = SILENT) -> ImageAccuracy:
        """With weights and images in memory; `note` is told what the images are."""
        from nasvit_edge.model.checkpoint import load_supernet
        from nasvit_edge.train.calibration import calibration_for

        weights, listener = load_supernet(self.supernet, self.space), listener.once()
        split, remark = data_sets.split_to_judge(self.data, self.space, weights.trained_on, self.split)
        if remark:
            listener.note(remark)
        images = data_sets.load_images(
            self.data, split, self.space, in_order=self.in_order, listener=listener
        )
        calibration = calibration_for(weights, self.data, self.calibration_images, listener=listener)
        return ImageAccuracy(weights, calibration, images, source=self, workers=workers)


@dataclass(slots=True)
class ImageAccuracy:
    """`accuracy(config)` -> the share of `validation` images that the calibrated subnet gets right.

    Attributes:
        measured: what is known already.
        store: a file that measured values are added to, one line each.
        source: where weights and images come from; without it nothing is measured in other processes.
        workers: processes, each with one thread; None: as many as there are cores.
    """

    supernet: Supernet
    calibration: Calibration
    validation: Labelled
    measured: dict[SubnetConfig, float] = field(default_factory=dict)
    store: Path | None = None
    source: Source | None = None
    workers: int | None = None
    pool: Pool | None = None
    _deployed: dict[int, Labelled] = field(default_factory=dict)

    @staticmethod
    def load(
        supernet: str,
        space: SearchSpace,
        data: str,
        *,
        workers: int | None = None,
        in_order: bool = False,
        listener: Listener = SILENT,
    ) -> ImageAccuracy:
        """From weights and images by name or path."""
        return Source(supernet, space, data, in_order=in_order).loaded(workers=workers, listener=listener)

    def keeping(self, store: Path) -> ImageAccuracy:
        """Itself, which adds what it measures to a file; values that are there already are not measured again."""
        self.store = store
        self.measured.update(_stored(store, self.supernet.space))
        return self

    @property
    def name(self) -> str:
        return f"measured on {self.validation.name}"

    @property
    def quality(self) -> str:
        """What is measured."""
        return quality_of(self.supernet.space)

    @property
    def uncertainty(self) -> float:
        """One standard error of a share of about 0.9 on this many images; of scenes, whose pixels are many, a cautious one."""
        return float((0.9 * 0.1 / len(self.validation)) ** 0.5)

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files: under torchrun the first."""
        return is_first()

    def __call__(self, config: SubnetConfig) -> float:
        return self.many([config])[0]

    def close(self) -> None:
        """End the processes."""
        if self.pool is not None:
            self.pool.close()
            self.pool = None

    def many(self, configs: Sequence[SubnetConfig]) -> list[float]:
        """The accuracies of several subnets, those not known yet measured in parallel."""
        new = list(dict.fromkeys(c for c in configs if c not in self.measured))
        for config, accuracy in _shared(new, self._measure):
            self._remember(config, accuracy)
        return [self.measured[config] for config in configs]

    def _measure(self, configs: Sequence[SubnetConfig]) -> Iterator[tuple[SubnetConfig, float]]:
        workers = min(self.workers or os.cpu_count() or 1, len(configs))
        if workers < 2 or self.source is None or len(configs) < _FEWEST:
            for config in configs:
                yield config, self._one(config)
            return
        if self.pool is None:
            self.pool = _pool(self.source, self.workers or os.cpu_count() or 1)
        try:
            yield from zip(configs, self.pool.map(_in_worker, configs), strict=True)
        except BaseException:  # Ctrl-C too: nobody takes what they are at
            self.close()
            raise

    def _one(self, config: SubnetConfig) -> float:
        from nasvit_edge.model.accuracy import subnet_accuracy

        processes.reuse_memory()
        return subnet_accuracy(self.supernet, config, self.calibration, self._judged(config.resolution))

    def _judged(self, resolution: int) -> Labelled:
        """The images that a subnet of a resolution is judged on."""
        if self.source is None or self.source.chain == PUBLISHED:
            return self.validation
        if resolution not in self._deployed:
            rule = self.source.space.preparation(resolution, self.source.chain)
            asked, in_order = self.source, self.source.in_order
            split, _ = data_sets.split_to_judge(
                asked.data, asked.space, self.supernet.trained_on, asked.split
            )
            images = data_sets.load_images(asked.data, split, asked.space, rule, in_order=in_order)
            self._deployed[resolution] = images
        return self._deployed[resolution]

    def _remember(self, config: SubnetConfig, accuracy: float) -> None:
        self.measured[config] = accuracy
        if self.store is not None and self.writes:
            line = json.dumps({"config": config.to_dict(), "accuracy": accuracy})
            with contextlib.suppress(OSError):  # a cache that cannot be written to is no error
                self.store.parent.mkdir(parents=True, exist_ok=True)
                with self.store.open("a", encoding="utf-8") as out:
                    out.write(f"{line}\n")


def accuracy_store(space: SearchSpace, supernet: str, source: ImageAccuracy) -> Path:
    """The file that keeps accuracies measured with these weights, images and code."""
    parts = {
        "space": repr(space),
        "calibration": source.calibration.key(),
        "images": source.validation.digest(),
    }
    return cache.root() / "accuracy" / f"{space.name}-{digests.key_of(supernet, parts)}.jsonl"


def is_first() -> bool:
    """Whether this process is the one that writes and speaks: under torchrun the first."""
    return os.environ.get("RANK", "0") == "0"


def _stored(store: Path | None, space: SearchSpace) -> Iterator[tuple[SubnetConfig, float]]:
    """The lines of a store that are whole."""
    lines: list[str] = []
    if store is not None:
        with contextlib.suppress(OSError, ValueError):
            lines = store.read_text(encoding="utf-8").splitlines()
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError, NasvitEdgeError):
            values = json.loads(line)
            if 0 <= float(values["accuracy"]) <= 1:
                yield space.config_from(values["config"]), float(values["accuracy"])


def _shared(configs: Sequence[SubnetConfig], measure: Any) -> Iterator[tuple[SubnetConfig, float]]:
    """Under torchrun every process measures its part and learns of all others'; else all is measured here."""
    if not configs or "WORLD_SIZE" not in os.environ:
        yield from measure(configs)
        return
    import torch

    ranks = _ranks()
    accuracies = torch.full((-(-len(configs) // ranks.size),), torch.nan, dtype=torch.float64)
    for place, (_, accuracy) in enumerate(measure(configs[ranks.rank :: ranks.size])):
        accuracies[place] = accuracy
    # every rank's first, then every rank's second, ...
    everything = ranks.gathered(accuracies).T.flatten().tolist()
    yield from zip(configs, everything, strict=False)


@functools.cache
def _ranks() -> World:
    """The processes that torchrun started. One that is dead is noticed at once, one that is stuck after hours."""
    from nasvit_edge.train.world import world

    without_gpu = {name: value for name, value in os.environ.items() if name != "LOCAL_RANK"}
    ranks = world(_OTHERS_S, without_gpu)
    ranks.lost = "the measuring of subnets stopped: {}; run the same command again"
    return ranks


_worker: ImageAccuracy | None = None


def _pool(source: Source, workers: int) -> Pool:
    return Pool(
        workers, _start, (source,), who="a process that measures subnets (--workers: how many there are)"
    )


def _start(source: Source) -> None:
    """Load what a worker needs, once."""
    import torch

    global _worker
    torch.set_num_threads(1)
    _worker = source.loaded()


def _in_worker(config: SubnetConfig) -> float:
    assert _worker is not None
    return _worker._one(config)
