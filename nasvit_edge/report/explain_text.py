"""What `explain` found, as the rows of tables and in words."""

from __future__ import annotations

from collections.abc import Callable

from nasvit_edge.searching.stages import Change, Explained, ExplainedStage, grid
from nasvit_edge.units import show_count, show_ms

STAGE_COLUMNS = ["stage", "blocks", "output", "latency", "of all", "parameters", "of all ", "brings"]
CHANGE_COLUMNS = ["gene", "change", "latency", "accuracy", "points per ms", "parameters"]


def headline(found: Explained) -> str:
    """One line above the stages."""
    fixed = f"{show_ms(found.offset_ms)} of it whatever the ops"
    return f"predicted {show_ms(found.latency_ms)} ({fixed}), {found.quality} {found.accuracy:.2%}"


def stage_rows(found: Explained) -> list[list[str]]:
    """A row a stage; what it brings is against its smallest choices."""
    return [
        [
            stage.name,
            blocks(stage),
            grid(stage),
            show_ms(stage.latency_ms),
            f"{stage.latency_share:.1%}",
            show_count(stage.parameters),
            f"{stage.parameter_share:.1%}",
            f"{100 * stage.accuracy:+.2f} points",
        ]
        for stage in found.stages
    ]


def blocks(stage: ExplainedStage) -> str:
    """`mbconv + 3 transformer`."""
    counted: dict[str, int] = {}
    for block in stage.blocks:
        counted[block] = counted.get(block, 0) + 1
    return " + ".join(kind if count == 1 else f"{count} {kind}" for kind, count in counted.items())


def change_columns(found: Explained) -> list[str]:
    """The names above `change_rows`."""
    return [found.quality if name == "accuracy" else name for name in CHANGE_COLUMNS]


def change_rows(found: Explained) -> list[list[str]]:
    """A row a change: first those that take time, the most accuracy for a ms first."""
    return [
        [
            change.gene,
            f"{change.old} -> {change.new}",
            _signed(change.latency_ms, show_ms),
            f"{100 * change.accuracy:+.3f} points",
            f"{_rate(change):.3f}",
            _signed(change.parameters, show_count),
        ]
        for change in sorted(found.changes, key=_order)
    ]


def remarks(found: Explained) -> list[str]:
    """The next step up and down, in words."""
    up = [c for c in found.changes if c.latency_ms > 0 and c.accuracy > 0]
    down = [c for c in found.changes if c.latency_ms < 0]
    lines = []
    if up:
        lines.append(f"with more time first: {_said(max(up, key=_rate))}")
    if down:
        lines.append(f"to save time first: {_said(min(down, key=_rate))}")
    free = [c for c in down if c.accuracy > 0]
    return [*lines, *(f"faster and better by the predictions, search again: {_said(c)}" for c in free)]


def _order(change: Change) -> tuple[bool, float]:
    grows = change.latency_ms > 0
    return not grows, -_rate(change) if grows else _rate(change)


def _rate(change: Change) -> float:
    """Points of accuracy for a ms."""
    return float(100 * change.accuracy / change.latency_ms) if change.latency_ms else 0.0


def _said(change: Change) -> str:
    moved = f"{change.gene} {change.old} -> {change.new}"
    return f"{moved} ({_signed(change.latency_ms, show_ms)}, {100 * change.accuracy:+.3f} points)"


def _signed(value: float, show: Callable[[float], str]) -> str:
    """`+0.123 ms`."""
    return f"{'-' if value < 0 else '+'}{show(abs(value))}"
