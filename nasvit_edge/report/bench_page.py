"""A benchmark report as one page that needs no network: its tables, and charts of everything measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nasvit_edge.benchmark.report import BenchmarkReport
from nasvit_edge.report import bench, bench_charts, bench_samples, page
from nasvit_edge.report.model import Cell, Drawing, Figure, Form, Part, Section, name, text

if TYPE_CHECKING:
    from nasvit_edge.benchmark.history import Point

MOST_CHARTS = 12  # of a kind
_GATE = "latency_p50"  # the most urgent verdict on this metric decides which artifacts are drawn


def write_html(report: BenchmarkReport, path: Path, history: Sequence[Point]) -> None:
    """The page; `history` are the figures of earlier runs, of which those of this report's artifacts are drawn.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    charts = {
        "Samples": _samples(report),
        "Changes": _one(bench_charts.changes(report)),
        "History": _history(report, history),
        "Pareto front": _several(bench_charts.fronts(report), "devices"),
        "Predicted and measured": _one(bench_charts.predictions(report)),
    }
    sections = (Section(title, parts, Form.PAGE) for title, parts in charts.items())
    page.write_html(bench.document(report, *sections), path)


def _samples(report: BenchmarkReport) -> tuple[Part, ...]:
    """Strip and distribution of each artifact, the most urgent verdicts first where not all are drawn."""
    cells = [c for c in report.cells if c.metric.name == _GATE]
    chosen = sorted(cells, key=bench.rank)[:MOST_CHARTS]
    parts = []
    for cell in cells:
        if any(cell is other for other in chosen):
            figures = bench_samples.sample_figures(cell, report.results)
            against = f"against {name(cell.baseline.name).text} " if cell.baseline else ""
            about = text(f"{against}on {cell.device}, {cell.artifact.runtime}")
            parts.append(Drawing(tuple(figures), (name(cell.artifact.name), about, bench.verdict(cell))))
    why = "; those with the most urgent verdicts are drawn"
    return (*parts, *_left_out(len(cells) - len(chosen), "artifacts", why))


def _history(report: BenchmarkReport, history: Sequence[Point]) -> tuple[Part, ...]:
    if len(history) < 2:
        return ()
    from nasvit_edge.report.history_page import histories

    return _several(histories(report, history), "artifacts")


def _one(figure: Figure | None) -> tuple[Part, ...]:
    return () if figure is None else (Drawing((figure,)),)


def _several(figures: Sequence[Figure], what: str) -> tuple[Part, ...]:
    """Figures of one kind, each below its title."""
    drawings = (Drawing((figure,), (Cell(figure.title),)) for figure in figures[:MOST_CHARTS])
    return (*drawings, *_left_out(len(figures) - MOST_CHARTS, what))


def _left_out(count: int, what: str, why: str = "") -> tuple[Part, ...]:
    return (f"{count} more {what} are not drawn{why}.",) if count > 0 else ()
