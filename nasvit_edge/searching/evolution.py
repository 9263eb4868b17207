"""Evolutionary search for the most accurate subnet within a latency budget.

Seeded and finite: every candidate is made feasible by construction (genes of an infeasible one are
replaced, one by one, by those of a known feasible subnet), so an unreachable budget is an error at
the start and never a loop.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from nasvit_edge.errors import BudgetError
from nasvit_edge.latency import LatencyTable, Prediction
from nasvit_edge.searching.fastest import fastest
from nasvit_edge.space import SearchSpace, SubnetConfig, get_gene
from nasvit_edge.units import show_ms

Accuracy = Callable[[SubnetConfig], float]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A subnet with its predicted latency and its accuracy (a fraction)."""

    config: SubnetConfig
    latency_ms: float
    accuracy: float
    prediction: Prediction


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found: the best subnet in budget, and the front of all that was looked at."""

    best: Candidate
    front: tuple[Candidate, ...]
    evaluated: int
    latency_ms: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long to look: `generations` of `population` candidates, half of them kept as parents."""

    population: int = 96
    generations: int = 60
    mutation: float = 0.12  # per gene


MEASURED_EFFORT = Effort(population=20, generations=6)  # where an accuracy takes a good part of a second


def search(
    space: SearchSpace,
    table: LatencyTable,
    accuracy: Accuracy,
    latency_ms: float,
    seed: int = 0,
    *,
    effort: Effort | None = None,
    on_progress: Callable[[int, int, float], None] = lambda done, total, best: None,
) -> SearchResult:
    """The most accurate subnet whose predicted latency is at most `latency_ms`.

    Args:
        accuracy: config -> fraction; a predictor, or `ImageAccuracy`.
        on_progress: called with (evaluated, most that will be, best accuracy so far).

    Raises:
        BudgetError: even the fastest subnet is over the budget; names its latency.
        TableError: the table does not cover an op of the space.
    """
    anchor = fastest(space, table)
    quickest = table.predict(anchor).ms
    if quickest > latency_ms:
        raise BudgetError(
            f"no subnet of {space.name!r} meets {show_ms(latency_ms)}: the smallest reachable latency here is {show_ms(quickest)}"
        )
    run = _Run(space, table, accuracy, latency_ms, random.Random(seed), anchor, effort or Effort())
    run.go(on_progress)
    pool = run.ranked()
    return SearchResult(pool[0], _front(pool), len(pool), latency_ms, seed)


class _Run:
    """One search: the candidates seen so far and how new ones are made."""

    def __init__(
        self,
        space: SearchSpace,
        table: LatencyTable,
        accuracy: Accuracy,
        latency_ms: float,
        rng: random.Random,
        anchor: SubnetConfig,
        effort: Effort,
    ) -> None:
        self.space, self.table, self.accuracy = space, table, accuracy
        self.latency_ms, self.rng, self.anchor, self.effort = latency_ms, rng, anchor, effort
        self.seen: dict[SubnetConfig, Candidate] = {}

    def go(self, on_progress: Callable[[int, int, float], None]) -> None:
        total = self.effort.population * self.effort.generations
        self._look(self.anchor)
        for generation in range(self.effort.generations):
            for config in self._generation(generation):
                self._look(config)
                best = max(c.accuracy for c in self.seen.values())
                on_progress(len(self.seen), total, best)

    def ranked(self) -> list[Candidate]:
        """All candidates, the most accurate first; of equals the fastest, then by genes."""
        return sorted(self.seen.values(), key=lambda c: (-c.accuracy, c.latency_ms, str(c.config)))

    def _look(self, config: SubnetConfig) -> None:
        if config not in self.seen:
            prediction = self.table.predict(config)
            self.seen[config] = Candidate(config, prediction.ms, self.accuracy(config), prediction)

    def _generation(self, generation: int) -> list[SubnetConfig]:
        """New feasible configs: random at first, then half mutations and half crossings of the best."""
        parents = self.ranked()[: max(2, self.effort.population // 3)]
        made: dict[SubnetConfig, None] = {}
        for attempt in range(4 * self.effort.population):  # duplicates are dropped, so allow some
            if len(made) == self.effort.population:
                break
            config = self._make(generation, parents, attempt)
            if config not in self.seen:
                made.setdefault(config)
        return list(made)

    def _make(self, generation: int, parents: list[Candidate], attempt: int) -> SubnetConfig:
        if generation == 0:
            return self._feasible(self.space.sample(self.rng))
        mother = self._genes(self.rng.choice(parents).config)
        if attempt % 2:
            father = self._genes(self.rng.choice(parents).config)
            mother = [self.rng.choice(pair) for pair in zip(mother, father, strict=True)]
        return self._feasible(self.space.from_choices(self._mutated(mother)))

    def _genes(self, config: SubnetConfig) -> list[int]:
        return [get_gene(config, gene) for gene in self.space.genes]

    def _mutated(self, values: list[int]) -> list[int]:
        changed = [
            self.rng.choice(gene.choices) if self.rng.random() < self.effort.mutation else value
            for gene, value in zip(self.space.genes, values, strict=True)
        ]
        return changed

    def _feasible(self, config: SubnetConfig) -> SubnetConfig:
        """`config` with as many genes of the fastest subnet as it takes to meet the budget."""
        values, anchor = self._genes(config), self._genes(self.anchor)
        order = list(range(len(values)))
        self.rng.shuffle(order)
        for index in [None, *order]:
            if index is not None:
                if values[index] == anchor[index]:
                    continue
                values[index] = anchor[index]
            made = self.space.from_choices(values)
            if self.table.predict(made).ms <= self.latency_ms:
                return made
        return self.anchor


def _front(ranked: list[Candidate]) -> tuple[Candidate, ...]:
    """Candidates that nothing else beats in both latency and accuracy, the fastest first."""
    front: list[Candidate] = []
    for candidate in sorted(ranked, key=lambda c: (c.latency_ms, -c.accuracy)):
        if not front or candidate.accuracy > front[-1].accuracy:
            front.append(candidate)
    return tuple(front)
