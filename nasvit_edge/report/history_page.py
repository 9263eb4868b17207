"""Lines of a history as a page that opens without network: runs with intervals, levels, and rules at steps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nasvit_edge.errors import require
from nasvit_edge.report import page
from nasvit_edge.report.figures import one
from nasvit_edge.report.history_line import Line, change_text, plain, summary, when

_WIDTH, _HEIGHT = 860, 200
_MOST = 40  # charts
_COLOUR, _STEP, _RUNTIME = "#2b6cb0", "#c53030", "#718096"
_SHOWN = {
    "ms": (1.0, "ms"),
    "bytes": (1e6, "MB"),
    "ops": (1.0, "ops"),
    "points": (0.01, "%"),
}  # unit -> divided by


def write_html(lines: Sequence[Line], path: Path, title: str = "History of benchmarks") -> None:
    """A chart for each line, at most 40 of them.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    altair = require("altair", "report")
    facts = [(line.name, summary(line)) for line in lines]
    if len(lines) > _MOST:
        facts.append(("charts", f"of the first {_MOST} of {len(lines)} lines"))
    facts.append(("marks", "band: interval of a run; red: a step; dashed: another version of the runtime"))
    page.write_page(path, title, facts, altair.vconcat(*(_chart(altair, line) for line in lines[:_MOST])))


def _chart(altair: Any, line: Line) -> Any:
    divisor, unit = _SHOWN[line.metric.unit]
    x = altair.X("at:T", title=None, scale=altair.Scale(type="utc"))
    y_title = f"{line.metric.about} ({unit})"

    def of(values: list[dict[str, Any]]) -> Any:
        return altair.Chart(altair.Data(values=page.veiled(values)))

    def y(name: str) -> Any:
        return altair.Y(f"{name}:Q", title=y_title, scale=altair.Scale(zero=False))

    runs, levels, steps, runtimes = (
        _runs(line, divisor),
        _levels(line, divisor),
        _steps(line),
        _runtimes(line),
    )
    tips = [altair.Tooltip(f"{name}:N") for name in ("run", "value", "interval", "runtime", "file")]
    bounded = [run for run in runs if run["low"] is not None]
    layers = [
        of(bounded).mark_area(opacity=0.15, color=_COLOUR).encode(x=x, y=y("low"), y2="high:Q"),
        of(runs).mark_line(strokeWidth=1, opacity=0.5, color=_COLOUR).encode(x=x, y=y("figure")),
        of(runs).mark_circle(size=24, color=_COLOUR).encode(x=x, y=y("figure"), tooltip=tips),
        of(levels).mark_rule(strokeWidth=2.5, color="#1a202c").encode(x=x, x2="end:T", y=y("figure")),
        of(steps).mark_rule(strokeWidth=1.5, color=_STEP).encode(x=x, tooltip=altair.Tooltip("step:N")),
        of(steps)
        .mark_text(align="left", dx=4, baseline="top", color=_STEP)
        .encode(x=x, y=altair.value(2), text="told:N"),
        of(runtimes)
        .mark_rule(strokeDash=[4, 3], color=_RUNTIME)
        .encode(x=x, tooltip=altair.Tooltip("runtime:N")),
    ]
    kept = [layer for layer in layers if layer.data.values]
    return altair.layer(*kept).properties(width=_WIDTH, height=_HEIGHT, title=page.veiled(line.name))


def _runs(line: Line, divisor: float) -> list[dict[str, Any]]:
    found = []
    for point in line.points:
        ends = "unknown"
        if point.low is not None and point.high is not None:
            ends = f"{one(line.metric, point.low)} .. {one(line.metric, point.high)}"
        scaled: dict[str, Any] = {
            key: None if value is None else value / divisor
            for key, value in (("figure", point.value), ("low", point.low), ("high", point.high))
        }
        told = {"run": when(point), "value": one(line.metric, point.value), "interval": ends}
        about = {"runtime": plain(point.runtime_version), "file": plain(point.sha256[:12])}
        found.append({"at": _at(point.moment)} | scaled | told | about)
    return found


def _levels(line: Line, divisor: float) -> list[dict[str, Any]]:
    """From the first run of a level to that of the next, or to the last run."""
    last = len(line.points) - 1
    return [
        {
            "at": _at(line.points[level.start].moment),
            "end": _at(line.points[min(level.end, last)].moment),
            "figure": level.value / divisor,
        }
        for level in line.levels
    ]


def _steps(line: Line) -> list[dict[str, Any]]:
    found = []
    for level in line.levels[1:]:
        first, told = line.points[level.start], change_text(line, level)
        found.append({"at": _at(first.moment), "told": told, "step": f"{told} at {when(first)}"})
    return found


def _runtimes(line: Line) -> list[dict[str, Any]]:
    return [
        {
            "at": _at(line.points[i].moment),
            "runtime": f"runtime {plain(line.points[i - 1].runtime_version)} -> {plain(line.points[i].runtime_version)}",
        }
        for i in line.runtime_changes
    ]


def _at(moment: float) -> str:
    """As Vega reads it: UTC, to the second."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
