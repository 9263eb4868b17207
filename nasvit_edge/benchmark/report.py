"""Everything that a report says, before it is written in one form or another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nasvit_edge import records
from nasvit_edge.benchmark.budgets import Budget, Outcome, check_budgets
from nasvit_edge.benchmark.metrics import METRICS, by_round, changes, spread
from nasvit_edge.benchmark.result import MeasuredArtifact, Result
from nasvit_edge.benchmark.statistics import Interval, compare_logs, difference, estimate, smallest_change
from nasvit_edge.benchmark.verdicts import VERDICTS, JudgedMetric, Rule, candidates, judge
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.machines import Machine, differences

SCHEMA = 1
PASS, FAIL, INVALID = 0, 1, 3  # exit codes


@dataclass(frozen=True, slots=True)
class Trend:
    """An artifact against a stored result: other minutes, so no verdict."""

    device: str
    artifact: str
    metric: str
    then: Interval
    now: Interval
    change: Interval


@dataclass(frozen=True, slots=True)
class Noise:
    """What an A/A run says of a device.

    Attributes:
        within: robust coefficient of variation inside a round; between: of the rounds' medians.
        paired: standard deviation of a pair's log ratio.
        detects: rounds -> the smallest increase of p50 found with chance 0.9 at the rule's alpha.
    """

    device: str
    artifact: str
    runtime: str
    rounds: int
    within: float
    between: float
    paired: float
    detects: dict[int, float]


@dataclass(frozen=True, slots=True)
class BenchmarkReport:
    """Verdicts, budgets, trends and noise of results."""

    results: tuple[Result, ...]
    rule: Rule
    cells: tuple[JudgedMetric, ...]
    outcomes: tuple[Outcome, ...] = ()
    trends: tuple[Trend, ...] = ()
    noise: tuple[Noise, ...] = ()
    remarks: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """1: a regression that gates, or a budget; 3: what gates was not measured validly; else 0."""
        if any(cell.fails for cell in self.cells) or any(outcome.fails for outcome in self.outcomes):
            return FAIL
        broken = any(cell.gates and cell.verdict == "invalid" for cell in self.cells)
        return INVALID if broken or any(outcome.unjudged for outcome in self.outcomes) else PASS

    @property
    def headline(self) -> str:
        """The verdict in a line: `2 regressions, 1 budget exceeded; 5 equivalent, 1 inconclusive`."""
        parts = [
            _counted(name, n) for name, n in self.counts().items() if n and name in ("regression", "invalid")
        ]
        if broken := sum(outcome.fails for outcome in self.outcomes):
            parts.append(f"{broken} budget{'s' * (broken > 1)} exceeded")
        if unknown := sum(outcome.unjudged for outcome in self.outcomes):
            parts.append(f"{unknown} budget{'s' * (unknown > 1)} not judged")
        rest = [_counted(n, c) for n, c in self.counts().items() if c and n not in ("regression", "invalid")]
        measured = len({(c.device, c.artifact.name, c.artifact.runtime) for c in self.cells})
        if not parts:
            parts.append(
                "no regression" if self.compares else f"{measured} artifact{'s' * (measured != 1)} measured"
            )
        return "; ".join(part for part in (", ".join(parts), ", ".join(rest)) if part)

    @property
    def compares(self) -> bool:
        """Whether anything was measured beside a baseline."""
        return any(cell.verdict is not None for cell in self.cells)

    def counts(self) -> dict[str, int]:
        """Verdict -> how many of the cells that gate."""
        return {name: sum(c.gates and c.verdict == name for c in self.cells) for name in VERDICTS}

    def to_dict(self) -> dict[str, object]:
        """As JSON."""
        return {
            "schema": SCHEMA,
            "kind": "benchmark report",
            "headline": self.headline,
            "exit_code": self.exit_code,
            "rule": {"alpha": self.rule.alpha, "min_effect": self.rule.min_effect},
            "cells": [cell.to_dict() for cell in self.cells],
            "budgets": [outcome.to_dict() for outcome in self.outcomes],
            "trends": [_trend(trend) for trend in self.trends],
            "noise": [_noise(noise) for noise in self.noise],
            "remarks": list(self.remarks),
            "runs": [
                {"path": str(r.path), "device": r.device} | records.content(r.run) for r in self.results
            ],
        }


def make_report(
    results: Sequence[Result],
    rule: Rule,
    *,
    budgets: Sequence[Budget] = (),
    baseline: Result | None = None,
    explicit: bool = False,
) -> BenchmarkReport:
    """Judge results.

    Args:
        baseline: a stored result of the same device; its figures give trends, never verdicts.
        explicit: the smallest effect was asked for, so one below the noise floor is an error.

    Raises:
        NasvitEdgeError: the same run twice; a baseline of another device or runtime; a budget about nothing.
    """
    twice = [r for i, r in enumerate(results) if r.run.uuid in {o.run.uuid for o in results[:i]}]
    if twice:
        raise NasvitEdgeError(
            f"{str(twice[0].path)!r} is of a run that was given already; give each result once"
        )
    cells = judge(results, rule)
    noise = [
        noise_of(result, artifact, rule) for result in results if result.aa for artifact in candidates(result)
    ]
    noise_levels = [n for n in noise if n is not None]
    for n in noise_levels:
        floor = n.detects[n.rounds]
        if explicit and rule.min_effect < floor:
            raise NasvitEdgeError(
                f"--min-effect {rule.min_effect:.1%} is below what {n.device!r} can show: with {n.rounds} rounds a change "
                f"of {floor:.1%} is found; measure more rounds, or give --min-effect {np.ceil(1000 * floor) / 10:g}%"
            )
    return BenchmarkReport(
        tuple(results),
        rule,
        tuple(cells),
        tuple(check_budgets(budgets, cells)) if budgets else (),
        () if baseline is None else tuple(t for result in results for t in _trends(result, baseline, rule)),
        tuple(noise_levels),
        (*_remarks(results), *_coarse(results, baseline)),
    )


def noise_of(result: Result, artifact: MeasuredArtifact, rule: Rule) -> Noise | None:
    """The noise floor by an A/A run's artifact; None where its rounds are too few."""
    metric = METRICS["latency_p50"]
    assert artifact.baseline is not None
    base = result.artifacts[artifact.baseline]
    ratios = list(changes(base, artifact, metric).values())
    if len(ratios) < 3:
        return None
    sd = compare_logs(ratios, rule.alpha).sd
    logs = np.log([value for side in (artifact, base) for value in by_round(side, metric).values()])
    counts = sorted({5, 8, 12, 20, result.rounds})
    detects = {n: smallest_change(sd, n, rule.alpha) for n in counts}
    between = float(logs.std(ddof=1))
    return Noise(
        result.device, artifact.name, artifact.runtime, result.rounds, spread(artifact), between, sd, detects
    )


def _trends(result: Result, baseline: Result, rule: Rule) -> list[Trend]:
    if differs := _differences(baseline, result):
        raise NasvitEdgeError(
            f"baseline {str(baseline.path)!r} is of another device than {str(result.path)!r} ({'; '.join(differs)}): "
            "their figures cannot be compared"
        )
    trends = []
    for artifact in candidates(result):
        for then in baseline.artifacts:
            if (then.name, then.runtime, then.precision) == (
                artifact.name,
                artifact.runtime,
                artifact.precision,
            ):
                _same_setting(result, artifact, baseline, then)
                trends += _trend_of(result, artifact, then, rule)
                break
    if not trends:
        names = ", ".join(sorted({a.name for a in baseline.artifacts}))
        raise NasvitEdgeError(
            f"baseline {str(baseline.path)!r} has none of the artifacts of {str(result.path)!r}; it has {names}"
        )
    return trends


def _differences(baseline: Result, result: Result) -> list[str]:
    """In what their devices differ."""
    named = [f"device {baseline.device!r} there and {result.device!r} here"]
    machines = (Machine.of(result.measurer.about) for result in (baseline, result))
    return (named if baseline.device != result.device else []) + differences(*machines)


def _same_setting(result: Result, now: MeasuredArtifact, baseline: Result, then: MeasuredArtifact) -> None:
    for what, a, b in (
        ("runtime version", then.runtime_version, now.runtime_version),
        ("threads", baseline.threads, result.threads),
    ):
        if a != b:
            raise NasvitEdgeError(
                f"baseline {str(baseline.path)!r} has {what} {a!r} for {now.name!r} and {str(result.path)!r} has {b!r}: "
                "their figures cannot be compared; measure the baseline again"
            )


def _trend_of(result: Result, now: MeasuredArtifact, then: MeasuredArtifact, rule: Rule) -> list[Trend]:
    trends = []
    for metric in METRICS.values():
        if metric.of_round is None:
            continue
        new, old = (list(by_round(side, metric).values()) for side in (now, then))
        if new and old:
            change = difference(old, new, rule.alpha)
            sides = (estimate(old, rule.alpha), estimate(new, rule.alpha))
            trends.append(Trend(result.device, now.name, metric.name, *sides, change))
    if now.bytes != then.bytes:
        before, after = (Interval(float(n), float(n), float(n)) for n in (then.bytes, now.bytes))
        ratio = now.bytes / then.bytes - 1
        exact = Interval(ratio, ratio, ratio)
        trends.append(Trend(result.device, now.name, "size", before, after, exact))
    return trends


def _remarks(results: Sequence[Result]) -> list[str]:
    """What a reader should know of the runs."""
    lines = []
    for result in results:
        flags = sorted({f for a in result.artifacts for e in a.rounds for f in e.flags})
        disturbed = sum(bool(e.flags) for a in result.artifacts for e in a.rounds)
        if flags:
            lines.append(f"{result.device}: {disturbed} rounds were flagged: {', '.join(flags)}")
        busy = result.measurer.busy_cores
        if busy is not None and busy > 0.25:
            lines.append(f"{result.device}: other work kept {busy:.1f} cores busy")
        lines += [
            f"{a.name}: {a.int8_macs:.1%} of its MACs are in int8"
            for a in result.artifacts
            if a.precision == "int8" and a.int8_macs is not None
        ]
        if result.aa:
            lines.append(f"{result.device}: an A/A run: both sides are the same file")
    return lines


def _coarse(results: Sequence[Result], baseline: Result | None) -> list[str]:
    """That a stored baseline may be of another chip, where both files are too old to tell."""
    if baseline is None or not Machine.of(baseline.measurer.about).is_coarse:
        return []
    called = baseline.measurer.about.get("soc")
    return [
        f"{result.device}: both files are of versions that called every Arm server {called!r}: they may be of two kinds of chip"
        for result in results
    ]


def _counted(name: str, count: int) -> str:
    plural = {"regression": "regressions", "improvement": "improvements"}
    return f"{count} {plural.get(name, name) if count > 1 else name}"


def _trend(trend: Trend) -> dict[str, object]:
    about = {"device": trend.device, "artifact": trend.artifact, "metric": trend.metric}
    sides = {"then": trend.then, "now": trend.now, "change": trend.change}
    return about | {
        key: [v if np.isfinite(v) else None for v in (e.value, e.low, e.high)] for key, e in sides.items()
    }


def _noise(noise: Noise) -> dict[str, object]:
    keys = ("device", "artifact", "runtime", "rounds", "within", "between", "paired")
    return {key: getattr(noise, key) for key in keys} | {
        "detects": {str(rounds): change for rounds, change in noise.detects.items()}
    }
