"""What is particular to artifacts of dense spaces: their two kinds of output, facts, colours, and labels of logits.

Legend: B images, C classes, H W of the input, H' W' of the logits' grid.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from nasvit_edge.errors import ExportError
from nasvit_edge.ops import lower
from nasvit_edge.space import SearchSpace, SubnetConfig

if TYPE_CHECKING:
    from torch import Tensor

LABELS, LOGITS = "labels", "logits"
OUTPUTS = (LABELS, LOGITS)
TIE = 1e-5  # of a pixel's largest logit: classes this near to it are as good as it
_Floats = np.ndarray[Any, np.dtype[np.float32]]
_Ints = np.ndarray[Any, np.dtype[np.int32]]
_PREVIEW = "com.apple.coreml.model.preview"  # Xcode draws the labels of a picture by it


def output_of(space: SearchSpace, asked: str | None) -> str:
    """What an artifact gives: `labels` (the default of dense spaces) or `logits`; empty for a classifier.

    Raises:
        ExportError: `asked` is neither, or the space is a classifier's.
    """
    if not space.is_dense:
        if asked is not None:
            raise ExportError(
                f"--output is for segmenters; space {space.name!r} classifies images: leave it out"
            )
        return ""
    if asked is not None and asked not in OUTPUTS:
        raise ExportError(f"--output is {asked!r}; it is {' or '.join(OUTPUTS)}")
    return asked or LABELS


def facts(space: SearchSpace, config: SubnetConfig, output: str) -> dict[str, object]:
    """What a program must know to use a segmenter, besides what it must know of any model."""
    height, width = space.input_size(config.resolution)
    last = lower(space, config)[-1]
    grid = last.out_shape() if output == LABELS else last.in_shape()[1:]
    return {
        "task": "segmentation",
        "output": output,
        "input_height": height,
        "input_width": width,
        "output_height": grid[0],
        "output_width": grid[1],
        "classes": space.classes,
        "palette": palette(space.classes),
    }


def palette(classes: int) -> list[list[int]]:
    """An RGB colour a class: those of PASCAL VOC's development kit, from its second one on (its first is black)."""
    return [
        [sum(((index >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(8)) for channel in range(3)]
        for index in range(1, classes + 1)
    ]


def xcode_preview(metadata: dict[str, str]) -> dict[str, str]:
    """The user-defined metadata by which Xcode shows a segmenter's labels in colour; none for anything else."""
    if metadata.get("output") != LABELS:
        return {}
    colors = ["#" + bytes(rgb).hex() for rgb in json.loads(metadata["palette"])]
    preview = {"labels": json.loads(metadata["labels"]), "colors": colors}
    return {f"{_PREVIEW}.type": "imageSegmenter", f"{_PREVIEW}.parameters": json.dumps(preview)}


def labels_of(logits: _Floats, size: tuple[int, int]) -> _Ints:
    """The largest class of each pixel (B, H, W) of logits (B, C, H', W') resized to `size`, as a segmenter does it."""
    labels = [one.argmax(0).numpy().astype(np.int32) for one in _resized(logits, size)]
    return np.stack(labels) if labels else np.empty((0, *size), np.int32)


def agreement(labels: np.ndarray[Any, Any], logits: _Floats, size: tuple[int, int]) -> float:
    """The share of pixels whose label is the reference's; 0 for another shape.

    The reference are logits (B, C, H', W') on the decoder's grid; where several classes are as large as the largest
    to within `TIE`, any of them is right.
    """
    import torch

    if labels.shape != (len(logits), *size) or labels.min() < 0 or labels.max() >= logits.shape[1]:
        return 0.0
    same = 0
    for label_map, one in zip(labels, _resized(logits, size), strict=True):
        chosen = one.gather(0, torch.from_numpy(label_map.astype(np.int64))[None])[0]
        same += int((chosen >= one.amax(0) - TIE * one.abs().amax(0)).sum())
    return same / labels.size


def _resized(logits: _Floats, size: tuple[int, int]) -> Iterator[Tensor]:
    """(C, H, W) of each image: all at once would be a gigabyte for large ones."""
    import torch

    from nasvit_edge.model.blocks import resized

    for one in logits:
        yield resized(torch.from_numpy(np.ascontiguousarray(one, np.float32))[None], size)[0]


def at_size(outputs: np.ndarray[Any, Any], size: tuple[int, int]) -> _Ints:
    """An artifact's output at the size of masks: labels by the nearest pixel, logits resized before the largest is taken."""
    if outputs.ndim == 4:
        return labels_of(outputs, size)
    height, width = outputs.shape[1:]
    rows, columns = _nearest(height, size[0]), _nearest(width, size[1])
    return outputs[:, rows][:, :, columns].astype(np.int32)


def _nearest(length: int, wanted: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The pixel nearest to the centre of each of `wanted` pixels."""
    return (2 * np.arange(wanted) + 1) * length // (2 * wanted)
