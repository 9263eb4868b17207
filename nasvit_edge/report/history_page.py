"""Lines of a history as charts and as a page: runs with their intervals, levels, steps, and new versions of the runtime."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nasvit_edge.benchmark.history import Point, series
from nasvit_edge.benchmark.report import Report
from nasvit_edge.benchmark.steps import Level
from nasvit_edge.errors import require
from nasvit_edge.report import page
from nasvit_edge.report.bench_facts import table
from nasvit_edge.report.figures import one
from nasvit_edge.report.history_line import Line, change_text, level_rows, line_of, plain, summary
from nasvit_edge.report.page import Body, Figure, shown

METRIC = "latency_p50"  # of the charts of a report
MOST_RUNS = 500  # the latest ones of a series in a report
_MOST = 40  # charts of a page
_MARKS = "Band: interval of a run. Bar: level. Dashed: a step. Dotted: another version of the runtime."
_TOLD = 3  # steps in the caption
_LINE, _LEVEL = "#3b82c4", "#d9681d"
_SHOWN = {
    "ms": (1.0, "ms"),
    "bytes": (1e6, "MB"),
    "ops": (1.0, "ops"),
    "points": (0.01, "%"),
}  # unit -> divided by


def write_html(lines: Sequence[Line], path: Path, title: str = "History of benchmarks") -> None:
    """A chart and a table of levels for each line, at most 40 of them.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    body = Body()
    for line in lines[:_MOST]:
        body.add(shown(line.name), f"<p>{shown(summary(line))}</p>", body.draw(figure(line)), _levels(line))
    told = f"These are the first {_MOST} of {len(lines)} lines. " if len(lines) > _MOST else ""
    head = f'<h1>{shown(title)}</h1>\n<p class="quiet">{told}{_MARKS}</p>'
    page.write_document(path, title, body.html(head), body.figures)


def histories(report: Report, history: Sequence[Point]) -> list[Figure]:
    """A chart of the median latency for each artifact of the report with at least two runs."""
    own = {(c.device, c.artifact.name, c.artifact.runtime, c.artifact.precision) for c in report.cells}
    points = [
        p
        for p in history
        if p.metric == METRIC and p.value > 0 and (p.device, p.artifact, p.runtime, p.precision) in own
    ]
    return [
        figure(line_of(runs[-MOST_RUNS:]), max(0, len(runs) - MOST_RUNS))
        for runs in series(points).values()
        if len(runs) > 1
    ]


def figure(line: Line, earlier: int = 0) -> Figure:
    """The chart of a line, before which `earlier` runs were left out."""
    divisor, unit = _SHOWN[line.metric.unit]
    marks = [_step(line, before, now) for before, now in itertools.pairwise(line.levels)]
    versions = [_version(line.points[i]) for i in line.runtime_changes]
    told = [f"{len(line.points)} runs with their intervals, where these are known."]
    if earlier:
        told.append(f"{earlier} earlier ones are left out.")
    told += [f"New level {m['day']} ({m['commit']}): {m['change']}, to {m['now']}." for m in marks[-_TOLD:]]
    if line.fit.drift:
        told.append(f"A steady drift of {line.fit.drift:+.1%} over these runs.")
    told += [f"{v['told']} since {v['day']}." for v in versions[-_TOLD:]]
    rows = [_run(line, point, divisor) for point in line.points]
    data = {"runs": rows, "steps": marks, "levels": _rules(line, divisor), "versions": versions}
    return page.figure_of(line.name, " ".join(told), _chart(f"{line.metric.about} ({unit})"), data)


def _levels(line: Line) -> str:
    """A row a level, as the terminal shows it."""
    columns, rows = level_rows(line)
    return table(
        columns, ["<tr>" + "".join(f"<td>{shown(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    )


def _when(point: Point) -> float:
    """In milliseconds, so that no browser takes it for its own time zone."""
    return 1e3 * point.moment


def _run(line: Line, point: Point, divisor: float) -> dict[str, Any]:
    interval = "unknown"
    if point.low is not None and point.high is not None:
        interval = f"{one(line.metric, point.low)} .. {one(line.metric, point.high)}"
    return {
        "when": _when(point),
        "figure": point.value / divisor,
        "low": None if point.low is None else point.low / divisor,
        "high": None if point.high is None else point.high / divisor,
        "value": one(line.metric, point.value),
        "interval": interval,
        "commit": _commit(point),
        "runtime": f"{point.runtime} {point.runtime_version}"[:80],
        "file": point.sha256[:12],
    }


def _rules(line: Line, divisor: float) -> list[dict[str, Any]]:
    """From the first run of a level to that of the next, or to the last run."""
    last = len(line.points) - 1
    return [
        {
            "from": _when(line.points[level.start]),
            "to": _when(line.points[min(level.end, last)]),
            "level": level.value / divisor,
        }
        for level in line.levels
    ]


def _step(line: Line, before: Level, now: Level) -> dict[str, Any]:
    first = line.points[now.start]
    return {
        "when": _when(first),
        "day": first.utc[:10],
        "commit": _commit(first),
        "change": change_text(line, now),
        "then": one(line.metric, before.value),
        "now": one(line.metric, now.value),
    }


def _version(point: Point) -> dict[str, Any]:
    told = f"{point.runtime} {point.runtime_version}"[:40]
    return {"when": _when(point), "day": point.utc[:10], "told": plain(told)}


def _commit(point: Point) -> str:
    return plain(point.git_sha)[:10] if point.git_sha else "commit unknown"


def _chart(y_title: str) -> Any:
    altair = require("altair", "report")
    x = altair.X("when:T", title=None, scale=altair.Scale(type="utc"), axis=altair.Axis(labelOverlap=True))
    loose = altair.Scale(zero=False)
    runs = altair.Chart(altair.NamedData("runs")).encode(x=x)
    marks = altair.Chart(altair.NamedData("steps")).encode(x=x)
    versions = altair.Chart(altair.NamedData("versions")).encode(x=x)
    when = altair.Tooltip("when:T", title="run", format="%Y-%m-%d %H:%M", formatType="utc")
    names = ("value", "interval", "commit", "runtime", "file")
    tips = [when, *(altair.Tooltip(f"{key}:N") for key in names)]
    of_step = [when, *(altair.Tooltip(f"{key}:N") for key in ("change", "then", "now", "commit"))]
    y = altair.Y("figure:Q", title=y_title, scale=loose)
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
