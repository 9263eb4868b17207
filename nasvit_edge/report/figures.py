"""Figures of benchmarks as text: `1.234 ms (1.21 .. 1.25)`, `+5.1 % (+3.2 .. +7.0)`."""

from __future__ import annotations

import math

from nasvit_edge.benchmark.budgets import DROPS, Budget, Outcome
from nasvit_edge.benchmark.metrics import METRICS, Metric
from nasvit_edge.benchmark.statistics import Interval
from nasvit_edge.benchmark.verdicts import JudgedMetric
from nasvit_edge.units import show_bytes, show_ms

ACCURACIES = {"top1": "top-1", "mean_iou": "mean IoU"}  # metric -> as tables and charts call it


def value_text(metric: Metric, value: Interval, *, interval: bool = True) -> str:
    """A figure with its unit, and its interval where it has one."""
    text = one(metric, value.value)
    if not interval or value.low == value.high:
        return text
    if not math.isfinite(value.high):
        return f"{text} (too few rounds for an interval)"
    return f"{text} ({one(metric, value.low)} .. {one(metric, value.high)})"


def one(metric: Metric, value: float) -> str:
    """A figure with its unit."""
    if metric.unit == "ms":
        return show_ms(value)
    if metric.unit == "bytes":
        return show_bytes(value)
    return f"{value:.2%}" if metric.unit == "points" else f"{value:g}"


def change_text(cell: JudgedMetric, *, interval: bool = True) -> str:
    """How far the candidate is from the base: in percent, of an accuracy in points, of ops in their number; empty without a base."""
    change, base = cell.change, cell.base
    if change is None or base is None:
        return ""
    if cell.metric.unit == "ops":
        return f"{cell.value.value - base.value:+g}"
    points = cell.metric.unit == "points"
    text = f"{100 * change.value:+.{2 if points else 1}f} {'points' if points else '%'}"
    if not interval or change.low == change.high:
        return text
    if not (math.isfinite(change.low) and math.isfinite(change.high)):
        return f"{text} (unknown)"
    return f"{text} ({100 * change.low:+.1f} .. {100 * change.high:+.1f})"


def percent(change: Interval) -> str:
    """A relative change with its interval."""
    text = f"{100 * change.value:+.1f} %"
    if change.low == change.high or not (math.isfinite(change.low) and math.isfinite(change.high)):
        return text
    return f"{text} ({100 * change.low:+.1f} .. {100 * change.high:+.1f})"


def limit_text(budget: Budget) -> str:
    """A budget's limit with its unit."""
    if budget.metric in DROPS:
        return f"{100 * budget.limit:g} points"
    return one(METRICS[budget.metric], budget.limit)


def outcome_text(outcome: Outcome) -> str:
    """What was measured of what a budget limits, with the interval that it is judged by."""
    value = outcome.value
    if value is None:
        return "-"
    if outcome.budget.metric in DROPS:
        return f"{100 * value.value:.2f} points ({100 * value.low:+.2f} .. {100 * value.high:+.2f})"
    return value_text(METRICS[outcome.budget.metric], value)
