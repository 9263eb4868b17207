"""What `explain` found, in tables and in words."""

from __future__ import annotations

from collections.abc import Callable

from nasvit_edge.report.model import Column, Table, figure, own, table
from nasvit_edge.searching.stages import Change, Explained, ExplainedStage, grid
from nasvit_edge.units import show_count, show_ms


def headline(explained: Explained) -> str:
    """One line above the stages."""
    fixed = f"{show_ms(explained.offset_ms)} of it whatever the ops"
    accuracy = f"{explained.quality} {explained.accuracy:.2%}"
    return f"predicted {show_ms(explained.latency_ms)} ({fixed}), {accuracy}{_by(explained)}"


def changes_headline(explained: Explained) -> str:
    """One line above the changes."""
    return f"one gene changed, the best trades first{_by(explained)}"


def _by(explained: Explained) -> str:
    return f", by {explained.setting.line()}" if explained.setting else ""


def stages(explained: Explained) -> Table:
    """A row a stage; what it brings is against its smallest choices."""
    return table(
        explained.stages,
        Column("stage", lambda stage: own(stage.name)),
        Column("blocks", lambda stage: own(blocks(stage))),
        Column("output", lambda stage: own(grid(stage))),
        Column("latency", lambda stage: figure(show_ms(stage.latency_ms))),
        Column("of all", lambda stage: figure(f"{stage.latency_share:.1%}")),
        Column("parameters", lambda stage: figure(show_count(stage.parameters))),
        Column("of all ", lambda stage: figure(f"{stage.parameter_share:.1%}")),
        Column("brings", lambda stage: figure(f"{100 * stage.accuracy:+.2f} points")),
    )


def blocks(stage: ExplainedStage) -> str:
    """`mbconv + 3 transformer`."""
    counts: dict[str, int] = {}
    for block in stage.blocks:
        counts[block] = counts.get(block, 0) + 1
    return " + ".join(kind if count == 1 else f"{count} {kind}" for kind, count in counts.items())


def changes(explained: Explained) -> Table:
    """A row a change: first those that take time, the most accuracy for a ms first."""
    return table(
        sorted(explained.changes, key=_order),
        Column("gene", lambda change: own(change.gene)),
        Column("change", lambda change: own(f"{change.old} -> {change.new}")),
        Column("latency", lambda change: figure(_signed(change.latency_ms, show_ms))),
        Column(explained.quality, lambda change: figure(f"{100 * change.accuracy:+.3f} points")),
        Column("points per ms", lambda change: figure(f"{_rate(change):.3f}")),
        Column("parameters", lambda change: figure(_signed(change.parameters, show_count))),
    )


def remarks(explained: Explained) -> list[str]:
    """The next step up and down, in words."""
    up = [c for c in explained.changes if c.latency_ms > 0 and c.accuracy > 0]
    down = [c for c in explained.changes if c.latency_ms < 0]
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
