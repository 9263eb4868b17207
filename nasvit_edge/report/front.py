"""A search as a page or a picture: the front, and the chosen architecture stage by stage.

Both come from one Vega-Lite chart (altair); the page holds everything it needs, so it opens without network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nasvit_edge import records
from nasvit_edge.errors import require
from nasvit_edge.report import page
from nasvit_edge.report.architecture import architecture
from nasvit_edge.searching.saved import ResultFile, SavedCandidate
from nasvit_edge.units import show_bytes, show_count, show_ms

_INSIDE, _BEYOND, _WINNER, _MEASURED = "within the limits", "a little more time", "the winner", "measured"
_COLOURS = {_INSIDE: "#2b6cb0", _BEYOND: "#a0aec0", _WINNER: "#c53030", _MEASURED: "#2f855a"}
_TIPS = ("subnet", "latency", "interval", "accuracy", "MACs", "parameters", "file")


def write_html(result: ResultFile, path: Path, title: str, remarks: list[str]) -> None:
    """A page that shows a subnet where the pointer rests.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    facts = [("subnet", result.best.config.line()), ("predicted", _told(result.best))]
    facts += [("notes" if i == 0 else "", remark) for i, remark in enumerate(remarks)]
    page.write_page(path, title, facts, _chart(_veiled(result)))


def write_png(result: ResultFile, path: Path, title: str) -> None:
    """The same as a picture.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    page.write_picture(path, title, _chart(result))


def _veiled(result: ResultFile) -> ResultFile:
    return records.parse(ResultFile, page.veiled(records.content(result)), "result")


def _chart(result: ResultFile) -> Any:
    altair = require("altair", "report")
    require("vl_convert", "report")
    parts = [_front(altair, result), architecture(altair, result.stages)]
    return altair.vconcat(*parts).resolve_scale(color="independent")


def _front(altair: Any, result: ResultFile) -> Any:
    points = [*_points(result.front, _INSIDE), *_points(result.beyond, _BEYOND)]
    best, measured = _points([result.best], _WINNER), _measured(result)
    present = {p["what"]: _COLOURS[p["what"]] for p in [*points, *best, *measured]}
    x = altair.X("latency_ms:Q", title=_axis(result), scale=altair.Scale(zero=False))
    quality = result.quality
    y = altair.Y("accuracy_percent:Q", title=f"{quality} (%)", scale=altair.Scale(zero=False))
    scale = altair.Scale(domain=list(present), range=list(present.values()))
    colour = altair.Color("what:N", title=None, scale=scale)
    places = {"x": x, "y": y, "color": colour}
    named = {"accuracy": quality}
    tips = [altair.Tooltip(f"{name}:N", title=named.get(name, name)) for name in _TIPS]

    def of(values: list[dict[str, Any]]) -> Any:
        return altair.Chart(altair.Data(values=values))

    layers = [
        of(points).mark_line(interpolate="step-after", opacity=0.4).encode(**places),
        of(points).mark_circle(size=30).encode(**places, tooltip=tips),
        of(best).mark_point(size=180, filled=True, shape="diamond").encode(**places, tooltip=tips),
        of(measured).mark_point(size=70, shape="cross").encode(**places, tooltip=tips),
    ]
    if result.best.low_ms is not None:
        layers.append(
            of(best).mark_rule(strokeWidth=2).encode(x="low_ms:Q", x2="high_ms:Q", y=y, color=colour)
        )
    if result.budget_ms is not None:
        budget = of([{"budget_ms": result.budget_ms}])
        layers.append(budget.mark_rule(strokeDash=[4, 4], color="#718096").encode(x="budget_ms:Q"))
    return altair.layer(*layers).properties(width=820, height=340).interactive()


def _axis(result: ResultFile) -> str:
    setting = result.setting
    threads = f"{setting.threads} thread{'s' if setting.threads > 1 else ''}"
    return f"predicted latency (ms): {setting.device}, {setting.runtime}, {threads}, {setting.precision}"


def _points(candidates: Sequence[SavedCandidate], what: str) -> list[dict[str, Any]]:
    return [
        {
            "what": what,
            "latency_ms": c.latency_ms,
            "low_ms": c.low_ms,
            "high_ms": c.high_ms,
            "accuracy_percent": 100 * c.accuracy,
            "subnet": c.config.line(),
            "latency": show_ms(c.latency_ms),
            "interval": c.interval() or "unknown",
            "accuracy": f"{c.accuracy:.2%}",
            "MACs": show_count(c.macs),
            "parameters": show_count(c.parameters),
            "file": f"about {show_bytes(c.bytes)}",
        }
        for c in candidates
    ]


def _measured(result: ResultFile) -> list[dict[str, Any]]:
    """Confirmed subnets at the median that was measured."""
    rows = result.confirmation.subnets if result.confirmation else ()
    found = _points(rows, _MEASURED)
    for point, row in zip(found, rows, strict=True):
        took = f"measured {show_ms(row.median_ms)}, p90 {show_ms(row.p90_ms)}"
        point |= {
            "latency_ms": row.median_ms,
            "latency": f"{took}; predicted {show_ms(row.latency_ms)}",
        }
    return found


def _told(c: SavedCandidate) -> str:
    sizes = f"{show_count(c.macs)} MACs, {show_count(c.parameters)} parameters"
    return f"{show_ms(c.latency_ms)} (90 % interval {c.interval() or 'unknown'}), {c.accuracy:.2%}, {sizes}"
