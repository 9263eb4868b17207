"""Charts of the history of benchmarked artifacts: the median latency run by run, and where a new level starts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from nasvit_edge.benchmark.history import Point, series
from nasvit_edge.benchmark.report import Report
from nasvit_edge.benchmark.steps import Level, fit, levels
from nasvit_edge.errors import require
from nasvit_edge.report.page import Figure, figure_of
from nasvit_edge.units import show_ms

METRIC = "latency_p50"
MOST_RUNS = 500  # the latest ones of a series
_LINE, _LEVEL = "#3b82c4", "#d9681d"
_TOLD = 3  # steps in the caption


def histories(report: Report, history: Sequence[Point]) -> list[Figure]:
    """A chart for each artifact of the report with at least two runs."""
    own = {(c.device, c.artifact.name, c.artifact.runtime, c.artifact.precision) for c in report.cells}
    points = [
        p
        for p in history
        if p.metric == METRIC and p.value > 0 and (p.device, p.artifact, p.runtime, p.precision) in own
    ]
    return [_history(runs) for runs in series(points).values() if len(runs) > 1]


def _history(every: Sequence[Point]) -> Figure:
    runs = every[-MOST_RUNS:]
    found = fit(runs)
    parts = levels(runs, found.starts)
    marks = [_step(runs, before, after) for before, after in itertools.pairwise(parts)]
    lines = [
        {"from": _when(runs[p.start]), "to": _when(runs[min(p.end, len(runs) - 1)]), "level": p.value}
        for p in parts
    ]
    told = [f"{len(runs)} runs with their intervals, where these are known."]
    if len(every) > len(runs):
        told.append(f"{len(every) - len(runs)} earlier ones are left out.")
    told += [f"New level {m['day']} ({m['commit']}): {m['change']}, to {m['now']}." for m in marks[-_TOLD:]]
    if found.drift:
        told.append(f"A steady drift of {found.drift:+.1%} over these runs.")
    versions = _versions(runs)
    told += [f"{v['told']} since {v['day']}." for v in versions[-_TOLD:]]
    last = runs[-1]
    title = f"{last.artifact} on {last.device}, {last.runtime} {last.precision}"
    rows = [_run(point) for point in runs]
    data = {"runs": rows, "steps": marks, "levels": lines, "versions": versions}
    return figure_of(title, " ".join(told), _history_chart(), data)


def _when(point: Point) -> float:
    """In milliseconds, so that no browser takes it for its own time zone."""
    return 1e3 * point.moment


def _run(point: Point) -> dict[str, Any]:
    interval = "unknown"
    if point.low is not None and point.high is not None:
        interval = f"{show_ms(point.low)} .. {show_ms(point.high)}"
    return {
        "when": _when(point),
        "ms": point.value,
        "low": point.low,
        "high": point.high,
        "latency": show_ms(point.value),
        "interval": interval,
        "commit": _commit(point),
        "runtime": f"{point.runtime} {point.runtime_version}"[:80],
    }


def _step(runs: Sequence[Point], before: Level, after: Level) -> dict[str, Any]:
    first = runs[after.start]
    return {
        "when": _when(first),
        "day": first.utc[:10],
        "commit": _commit(first),
        "change": "" if after.change is None else f"{after.change:+.1%}",
        "then": show_ms(before.value),
        "now": show_ms(after.value),
    }


def _versions(runs: Sequence[Point]) -> list[dict[str, Any]]:
    """Where the runtime's version is another than a run before."""
    return [
        {"when": _when(now), "day": now.utc[:10], "told": f"{now.runtime} {now.runtime_version}"[:40]}
        for then, now in itertools.pairwise(runs)
        if then.runtime_version != now.runtime_version
    ]


def _commit(point: Point) -> str:
    return point.git_sha[:10] if point.git_sha else "commit unknown"


def _history_chart() -> Any:
    altair = require("altair", "report")
    x = altair.X("when:T", title=None, scale=altair.Scale(type="utc"), axis=altair.Axis(labelOverlap=True))
    loose = altair.Scale(zero=False)
    runs = altair.Chart(altair.NamedData("runs")).encode(x=x)
    marks = altair.Chart(altair.NamedData("steps")).encode(x=x)
    versions = altair.Chart(altair.NamedData("versions")).encode(x=x)
    when = altair.Tooltip("when:T", title="run", format="%Y-%m-%d %H:%M", formatType="utc")
    names = ("latency", "interval", "commit", "runtime")
    tips = [when, *(altair.Tooltip(f"{key}:N") for key in names)]
    of_step = [when, *(altair.Tooltip(f"{key}:N") for key in ("change", "then", "now", "commit"))]
    y = altair.Y("ms:Q", title="median latency (ms)", scale=loose)
    return altair.layer(
        runs.mark_area(opacity=0.22, color=_LINE).encode(y=altair.Y("low:Q", scale=loose), y2="high:Q"),
        versions.mark_rule(style="quiet", strokeDash=[1, 4], strokeWidth=1.5).encode(
            tooltip=[when, altair.Tooltip("told:N", title="now")]
        ),
        altair.Chart(altair.NamedData("levels"))
        .mark_rule(strokeWidth=2, color=_LEVEL)
        .encode(x="from:T", x2="to:T", y="level:Q"),
        runs.mark_line(strokeWidth=1.5, color=_LINE).encode(y=y),
        runs.mark_circle(size=28, opacity=1, color=_LINE).encode(y=y, tooltip=tips),
        marks.mark_rule(strokeDash=[4, 3], strokeWidth=1.5, color=_LEVEL).encode(tooltip=of_step),
        marks.mark_text(style="label", align="left", baseline="top", dx=4).encode(
            y=altair.value(0), text="change:N"
        ),
    ).properties(width="container", height=240)
