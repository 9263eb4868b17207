"""A search as a page or a picture: the front, and the chosen architecture stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nasvit_edge.report import page
from nasvit_edge.report.architecture import blocks, shares
from nasvit_edge.report.drawing import figure_of
from nasvit_edge.report.drawing import write_png as write_figures
from nasvit_edge.report.model import Datum, Document, Drawing, Figure, Section
from nasvit_edge.searching.saved import ResultFile, SavedCandidate
from nasvit_edge.units import show_bytes, show_count, show_ms

_INSIDE, _BEYOND, _WINNER, _MEASURED = "within the limits", "a little more time", "the winner", "measured"
_COLOURS = {_INSIDE: "#2b6cb0", _BEYOND: "#a0aec0", _WINNER: "#c53030", _MEASURED: "#2f855a"}


def write_html(result: ResultFile, path: Path, title: str, remarks: Sequence[str]) -> None:
    """A page that shows a subnet where the pointer rests.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    facts = [("subnet", result.best.config.line()), ("predicted", _told(result.best))]
    slower = result.slower()
    if slower is not None:
        facts.append(("at today's speed", show_ms(slower * result.best.latency_ms)))
    facts += [("notes" if i == 0 else "", remark) for i, remark in enumerate(remarks)]
    front, *architecture = _figures(result)
    sections = (
        Section("Front", (Drawing((front,)),)),
        Section("Architecture", (Drawing(tuple(architecture)),)),
    )
    page.write_html(Document(title=title, facts=tuple(facts), sections=sections), path)


def write_png(result: ResultFile, path: Path, title: str) -> None:
    """The same as a picture.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    write_figures(_figures(result), path, title)


def _figures(result: ResultFile) -> list[Figure]:
    return [_front(result), blocks(result.stages), shares(result.stages)]


def _front(result: ResultFile) -> Figure:
    points = [*_points(result.front, _INSIDE), *_points(result.beyond, _BEYOND)]
    best, measured = _points([result.best], _WINNER), _measured(result)
    kinds = list(dict.fromkeys(str(point["what"]) for point in [*points, *best, *measured]))
    rows: dict[str, list[Datum]] = {
        "points": points,
        "best": best,
        "measured": measured,
        "interval": [point for point in best if point["low_ms"] is not None],
        "budget": [] if result.budget_ms is None else [{"budget_ms": result.budget_ms}],
    }
    return figure_of(
        "front",
        "Front",
        "Dashed: the limit. Bar: the 90 % interval of the winner's predicted latency.",
        rows,
        {
            "x_title": _axis(result),
            "y_title": f"{result.quality} (%)",
            "quality": result.quality,
            "kinds": kinds,
            "colours": [_COLOURS[kind] for kind in kinds],
        },
    )


def _axis(result: ResultFile) -> str:
    return f"predicted latency (ms): {result.setting.first().line()}"


def _points(candidates: Sequence[SavedCandidate], what: str) -> list[Datum]:
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


def _measured(result: ResultFile) -> list[Datum]:
    """Confirmed subnets at the median that was measured."""
    rows = result.confirmation.subnets if result.confirmation else ()
    points = _points(rows, _MEASURED)
    for point, row in zip(points, rows, strict=True):
        took = f"measured {show_ms(row.median_ms)}, p90 {show_ms(row.p90_ms)}"
        point["latency_ms"] = row.median_ms
        point["latency"] = f"{took}; predicted {show_ms(row.latency_ms)}"
    return points


def _told(c: SavedCandidate) -> str:
    sizes = f"{show_count(c.macs)} MACs, {show_count(c.parameters)} parameters"
    return f"{show_ms(c.latency_ms)} (90 % interval {c.interval() or 'unknown'}), {c.accuracy:.2%}, {sizes}"
