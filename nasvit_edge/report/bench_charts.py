"""Charts over all artifacts of a benchmark report: changes, the Pareto front, predicted against measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nasvit_edge.benchmark.metrics import METRICS, by_round
from nasvit_edge.benchmark.report import BenchmarkReport
from nasvit_edge.benchmark.result import MeasuredArtifact, Result
from nasvit_edge.benchmark.statistics import Interval, estimate
from nasvit_edge.benchmark.verdicts import MIN_POINTS, VERDICTS, JudgedMetric, invalid
from nasvit_edge.report.drawing import figure_of
from nasvit_edge.report.figures import ACCURACIES, change_text
from nasvit_edge.report.model import Datum, Figure, plain
from nasvit_edge.units import show_bytes, show_ms

VERDICT_COLOURS = {
    "regression": "#d64545",
    "improvement": "#2f9e62",
    "equivalent": "#3b82c4",
    "inconclusive": "#c98a1b",
    "invalid": "#9a5fc0",
}
MOST_CHANGES = 40
_ABSURD = 700.0  # a log ratio near the end of floating point
_FARTHEST = 10.0  # a change beyond this is drawn at the edge
_TICKS = (-100, -50, -20, -10, -5, -2, 0, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # percent
_DEVICES = ("#d9681d", "#3b82c4", "#2f9e62", "#9a5fc0", "#c98a1b", "#2c8f8f", "#c2508f", "#8794a8")
_ROOM = (0.4, 0.08)  # of a chart's width and height, for a name on a phone
_NAME = 30  # letters of a name inside a chart


# -- changes ----------------------------------------------------------------------------------------


def changes(report: BenchmarkReport) -> Figure | None:
    """Each cell's change with its interval, on the zone of changes that do not count."""
    every = [cell for cell in report.cells if cell.change is not None and cell.verdict is not None]
    chosen = sorted(every, key=lambda c: (not c.gates, VERDICTS.index(c.verdict or "")))[:MOST_CHANGES]
    cells = [cell for cell in every if any(cell is c for c in chosen)]
    if not cells:
        return None
    lines = ["Grey: too small to count. Right of zero is slower or larger; of an accuracy, right is better."]
    lines.append("The axis is finer near zero.")
    if any(not cell.gates for cell in cells):
        lines.append("Hollow: does not gate.")
    if len(every) > len(cells):
        lines.append(f"{len(every) - len(cells)} cells are left out; they are in the table.")
    ends = [[_percent(end) for end in (c.change.low, c.change.high)] for c in cells if c.change is not None]
    least = 100 * report.rule.min_effect
    low = 1.1 * min(-2 * least, *(end[0] for end in ends))
    high = 1.1 * max(2 * least, *(end[1] for end in ends))
    several = len({cell.device for cell in report.cells}) > 1
    rows = [_change(row, cell, report.rule.min_effect, several) for row, cell in enumerate(cells)]
    present = [verdict for verdict in VERDICT_COLOURS if any(c.verdict == verdict for c in cells)]
    data: dict[str, Sequence[Datum]] = {
        "cells": rows,
        "gating": [row for row in rows if row["gates"]],
        "others": [row for row in rows if not row["gates"]],
        "zero": [{"zero": 0}],
    }
    return figure_of(
        "changes",
        "Changes with their intervals",
        " ".join(lines),
        data,
        {
            "height": 40 * len(rows),
            "constant": max(least, 0.1),
            "low": low,
            "high": high,
            "ticks": [tick for tick in _TICKS if low <= tick <= high],
            "verdicts": present,
            "colours": [VERDICT_COLOURS[verdict] for verdict in present],
        },
    )


def _percent(change: float) -> float:
    return 100 * min(max(change, -1.0), _FARTHEST)


def _change(row: int, cell: JudgedMetric, min_effect: float, several: bool) -> Datum:
    assert cell.change is not None
    smallest = MIN_POINTS if cell.metric.is_accuracy else {"ops": 0.0}.get(cell.metric.unit, min_effect)
    what = [_short(cell.artifact.name), cell.metric.name, *([_short(cell.device)] if several else [])]
    return {
        "row": row,
        "label": ", ".join(what),
        "figure": change_text(cell, interval=False),
        "change": _percent(cell.change.value),
        "low": _percent(cell.change.low),
        "high": _percent(cell.change.high),
        "from": -100 * smallest,
        "to": 100 * smallest,
        "verdict": cell.verdict,
        "gates": cell.gates,
        "told": change_text(cell),
    }


def _short(name: str) -> str:
    """A name for inside a chart."""
    return plain(name, _NAME)


# -- what was measured ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _File:
    """A file that was measured validly: its median latency, and what it is drawn against."""

    name: str
    role: str
    runtime: str
    precision: str
    ms: float
    low: float
    high: float
    latency: str
    y: float = 0.0
    value: str = ""


def fronts(report: BenchmarkReport) -> list[Figure]:
    """For each device with several artifacts: latency against top-1 or mean IoU, where that is known, else against the size."""
    figures = []
    for device in dict.fromkeys(result.device for result in report.results):
        files = {
            (a.name, a.runtime, a.precision, a.sha256): (a, role, ms)
            for result in report.results[::-1]  # of a file that was measured again the first
            if result.device == device
            for a, role in _files(result)
            if (ms := _measured_ms(result, a, report.rule.alpha)) is not None
        }
        newest = list(files.values())[::-1]
        kinds = {_judged_on(a): None for a, *_ in newest if a.accuracy is not None}
        kind = max(kinds, key=lambda kind: sum(_judged_on(a) == kind for a, *_ in newest), default="")
        judged = [
            _file(*f, y=100 * f[0].accuracy.value, value=f"{f[0].accuracy.value:.2%}")
            for f in newest
            if f[0].accuracy is not None and _judged_on(f[0]) == kind
        ]
        if len(judged) > 1:
            figures.append(_front(device, f"{kind} (%)", judged, upward=True))
        elif len(newest) > 1:
            sized = [_file(*f, y=f[0].bytes / 1e6, value=show_bytes(f[0].bytes)) for f in newest]
            figures.append(_front(device, "file size (MB)", sized, upward=False))
    return figures


def _judged_on(artifact: MeasuredArtifact) -> str:
    accuracy = artifact.accuracy
    return "" if accuracy is None else f"{ACCURACIES[accuracy.metric]} on {_short(accuracy.data)}"


def _file(artifact: MeasuredArtifact, role: str, ms: Interval, *, y: float, value: str) -> _File:
    high = ms.high if math.isfinite(ms.high) else ms.value
    name, runtime, precision = _short(artifact.name), artifact.runtime, artifact.precision
    return _File(name, role, runtime, precision, ms.value, ms.low, high, show_ms(ms.value), y, value)


def _files(result: Result) -> Iterator[tuple[MeasuredArtifact, str]]:
    """Artifacts with their part; of an A/A run only one side, as both are the same file."""
    bases = {artifact.baseline for artifact in result.artifacts}
    for place, artifact in enumerate(result.artifacts):
        if place not in bases:
            yield artifact, "candidate"
        elif not result.aa:
            yield artifact, "baseline"


def _measured_ms(result: Result, artifact: MeasuredArtifact, alpha: float) -> Interval | None:
    """The median latency; None where the measurement does not hold."""
    values = list(by_round(artifact, METRICS["latency_p50"]).values())
    return estimate(values, alpha) if values and not invalid(result, artifact) else None


def _front(device: str, title: str, files: Sequence[_File], *, upward: bool) -> Figure:
    sign = -1 if upward else 1
    front: list[_File] = []
    for file in sorted(files, key=lambda f: (f.ms, sign * f.y)):
        if not front or sign * file.y < sign * front[-1].y:
            front.append(file)
    middle = (min(f.ms for f in files) + max(f.ms for f in files)) / 2
    labelled = _labelled([*front, *(f for f in files if f not in front)])
    joined = ", joined by the line" if len(front) > 1 else ""
    names = ", ".join(sorted({file.name for file in front}))
    caption = f"Filled{joined}: what no other file beats in both ({names})."
    data = {
        "files": files,
        "front": front,
        "best": [f for f in files if f in front],
        "beaten": [f for f in files if f not in front],
        "left": [f for f in files if f in labelled and f.ms <= middle],
        "right": [f for f in files if f in labelled and f.ms > middle],
    }
    rows = {name: [asdict(file) | {"front": file in front} for file in group] for name, group in data.items()}
    titles = {"title": title, "what": title.split(" (", maxsplit=1)[0]}
    return figure_of("files", f"Pareto front on {device}", caption, rows, titles)


def _labelled(files: Sequence[_File]) -> list[_File]:
    """Those whose names have room, the first ones first; the pointer tells the others."""
    left, low = min(f.ms for f in files), min(f.y for f in files)
    wide, high = (max(f.ms for f in files) - left or 1.0), (max(f.y for f in files) - low or 1.0)
    places: list[tuple[float, float]] = []
    labelled = []
    for file in files:
        x, y = (file.ms - left) / wide, (file.y - low) / high
        start = x if x <= 0.5 else x - _ROOM[0]  # names point to the middle
        if all(abs(start - other) > _ROOM[0] or abs(y - height) > _ROOM[1] for other, height in places):
            places.append((start, y))
            labelled.append(file)
    return labelled


# -- predictions ------------------------------------------------------------------------------------


def predictions(report: BenchmarkReport) -> Figure | None:
    """What latency tables predicted against what was measured."""
    rows = [
        (result, artifact, artifact.predicted_ms, ms)
        for result in report.results
        for artifact, _ in _files(result)
        if artifact.predicted_ms
        and (ms := _measured_ms(result, artifact, report.rule.alpha))
        and ms.value > 0
    ]
    if not rows:
        return None
    errors = [abs(math.log(predicted[0] / ms.value)) for *_, predicted, ms in rows]
    hits = sum(predicted[1] <= ms.value <= predicted[2] for *_, predicted, ms in rows)
    caption = (
        f"On the dashed line, both are equal. {math.expm1(min(float(np.mean(errors)), _ABSURD)):.1%} apart on average; "
        f"{hits} of {len(rows)} measured medians are within the predicted interval.{_settings(rows)}"
    )
    every = [value for *_, predicted, ms in rows for value in (ms.value, *predicted)]
    low, high = 0.95 * min(every), 1.05 * max(every)
    devices = list(dict.fromkeys(_short(result.device) for result, *_ in rows))
    return figure_of(
        "predictions",
        "Predicted and measured latency",
        caption,
        {"files": [_predicted(*each) for each in rows], "ends": [{"end": low}, {"end": high}]},
        {
            "type": "log" if high > 10 * low else "linear",
            "low": low,
            "high": high,
            "devices": devices,
            "colours": [_DEVICES[i % len(_DEVICES)] for i in range(len(devices))],
        },
        square=True,
    )


def _settings(rows: Sequence[tuple[Result, MeasuredArtifact, Any, Any]]) -> str:
    """What the predictions hold for; older results do not say."""
    lines = dict.fromkeys(a.predicted_by.line() for _, a, *_ in rows if a.predicted_by)
    return f" Predicted by the table of {'; '.join(lines)}." if lines else ""


def _predicted(
    result: Result, artifact: MeasuredArtifact, predicted: tuple[float, float, float], ms: Interval
) -> Datum:
    value, low, high = predicted
    bounded = math.isfinite(ms.high)
    return {
        "name": _short(artifact.name),
        "device": _short(result.device),
        "runtime": artifact.runtime,
        "ms": ms.value,
        "low": ms.low if bounded else ms.value,
        "high": ms.high if bounded else ms.value,
        "predicted": value,
        "predicted_low": low,
        "predicted_high": high,
        "measured": show_ms(ms.value),
        "told": f"{show_ms(value)} ({show_ms(low)} .. {show_ms(high)})",
    }
