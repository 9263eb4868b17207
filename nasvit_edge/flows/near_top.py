"""The best subnet by a predictor, held against those near it on images: all on the same ones, the better of them on more.

A predictor knows a subnet to half a point, and a thousand images no better. So what it finds best stays, and with it the whole of
the budget, unless another one is surely better on the same images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nasvit_edge.data_sets.scenes import SceneSet
from nasvit_edge.listening import Listener
from nasvit_edge.paired import compare_hits
from nasvit_edge.report.quickstart_text import NearTop
from nasvit_edge.searching.images import ImageAccuracy
from nasvit_edge.searching.limits import violation
from nasvit_edge.searching.search import Candidate, Problem, SearchResult, candidate

if TYPE_CHECKING:
    from nasvit_edge.model.subnet import Subnet

Hits = np.ndarray[Any, np.dtype[np.bool_]]
NEAR, EVERY, LAST = 16, 4, 6  # so many subnets on each fourth image, the best of them on all
SURE = 0.05  # the chance that any of those compared looks so much better


@dataclass(slots=True)
class _Subnets:
    """Subnets that are calibrated once, and judged on the first images or on all."""

    source: ImageAccuracy
    ready: dict[int, Subnet]

    def hits(self, place: int, chosen: Candidate, every: int) -> Hits:
        from nasvit_edge.model.accuracy import calibrated, hits
        from nasvit_edge.model.subnet import fold, materialise

        if place not in self.ready:
            subnet = materialise(self.source.supernet, chosen.config)
            self.ready[place] = fold(calibrated(subnet, self.source.calibration))
        images = self.source.validation
        assert not isinstance(images, SceneSet)
        return hits(self.ready[place], images.take(images.name, slice(None, None, every)))


def near_top(problem: Problem, result: SearchResult) -> list[Candidate]:
    """The winner, then the subnets within the limits that are predicted most accurate among its front's and its neighbours."""
    evaluator = problem.evaluator
    best = evaluator.genes.rows([result.best.config])
    front = evaluator.genes.rows([each.config for each in result.front])
    rows = np.concatenate([front, evaluator.genes.neighbours(best), evaluator.genes.neighbours(front[-1:])])
    rows = rows[np.sort(np.unique(evaluator.genes.keys(rows), return_index=True)[1])]
    values = evaluator(rows)
    inside = np.flatnonzero(violation(values, problem.limits) <= 0)
    order = inside[np.lexsort([values.latency_ms[inside, 0], -values.accuracy[inside]])]
    near = [candidate(problem, rows[at], values[at]) for at in order]
    return [result.best, *(each for each in near if each.config != result.best.config)][:NEAR]


def judge(near: Sequence[Candidate], source: ImageAccuracy, listener: Listener) -> tuple[Candidate, NearTop]:
    """The first of `near`, or one that is surely better on the same images."""
    subnets, correct = _Subnets(source, {}), []
    for place, each in enumerate(near):
        correct.append(int(subnets.hits(place, each, EVERY).sum()))
        listener.progress(place + 1, len(near), "judging subnets near the top")
    others = sorted(range(1, len(near)), key=lambda place: -correct[place])[: LAST - 1]
    on_all = {place: subnets.hits(place, near[place], 1) for place in [0, *others]}
    rival = max(others, key=lambda place: int(on_all[place].sum()), default=0)
    chance = compare_hits(on_all[0], on_all[rival], SURE)[1] if rival else 1.0
    chosen = rival if chance * max(1, len(others)) < SURE else 0
    judged = NearTop(
        subnets=len(near),
        last=len(on_all),
        images=len(source.validation),
        correct=int(on_all[chosen].sum()),
        predicted=int(on_all[0].sum()),
        chance=chance,
        replaced=chosen != 0,
    )
    return near[chosen], judged
