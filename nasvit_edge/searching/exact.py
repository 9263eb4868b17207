"""The exact front, by dynamic programming over the stages.

What a stage adds depends on the resolution, the width before it and its own genes. So, for each resolution and each
width that the stages so far end in, only those ways to get there matter that no other beats in every cost: time,
accuracy, and whatever else is limited. Latency rises with two sums, the time and the time with the cost of every
weight (`latency/context.py`), and accuracy with the sum of gains, so a beaten way can never win later.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.searching.evaluation import NOISE, Evaluator, Floats, Place, behind
from nasvit_edge.searching.limits import Limit, Quantity
from nasvit_edge.searching.pareto import TooMuchWorkError, Work, front
from nasvit_edge.searching.population import Rows

MOST_WAYS = 6_000_000  # in one step; about 100 bytes each
MOST_WORK = 1e11  # comparisons: some minutes
LITTLE_WORK = 5e8  # some seconds: where the answer is welcome, but was not asked for
_MEMORY = ("peak", "kept", "late")  # in the order of `behind`
_SLACK = 1 + 1e-9  # caps are kept to but for rounding
_ROUNDING = 1e-10


class ExactError(NasvitEdgeError):
    """The exact method does not apply here, or would need more than memory holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """One cost of a way: `sign * sum + per_weight * weights`, or one of the three of memory.

    What is no objective matters only until it is certain that its cap is kept.
    """

    sums: int | None = None
    memory: str | None = None  # an attribute of `Place`
    sign: float = 1.0
    per_weight: float = 0.0
    cap: float = np.inf  # no way above this one counts
    objective: bool = False


@dataclass(frozen=True, slots=True)
class _Ways:
    """Ways to one width: costs (n, k), and their choices (n, genes), 0 where still open."""

    costs: Floats
    rows: Rows


def exact_front(
    evaluator: Evaluator,
    limits: Sequence[Limit] = (),
    listener: Listener = SILENT,
    most_work: float = MOST_WORK,
) -> Rows:
    """The rows of all subnets on the front of latency (first table) and accuracy within the limits; none where none is.

    Raises:
        ExactError: accuracies are measured, or an interval holds estimates, or it takes more than `most_work` comparisons.
    """
    if evaluator.predictor is None:
        raise ExactError("the exact method adds up predicted gains of accuracy; here accuracy is measured")
    columns = [
        *_latency(evaluator, 0, objective=True),
        _Column(sums=evaluator.at("gain"), sign=-1.0, objective=True),
        *([_Column(sums=evaluator.at(NOISE), objective=True)] if evaluator.is_mixed else []),
        *(column for limit in limits for column in _limited(evaluator, limit)),
    ]
    try:
        return _solved(evaluator, _merged(columns), Work(most_work), listener)
    except TooMuchWorkError:
        raise ExactError(
            "the exact method would have to compare too many combinations; use fewer limits, or --method evolutionary"
        ) from None


def smallest(evaluator: Evaluator, limit: Limit) -> Rows:
    """The subnets among which the one is where the limited quantity is best (for accuracy: the largest)."""
    if limit.quantity.kind == "accuracy":
        if evaluator.predictor is None:
            raise ExactError("measured accuracies have no bound that is known before")
        return _solved(
            evaluator, [_Column(sums=evaluator.at("gain"), sign=-1.0, objective=True)], Work(np.inf)
        )
    kind, table = limit.quantity
    asked = Quantity("latency", table) if limit.quantity.is_time else Quantity(kind)
    columns = _quantity(evaluator, asked, objective=True)
    return _solved(evaluator, _merged(columns), Work(np.inf))


def _quantity(
    evaluator: Evaluator, asked: Quantity, most: float = np.inf, *, objective: bool = False
) -> list[_Column]:
    """The costs that a quantity rises with; `most`: its cap."""
    if asked.kind == "latency":
        return _latency(evaluator, asked.table, most, objective=objective)
    if asked.kind == "loss":
        most = np.inf if most == np.inf else evaluator.most_noise(most)
        return [_Column(sums=evaluator.at(NOISE), cap=most, objective=objective)]
    if asked.kind == "peak":
        return _memory(evaluator, most / evaluator.activation_bytes, objective=objective)
    return [_Column(sums=evaluator.at(asked.kind), cap=most, objective=objective)]


def _memory(evaluator: Evaluator, most: float, *, objective: bool) -> list[_Column]:
    """The largest of all places; what levels keep for a decoder adds to it, so that counts whatever the cap."""
    peak = _Column(memory="peak", cap=most, objective=objective)
    if not evaluator.genes.space.is_dense:
        return [peak]
    kept, late = _Column(memory="kept", objective=True), _Column(memory="late", cap=most, objective=True)
    return [peak, kept, late]


def _latency(
    evaluator: Evaluator, table: int, most: float = np.inf, *, objective: bool = False
) -> list[_Column]:
    """Time without, and with the cost of every weight: the latency is the larger, the second less what fits the cache."""
    at, spill = evaluator.at(f"ms {table}"), evaluator.spill_ms(table)
    room = most - evaluator.fixed_ms(table)
    if not spill:
        return [_Column(sums=at, cap=room, objective=objective)]
    free = spill * evaluator.tables[table].context.fits
    return [
        _Column(sums=at, cap=room, objective=objective),
        _Column(sums=at, per_weight=spill, cap=room + free, objective=objective),
    ]


def _limited(evaluator: Evaluator, limit: Limit) -> list[_Column]:
    kind, table = limit.quantity
    if kind == "accuracy":  # on the front already
        return []
    most = limit.bound / limit.factor * _SLACK
    if kind == "high":
        latencies = evaluator.tables[table]
        if latencies.estimates or latencies.composition is None:
            raise ExactError("the exact method cannot limit intervals of tables with estimates")
        return _latency(evaluator, table, most / (1 + latencies.composition.error))
    return _quantity(evaluator, limit.quantity, most)


def _merged(columns: Iterable[_Column]) -> list[_Column]:
    """Each cost once, with its lowest cap."""
    by_key: dict[Any, _Column] = {}
    for column in columns:
        key = (column.sums, column.memory, column.sign, column.per_weight)
        other = by_key.get(key, column)
        least = min(column.cap, other.cap)
        by_key[key] = replace(column, cap=least, objective=column.objective or other.objective)
    return list(by_key.values())


def _solved(
    evaluator: Evaluator, columns: Sequence[_Column], work: Work, listener: Listener = SILENT
) -> Rows:
    costs = [_costs(evaluator, place, columns) for place in evaluator.places]
    resolutions, solutions = evaluator.genes.allowed[0], []
    for done, resolution in enumerate(resolutions.tolist()):
        run = _AtResolution(evaluator, columns, [c[resolution] for c in costs], work)
        solutions.append(run.solved(resolution))
        listener.progress(done + 1, len(resolutions), "exact front")
    return np.concatenate(solutions)


def _costs(evaluator: Evaluator, place: Place, columns: Sequence[_Column]) -> Floats:
    """(resolutions, choices of the place's other genes ..., costs)."""
    weights = place.sums[:, evaluator.at("weights")] / 1e6
    costs = [
        getattr(place, str(c.memory))
        if c.sums is None
        else c.sign * place.sums[:, c.sums] + c.per_weight * weights
        for c in columns
    ]
    return np.stack(costs, 1).reshape(*place.shape, len(columns))


class _AtResolution:
    """The ways at one resolution. `costs`: for each place (choices of its other genes ..., columns)."""

    def __init__(
        self, evaluator: Evaluator, columns: Sequence[_Column], costs: Sequence[Floats], work: Work
    ) -> None:
        self.genes, self.places, self.costs, self.work = evaluator.genes, evaluator.places, costs, work
        self.largest = np.array([c.memory == "peak" for c in columns])
        self.memory = [i for name in _MEMORY for i, c in enumerate(columns) if c.memory == name]
        self.caps = np.array([c.cap for c in columns])
        self.objective = np.array([c.objective for c in columns])
        self.rest = self._rest()

    def solved(self, resolution: int) -> Rows:
        """The rows that no other beats and that keep to every cap."""
        start = np.zeros((1, len(self.genes.allowed)), np.int8)
        start[0, 0] = resolution
        ways = {0: _Ways(np.zeros((1, len(self.caps))), start)}
        for i in range(len(self.places)):
            reached: dict[int, list[_Ways]] = {}
            for before, come in ways.items():
                for width in self._widths(i, before):
                    reached.setdefault(width, []).append(self._longer(come, i, before, width))
            ways = {width: self._kept(parts, *self.rest[i + 1][width]) for width, parts in reached.items()}
        return np.concatenate([way.rows for way in ways.values()])

    def _widths(self, i: int, before: int) -> list[int]:
        """The choices of the width behind a place, by what the width before it is; 0 stands for one that is fixed."""
        place = self.places[i]
        if place.leaves is not None and place.leaves == place.enters:
            return [before]
        if place.leaves is None:
            return [0]
        least = self._least(i, before)
        choices = self.genes.space.genes[place.leaves].choices
        return [width for width in self.genes.allowed[place.leaves].tolist() if choices[width] >= least]

    def _least(self, i: int, before: int) -> int:
        """Which width one behind a place may not fall below."""
        space = self.genes.space
        if not 0 < i < len(space.ordered):
            return 0
        gene, fixed_at = space.ordered[i - 1]
        return fixed_at if gene is None else space.genes[gene].choices[before]

    def _rest(self) -> list[dict[int, tuple[Floats, Floats]]]:
        """For each place and width before it, the least and the most that each cost still grows by to the end."""
        none = np.zeros(len(self.caps))
        entered = [{0}]  # the widths before each place, and behind the last
        for i in range(len(self.places)):
            entered.append({width for before in entered[i] for width in self._widths(i, before)})
        bounds: list[dict[int, tuple[Floats, Floats]]] = [dict.fromkeys(entered[-1], (none, none))]
        for i in reversed(range(len(self.places))):
            bounds.insert(0, {before: self._bounds(i, before, bounds[0]) for before in entered[i]})
        return bounds

    def _bounds(
        self, i: int, before: int, behind_it: dict[int, tuple[Floats, Floats]]
    ) -> tuple[Floats, Floats]:
        leasts, mosts = [], []
        for width in self._widths(i, before):
            adds, (least, most) = self._all(i, before, width)[1], behind_it[width]
            leasts.append(self._together(adds.min(0), least))
            mosts.append(self._together(adds.max(0), most))
        return np.min(leasts, 0), np.max(mosts, 0)

    def _all(self, i: int, before: int, width: int) -> tuple[Rows, Floats]:
        """The choices (c, genes) of a place's other genes, and their costs (c, k)."""
        place = self.places[i]
        ends = {place.enters: before, place.leaves: width}
        table = self.costs[i][tuple(ends.get(column, slice(None)) for column in place.columns[1:])]
        allowed = [self.genes.allowed[column] for column in place.columns[1:] if column not in ends]
        listed = list(itertools.product(*(a.tolist() for a in allowed)))
        rows = np.array(listed, np.int8).reshape(len(listed), len(allowed))
        return rows, table[tuple(rows.T)] if len(allowed) else table[None]

    def _longer(self, come: _Ways, i: int, before: int, width: int) -> _Ways:
        """Every way with every choice added that no other beats."""
        choices, adds = self._all(i, before, width)
        keep, place = front(adds), self.places[i]
        choices, adds = choices[keep], adds[keep]
        count = len(come.costs) * len(adds)
        if count > MOST_WAYS:
            raise TooMuchWorkError
        costs = self._together(come.costs[:, None], adds[None]).reshape(count, adds.shape[1])
        rows = np.repeat(come.rows, len(adds), 0)
        if place.leaves is not None:
            rows[:, place.leaves] = width
        rows[:, [column for column in place.own if column != place.leaves]] = np.tile(
            choices, (len(come.rows), 1)
        )
        return _Ways(costs, rows)

    def _together(self, costs: Any, adds: Any) -> Any:
        if len(self.memory) == len(_MEMORY):
            total = costs + adds
            split = ([each[..., i] for i in self.memory] for each in (costs, adds))
            for i, column in zip(self.memory, behind(*split), strict=True):
                total[..., i] = column
            return total
        if self.largest.any():
            return np.where(self.largest, np.maximum(costs, adds), costs + adds)
        return costs + adds

    def _kept(self, parts: Sequence[_Ways], least: Floats, most: Floats) -> _Ways:
        """The ways that can still keep to every cap and that no other beats."""
        costs = np.concatenate([way.costs for way in parts])
        rows = np.concatenate([way.rows for way in parts])
        inside = (self._together(costs, least) <= self.caps).all(1)
        costs, rows = costs[inside], rows[inside]
        certain = np.where(self.largest, self.caps, self.caps - most - _ROUNDING * np.abs(most))
        costs = np.where(
            self.objective, costs, np.maximum(costs, certain)
        )  # all that keep a cap anyway are alike
        differ = np.ptp(costs, axis=0) > 0 if len(costs) else np.ones(len(self.caps), bool)
        keep = front(costs[:, differ], self.work) if differ.any() else np.arange(min(1, len(costs)))
        return _Ways(costs[keep], rows[keep])
