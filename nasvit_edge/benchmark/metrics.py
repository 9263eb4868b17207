"""What is judged of an artifact, and its value in each round."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nasvit_edge.benchmark.result import MeasuredArtifact
from nasvit_edge.benchmark.session import Round


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of which less is better, or of `points` more.

    Attributes:
        unit: ms, bytes, ops or points (of an accuracy, which is a fraction).
        gates: whether a regression of it fails unless the command says otherwise.
        of_round: its value in a round, None where that does not tell; None for figures of the file itself.
        of_samples: its value of samples (us), where it is of these.
    """

    name: str
    unit: str
    about: str
    gates: bool
    of_round: Callable[[Round], float | None] | None = None
    of_samples: Callable[[Sequence[float]], float | None] | None = None

    @property
    def is_accuracy(self) -> bool:
        """Whether more is better, and changes are differences of fractions."""
        return self.unit == "points"


def _quantile(name: str, about: str, gates: bool, share: float, least: int) -> Metric:
    def of(samples_us: Sequence[float]) -> float | None:
        return float(np.quantile(samples_us, share)) / 1e3 if len(samples_us) >= least else None

    return Metric(name, "ms", about, gates, lambda entry: of(entry.samples_us), of)


def _field(name: str) -> Callable[[Round], float | None]:
    return operator.attrgetter(name)


METRICS = {
    metric.name: metric
    for metric in (
        _quantile("latency_p50", "median latency", True, 0.5, 1),
        _quantile("latency_p90", "90th percentile", True, 0.9, 10),
        _quantile("latency_p99", "99th percentile", False, 0.99, 100),
        Metric("load_cold", "ms", "load of a file that is not cached", False, _field("load_ms")),
        Metric("load_warm", "ms", "second load in the same process", False, _field("warm_load_ms")),
        Metric("first", "ms", "first inference", False, _field("first_ms")),
        Metric("memory", "bytes", "peak memory the model adds", True, _field("memory_bytes")),
        Metric("size", "bytes", "file size", True),
        Metric("fallback_ops", "ops", "ops outside the accelerator", True),
        Metric("top1", "points", "top-1 accuracy", True),
        Metric("mean_iou", "points", "mean IoU", True),
    )
}


def changes(base: MeasuredArtifact, candidate: MeasuredArtifact, metric: Metric) -> dict[int, float]:
    """Round -> log of candidate over base, of rounds that nothing disturbed on either side.

    Where they took turns, the median over pairs of turns, if each has samples enough for the metric: what slows a device for longer than a turn
    slows both sides of a pair.
    """
    values, others = by_round(candidate, metric), by_round(base, metric)
    both = sorted(values.keys() & others.keys())
    logs = {number: math.log(values[number] / others[number]) for number in both}
    if metric.of_samples:
        sides = [{entry.round: _by_turn(entry, metric) for entry in s.rounds} for s in (base, candidate)]
        logs |= {
            number: change
            for number in both
            if (change := _in_turns(*(s[number] for s in sides))) is not None
        }
    return logs


def _by_turn(entry: Round, metric: Metric) -> list[float]:
    """The value of each turn; none where one has not samples enough."""
    assert metric.of_samples is not None
    values = [metric.of_samples(turn) for turn in turns(entry)]
    return [] if None in values else [value for value in values if value is not None]


def _in_turns(base: Sequence[float], candidate: Sequence[float]) -> float | None:
    if not base or len(base) != len(candidate):
        return None
    return float(np.median(np.log(candidate) - np.log(base)))


def turns(entry: Round) -> list[Sequence[float]]:
    """The samples of each turn; all in one where none were taken."""
    counts = entry.turns or [len(entry.samples_us)]
    ends = list(itertools.accumulate(counts))
    return [entry.samples_us[end - count : end] for count, end in zip(counts, ends, strict=True)]


def by_round(artifact: MeasuredArtifact, metric: Metric) -> dict[int, float]:
    """Round -> value, of the rounds that nothing disturbed."""
    assert metric.of_round is not None
    values = {entry.round: metric.of_round(entry) for entry in artifact.rounds if entry.clean}
    return {number: value for number, value in values.items() if value is not None}


def spread(artifact: MeasuredArtifact) -> float:
    """The robust coefficient of variation within a round's turns, the median over turns and rounds."""
    spreads = []
    for entry in artifact.rounds:
        quartiles = [np.quantile(turn, [0.25, 0.5, 0.75]) for turn in turns(entry)]
        spreads.append(np.median([(high - low) / 1.349 / middle for low, middle, high in quartiles]))
    return float(np.median(spreads)) if spreads else 0.0
