"""`report history`: the lines of a history, their levels and what changed where."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from nasvit_edge import files
from nasvit_edge.benchmark.history import Point, read_history
from nasvit_edge.benchmark.metrics import METRICS
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.hints import command
from nasvit_edge.report.history_line import Line, lines_of
from nasvit_edge.requests.report import History

SCHEMA = 1
_NAMED = 8  # names in an error


def read_lines(request: History) -> list[Line]:
    """A line for each series that is asked for; the page is written.

    Raises:
        NasvitEdgeError: a metric that does not exist, no history, or nothing in it that is asked for.
    """
    for name in metrics_of(request):
        if name not in METRICS:
            raise NasvitEdgeError(f"--metric {name!r} is no metric; there are {', '.join(METRICS)}")
    points = read_history(request.path)
    if not points:
        what = "is empty" if request.path.exists() else "does not exist"
        raise NasvitEdgeError(
            f"history {str(request.path)!r} {what}; run: {command('report', 'bench', 'benchmark.json', history=request.path)}"
        )
    chosen = [point for point in points if _wanted(request, point)]
    if not chosen:
        raise NasvitEdgeError(f"{_asked(request)} matches nothing in {str(request.path)!r}; {_there(points)}")
    lines = sorted(lines_of(chosen, request.last), key=_order)
    if request.html is not None:
        from nasvit_edge.report import history_page

        files.writable_folder(request.html.parent)
        history_page.write_html(lines, request.html)
    return lines


def metrics_of(request: History) -> list[str]:
    """Those that are asked for, each once."""
    return list(dict.fromkeys(request.metric or ("latency_p50",)))


def to_dict(lines: Sequence[Line]) -> dict[str, object]:
    """As JSON."""
    return {"schema": SCHEMA, "kind": "benchmark history", "series": [_series(line) for line in lines]}


def _wanted(request: History, point: Point) -> bool:
    return (
        point.metric in metrics_of(request)
        and fnmatch.fnmatchcase(point.device, request.device or "*")
        and fnmatch.fnmatchcase(point.artifact, request.artifact or "*")
    )


def _order(line: Line) -> tuple[Any, ...]:
    """By device, artifact, setting, metrics as they are listed, and of several machines the first one first."""
    first = line.points[0]
    setting = (first.device, first.artifact, first.runtime, first.threads, first.precision)
    return (*setting, list(METRICS).index(first.metric), first.moment)


def _asked(request: History) -> str:
    asked = [("--device", request.device), ("--artifact", request.artifact)]
    asked += [("--metric", name) for name in metrics_of(request)]
    return " ".join(f"{option} {value!r}" for option, value in asked if value is not None)


def _there(points: Sequence[Point]) -> str:
    """What a history holds: the first names of each kind."""
    parts = []
    for kind in ("device", "artifact", "metric"):
        names = sorted({str(getattr(point, kind)) for point in points})
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        parts.append(f"{kind}s {', '.join(map(repr, names[:_NAMED]))}{more}")
    return f"it has {'; '.join(parts)}"


def _series(line: Line) -> dict[str, object]:
    first = line.points[0]
    setting = ("device", "artifact", "runtime", "threads", "precision", "metric")
    per_point = ("utc", "git_sha", "uuid", "runtime_version", "value", "low", "high", "sha256")
    return {name: getattr(first, name) for name in setting} | {
        "machine": asdict(first.machine),
        "unit": line.metric.unit,
        "runs": len(line.points),
        "noise": line.fit.noise,
        "drift": line.fit.drift,
        "steps": list(line.fit.starts),
        "levels": [
            asdict(level)
            | {"since": line.points[level.start].utc, "git_sha": line.points[level.start].git_sha}
            for level in line.levels
        ],
        "runtime_changes": line.runtime_changes,
        "runner_changes": [asdict(change) for change in line.runner_changes],
        "points": [{name: getattr(point, name) for name in per_point} for point in line.points],
    }
