"""What is judged of an artifact, and its value in each round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasvit_edge.benchmark.result import Measured
from nasvit_edge.benchmark.session import clean

_Round = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of which less is better (of `top1` more).

    Attributes:
        unit: ms, bytes, ops or points.
        gates: whether a regression of it fails unless the command says otherwise.
        of_round: its value in a round, None where that does not tell; None for figures of the file itself.
    """

    name: str
    unit: str
    about: str
    gates: bool
    of_round: Callable[[_Round], float | None] | None = None


def _quantile(share: float, least: int) -> Callable[[_Round], float | None]:
    def of(entry: _Round) -> float | None:
        samples = entry["samples_us"]
        return float(np.quantile(samples, share)) / 1e3 if len(samples) >= least else None

    return of


def _field(name: str) -> Callable[[_Round], float | None]:
    return lambda entry: entry.get(name)


METRICS = {
    metric.name: metric
    for metric in (
        Metric("latency_p50", "ms", "median latency", True, _quantile(0.5, 1)),
        Metric("latency_p90", "ms", "90th percentile", True, _quantile(0.9, 10)),
        Metric("latency_p99", "ms", "99th percentile", False, _quantile(0.99, 100)),
        Metric("load_cold", "ms", "load of a file that is not cached", False, _field("load_ms")),
        Metric("load_warm", "ms", "second load in the same process", False, _field("warm_load_ms")),
        Metric("first", "ms", "first inference", False, _field("first_ms")),
        Metric("memory", "bytes", "peak memory the model adds", True, _field("memory_bytes")),
        Metric("size", "bytes", "file size", True),
        Metric("fallback_ops", "ops", "ops outside the accelerator", True),
        Metric("top1", "points", "top-1 accuracy", True),
    )
}


def by_round(artifact: Measured, metric: Metric) -> dict[int, float]:
    """Round -> value, of the rounds that nothing disturbed."""
    assert metric.of_round is not None
    found = {entry["round"]: metric.of_round(entry) for entry in artifact.rounds if clean(entry)}
    return {number: value for number, value in found.items() if value is not None}


def spread(artifact: Measured) -> float:
    """The robust coefficient of variation within a round, the median over rounds."""
    found = []
    for entry in artifact.rounds:
        low, middle, high = np.quantile(entry["samples_us"], [0.25, 0.5, 0.75])
        found.append((high - low) / 1.349 / middle)
    return float(np.median(found)) if found else 0.0
