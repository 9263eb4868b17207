"""What the search gained: the winner against ordinary subnets of the same MACs, beside what the numbers are good to."""

from __future__ import annotations

import numpy as np

from nasvit_edge.searching.limits import violation
from nasvit_edge.searching.saved import SameMacs
from nasvit_edge.searching.search import Candidate, Problem

_DRAWN = 20_000
_NEAR = 0.03  # MACs this near are the same
_FEWEST = 30


def same_macs(problem: Problem, best: Candidate, seed: int, accuracy_error: float) -> SameMacs | None:
    """The median of random subnets with the winner's MACs, within the limits on sizes; None where there are too few, accuracy is measured, or precisions are searched."""
    evaluator = problem.evaluator
    if evaluator.predictor is None or evaluator.is_mixed:
        return None
    rows = evaluator.genes.random(np.random.default_rng(seed), _DRAWN)
    values = evaluator(rows)
    others = [
        limit for limit in problem.limits if not limit.quantity.is_time and limit.quantity.kind != "accuracy"
    ]
    near = values[(np.abs(values.macs / best.macs - 1) <= _NEAR) & (violation(values, others) <= 0)]
    if len(near.macs) < _FEWEST:
        return None
    latency, accuracy = float(np.median(near.latency_ms[:, 0])), float(np.median(near.accuracy))
    composition = problem.tables[0].composition
    latency_error = None if composition is None else composition.error
    faster, better = 1 - best.latency_ms / latency, best.accuracy - accuracy
    return SameMacs(
        count=len(near.macs),
        latency_ms=latency,
        accuracy=accuracy,
        faster=faster,
        better=better,
        latency_error=latency_error,
        accuracy_error=accuracy_error,
        faster_above=None if latency_error is None else max(0.0, faster - latency_error),
        better_above=max(0.0, better - accuracy_error),
    )
