"""Latency, accuracy and sizes of whole populations, by table gathers.

An op depends on the resolution, the width before its stage and its stage's own genes only. So one table a place
(stem, each stage, head), with a row for every combination of those, holds what the place adds to each sum; a
subnet is one row of each table. Latency follows from the sums as `latency/table.py` says.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasvit_edge import sizes
from nasvit_edge.errors import SpaceError
from nasvit_edge.latency import LatencyTable, Prediction
from nasvit_edge.latency.context import SPLIT
from nasvit_edge.latency.names import Precision
from nasvit_edge.latency.table import WIDER, rounded_ms
from nasvit_edge.network_ops import PLACE
from nasvit_edge.ops import Labels, Lateral, Op, lower
from nasvit_edge.runtimes import RUNTIMES
from nasvit_edge.searching.accuracy import AccuracyPredictor
from nasvit_edge.searching.population import Genes, Rows
from nasvit_edge.space import SearchSpace, SubnetConfig

Floats = np.ndarray[Any, np.dtype[np.float64]]
_CHUNK = 8192  # rows at a time: what is gathered stays in the cache
LAST = "last_conv"  # the place behind the stages
_LARGEST = 4_000_000  # rows of one place's table
SIZES = ("macs", "parameters", "weights", "bytes")
NOISE = "noise"  # of the logits, by precisions below fp32 (`mixing.py`); the variance over theirs
_PER_TABLE = ("ms", "op_ms", "estimated_ms", "wrong_ms")


@dataclass(frozen=True, slots=True)
class Place:
    """What one place (stem, stage or head) adds, for every combination of its genes.

    Attributes:
        columns: the genes it depends on: resolution, the width that enters, its own; as columns of a population.
        enters, leaves: those of them that decide how wide its input and its output are; None where it is fixed.
        shape: how many choices each of these has.
        sums: (combinations, sums): what is added, in the order of `Evaluator.names`.
        peak: (combinations,): activation values alive at once, at most, beside those that wait for a decoder.
        kept: of a level of a dense space: the values of its output, which wait for its lateral.
        late: values alive in what runs behind all stages: the place's lateral with its input, the decoder's end.
    """

    name: str
    columns: tuple[int, ...]
    enters: int | None
    leaves: int | None
    shape: tuple[int, ...]
    sums: Floats
    peak: Floats
    kept: Floats
    late: Floats

    @property
    def own(self) -> tuple[int, ...]:
        """The columns of its own genes."""
        return tuple(column for column in self.columns[1:] if column != self.enters)

    def strides(self) -> list[int]:
        return [math.prod(self.shape[i + 1 :]) for i in range(len(self.shape))]


@dataclass(frozen=True, slots=True)
class Values:
    """What is known of a population of n subnets.

    Attributes:
        latency_ms, high_ms: (n, tables): prediction, and the upper end of its interval (nan without one).
        accuracy: (n,) fractions.
        macs, parameters: (n,) counts.
        bytes, peak: (n,): of the exported file, and of activations that are alive at once; computed, see `sizes.py`.
        loss: (n,): what precisions are predicted to cost of the accuracy, a fraction; it is taken off already.
    """

    latency_ms: Floats
    high_ms: Floats
    accuracy: Floats
    macs: Floats
    parameters: Floats
    bytes: Floats
    peak: Floats
    loss: Floats

    def __getitem__(self, index: Any) -> Values:
        return Values(*(getattr(self, name)[index] for name in Values.__slots__))

    @staticmethod
    def joined(parts: Sequence[Values]) -> Values:
        return Values(*(np.concatenate([getattr(p, name) for p in parts]) for name in Values.__slots__))


class Evaluator:
    """`evaluator(rows)` -> `Values`.

    Args:
        tables: at least one; the first is what fronts are drawn over.
        accuracy: a predictor (gathered as well), or any callable config -> fraction (called row by row).

    Raises:
        TableError: a table does not cover an op of the allowed subnets.
    """

    is_mixed = False  # whether places have precisions of their own

    def __init__(
        self,
        genes: Genes,
        tables: Sequence[LatencyTable],
        accuracy: AccuracyPredictor | Callable[[SubnetConfig], float],
    ) -> None:
        self.genes, self.tables, self.accuracy = genes, tuple(tables), accuracy
        self.predictor = accuracy if isinstance(accuracy, AccuracyPredictor) else None
        self.precision = tables[0].file.precision
        self.form = RUNTIMES[tables[0].file.runtime].form
        self.activation_bytes = sizes.ACTIVATION_BYTES[self.precision]
        self.names = [f"{name} {i}" for i in range(len(tables)) for name in _PER_TABLE] + [
            *SIZES,
            NOISE,
            "gain",
        ]
        self.places = tuple(self._places())
        self._strides = self._column_strides()

    def _column_strides(self) -> Floats:
        strides = np.zeros((len(self.genes.allowed), len(self.places)))
        for i, place in enumerate(self.places):
            strides[list(place.columns), i] = place.strides()
        return strides

    def __call__(self, rows: Rows) -> Values:
        parts = [self._chunk(rows[at : at + _CHUNK]) for at in range(0, max(1, len(rows)), _CHUNK)]
        return Values.joined(parts)

    def latency(self, table: int, sums: Any) -> Any:
        """From the sums (..., names) of subnets to their latency in ms by the table with that number."""
        latencies = self.tables[table]
        ms = sums[..., self.at(f"ms {table}")] + self.fixed_ms(table)
        spill = self.spill_ms(table)
        if spill:
            ms = ms + spill * np.maximum(0, sums[..., self.at("weights")] / 1e6 - latencies.context.fits)
        return ms

    def spill_ms(self, table: int) -> float:
        """What each million of weights beyond the cache adds in ms."""
        latencies = self.tables[table]
        return latencies.context.spill_ms * (latencies.composition.scale if latencies.composition else 1.0)

    def at(self, name: str) -> int:
        """The column of a sum."""
        return self.names.index(name)

    def linked(self, resolution: Any, gain: Any) -> Any:
        """Predicted accuracy from the index of the resolution and the sum of gains."""
        assert self.predictor is not None
        base = np.array([self.predictor.base[r] for r in self.genes.space.resolutions])
        return self.predictor.link(base[resolution] + gain)

    def fixed_ms(self, table: int) -> float:
        """What every subnet takes by a table, whatever its ops."""
        latencies = self.tables[table]
        return latencies.composition.offset_ms if latencies.composition else latencies.call_ms

    def _chunk(self, rows: Rows) -> Values:
        at = (rows @ self._strides).astype(np.intp) if len(rows) else np.zeros((0, len(self.places)), np.intp)
        sums = np.zeros((len(rows), len(self.names)))
        peak, kept, late = np.zeros((3, len(rows)))
        for i, place in enumerate(self.places):
            sums += place.sums.take(at[:, i], 0)
            inner = [memory.take(at[:, i]) for memory in (place.peak, place.kept, place.late)]
            peak, kept, late = behind((peak, kept, late), inner)
        peak = np.maximum(peak, late)
        latency = rounded_ms(np.stack([self.latency(i, sums) for i in range(len(self.tables))], 1))
        high = np.stack([self._high(i, sums, latency[:, i]) for i in range(len(self.tables))], 1)
        macs, parameters, size = (sums[:, self.at(name)] for name in ("macs", "parameters", "bytes"))
        peak *= self.activation_bytes
        loss = self.loss(sums[:, self.at(NOISE)])
        return Values(latency, high, self._accuracy(rows, sums) - loss, macs, parameters, size, peak, loss)

    def prediction(self, row: Any, ms: float) -> Prediction:  # noqa: ARG002 - the table knows its own
        """The first table's latency of a row, with its interval and the share that was measured."""
        return self.tables[0].predict(self.genes.config(row))

    def by_place(self, row: Any) -> dict[str, Precision]:  # noqa: ARG002
        """Place -> its precision, where these are searched."""
        return {}

    def loss(self, noise: Floats) -> Floats:
        """What noise of the logits costs of the accuracy, a fraction."""
        return np.zeros_like(noise)

    def most_noise(self, loss: float) -> float:  # noqa: ARG002 - where precisions are searched, it counts
        """The noise up to which the loss is at most so much."""
        return np.inf

    def _high(self, i: int, sums: Floats, ms: Floats) -> Floats:
        table = self.tables[i]
        if table.composition is None:
            return np.full(len(ms), np.nan)
        high = ms * (1 + table.composition.error)
        if table.estimates:
            total = np.maximum(sums[:, self.at(f"op_ms {i}")], 1e-300)
            high = high * (1 + WIDER * sums[:, self.at(f"wrong_ms {i}")] / total)
        return high

    def _accuracy(self, rows: Rows, sums: Floats) -> Floats:
        if self.predictor is not None:
            return self.linked(rows[:, 0], sums[:, self.at("gain")])
        configs = [self.genes.config(row) for row in rows]
        many = getattr(self.accuracy, "many", None)  # measures several at once
        return np.array(many(configs) if many else [self.accuracy(c) for c in configs], np.float64)

    def _places(self) -> Iterator[Place]:
        space = self.genes.space
        known: dict[Op, Floats] = {}
        for number, name in enumerate(_names(space)):
            near = space.near(number)
            shape = tuple(len(space.genes[n].choices) for n in near)
            if math.prod(shape) > _LARGEST:
                raise SpaceError(
                    f"{name} of space {space.name!r} has {math.prod(shape):.1e} combinations of genes; search takes up to {_LARGEST:.0e}"
                )
            sums, memory = np.zeros((math.prod(shape), len(self.names))), np.zeros((3, math.prod(shape)))
            allowed = [set(self.genes.allowed[n].tolist()) for n in near]
            for row, picked in enumerate(itertools.product(*map(range, shape))):
                if all(at in a for at, a in zip(picked, allowed, strict=True)):
                    choices = {n: space.genes[n].choices[at] for n, at in zip(near, picked, strict=True)}
                    sums[row], memory[:, row] = self._adds(known, number, name, choices)
            widths = (space.width_gene(number - 1), space.width_gene(number))
            yield Place(name, near, *widths, shape, sums, *memory)

    def _adds(
        self, known: dict[Op, Floats], number: int, name: str, choices: dict[int, int]
    ) -> tuple[Floats, tuple[int, int, int]]:
        """The sums and the memory (`Place.peak`, `kept`, `late`) of the ops at one place, everything else smallest."""
        space = self.genes.space
        config = space.varied(space.smallest(), choices)
        ops = [op for op in lower(space, config) if op.stage == name]
        for op in ops:
            if op not in known:
                known[op] = self._op(op)
        total: Floats = np.sum([known[op] for op in ops], 0)
        if self.predictor is not None:
            stage_choices = {
                space.genes[n].key: c for n, c in choices.items() if space.genes[n].place == number
            }
            total[-1] = self.predictor.stage_effect(config.resolution, name, stage_choices)
        follows = space.is_dense and number - 2 in space.levels
        return total, _memory(ops, behind_level=follows)

    def _op(self, op: Op) -> Floats:
        key = op.key()
        numbers: list[float] = []
        for table in self.tables:
            ms, estimated = table.op_ms(key), key not in table.ops_ms
            inside = table.context.factors.get(op.kind, 1.0) * ms + table.context.block_ms * (
                op.kind == SPLIT
            )
            if table.composition is not None:
                inside = table.composition.scale * inside + table.composition.per_op_ms
            wrong = ms * table.estimates[key].error if estimated else 0.0
            numbers += [inside, ms, ms if estimated else 0.0, wrong]
        numbers += [
            op.macs(),
            sizes.parameters(op),
            op.weights(),
            sizes.file_bytes(op, self.form, self.precision),
            0.0,
            0.0,
        ]
        return np.array(numbers)


def _names(space: SearchSpace) -> list[str]:
    """The places, in the order of the space's parts."""
    return [PLACE] if space.network else ["first_conv", *(stage.name for stage in space.stages), LAST]


def behind(before: Sequence[Any], adds: Sequence[Any]) -> tuple[Any, Any, Any]:
    """Memory (`Place.peak`, `kept`, `late`) of places and then of more places, each side together: `sizes.peak` in parts.

    What levels keep lies beside all that follows; a lateral runs while those of the levels behind it still wait.
    """
    return (
        np.maximum(before[0], before[1] + adds[0]),
        before[1] + adds[1],
        np.maximum(before[2] + adds[1], adds[2]),
    )


def _memory(ops: Sequence[Op], *, behind_level: bool) -> tuple[int, int, int]:
    """Of the ops at one place; `behind_level`: the first one's input is counted as kept."""
    if isinstance(ops[-1], Labels):
        return 0, 0, max(map(sizes.activations, ops))
    laterals = [op for op in ops if isinstance(op, Lateral)]
    per_op = [sizes.activations(op) for op in ops if not isinstance(op, Lateral)]
    if behind_level:
        per_op[0] -= math.prod(ops[0].in_shape())
    kept = sum(math.prod(op.in_shape()) for op in laterals)  # at most one
    return max(per_op), kept, sum(map(sizes.activations, laterals))
