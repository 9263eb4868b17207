"""NSGA-II on integer arrays (Deb et al. 2002): accuracy against latency, and size where it is asked for.

Limits come before objectives: a subnet within all of them beats one that is not, and of two that are not the
one with the smaller excess wins, so a search for the impossible ends with the nearest subnet and never loops.
Everything seen within the limits and beaten by nothing of its resolution is kept beside the population, and at the end, where
accuracy is predicted, their neighbours are looked at until none is better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasvit_edge.searching.evaluation import Evaluator, Floats, Values
from nasvit_edge.searching.limits import Limit, violation
from nasvit_edge.searching.pareto import crowding, front, ranks
from nasvit_edge.searching.population import Genes, Rows

_ROUNDS = 30  # of looking at neighbours; three to six are usual


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long to look: `generations` of `population` candidates."""

    population: int = 256
    generations: int = 100
    crossover: float = 0.9  # of the children have two parents
    mutation: float = 1.0  # genes of a child that change, on average


MEASURED_EFFORT = Effort(population=20, generations=6)  # where an accuracy takes a good part of a second


@dataclass(slots=True)
class SearchState:
    """A search between two generations: all it takes to go on as if nothing had happened."""

    rng: np.random.Generator
    rows: Rows
    values: Values
    kept: Rows  # of all seen within the limits what nothing of its resolution beats; in the end, what nothing beats
    kept_values: Values
    generation: int = 0
    evaluated: int = 0


def evolve(
    evaluator: Evaluator,
    limits: Sequence[Limit],
    seed: int,
    effort: Effort,
    *,
    with_size: bool = False,
    seeds: Rows | None = None,
    state: SearchState | None = None,
    on_generation: Callable[[SearchState], None] = lambda state: None,
) -> SearchState:
    """Run the generations that are left of a search.

    Args:
        with_size: the bytes of the exported file are a third objective.
        seeds: rows that the first population holds.
        state: an earlier search, to be continued.
        on_generation: called after each.
    """
    run = _Fixed(evaluator, limits, effort, with_size)
    if state is None:
        state = run.begin(np.random.default_rng(seed), seeds)
        on_generation(state)
    while state.generation < effort.generations:
        run.step(state)
        on_generation(state)
    if evaluator.predictor is not None:
        run.polish(state)
    best = front(run.costs(state.kept_values))
    state.kept, state.kept_values = state.kept[best], state.kept_values[best]
    return state


class _Fixed:
    """What does not change during a search."""

    def __init__(
        self, evaluator: Evaluator, limits: Sequence[Limit], effort: Effort, with_size: bool
    ) -> None:
        self.evaluator, self.limits, self.effort, self.with_size = evaluator, limits, effort, with_size
        self.genes: Genes = evaluator.genes
        free = sum(len(choices) > 1 for choices in self.genes.allowed)
        self.chance = effort.mutation / max(free, 1)

    def begin(self, rng: np.random.Generator, seeds: Rows | None) -> SearchState:
        first = [self.genes.extremes(), self.genes.random(rng, self.effort.population)]
        rows = self._unique(np.concatenate([*([] if seeds is None else [seeds]), *first]))
        rows = rows[: max(self.effort.population, 2)]
        values = self.evaluator(rows)
        state = SearchState(rng, rows, values, rows[:0], values[np.zeros(0, np.intp)], evaluated=len(rows))
        self._keep(state, rows, values)
        return state

    def step(self, state: SearchState) -> None:
        """One generation: children of the better ones, then the best of both."""
        rank, crowd = self._order(state.values)
        children = self._new(state, self._children(state, rank, crowd))
        if len(children):
            values = self.evaluator(children)
            state.evaluated += len(children)
            self._keep(state, children, values)
            rows = np.concatenate([state.rows, children])
            self._select(state, rows, Values.joined([state.values, values]))
        state.generation += 1

    def polish(self, state: SearchState) -> None:
        """Look at the neighbours of what is kept until none joins it."""
        looked = np.zeros(0, np.uint64)
        for _ in range(_ROUNDS):
            keys = self.genes.keys(state.kept)
            fresh = ~np.isin(keys, looked)
            if not fresh.any():
                return
            looked = np.concatenate([looked, keys[fresh]])
            near = self._unique(self.genes.neighbours(state.kept[fresh]))
            state.evaluated += len(near)
            self._keep(state, near, self.evaluator(near))

    def costs(self, values: Values) -> Floats:
        """(n, objectives), each to be small."""
        columns = [values.latency_ms[:, 0], -values.accuracy]
        return np.stack([*columns, values.bytes] if self.with_size else columns, 1)

    def _children(self, state: SearchState, rank: Any, crowd: Floats) -> Rows:
        count = self.effort.population
        first, second = (self._tournament(state, rank, crowd, count) for _ in range(2))
        mixed = state.rng.random(first.shape) < 0.5
        crossed = state.rng.random((count, 1)) < self.effort.crossover
        return self.genes.mutated(state.rng, np.where(mixed & crossed, second, first), self.chance)

    def _tournament(self, state: SearchState, rank: Any, crowd: Floats, count: int) -> Rows:
        """Of two drawn at random the better one, `count` times."""
        a, b = state.rng.integers(len(state.rows), size=(2, count))
        better = (rank[b] < rank[a]) | ((rank[b] == rank[a]) & (crowd[b] > crowd[a]))
        return state.rows[np.where(better, b, a)]

    def _new(self, state: SearchState, rows: Rows) -> Rows:
        """`rows` without duplicates and without what the population holds."""
        rows = self._unique(rows)
        return rows[~np.isin(self.genes.keys(rows), self.genes.keys(state.rows))]

    def _unique(self, rows: Rows) -> Rows:
        first = np.unique(self.genes.keys(rows), return_index=True)[1]
        return rows[np.sort(first)]

    def _order(self, values: Values) -> tuple[Any, Floats]:
        """Rank (0 is best) and crowding distance; those that miss a limit rank behind all others, by their excess."""
        excess, costs = violation(values, self.limits), self.costs(values)
        inside = excess <= 0
        rank = np.empty(len(costs), np.intp)
        rank[inside] = ranks(costs[inside], self.effort.population)
        behind = np.unique(excess[~inside], return_inverse=True)[1]
        rank[~inside] = behind + (rank[inside].max() + 1 if inside.any() else 0)
        return rank, crowding(costs, rank)

    def _select(self, state: SearchState, rows: Rows, values: Values) -> None:
        rank, crowd = self._order(values)
        best = np.lexsort([-crowd, rank])[: self.effort.population]
        state.rows, state.values = rows[best], values[best]

    def _keep(self, state: SearchState, rows: Rows, values: Values) -> None:
        """Add to the fronts of all that was seen, one a resolution.

        The step from one resolution to the next is a large one: the best of the next is no neighbour of what is good here.
        """
        inside = violation(values, self.limits) <= 0
        rows = np.concatenate([state.kept, rows[inside]])
        values = Values.joined([state.kept_values, values[inside]])
        costs, groups = self.costs(values), [np.flatnonzero(rows[:, 0] == r) for r in self.genes.allowed[0]]
        best = np.concatenate([group[front(costs[group])] for group in groups])
        state.kept, state.kept_values = rows[best], values[best]
