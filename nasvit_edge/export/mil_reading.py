"""What a Core ML package holds: its layers, and what Core ML takes of it (at most five axes a tensor)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nasvit_edge.errors import VerifyError
from nasvit_edge.export import mil
from nasvit_edge.export.layers import Layer
from nasvit_edge.export.placement import Outside, Placement

CORE_ML_AXES = 5
_SECOND = {"conv": "weight", "linear": "weight", "matmul": "y"}  # operation -> its second factor


def layers(path: Path) -> list[Layer]:
    """Convolutions, linear layers and products, in the program's order."""
    return list(_layers(mil.Program(path)))


def placements(path: Path) -> list[Placement]:
    """All units of a Mac or an iPhone: no public list says which of them takes what."""
    program = mil.Program(path)
    outside = tuple(_too_many_axes(program))
    kinds = Counter(program.operations())
    note = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(6))
    return [
        Placement(
            "Core ML (CPU, GPU, Neural Engine)",
            sum(kinds.values()),
            outside,
            False,
            note,
            ("coreml", "coreml-ne"),
        )
    ]


def _too_many_axes(program: mil.Program) -> Iterator[Outside]:
    for op in program.block.operations:
        for out in op.outputs:
            axes = out.type.tensorType.rank
            if axes > CORE_ML_AXES:
                yield Outside(out.name, op.type, f"{axes} axes; Core ML has {CORE_ML_AXES}")


def _layers(program: mil.Program) -> Iterator[Layer]:
    """Core ML's programs here have 8-bit weights at most."""
    for op in program.block.operations:
        if op.type not in _SECOND:
            continue
        factor = program.producers.get(program.bound(op, _SECOND[op.type]))
        product = op.type == "matmul"
        depth = _depth_of_product(program, op) if product else math.prod(_sides(factor)[1:])
        yield Layer(
            name=op.outputs[0].name,
            macs=math.prod(_sides(op)) * depth,
            product=product,
            int8=False,
            weights_8bit=factor is not None and factor.type.startswith("constexpr_"),
        )


def _depth_of_product(program: mil.Program, op: Any) -> int:
    """The shared side of a matmul's factors, by the one that an operation made."""
    for name in ("x", "y"):
        maker = program.producers.get(program.bound(op, name))
        if maker is not None:
            turned = program.flag(op, f"transpose_{name}")
            return _sides(maker)[-2 if turned == (name == "x") else -1]
    raise VerifyError("a product of two inputs")


def _sides(op: Any) -> list[int]:
    """The shape of an operation's output."""
    return [int(d.constant.size) or 1 for d in op.outputs[0].type.tensorType.dimensions]
