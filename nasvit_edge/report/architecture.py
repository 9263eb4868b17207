"""A subnet stage by stage: a tile a block, and what each stage takes."""

from __future__ import annotations

from collections.abc import Sequence

from nasvit_edge.genes import GENES
from nasvit_edge.report.drawing import figure_of
from nasvit_edge.report.model import Datum, Figure
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


def blocks(stages: Sequence[Stage]) -> Figure:
    """A tile a block, from the `stages` of a result file."""
    tiles: list[Datum] = [
        {"stage": _label(stage), "at": at, "block": block, "detail": _detail(stage, block)}
        for stage in stages
        for at, block in enumerate(stage.blocks)
    ]
    kinds = list(dict.fromkeys(block for stage in stages for block in stage.blocks))
    return figure_of(
        "blocks",
        "Blocks",
        "A tile a block: k is its kernel, e by how much it expands.",
        {"blocks": tiles},
        {
            "height": _TILE * len(stages),
            "stages": [_label(stage) for stage in stages],
            "kinds": kinds,
            "colours": [_COLOURS[kind] for kind in kinds],
        },
    )


def shares(stages: Sequence[Stage]) -> Figure:
    """What each stage takes of the latency and of the parameters."""
    bars: list[Datum] = []
    for stage in stages:
        amounts = {
            "latency": (stage.latency_share, show_ms(stage.latency_ms)),
            "parameters": (stage.parameter_share, show_count(stage.parameters)),
        }
        for of, (share, amount) in amounts.items():
            bars.append({"stage": _label(stage), "of": of, "share": share, "amount": amount})
    names = [_label(stage) for stage in stages]
    return figure_of(
        "shares",
        "Shares",
        "What each stage takes of the whole.",
        {"shares": bars},
        {"height": _TILE * len(names), "stages": names},
    )


def _label(stage: Stage) -> str:
    """`mb4 16x16x72`."""
    return f"{stage.name} {grid(stage)}"


def _detail(stage: Stage, block: str) -> str:
    """`k5 e4` for an inverted residual; nothing for what has no choices of its own."""
    words = [f"{GENES[kind]}{stage.genes[kind]}" for kind in _SHOWN if kind in stage.genes]
    return " ".join(words) if block == "mbconv" else ""
