"""Figures for other programs' charts: github-action-benchmark and Bencher.

Figures whose measurement does not hold are left out: a chart cannot show that they are none. Their own thresholds
compare with earlier minutes, so verdicts are best left to `nasvit-edge report bench`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from nasvit_edge.benchmark.metrics import Metric
from nasvit_edge.benchmark.report import BenchmarkReport
from nasvit_edge.benchmark.statistics import Interval
from nasvit_edge.benchmark.verdicts import JudgedMetric
from nasvit_edge.report.figures import change_text
from nasvit_edge.report.labels import Group, grouped
from nasvit_edge.report.model import Datum, plain

# Bencher has measures of its own for latency (in nanoseconds) and file size (in bytes), which its pages show with
# their units; so every time is in nanoseconds. The others are made by Bencher when it meets them.
_MEASURES = {
    "latency_p50": "latency",
    "latency_p90": "latency-p90",
    "latency_p99": "latency-p99",
    "load_cold": "load-cold",
    "load_warm": "load-warm",
    "first": "first-inference",
    "memory": "peak-memory",
    "size": "file-size",
    "fallback_ops": "fallback-ops",
    "top1": "accuracy",
    "mean_iou": "mean-iou",
}
_NS_PER_MS = 1e6


def github_action_benchmark(report: BenchmarkReport) -> list[Datum]:
    """For its tool `customSmallerIsBetter`: ms, bytes, ops, and of an accuracy what is missing in percent (`top1_error`).

    `range` is half the interval over rounds, where there is one.
    """
    return [_entry(group, cell) for group in grouped(report) for cell in _holding(group)]


def bencher(report: BenchmarkReport) -> dict[str, dict[str, dict[str, float]]]:
    """Bencher Metric Format: benchmark -> measure -> value and the ends of its interval, where there is one.

    Times in ns, sizes in bytes; `accuracy` and `mean-iou` are fractions of which more is better: give their thresholds a lower boundary.
    """
    return {
        group.label: {_MEASURES[cell.metric.name]: _metric(cell) for cell in _holding(group)}
        for group in grouped(report)
        if any(True for _ in _holding(group))
    }


FORMS: dict[str, Callable[[BenchmarkReport], object]] = {
    "github-action-benchmark": github_action_benchmark,
    "bencher": bencher,
}


def _holding(group: Group) -> Iterator[JudgedMetric]:
    return (c for c in group.cells if c.verdict != "invalid" and math.isfinite(c.value.value))


def _entry(group: Group, cell: JudgedMetric) -> Datum:
    # its alerts put names between backticks into a table
    label = group.label.replace("`", "'").replace("|", "¦")
    name, unit, value = _smaller_is_better(cell)
    datum: Datum = {
        "name": f"{label}: {name}",
        "unit": unit,
        "value": value.value,
        "extra": _extra(group, cell),
    }
    reach = max(value.high - value.value, value.value - value.low)
    return datum | ({"range": f"± {reach:.3g}"} if _bounded(value) else {})


def _smaller_is_better(cell: JudgedMetric) -> tuple[str, str, Interval]:
    value = cell.value
    if cell.metric.is_accuracy:
        ends = (100 * (1 - end) for end in (value.value, value.high, value.low))
        return f"{cell.metric.name}_error", "%", Interval(*(float(f"{end:.9g}") for end in ends))
    return cell.metric.name, cell.metric.unit, _rounded(cell.metric, value, 1.0)


def _extra(group: Group, cell: JudgedMetric) -> str:
    result, artifact = group.result, group.artifact
    lines = [f"runtime: {plain(artifact.runtime, 40)} {plain(artifact.runtime_version or '', 40)}"]
    if cell.metric.of_round is not None:
        lines.append(f"rounds: {result.rounds}")
    if cell.verdict is not None and cell.baseline is not None:
        lines.append(f"{cell.verdict}: {change_text(cell)} over {plain(cell.baseline.name)}")
    lines.append(f"measured: {plain(result.run.utc, 40)}")
    return "\n".join(lines)


def _metric(cell: JudgedMetric) -> dict[str, float]:
    value = _rounded(cell.metric, cell.value, _NS_PER_MS if cell.metric.unit == "ms" else 1.0)
    ends = {"lower_value": value.low, "upper_value": value.high} if _bounded(value) else {}
    return {"value": value.value} | ends


def _bounded(value: Interval) -> bool:
    return math.isfinite(value.low) and math.isfinite(value.high) and value.low < value.high


def _rounded(metric: Metric, value: Interval, factor: float) -> Interval:
    """Digits beyond the ninth are noise; a file's size is exact."""
    if metric.of_round is None:
        return value
    return Interval(*(float(f"{factor * end:.9g}") for end in (value.value, value.low, value.high)))
