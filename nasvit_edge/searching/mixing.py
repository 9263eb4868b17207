"""Precision as a gene: which stage of a subnet is computed in which precision, searched together with the subnet.

A place (stem, stage, head) takes the time that the table of its precision says. What rounding adds to the logits is noise, and
independent noises add:

    noise = sum over places of noise[place][precision]       variance, over that of the logits

So a precision is one more gene of each place, and the exact front (`exact.py`) is exact over subnets and precisions together. What a
noise costs of the accuracy is measured (`choosing/noises.py`), and taken off what is predicted of the subnet.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nasvit_edge.latency import LatencyTable, Prediction
from nasvit_edge.latency.names import Precision
from nasvit_edge.latency.table import WIDER
from nasvit_edge.searching.accuracy import AccuracyPredictor
from nasvit_edge.searching.evaluation import NOISE, Evaluator, Floats, Place
from nasvit_edge.searching.population import Genes
from nasvit_edge.space import SubnetConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """What precisions take and cost.

    Attributes:
        tables: one a precision, all of one device, runtime and number of threads; the exact one first.
        noise: place -> precision -> what it adds.
        losses: rising pairs of a noise and what it costs of the accuracy, a fraction; (0, 0) first.
    """

    tables: tuple[LatencyTable, ...]
    noise: Mapping[str, Mapping[str, float]]
    losses: tuple[tuple[float, float], ...]

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """In the order of the tables."""
        return tuple(table.file.precision for table in self.tables)

    @property
    def error(self) -> float | None:
        """The largest half-width of the tables' intervals; None where one has none."""
        errors = [table.composition.error for table in self.tables if table.composition is not None]
        return max(errors) if len(errors) == len(self.tables) else None


@dataclass(frozen=True, slots=True)
class _WithPrecisions(Genes):
    """The genes of a space, and behind them for each place the index of its precision."""

    def config(self, row: Any) -> SubnetConfig:
        return Genes.config(self, row[: len(self.space.genes)])

    def restricted(self) -> dict[str, tuple[int, ...]]:
        return Genes(self.space, self.allowed[: len(self.space.genes)]).restricted()


class MixedEvaluator(Evaluator):
    """Values of subnets whose places have precisions of their own: columns of a row behind the genes.

    What a table says of a whole subnet and not of its ops (what a call takes, weights beyond the cache) is the first one's.
    """

    is_mixed = True

    def __init__(self, genes: Genes, mixing: Mixing, accuracy: AccuracyPredictor) -> None:
        super().__init__(genes, mixing.tables[:1], accuracy)
        self.mixing = mixing
        others = [Evaluator(genes, [table], accuracy).places for table in mixing.tables[1:]]
        self.places = tuple(
            _widened(parts, mixing, len(genes.allowed) + i, self.at(NOISE))
            for i, parts in enumerate(zip(self.places, *others, strict=True))
        )
        choices = np.arange(len(mixing.tables), dtype=np.int8)
        self.genes = _WithPrecisions(genes.space, (*genes.allowed, *[choices] * len(self.places)))
        self._strides = self._column_strides()

    def loss(self, noise: Floats) -> Floats:
        """What noise of the logits costs, between what was measured; beyond it rises as at the end."""
        at, lost = np.array(self.mixing.losses).T
        beyond = np.maximum(0.0, noise - at[-1]) * (lost[-1] / at[-1])
        return np.asarray(np.interp(noise, at, lost) + beyond, np.float64)

    def most_noise(self, loss: float) -> float:
        """The noise up to which the loss is at most so much."""
        at, lost = np.array(self.mixing.losses).T
        if loss >= lost[-1]:
            return float(at[-1] * max(1.0, loss / max(lost[-1], 1e-300)))
        last = int(np.flatnonzero(lost <= loss)[-1])
        share = (loss - lost[last]) / (lost[last + 1] - lost[last])
        return float(at[last] + share * (at[last + 1] - at[last]))

    def by_place(self, row: Any) -> dict[str, Precision]:
        """Place -> its precision."""
        picked = row[len(self.genes.space.genes) :]
        return {place.name: self.mixing.precisions[at] for place, at in zip(self.places, picked, strict=True)}

    def prediction(self, row: Any, ms: float) -> Prediction:
        """A row's latency with an interval as wide as the widest table's, wider by what is estimated, and the share that was measured."""
        places = zip(self.places, (row @ self._strides).astype(np.intp), strict=True)
        sums = np.sum([place.sums[at] for place, at in places], 0)
        total = max(float(sums[self.at("op_ms 0")]), 1e-300)
        coverage = round(1 - float(sums[self.at("estimated_ms 0")]) / total, 4)
        if self.mixing.error is None:
            return Prediction(ms, None, None, coverage)
        wide = (1 + self.mixing.error) * (1 + WIDER * float(sums[self.at("wrong_ms 0")]) / total)
        return Prediction(ms, ms / wide, ms * wide, coverage)

    def row(self, config: SubnetConfig, precisions: Mapping[str, str]) -> Any:
        """The row of a subnet whose places have these precisions."""
        genes_row = self.genes.rows([config])[0]
        at = [self.mixing.precisions.index(precisions[place.name]) for place in self.places]
        return np.concatenate([genes_row, np.array(at, np.int8)])

    def kept_to(self, precision: str) -> MixedEvaluator:
        """The same with one precision everywhere."""
        at = np.array([self.mixing.precisions.index(precision)], np.int8)
        other = copy.copy(self)
        allowed = self.genes.allowed[: len(self.genes.space.genes)]
        other.genes = _WithPrecisions(self.genes.space, (*allowed, *[at] * len(self.places)))
        return other


def _widened(parts: Sequence[Place], mixing: Mixing, column: int, at: int) -> Place:
    """A place with its precision as one more gene of its own, the last one; `at`: the sum that is noise."""
    first, count = parts[0], len(parts)
    sums: Floats = np.stack([part.sums for part in parts], 1)
    sums[:, :, at] = [mixing.noise[first.name][precision] for precision in mixing.precisions]
    return replace(
        first,
        columns=(*first.columns, column),
        shape=(*first.shape, count),
        sums=sums.reshape(-1, sums.shape[-1]),
        peak=np.repeat(first.peak, count),
        kept=np.repeat(first.kept, count),
        late=np.repeat(first.late, count),
    )
