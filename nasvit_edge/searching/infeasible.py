"""Why nothing meets the limits: the smallest reachable value of each, which of them bind, the nearest subnet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec.structs import asdict

from nasvit_edge.errors import BudgetError
from nasvit_edge.records import Record
from nasvit_edge.searching.evaluation import Evaluator, Values
from nasvit_edge.searching.exact import ExactError, smallest
from nasvit_edge.searching.limits import Limit, SavedLimit, violation
from nasvit_edge.searching.population import Rows
from nasvit_edge.space import SubnetConfig
from nasvit_edge.units import show_bytes, show_ms

_CALLED = {"high": "upper latency", "peak": "activation memory", "bytes": "size"}
_ROUNDS = 100  # of steps to a neighbour that is nearer


class ReachedLimit(SavedLimit, frozen=True, kw_only=True):
    """A limit with the best value that any allowed subnet has."""

    best: float
    possible: bool


class Nearest(Record, frozen=True, kw_only=True):
    """The subnet that comes nearest to all limits."""

    config: SubnetConfig
    accuracy: float
    latencies_ms: tuple[float, ...]
    bytes: int
    parameters: int
    macs: int


class Infeasible(Record, frozen=True, kw_only=True, omit_defaults=False):
    """Why no subnet keeps to all limits."""

    status: str = "infeasible"
    limits: tuple[ReachedLimit, ...]
    nearest: Nearest


@dataclass(frozen=True, slots=True)
class Reach:
    """A limit and the best value of its quantity that any allowed subnet has."""

    limit: Limit
    best: float
    quality: str = "accuracy"

    @property
    def possible(self) -> bool:
        least = self.limit.quantity.kind == "accuracy"
        return not (self.best < self.limit.bound if least else self.best > self.limit.bound)

    def text(self) -> str:
        """`the smallest reachable latency here is 5.93 ms`."""
        kind = self.limit.quantity.kind
        called = _CALLED.get(kind, kind) if kind != "accuracy" else self.quality
        which = "largest" if kind == "accuracy" else "smallest"
        return f"the {which} reachable {called} here is {self.limit.show(self.best)}"

    def record(self) -> ReachedLimit:
        return ReachedLimit(**asdict(SavedLimit.of(self.limit)), best=self.best, possible=self.possible)


class InfeasibleError(BudgetError):
    """No subnet keeps to all limits.

    Attributes:
        report: each limit with its best reachable value, and what is nearest.
    """

    def __init__(self, message: str, report: Infeasible) -> None:
        super().__init__(message)
        self.report = report


def reaches(evaluator: Evaluator, limits: Sequence[Limit]) -> list[Reach]:
    """Each limit alone; those that cannot be known before (measured accuracies) aside."""
    bests = []
    for limit in limits:
        try:
            values = limit.value(evaluator(smallest(evaluator, limit)))
        except ExactError:
            continue
        best = float(values.max() if limit.quantity.kind == "accuracy" else values.min())
        bests.append(Reach(limit, best, getattr(evaluator.accuracy, "quality", "accuracy")))
    return bests


def check_reachable(evaluator: Evaluator, limits: Sequence[Limit]) -> None:
    """InfeasibleError where a limit cannot be kept even alone."""
    bests = reaches(evaluator, limits)
    lost = [reach for reach in bests if not reach.possible]
    if not lost:
        return
    row = nearest(evaluator, limits, smallest(evaluator, lost[0].limit))
    what = " and ".join(f"{r.limit.name} {r.limit.show(r.limit.bound)}: {r.text()}" for r in lost)
    raise _error(evaluator, f"no subnet of {evaluator.genes.space.name!r} meets {what}", bests, row)


def nothing_found(
    evaluator: Evaluator, limits: Sequence[Limit], near: Rows, *, proven: bool
) -> InfeasibleError:
    """The error for limits of which each can be kept, but not all together; `near`: where to look for the nearest."""
    bests = reaches(evaluator, limits)
    row = nearest(evaluator, limits, near)
    values = evaluator(row[None])
    missed = [limit.name for limit in limits if limit.excess(values)[0] > 0]
    every = ", ".join(f"{limit.name} {limit.show(limit.bound)}" for limit in limits)
    alone = "; ".join(f"{r.limit.name}: {r.text()}" for r in bests)
    how = "meets" if proven else "was found that meets"
    text = f"no subnet of {evaluator.genes.space.name!r} {how} {every} together; binding: {', '.join(missed)} (each alone can be kept: {alone})"
    return _error(evaluator, text, bests, row)


def nearest(evaluator: Evaluator, limits: Sequence[Limit], start: Rows) -> Any:
    """The row with the smallest total excess, from the best of `start` by single steps; of equals the most accurate."""
    rows = start
    best, standing = None, (np.inf, 0.0)
    for _ in range(_ROUNDS):
        values = evaluator(rows)
        excess = violation(values, limits)
        at = np.lexsort([-values.accuracy, excess])[0]
        if (excess[at], -values.accuracy[at]) >= standing:
            break
        best, standing = rows[at], (float(excess[at]), -float(values.accuracy[at]))
        if evaluator.predictor is None:
            break
        rows = evaluator.genes.neighbours(best[None])
    assert best is not None
    return best


def _error(evaluator: Evaluator, text: str, bests: Sequence[Reach], row: Any) -> InfeasibleError:
    config, values = evaluator.genes.config(row), evaluator(row[None])
    near = Nearest(
        config=config,
        accuracy=float(values.accuracy[0]),
        latencies_ms=tuple(values.latency_ms[0].tolist()),
        bytes=int(values.bytes[0]),
        parameters=int(values.parameters[0]),
        macs=int(values.macs[0]),
    )
    report = Infeasible(limits=tuple(reach.record() for reach in bests), nearest=near)
    return InfeasibleError(f"{text}; nearest: {_shown(values, evaluator)}", report)


def _shown(values: Values, evaluator: Evaluator) -> str:
    times = " and ".join(show_ms(ms) for ms in values.latency_ms[0])
    named = getattr(evaluator.accuracy, "quality", "accuracy")
    quality = "" if named == "accuracy" else f" {named}"
    return f"a subnet of {times}, {values.accuracy[0]:.1%}{quality}, {show_bytes(float(values.bytes[0]))}"
