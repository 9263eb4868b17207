"""Why a subnet loses too much in 8 bits, and what to try."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nasvit_edge.data_sets.names import some
from nasvit_edge.export.formats import Format, format_names, load_format

if TYPE_CHECKING:
    from nasvit_edge.model.subnet import Subnet

RANGE_IMAGES, RANGE_SCENES = 256, 32  # for the ranges of int8 activations
_WEAK = 0.5  # of top-1, or mean IoU


def advice(
    subnet: Subnet,
    form: Format,
    images: int,
    metadata: Mapping[str, str],
    kept_ops: Sequence[str],
    tuning: str = "",
) -> str:
    """What belongs behind the error of an int8 file that fails.

    Args:
        images: that gave the ranges.
        metadata: of the file.
        kept: the ops that were left in floating point, and that was not enough.
        tuning: the command that trains the subnet for 8 bits.
    """
    most = RANGE_SCENES if subnet.space.is_dense else RANGE_IMAGES
    reasons = []
    if kept_ops:
        reasons.append(
            f"8 bits lost too much even with the {len(kept_ops)} most sensitive of {len(subnet.ops)} ops in floating point ({some(kept_ops, 8)})"
        )
    reasons += _weak(subnet, metadata)
    if images < most:
        reasons.append(f"{images} images gave the ranges, up to {most} can")
    others = [name for name in format_names() if name != form.name and "int8" in load_format(name).thresholds]
    more = "--calibrate with more images, " if images < most else ""
    tries = f"try {more}--precision w8, or --format {' or '.join(others)}"
    tries += ", or to fine-tune it in 8 bits first" if subnet.space.network is None else ""
    tries += f": {tuning}" if tuning else ""
    return f"{'; why: ' if reasons else ''}{'; '.join(reasons)}; {tries}"


def _weak(subnet: Subnet, metadata: Mapping[str, str]) -> list[str]:
    """Whether the weights say little: their logits are so near to each other that rounding decides."""
    if subnet.source.get("kind") == "random":
        return ["the weights are random, and 8 bits drown what they say"]
    try:
        known = json.loads(metadata["accuracy"])
    except (KeyError, ValueError):  # not measured
        return []
    for key, name in (("top1", "top-1"), ("mean_iou", "mean IoU")):
        if key in known and known[key] < _WEAK:
            return [
                f"the net is weak ({name} {known[key]:.1%} before rounding), and 8 bits drown what it says: train it longer"
            ]
    return []
