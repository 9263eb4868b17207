"""Lines of a history as charts and as a page: runs with their intervals, levels, steps, and new versions of the runtime."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from nasvit_edge.benchmark.history import Point
from nasvit_edge.benchmark.report import BenchmarkReport
from nasvit_edge.benchmark.steps import Level
from nasvit_edge.report import page
from nasvit_edge.report.drawing import figure_of
from nasvit_edge.report.figures import one
from nasvit_edge.report.history_line import (
    Line,
    RunnerChange,
    change_text,
    few_runner_changes,
    level_table,
    lines_of,
    plain,
    runners,
    summary,
)
from nasvit_edge.report.model import Cell, Datum, Document, Drawing, Figure, Section

METRIC = "latency_p50"  # of the charts of a report
MOST_RUNS = 500  # the latest ones of a series in a report
_MOST = 40  # charts of a page
_MARKS = "Band: interval of a run. Bar: level. Dashed: a step. Dotted: another version of the runtime. Grey: another machine ran before; figures of two machines are never compared."
_TOLD = 3  # steps in the caption
_LINE, _LEVEL = "#3b82c4", "#d9681d"
_SHOWN = {  # unit -> divided by
    "ms": (1.0, "ms"),
    "bytes": (1e6, "MB"),
    "ops": (1.0, "ops"),
    "points": (0.01, "%"),
}


def write_html(lines: Sequence[Line], path: Path, title: str = "History of benchmarks") -> None:
    """A chart and a table of levels for each line, at most 40 of them.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    sections = tuple(
        Section(line.name, (summary(line), Drawing((figure(line),)), level_table(line)))
        for line in lines[:_MOST]
    )
    note = f"These are the first {_MOST} of {len(lines)} lines. " if len(lines) > _MOST else ""
    page.write_html(Document(title=title, notes=(Cell(note + _MARKS),), sections=sections), path)


def histories(report: BenchmarkReport, history: Sequence[Point]) -> list[Figure]:
    """A chart of the median latency for each artifact of the report with at least two runs."""
    keys = {(c.device, c.artifact.name, c.artifact.runtime, c.artifact.precision) for c in report.cells}
    points = [
        p
        for p in history
        if p.metric == METRIC and p.value > 0 and (p.device, p.artifact, p.runtime, p.precision) in keys
    ]
    return [figure(line) for line in lines_of(points, MOST_RUNS) if len(line.points) > 1]


def figure(line: Line) -> Figure:
    """The chart of a line."""
    divisor, unit = _SHOWN[line.metric.unit]
    last = len(line.points) - 1
    steps = [_step(line, before, now) for before, now in itertools.pairwise(line.levels)]
    rows: dict[str, list[Datum]] = {
        "runs": [_run(line, point, divisor) for point in line.points],
        "steps": steps,
        "levels": [  # from the first run of a level to that of the next, or to the last run
            {
                "from": _when(line.points[level.start]),
                "to": _when(line.points[min(level.end, last)]),
                "level": level.value / divisor,
            }
            for level in line.levels
        ],
        "versions": [_version(line.points[i]) for i in line.runtime_changes],
        "runners": [_runner(line.points[change.index], change) for change in few_runner_changes(line)],
    }
    lines = [f"{len(line.points)} runs with their intervals, where these are known."]
    if line.earlier:
        lines.append(f"{line.earlier} earlier ones are left out.")
    lines += [f"New level {m['day']} ({m['commit']}): {m['change']}, to {m['now']}." for m in steps[-_TOLD:]]
    if line.fit.drift:
        lines.append(f"A steady drift of {line.fit.drift:+.1%} over these runs.")
    lines += [f"{v['told']} since {v['day']}." for v in rows["versions"][-_TOLD:]]
    if changed := runners(line).removeprefix("; "):
        lines.append(f"{changed[0].upper()}{changed[1:]}.")
    return figure_of("history", line.name, " ".join(lines), rows, {"title": f"{line.metric.about} ({unit})"})


def _when(point: Point) -> float:
    """In milliseconds, so that no browser takes it for its own time zone."""
    return 1e3 * point.moment


def _run(line: Line, point: Point, divisor: float) -> Datum:
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


def _step(line: Line, before: Level, now: Level) -> Datum:
    first = line.points[now.start]
    return {
        "when": _when(first),
        "day": first.utc[:10],
        "commit": _commit(first),
        "change": change_text(line, now),
        "then": one(line.metric, before.value),
        "now": one(line.metric, now.value),
    }


def _version(point: Point) -> Datum:
    version = f"{point.runtime} {point.runtime_version}"[:40]
    return {"when": _when(point), "day": point.utc[:10], "told": plain(version)}


def _runner(point: Point, change: RunnerChange) -> Datum:
    return {"when": _when(point), "told": plain(f"{change.before.name} -> {point.machine.name}")}


def _commit(point: Point) -> str:
    return plain(point.git_sha)[:10] if point.git_sha else "commit unknown"
