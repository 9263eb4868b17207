"""Charts over all artifacts of a benchmark report: changes, the Pareto front, predicted against measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nasvit_edge.benchmark.accuracy import Accuracy
from nasvit_edge.benchmark.metrics import METRICS, by_round
from nasvit_edge.benchmark.report import Report
from nasvit_edge.benchmark.result import Measured, Result
from nasvit_edge.benchmark.statistics import Interval, estimate
from nasvit_edge.benchmark.verdicts import MIN_POINTS, VERDICTS, Cell, invalid
from nasvit_edge.errors import require
from nasvit_edge.report.figures import ACCURACIES, change_text
from nasvit_edge.report.labels import plain
from nasvit_edge.report.page import Figure, figure_of
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
_FRONT, _ROLES = "#8794a8", {"candidate": "#d9681d", "baseline": "#3b82c4"}
_DEVICES = ("#d9681d", "#3b82c4", "#2f9e62", "#9a5fc0", "#c98a1b", "#2c8f8f", "#c2508f", "#8794a8")
_ROOM = (0.4, 0.08)  # of a chart's width and height, for a name on a phone
_NAME = 30  # letters of a name inside a chart


def short(name: str, most: int = _NAME) -> str:
    """A name for inside a chart."""
    return plain(name, most)


def changes(report: Report) -> Figure | None:
    """Each cell's change with its interval, on the zone of changes that do not count."""
    every = [cell for cell in report.cells if cell.change is not None and cell.verdict is not None]
    chosen = sorted(every, key=lambda c: (not c.gates, VERDICTS.index(c.verdict or "")))[:MOST_CHANGES]
    cells = [cell for cell in every if any(cell is c for c in chosen)]
    if not cells:
        return None
    several = len({cell.device for cell in report.cells}) > 1
    rows = [_change(row, cell, report.rule.min_effect, several) for row, cell in enumerate(cells)]
    told = ["Grey: too small to count. Right of zero is slower or larger; of an accuracy, right is better."]
    told.append("The axis is finer near zero.")
    if any(not cell.gates for cell in cells):
        told.append("Hollow: does not gate.")
    if len(every) > len(cells):
        told.append(f"{len(every) - len(cells)} cells are left out; they are in the table.")
    chart = _changes_chart(rows, 100 * report.rule.min_effect)
    data = {
        "cells": rows,
        "gating": [row for row in rows if row["gates"]],
        "others": [row for row in rows if not row["gates"]],
        "zero": [{"zero": 0}],
    }
    return figure_of("Changes with their intervals", " ".join(told), chart, data)


def _change(row: int, cell: Cell, min_effect: float, several: bool) -> dict[str, Any]:
    change = cell.change
    assert change is not None
    smallest = MIN_POINTS if cell.metric.is_accuracy else {"ops": 0.0}.get(cell.metric.unit, min_effect)
    ends = [100 * min(max(end, -1.0), _FARTHEST) for end in (change.value, change.low, change.high)]
    what = [short(cell.artifact.name), cell.metric.name, *([short(cell.device)] if several else [])]
    return {
        "row": row,
        "label": ", ".join(what),
        "figure": change_text(cell, interval=False),
        **dict(zip(("change", "low", "high"), ends, strict=True)),
        "from": -100 * smallest,
        "to": 100 * smallest,
        "verdict": cell.verdict,
        "gates": cell.gates,
        "told": change_text(cell),
    }


def _changes_chart(rows: Sequence[dict[str, Any]], least: float) -> Any:
    altair = require("altair", "report")
    low = min(-2 * least, *(row["low"] for row in rows)) * 1.1
    high = max(2 * least, *(row["high"] for row in rows)) * 1.1
    scale = altair.Scale(type="symlog", constant=max(least, 0.1), domain=[low, high], nice=False)
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    signed = "(datum.value > 0 ? '+' : '') + datum.value"
    axis = altair.Axis(values=ticks, labelExpr=signed, labelOverlap=True)
    present = {
        name: colour for name, colour in VERDICT_COLOURS.items() if any(r["verdict"] == name for r in rows)
    }
    colour = altair.Color(
        "verdict:N", title=None, scale=altair.Scale(domain=list(present), range=list(present.values()))
    )
    base = altair.Chart(altair.NamedData("cells")).encode(y=altair.Y("row:O", axis=None))
    x = altair.X("change:Q", title="change (%; of an accuracy points)", scale=scale, axis=axis)
    ends = {"x": altair.X("low:Q", scale=scale), "x2": "high:Q"}
    tips = [
        altair.Tooltip("label:N", title="cell"),
        altair.Tooltip("told:N", title="change"),
        altair.Tooltip("verdict:N"),
    ]
    gating, others = (
        base.properties(data=altair.NamedData(name)).encode(x=x, color=colour, tooltip=tips)
        for name in ("gating", "others")
    )
    return altair.layer(
        base.mark_rect(style="zone").encode(x=altair.X("from:Q", scale=scale), x2="to:Q"),
        altair.Chart(altair.NamedData("zero"))
        .mark_rule(style="quiet", strokeDash=[3, 3])
        .encode(x=altair.X("zero:Q", scale=scale)),
        base.mark_rule(strokeWidth=3, yOffset=9).encode(**ends, color=colour, tooltip=tips),
        gating.mark_point(size=70, filled=True, opacity=1, yOffset=9),
        others.mark_point(size=60, strokeWidth=2, opacity=1, yOffset=9),
        base.mark_text(style="label", align="left", dy=-8, limit={"expr": "width - 95"}).encode(
            x=altair.value(4), text="label:N"
        ),
        base.mark_text(style="label", align="right", dy=-8, dx=-4).encode(
            x=altair.value("width"), text="figure:N"
        ),
    ).properties(width="container", height=40 * len(rows))


def fronts(report: Report) -> list[Figure]:
    """For each device with several artifacts: latency against top-1 or mean IoU, where that is known, else against the size."""
    found = []
    for device in dict.fromkeys(result.device for result in report.results):
        points = list(_points(report, device))
        kinds: dict[str, list[dict[str, Any]]] = {}
        for point in points:
            for kind, share in point["accuracy"].items():
                kinds.setdefault(kind, []).append(point | {"y": 100 * share, "value": f"{share:.2%}"})
        best = max(kinds.items(), key=lambda item: len(item[1]), default=("", []))
        if len(best[1]) > 1:
            found.append(_front(device, f"{best[0]} (%)", best[1], upward=True))
        elif len(points) > 1:
            sized = [p | {"y": p["bytes"] / 1e6, "value": show_bytes(p["bytes"])} for p in points]
            found.append(_front(device, "file size (MB)", sized, upward=False))
    return found


def _points(report: Report, device: str) -> Iterator[dict[str, Any]]:
    """Every file that was measured validly on a device, once."""
    seen = set()
    for result in report.results:
        if result.device != device:
            continue
        for artifact, role in _files(result):
            key = (artifact.name, artifact.runtime, artifact.precision, artifact.sha256)
            ms = measured_ms(result, artifact, report.rule.alpha)
            if ms is not None and key not in seen:
                seen.add(key)
                accuracy = artifact.accuracy
                yield {
                    "name": short(artifact.name),
                    "role": role,
                    "runtime": artifact.runtime,
                    "ms": ms.value,
                    "low": ms.low,
                    "high": ms.high if math.isfinite(ms.high) else ms.value,
                    "bytes": artifact.bytes,
                    "latency": show_ms(ms.value),
                    "precision": artifact.precision,
                    "accuracy": {} if accuracy is None else {_judged_on(accuracy): accuracy.value},
                }


def _judged_on(accuracy: Accuracy) -> str:
    return f"{ACCURACIES[accuracy.metric]} on {short(accuracy.data)}"


def _files(result: Result) -> Iterator[tuple[Measured, str]]:
    """Artifacts with their part; of an A/A run only one side, as both are the same file."""
    bases = {artifact.baseline for artifact in result.artifacts}
    for place, artifact in enumerate(result.artifacts):
        if place not in bases:
            yield artifact, "candidate"
        elif not result.aa:
            yield artifact, "baseline"


def measured_ms(result: Result, artifact: Measured, alpha: float) -> Interval | None:
    """The median latency; None where the measurement does not hold."""
    values = list(by_round(artifact, METRICS["latency_p50"]).values())
    return estimate(values, alpha) if values and not invalid(result, artifact) else None


def _front(device: str, title: str, points: Sequence[dict[str, Any]], *, upward: bool) -> Figure:
    sign = -1 if upward else 1
    front: list[dict[str, Any]] = []
    for point in sorted(points, key=lambda p: (p["ms"], sign * p["y"])):
        if not front or sign * point["y"] < sign * front[-1]["y"]:
            front.append(point)
    names = {point["name"] for point in front}
    middle = (min(p["ms"] for p in points) + max(p["ms"] for p in points)) / 2
    labelled = _labelled([*front, *(p for p in points if p not in front)])
    keys = ("name", "role", "runtime", "precision", "ms", "low", "high", "y", "value", "latency")
    rows = [{key: p[key] for key in keys} | {"front": p in front, "label": p in labelled} for p in points]
    joined = ", joined by the line" if len(front) > 1 else ""
    caption = f"Filled{joined}: what no other file beats in both ({', '.join(sorted(names))})."
    chart = _front_chart(title)
    data = {
        "files": rows,
        "front": [{"ms": p["ms"], "y": p["y"]} for p in front],
        "best": [row for row in rows if row["front"]],
        "beaten": [row for row in rows if not row["front"]],
        "left": [row for row in rows if row["label"] and row["ms"] <= middle],
        "right": [row for row in rows if row["label"] and row["ms"] > middle],
    }
    return figure_of(f"Pareto front on {device}", caption, chart, data)


def _labelled(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those whose names have room, the first ones first; the pointer tells the others."""
    least = {key: min(p[key] for p in points) for key in ("ms", "y")}
    whole = {key: max(p[key] for p in points) - least[key] or 1.0 for key in least}
    taken: list[tuple[float, float]] = []
    found = []
    for point in points:
        x, y = ((point[key] - least[key]) / whole[key] for key in ("ms", "y"))
        start = x if x <= 0.5 else x - _ROOM[0]  # names point to the middle
        if all(abs(start - other) > _ROOM[0] or abs(y - height) > _ROOM[1] for other, height in taken):
            taken.append((start, y))
            found.append(point)
    return found


def _front_chart(title: str) -> Any:
    altair = require("altair", "report")
    loose = altair.Scale(zero=False, padding=24)
    few = altair.Axis(tickCount=8)
    x = altair.X("ms:Q", title="median latency (ms)", scale=loose, axis=few)
    y = altair.Y("y:Q", title=title, scale=loose, axis=few)
    colour = altair.Color(
        "role:N", title=None, scale=altair.Scale(domain=list(_ROLES), range=list(_ROLES.values()))
    )
    tips = [
        *(altair.Tooltip(f"{key}:N") for key in ("name", "role", "runtime", "precision", "latency")),
        altair.Tooltip("value:N", title=title.split(" (", maxsplit=1)[0]),
    ]
    base = altair.Chart(altair.NamedData("files")).encode(y=y)
    best, beaten = (
        base.properties(data=altair.NamedData(name)).encode(x=x, color=colour, tooltip=tips)
        for name in ("best", "beaten")
    )
    left, right = (
        base.properties(data=altair.NamedData(name)).encode(x=x, text="name:N") for name in ("left", "right")
    )
    limit = {"expr": "width / 2"}
    return altair.layer(
        altair.Chart(altair.NamedData("front"))
        .mark_line(interpolate="step-after", strokeWidth=1.5, color=_FRONT)
        .encode(x=x, y=y),
        base.mark_rule(strokeWidth=1.5, opacity=0.7).encode(x=altair.X("low:Q"), x2="high:Q", color=colour),
        best.mark_point(size=80, filled=True, opacity=1),
        beaten.mark_point(size=60, strokeWidth=2),
        left.mark_text(style="label", align="left", dx=2, dy=-11, limit=limit),
        right.mark_text(style="label", align="right", dx=-2, dy=-11, limit=limit),
    ).properties(width="container", height=320)


def predictions(report: Report) -> Figure | None:
    """What latency tables predicted against what was measured."""
    rows = [row for result in report.results for row in _predicted(result, report.rule.alpha)]
    if not rows:
        return None
    errors = [abs(math.log(row["predicted"] / row["ms"])) for row in rows]
    hits = sum(row["predicted_low"] <= row["ms"] <= row["predicted_high"] for row in rows)
    caption = (
        f"On the dashed line, both are equal. {math.expm1(min(float(np.mean(errors)), _ABSURD)):.1%} apart on average; "
        f"{hits} of {len(rows)} measured medians are within the predicted interval."
    )
    every = [row[key] for row in rows for key in ("ms", "predicted", "predicted_low", "predicted_high")]
    ends = (0.95 * min(every), 1.05 * max(every))
    chart = _predictions_chart(rows, ends)
    data = {"files": rows, "ends": [{"end": end} for end in ends]}
    return figure_of("Predicted and measured latency", caption, chart, data, square=True)


def _predicted(result: Result, alpha: float) -> Iterator[dict[str, Any]]:
    for artifact, _ in _files(result):
        ms = measured_ms(result, artifact, alpha)
        if artifact.predicted_ms is None or ms is None or ms.value <= 0:
            continue
        value, low, high = artifact.predicted_ms
        bounded = math.isfinite(ms.high)
        yield {
            "name": short(artifact.name),
            "device": short(result.device),
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


def _predictions_chart(rows: Sequence[dict[str, Any]], ends: tuple[float, float]) -> Any:
    altair = require("altair", "report")
    wide = ends[1] > 10 * ends[0]
    scale = altair.Scale(
        type="log" if wide else "linear", domain=list(ends), nice=False, zero=False, clamp=True
    )
    devices = list(dict.fromkeys(row["device"] for row in rows))
    colours = [_DEVICES[i % len(_DEVICES)] for i in range(len(devices))]
    colour = altair.Color("device:N", title=None, scale=altair.Scale(domain=devices, range=colours))
    few = altair.Axis(tickCount=8)
    x = altair.X("predicted:Q", title="predicted (ms)", scale=scale, axis=few)
    y = altair.Y("ms:Q", title="measured (ms)", scale=scale, axis=few)
    tips = [
        *(altair.Tooltip(f"{key}:N") for key in ("name", "device", "runtime", "measured")),
        altair.Tooltip("told:N", title="predicted"),
    ]
    base = altair.Chart(altair.NamedData("files")).encode(color=colour, tooltip=tips)
    line = altair.Chart(altair.NamedData("ends"))
    return altair.layer(
        line.mark_line(style="quiet", strokeDash=[5, 4], strokeWidth=1.5).encode(
            x=altair.X("end:Q", scale=scale), y=altair.Y("end:Q", scale=scale)
        ),
        base.mark_rule(strokeWidth=1.5).encode(
            x=altair.X("predicted_low:Q", scale=scale), x2="predicted_high:Q", y=y
        ),
        base.mark_rule(strokeWidth=1.5).encode(x=x, y=altair.Y("low:Q", scale=scale), y2="high:Q"),
        base.mark_point(size=60, filled=True, opacity=1).encode(x=x, y=y),
    ).properties(width="container", height=340)
