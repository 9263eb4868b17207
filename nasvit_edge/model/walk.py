"""Ops run in order, each on what it says it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from nasvit_edge.ops import IMAGE, Labels, Op, last_reads


def run(
    ops: Sequence[Op],
    apply: Callable[[Op, Tensor], Tensor],
    x: Tensor,
    outputs: dict[str, Tensor] | None = None,
) -> Tensor:
    """What the last of `ops` gives for images (B, 3, H, W), `Labels` left out: logits, (B, classes) or (B, classes, H', W').

    `apply(op, input)` computes one op; `outputs` is given what each stage gives, by name.
    """
    ops = [op for op in ops if not isinstance(op, Labels)]
    values = {IMAGE: x}  # what is still to be read
    for op, done in zip(ops, last_reads(ops), strict=True):
        source, *added = op.inputs
        x = apply(op, values[source])
        for name in added:
            x = values[name] + x
        values[op.name] = x
        for name in done:
            del values[name]
        if outputs is not None:
            outputs[op.stage] = x
    return x
