"""A verdict for each artifact, device and metric.

regression     worse, by a test that holds for all cells together, and by more than the smallest effect that counts
improvement    the same the other way
equivalent     the whole interval is within the smallest effect that counts
inconclusive   none of these: more rounds would tell
invalid        the measurement does not hold: interrupted, disturbed, unsteady
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from msgspec import structs

from nasvit_edge.benchmark.metrics import METRICS, Metric, by_round, changes, spread
from nasvit_edge.benchmark.result import MeasuredArtifact, Result
from nasvit_edge.benchmark.session import DISTURBED
from nasvit_edge.benchmark.statistics import (
    ALPHA,
    LEAST_PAIRS,
    MIN_EFFECT,
    Interval,
    compare_logs,
    estimate,
    false_discovery,
)

VERDICTS = ("regression", "invalid", "inconclusive", "improvement", "equivalent")  # the most urgent first
MIN_POINTS = 0.005  # of an accuracy
MOST_SPREAD = 0.10  # within a round, robust coefficient of variation
CLOCKS_MOVED = 0.10  # of the clock right after a round, from the slowest to the fastest round
_ENOUGH = 0.75  # of the rounds that were asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When a change counts.

    Attributes:
        alpha: chance of a false alarm; intervals are of level 1 - 2 alpha.
        min_effect: the smallest relative change that counts.
        gates: metrics whose regression fails; None: those that `METRICS` says.
    """

    alpha: float = ALPHA
    min_effect: float = MIN_EFFECT
    gates: frozenset[str] | None = None

    def gate(self, metric: Metric) -> bool:
        """Whether a regression of the metric fails."""
        return metric.gates if self.gates is None else metric.name in self.gates


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedMetric:
    """One artifact on one device by one metric.

    Attributes:
        base, value: in ms, bytes, ops, or a fraction (top1, mean_iou); with intervals over rounds.
        change: relative to the base (0.05: 5 % more); of fractions their difference.
        chance: of so much worse a candidate without a difference, adjusted for all cells; None without a test.
        verdict: one of `VERDICTS`; None where there is nothing to compare with.
        reason: why it is invalid or inconclusive; else empty.
        pairs: rounds in which neither side was disturbed.
    """

    device: str
    artifact: MeasuredArtifact
    baseline: MeasuredArtifact | None
    metric: Metric
    value: Interval
    base: Interval | None = None
    change: Interval | None = None
    chance: float | None = None
    verdict: str | None = None
    reason: str = ""
    gates: bool = False
    pairs: int = 0
    rounds: int = 0

    @property
    def fails(self) -> bool:
        """Whether this is a regression that fails."""
        return self.gates and self.verdict == "regression"

    def to_dict(self) -> dict[str, object]:
        """As JSON; an end of an interval that is unknown is null."""
        return {
            "device": self.device,
            "artifact": self.artifact.name,
            "baseline": None if self.baseline is None else self.baseline.name,
            "runtime": self.artifact.runtime,
            "precision": self.artifact.precision,
            "metric": self.metric.name,
            "unit": self.metric.unit,
            "value": _listed(self.value),
            "base": _listed(self.base),
            "change": _listed(self.change),
            "chance": self.chance,
            "verdict": self.verdict,
            "reason": self.reason,
            "gates": self.gates,
            "pairs": self.pairs,
        }


@dataclass(frozen=True, slots=True)
class _Draft:
    """A cell before the tests of all cells were adjusted for each other."""

    cell: JudgedMetric
    worse: float | None = None  # chances of the tests
    better: float | None = None
    smallest: float = 0.0  # change that counts

    @property
    def noisy(self) -> bool:
        return self.cell.metric.of_round is not None or self.cell.metric.is_accuracy


def judge(results: Sequence[Result], rule: Rule) -> list[JudgedMetric]:
    """A cell for each artifact (none for those that are only compared with) and each metric that was measured."""
    drafts = [
        draft
        for result in results
        for artifact in candidates(result)
        for metric in METRICS.values()
        if (draft := _draft(result, artifact, metric, rule)) is not None
    ]
    tested = [place for place, draft in enumerate(drafts) if draft.worse is not None and draft.noisy]
    worse = false_discovery([_chance(drafts[place].worse) for place in tested])
    better = false_discovery([_chance(drafts[place].better) for place in tested])
    adjusted = {place: (w, b) for place, w, b in zip(tested, worse, better, strict=True)}
    for place, draft in enumerate(drafts):
        if draft.worse is not None and not draft.noisy:  # without noise there is nothing to adjust
            adjusted[place] = (draft.worse, _chance(draft.better))
    return [_decided(draft, adjusted.get(place), rule) for place, draft in enumerate(drafts)]


def candidates(result: Result) -> list[MeasuredArtifact]:
    """The artifacts that are judged: all but those that others are compared with."""
    bases = {artifact.baseline for artifact in result.artifacts}
    return [artifact for place, artifact in enumerate(result.artifacts) if place not in bases]


def invalid(result: Result, artifact: MeasuredArtifact) -> str:
    """Why the measurement of an artifact does not hold; empty where it does."""
    if result.stopped is not None:
        return result.stopped
    both = [artifact] if artifact.baseline is None else [result.artifacts[artifact.baseline], artifact]
    clean = set.intersection(*({e.round for e in side.rounds if e.clean} for side in both))
    if len(clean) < _ENOUGH * result.rounds:
        flags = sorted({f for side in both for e in side.rounds for f in e.flags if f in DISTURBED})
        return f"only {len(clean)} of {result.rounds} rounds were not disturbed ({', '.join(flags) or 'missing'})"
    for side in both:
        if any("fallback" in entry.flags for entry in side.rounds):
            return f"ops of {side.name} ran outside the accelerator (fallback)"
        if spread(side) > MOST_SPREAD:
            return f"samples of {side.name} within a round scatter by {spread(side):.0%}, more than {MOST_SPREAD:.0%}"
    clocks = [max(e.after.clocks_mhz) for s in both for e in s.rounds if e.after and e.after.clocks_mhz]
    if clocks and min(clocks) < (1 - CLOCKS_MOVED) * max(clocks):
        return f"clocks moved between {min(clocks):g} and {max(clocks):g} MHz"
    return ""


def _draft(result: Result, artifact: MeasuredArtifact, metric: Metric, rule: Rule) -> _Draft | None:
    base = None if artifact.baseline is None else result.artifacts[artifact.baseline]
    if metric.is_accuracy:
        outcome = _accuracy(artifact, base, metric, rule)
    elif metric.of_round is None:
        outcome = _of_file(artifact, base, metric, rule)
    else:
        outcome = _of_rounds(artifact, base, metric, rule)
    if outcome is None:
        return None
    value, compared = outcome
    reason = invalid(result, artifact) if metric.of_round is not None else ""
    cell = JudgedMetric(
        device=result.device,
        artifact=artifact,
        baseline=base,
        metric=metric,
        value=value,
        base=None if compared is None else compared.base,
        change=None if compared is None else compared.change,
        gates=rule.gate(metric),
        pairs=0 if compared is None else compared.pairs,
        rounds=result.rounds,
        reason=reason,
        verdict="invalid" if reason else None,
    )
    if reason or base is None or compared is None:
        return _Draft(cell)
    return _Draft(cell, compared.worse, compared.better, compared.smallest)


@dataclass(frozen=True, slots=True)
class _Compared:
    """A change with the chances of its tests, and the smallest that counts."""

    base: Interval
    change: Interval
    worse: float
    better: float
    smallest: float
    pairs: int = 0


_Made = tuple[Interval, _Compared | None]


def _of_rounds(
    artifact: MeasuredArtifact, base: MeasuredArtifact | None, metric: Metric, rule: Rule
) -> _Made | None:
    """A figure of each round: the paired test."""
    values = by_round(artifact, metric)
    if not values:
        unflagged = tuple(structs.replace(entry, flags=()) for entry in artifact.rounds)
        everything = by_round(structs.replace(artifact, rounds=unflagged), metric)
        return (estimate(list(everything.values()), rule.alpha), None) if everything else None
    value = estimate(list(values.values()), rule.alpha)
    logs = {} if base is None else changes(base, artifact, metric)
    if base is None or not logs:
        return value, None
    comparison = compare_logs(list(logs.values()), rule.alpha)
    others = by_round(base, metric)
    change = Interval(comparison.ratio.value - 1, comparison.ratio.low - 1, comparison.ratio.high - 1)
    before = estimate([others[n] for n in logs], rule.alpha)
    return value, _Compared(
        before, change, comparison.larger_p, comparison.smaller_p, rule.min_effect, len(logs)
    )


def _of_file(
    artifact: MeasuredArtifact, base: MeasuredArtifact | None, metric: Metric, rule: Rule
) -> _Made | None:
    """A figure of the file itself, which has no noise; of fallback ops each one counts."""
    figure, other = (_figure(side, metric.name) for side in (artifact, base))
    if figure is None:
        return None
    value = Interval(figure, figure, figure)
    if other is None:
        return value, None
    change = (figure - other) / max(other, 1.0)
    smallest = 0.0 if metric.name == "fallback_ops" else rule.min_effect
    before, exact = Interval(other, other, other), Interval(change, change, change)
    return value, _Compared(before, exact, float(change <= 0), float(change >= 0), smallest)


def _figure(artifact: MeasuredArtifact | None, name: str) -> float | None:
    if artifact is None:
        return None
    value = artifact.bytes if name == "size" else artifact.fallback_ops
    return None if value is None else float(value)


def _accuracy(
    artifact: MeasuredArtifact, base: MeasuredArtifact | None, metric: Metric, rule: Rule
) -> _Made | None:
    """Top-1, mean IoU: the paired test on the same images; more is better."""
    accuracy, other = artifact.accuracy, None if base is None else base.accuracy
    if accuracy is None or accuracy.metric != metric.name:
        return None
    value = Interval(accuracy.value, accuracy.value, accuracy.value)
    comparison = accuracy.change(other, rule.alpha)
    if comparison is None or other is None:
        return value, None
    change, larger, smaller = comparison
    before = Interval(other.value, other.value, other.value)
    return value, _Compared(before, change, smaller, larger, MIN_POINTS, len(accuracy))


def _decided(draft: _Draft, adjusted: tuple[float, float] | None, rule: Rule) -> JudgedMetric:
    cell = draft.cell
    if adjusted is None or cell.change is None:
        return cell
    worse, better = adjusted
    upward = -1.0 if cell.metric.is_accuracy else 1.0
    change = upward * cell.change.value
    ends = (cell.change.low, cell.change.high)
    if worse <= rule.alpha and change > draft.smallest:
        verdict, reason = "regression", ""
    elif better <= rule.alpha and -change > draft.smallest:
        verdict, reason = "improvement", ""
    elif all(math.isfinite(end) and abs(end) <= draft.smallest for end in ends):
        verdict, reason = "equivalent", ""
    else:
        verdict, reason = "inconclusive", _why(cell, draft.smallest)
    return replace(cell, verdict=verdict, reason=reason, chance=worse)


def _why(cell: JudgedMetric, smallest: float) -> str:
    if cell.metric.of_round is not None and cell.pairs < LEAST_PAIRS:
        return f"{cell.pairs} {'round says' if cell.pairs == 1 else 'rounds say'} nothing; measure at least {LEAST_PAIRS}, better 8"
    what = "images" if cell.metric.is_accuracy else "rounds"
    limit = f"{100 * smallest:g} {'points' if cell.metric.is_accuracy else '%'}"
    return f"the interval reaches beyond {limit}; more {what} would tell"


def _chance(value: float | None) -> float:
    return 1.0 if value is None else float(np.clip(value, 0.0, 1.0))


def _listed(value: Interval | None) -> list[float | None] | None:
    if value is None:
        return None
    return [v if math.isfinite(v) else None for v in (value.value, value.low, value.high)]
