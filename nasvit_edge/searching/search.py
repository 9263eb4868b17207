"""From a problem (space, tables, accuracy, limits) to the best subnet and the front.

The winner is the most accurate subnet within the limits, of equals the fastest; where only an accuracy is asked
for, the fastest one that has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nasvit_edge.latency import LatencyTable, Prediction, check_choice
from nasvit_edge.latency.names import Precision
from nasvit_edge.records import Figure, Record
from nasvit_edge.searching.accuracy import AccuracyPredictor
from nasvit_edge.searching.evaluation import Evaluator, Floats, Values
from nasvit_edge.searching.evolution import MEASURED_EFFORT, Effort, SearchState, evolve
from nasvit_edge.searching.exact import LITTLE_WORK, MOST_WORK, ExactError, exact_front, smallest
from nasvit_edge.searching.infeasible import check_reachable, nothing_found
from nasvit_edge.searching.limits import Limit, Quantity, violation
from nasvit_edge.searching.mixing import MixedEvaluator, Mixing
from nasvit_edge.searching.pareto import front, hypervolume
from nasvit_edge.searching.population import Genes, Rows, genes
from nasvit_edge.space import SearchSpace, SubnetConfig

Accuracy = Callable[[SubnetConfig], float]
METHODS = ("evolutionary", "exact")

LATENCY = Quantity("latency")  # of the first table


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A subnet and what is predicted of it.

    Attributes:
        latency_ms: by the first table.
        prediction: the same with its interval and the share that was measured.
        latencies_ms: by every table.
        accuracy: a fraction.
        macs, parameters: counts.
        bytes, peak_bytes: of the exported file, and of activations alive at once; computed (`sizes.py`).
        precisions: place -> precision, where these were searched; `loss`: what they are predicted to cost, taken off `accuracy`.
    """

    config: SubnetConfig
    latency_ms: float
    accuracy: float
    prediction: Prediction
    latencies_ms: tuple[float, ...]
    macs: int
    parameters: int
    bytes: int
    peak_bytes: int
    precisions: Mapping[str, Precision] = field(default_factory=dict)
    loss: float = 0.0


class Gap(Record, frozen=True, kw_only=True, omit_defaults=False):
    """How far an evolutionary search is from the exact front, both within the limits.

    Attributes:
        accuracy: by how much the exact winner is better, a fraction.
        hypervolume: the share of the exact front's that was reached.
    """

    accuracy: Figure
    hypervolume: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """What a search found: the best subnet within the limits, and the front of all that was looked at.

    Attributes:
        beyond: subnets on the exact front a little slower than the first table's limit, where that is known.
        gap: None where the exact front is not known.
    """

    best: Candidate
    front: tuple[Candidate, ...]
    beyond: tuple[Candidate, ...]
    evaluated: int
    latency_ms: float | None
    seed: int
    method: str
    gap: Gap | None
    limits: tuple[Limit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is searched.

    Attributes:
        tables: at least one; fronts are drawn over the first.
        limits: in the order that errors name them.
        genes: the choices that are allowed; all of the space by default.
        with_size: the bytes of the exported file are a third objective.
        mixing: where a precision is a gene of each place; by the exact method alone.
    """

    space: SearchSpace
    tables: tuple[LatencyTable, ...]
    accuracy: Accuracy
    limits: tuple[Limit, ...] = ()
    genes: Genes | None = None
    with_size: bool = False
    mixing: Mixing | None = None
    evaluator: Evaluator = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        free = self.genes or genes(self.space)
        if self.mixing is None:
            evaluator = Evaluator(free, self.tables, self.accuracy)
        elif isinstance(self.accuracy, AccuracyPredictor):
            evaluator = MixedEvaluator(free, self.mixing, self.accuracy)
        else:
            raise ExactError("precisions are searched by the exact method, which takes predicted accuracies")
        object.__setattr__(self, "evaluator", evaluator)

    @property
    def budget_ms(self) -> float | None:
        """The lowest limit on the first table's latency, as a predicted median."""
        budgets = [limit.bound / limit.factor for limit in self.limits if limit.quantity == LATENCY]
        return min(budgets, default=None)


def search(
    space: SearchSpace,
    table: LatencyTable | Sequence[LatencyTable],
    accuracy: Accuracy,
    latency_ms: float | None = None,
    seed: int = 0,
    *,
    limits: Sequence[Limit] = (),
    method: str = "evolutionary",
    effort: Effort | None = None,
    on_progress: Callable[[int, int, float], None] = lambda done, total, best: None,
) -> SearchResult:
    """The most accurate subnet whose predicted latency is at most `latency_ms`, and the front up to there.

    Args:
        table: one, or several; `latency_ms` and the front are the first's.
        accuracy: config -> fraction; a predictor, or `ImageAccuracy`.
        limits: further ones (`searching.limits.Limit`).
        on_progress: called with (generations done, generations, best accuracy so far).

    Raises:
        BudgetError: no subnet keeps to the limits; names the smallest reachable value of each.
        TableError: a table does not cover an op of the space.
    """
    tables = (table,) if isinstance(table, LatencyTable) else tuple(table)
    latency = [] if latency_ms is None else [Limit.latency(latency_ms)]
    problem = Problem(space=space, tables=tables, accuracy=accuracy, limits=(*latency, *limits))

    def show(state: SearchState) -> None:
        best = float(state.kept_values.accuracy.max()) if len(state.kept) else 0.0
        on_progress(state.generation, (effort or Effort()).generations, best)

    return solve(problem, seed, method=method, effort=effort, on_generation=show)


def solve(
    problem: Problem,
    seed: int = 0,
    *,
    method: str = "evolutionary",
    effort: Effort | None = None,
    state: SearchState | None = None,
    on_generation: Callable[[SearchState], None] = lambda state: None,
) -> SearchResult:
    """Solve a problem; `state`: an interrupted search to be continued.

    Raises:
        BudgetError: nothing is within the limits.
        ExactError: `method` is exact and does not apply.
    """
    evaluator = problem.evaluator
    check_choice("method", method, METHODS)
    check_reachable(evaluator, problem.limits)
    exact = _exact(problem, must=method == "exact")
    if method == "exact":
        assert exact is not None
        rows, evaluated = exact, len(exact)
    else:
        effort = effort or (Effort() if evaluator.predictor else MEASURED_EFFORT)
        evolved = evolve(
            evaluator,
            problem.limits,
            seed,
            effort,
            with_size=problem.with_size,
            state=state,
            on_generation=on_generation,
        )
        rows, evaluated = evolved.kept, evolved.evaluated
        if not len(rows):
            raise nothing_found(
                evaluator, problem.limits, evolved.rows, proven=exact is not None and not len(exact)
            )
    values = evaluator(rows)
    if not len(rows):
        raise nothing_found(evaluator, problem.limits, evaluator.genes.extremes()[:1], proven=True)
    best = winner(problem.limits, values)
    return SearchResult(
        best=candidate(problem, rows[best], values[best]),
        front=tuple(candidate(problem, rows[i], values[i]) for i in range(len(rows))),
        beyond=_beyond(problem) if exact is not None else (),
        evaluated=evaluated,
        latency_ms=problem.budget_ms,
        seed=seed,
        method=method,
        gap=_gap(problem, values, evaluator(exact)) if exact is not None and len(exact) else None,
        limits=problem.limits,
    )


def fastest(space: SearchSpace, table: LatencyTable) -> SubnetConfig:
    """The subnet with the lowest predicted latency."""
    evaluator = Evaluator(genes(space), [table], lambda config: 0.0)
    rows = smallest(evaluator, Limit.latency(np.inf))
    latency = [table.predict(evaluator.genes.config(row)).ms for row in rows]
    return evaluator.genes.config(rows[int(np.argmin(latency))])


def winner(limits: Sequence[Limit], values: Values) -> int:
    """The index of the most accurate (of equals the fastest); of the fastest where only an accuracy is asked for."""
    if limits and all(limit.quantity.kind == "accuracy" for limit in limits):
        return int(np.lexsort([-values.accuracy, values.latency_ms[:, 0]])[0])
    return int(np.lexsort([values.latency_ms[:, 0], -values.accuracy])[0])


def plane(values: Values) -> Floats:
    """(n, 2): latency of the first table, and accuracy below zero: both to be small."""
    return np.stack([values.latency_ms[:, 0], -values.accuracy], 1)


def candidate(problem: Problem, row: Any, values: Values) -> Candidate:
    """One row as a subnet."""
    evaluator = problem.evaluator
    config, ms = evaluator.genes.config(row), float(values.latency_ms[0])
    return Candidate(
        config=config,
        latency_ms=ms,
        accuracy=float(values.accuracy),
        prediction=evaluator.prediction(row, ms),
        latencies_ms=tuple(map(float, values.latency_ms)),
        macs=int(values.macs),
        parameters=int(values.parameters),
        bytes=int(values.bytes),
        peak_bytes=int(values.peak),
        precisions=evaluator.by_place(row),
        loss=float(values.loss),
    )


def one_precision(problem: Problem, precision: Precision) -> Candidate | None:
    """Of a problem that mixes, the best subnet within the limits with one precision for all places; None where there is none."""
    assert isinstance(problem.evaluator, MixedEvaluator)
    evaluator = problem.evaluator.kept_to(precision)
    rows = exact_front(evaluator, problem.limits)
    values = evaluator(rows)
    rows = rows[violation(values, problem.limits) <= 0]
    values = evaluator(rows)
    if not len(rows):
        return None
    best = winner(problem.limits, values)
    return candidate(problem, rows[best], values[best])


def _exact(problem: Problem, *, must: bool, limits: Sequence[Limit] | None = None) -> Rows | None:
    """The exact front within the limits; None where it cannot be computed."""
    evaluator, limits = problem.evaluator, problem.limits if limits is None else limits
    if evaluator.predictor is None and not must:
        return None
    try:
        rows = exact_front(evaluator, limits, most_work=MOST_WORK if must else LITTLE_WORK)
    except ExactError:
        if must:
            raise
        return None
    values = evaluator(rows)
    inside = np.flatnonzero(violation(values, limits) <= 0)
    return rows[inside[front(plane(values[inside]))]]


_BEYOND = 1.25  # how far past the budget the front is shown


def _beyond(problem: Problem) -> tuple[Candidate, ...]:
    """What a little more time would bring."""
    budget = problem.budget_ms
    if budget is None:
        return ()
    wider = [
        limit if limit.quantity != LATENCY else Limit.latency(_BEYOND * budget, name=limit.name)
        for limit in problem.limits
    ]
    rows = _exact(problem, must=False, limits=wider)
    if rows is None or not len(rows):
        return ()
    values = problem.evaluator(rows)
    return tuple(
        candidate(problem, rows[i], values[i]) for i in np.flatnonzero(values.latency_ms[:, 0] > budget)
    )


def _gap(problem: Problem, evolved: Values, exact: Values) -> Gap:
    corners = problem.evaluator(problem.evaluator.genes.extremes())
    reference = np.array([corners.latency_ms[1, 0], -corners.accuracy[0]])
    low = np.minimum(plane(exact).min(0), reference - 1e-12)
    areas = [hypervolume((plane(v) - low) / (reference - low), np.ones(2)) for v in (evolved, exact)]
    difference = (
        exact.accuracy[winner(problem.limits, exact)] - evolved.accuracy[winner(problem.limits, evolved)]
    )
    return Gap(accuracy=float(difference), hypervolume=areas[0] / areas[1] if areas[1] else 1.0)
