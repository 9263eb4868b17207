"""A subnet stage by stage: a tile a block, and what each stage takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nasvit_edge.genes import GENES
from nasvit_edge.searching.saved import Stage
from nasvit_edge.searching.stages import grid
from nasvit_edge.units import show_count, show_ms

_COLOURS = {
    "stem": "#718096",
    "mbconv": "#3182ce",
    "transformer": "#d69e2e",
    "head": "#718096",
    "classifier": "#a0aec0",
    "lateral": "#2f855a",
    "pixels": "#a0aec0",
    "labels": "#718096",
}
_TILE = 30  # pixels
_SHOWN = ("kernel_size", "expand_ratio")


def architecture(altair: Any, stages: Sequence[Stage]) -> Any:
    """The chart, from the `stages` of a result file."""
    order = [_label(stage) for stage in stages]
    height = _TILE * len(stages)
    blocks = _blocks(altair, stages, order).properties(width=430, height=height)
    shares = _shares(altair, stages, order).properties(width=300, height=height)
    return altair.hconcat(blocks, shares).resolve_scale(color="independent")


def _label(stage: Stage) -> str:
    """`mb4 16x16x72`."""
    return f"{stage.name} {grid(stage)}"


def _blocks(altair: Any, stages: Sequence[Stage], order: list[str]) -> Any:
    tiles = [
        {"stage": _label(stage), "at": at, "block": block, "detail": _detail(stage, block)}
        for stage in stages
        for at, block in enumerate(stage.blocks)
    ]
    present = {block: _COLOURS[block] for stage in stages for block in stage.blocks}
    scale = altair.Scale(domain=list(present), range=list(present.values()))
    places = {
        "x": altair.X("at:O", title="blocks", axis=altair.Axis(labels=False, ticks=False)),
        "y": altair.Y("stage:N", sort=order, title=None),
    }
    chart = altair.Chart(altair.Data(values=tiles))
    drawn = chart.mark_rect(stroke="white", strokeWidth=2, cornerRadius=3).encode(
        **places,
        color=altair.Color("block:N", title=None, scale=scale),
        tooltip=["stage:N", "block:N", "detail:N"],
    )
    return drawn + chart.mark_text(color="white", fontSize=10).encode(**places, text="detail:N")


def _detail(stage: Stage, block: str) -> str:
    """`k5 e4` for an inverted residual; nothing for what has no choices of its own."""
    shown = [f"{GENES[kind]}{stage.genes[kind]}" for kind in _SHOWN if kind in stage.genes]
    return " ".join(shown) if block == "mbconv" else ""


def _shares(altair: Any, stages: Sequence[Stage], order: list[str]) -> Any:
    bars = []
    for stage in stages:
        own = {"stage": _label(stage)}
        bars.append(
            own | {"of": "latency", "share": stage.latency_share, "amount": show_ms(stage.latency_ms)}
        )
        amount = show_count(stage.parameters)
        bars.append(own | {"of": "parameters", "share": stage.parameter_share, "amount": amount})
    return (
        altair.Chart(altair.Data(values=bars))
        .mark_bar()
        .encode(
            y=altair.Y("stage:N", sort=order, title=None, axis=None),
            yOffset=altair.YOffset("of:N", sort=["latency", "parameters"]),
            x=altair.X("share:Q", title="share of the subnet", axis=altair.Axis(format=".0%")),
            color=altair.Color("of:N", title=None, scale=altair.Scale(range=["#c53030", "#4a5568"])),
            tooltip=["stage:N", "of:N", "amount:N", altair.Tooltip("share:Q", format=".1%")],
        )
    )
