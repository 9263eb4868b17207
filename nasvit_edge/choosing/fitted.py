"""A predictor of accuracy from subnets measured on images: as many as are asked for, or as minutes allow."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import structs

from nasvit_edge import files, records
from nasvit_edge.choosing.accuracy import AccuracyChoice, measured_accuracy
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.listening import Listener
from nasvit_edge.searching import fitting
from nasvit_edge.searching.accuracy import AccuracyPredictor, predictor_of
from nasvit_edge.searching.images import ImageAccuracy
from nasvit_edge.space import SearchSpace, SubnetConfig

_AT_ONCE = 8  # subnets measured between two signs of life
_MOST = 1000  # that are drawn where minutes say how many are measured
_DRAWN_SHARE = 0.5  # of the minutes, where a fit can say which subnets are promising; the rest is for those

Promising = Callable[[AccuracyPredictor], Sequence[SubnetConfig]]


@dataclass(slots=True, kw_only=True)
class Fitting:
    """Subnets that are measured, and the predictor that is fitted to them.

    Attributes:
        weights: as they were given.
        seed: of the subnets that are drawn.
    """

    source: ImageAccuracy
    weights: str
    space: SearchSpace
    seed: int
    listener: Listener
    measured: dict[SubnetConfig, float] = field(default_factory=dict)

    @staticmethod
    def of(choice: AccuracyChoice, space: SearchSpace, seed: int, listener: Listener) -> Fitting:
        """NasvitEdgeError where there are no weights or images."""
        if choice.supernet is None or choice.data is None:
            raise NasvitEdgeError("fitting a predictor takes weights and images: add --supernet W --data D")
        source = measured_accuracy(choice, space, listener)
        return Fitting(source=source, weights=choice.supernet, space=space, seed=seed, listener=listener)

    def drawn(self, count: int) -> None:
        """Measure so many."""
        configs = fitting.drawn(self.space, count, self.seed)
        for at in range(0, len(configs), _AT_ONCE):
            self._measure(configs[at : at + _AT_ONCE])
            self._show(len(self.measured), len(configs))

    def within(self, minutes: float, promising: Promising | None = None) -> None:
        """Measure for so long, at least as many as a fit takes; those that a fit to the first half finds promising, if it is asked.

        Raises:
            NasvitEdgeError: under torchrun, where clocks would stop each process elsewhere.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise NasvitEdgeError(
                "--minutes is for one process; under torchrun use: accuracy fit --samples N"
            )
        began, most = time.monotonic(), 60 * minutes
        configs = fitting.drawn(self.space, _MOST, self.seed)
        while configs:
            elapsed = time.monotonic() - began
            enough = len(self.measured) >= fitting.FEWEST
            if enough and elapsed > most * (_DRAWN_SHARE if promising else 1):
                break
            self._measure(configs[:_AT_ONCE])
            del configs[:_AT_ONCE]
            self._show(min(round(elapsed), round(most)), round(most))
        while promising and time.monotonic() - began < most:
            new = [c for c in promising(self._predictor(self.file())) if c not in self.measured][:_AT_ONCE]
            if not new:
                break
            self._measure(new)
            self._show(min(round(time.monotonic() - began), round(most)), round(most))

    def file(self) -> fitting.FittedFile:
        """The predictor's file."""
        images = f"{len(self.source.validation)} images of {self.source.validation.name}"
        origin = f"{len(self.measured)} subnets of {Path(self.weights).name} measured on {images}"
        weights = self.source.supernet.source.get("sha256")  # of generic ones none
        return structs.replace(
            fitting.fit(self.space, list(self.measured), list(self.measured.values()), origin),
            seed=self.seed,
            weights_sha256=None if weights is None else str(weights),
            weights_key=files.file_and_key(self.weights)[1],
        )

    def write(self, out: Path) -> fitting.FittedFile:
        """Fit, and write the predictor."""
        file = self.file()
        self._predictor(file, out.stem)
        if self.source.writes:
            records.write(out, file)
        return file

    def _predictor(self, file: fitting.FittedFile, name: str = "") -> AccuracyPredictor:
        return predictor_of(name, file, self.space)

    def _measure(self, configs: Sequence[SubnetConfig]) -> None:
        self.measured.update(zip(configs, self.source.many(configs), strict=True))

    def _show(self, done: int, total: int) -> None:
        best = max(self.measured.values())
        self.listener.progress(done, max(1, total), f"{len(self.measured)} subnets, best {best:.2%}")
