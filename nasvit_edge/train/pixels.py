"""What segmenters learn from: masks, and the largest subnet's logits, pixel by pixel.

Shapes: B batch, C classes, H W the images' size, h w a decoder's grid.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nasvit_edge.data_sets.scenes import IGNORE, SceneSet, frequencies
from nasvit_edge.model.blocks import linear_weights


def from_masks(
    logits: Tensor, masks: Tensor, label_smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of logits (B, C, h, w), resized to the masks (B, H, W): the mean over labelled pixels, 0 without any.

    Args:
        weights: (C,) what a pixel of each class counts.
    """
    whole = _resized(logits, (masks.shape[1], masks.shape[2]))
    total = F.cross_entropy(
        whole, masks, weights, ignore_index=IGNORE, label_smoothing=label_smoothing, reduction="sum"
    )
    labelled = masks != IGNORE
    if weights is None:
        return total / labelled.sum().clamp(min=1)
    return total / weights[masks[labelled]].sum().clamp(min=weights.min())


def class_weights(scenes: SceneSet, classes: int, balance: float) -> Tensor:
    """(median frequency / frequency) ** balance of each class, (C,); 1 for classes that do not occur.

    Median-frequency balancing (Eigen and Fergus, ICCV 2015, section 4.3; SegNet has it on CamVid) where `balance` is 1.
    """
    shares = frequencies(scenes, classes)
    occurs = shares > 0
    weights = np.ones(classes)
    weights[occurs] = (np.median(shares[occurs]) / shares[occurs]) ** balance
    return torch.from_numpy(weights).float()


def rows(logits: Tensor, grid: tuple[int, int]) -> Tensor:
    """A row of logits for each cell of a grid: (B, C, h, w) -> (B * h' * w', C)."""
    if tuple(logits.shape[-2:]) != grid:
        logits = _resized(logits, grid)
    return logits.permute(0, 2, 3, 1).flatten(0, 2)


def size_of(height: int, width: int, share: float) -> tuple[int, int]:
    """A crop's size for a subnet whose resolution is this share of the largest."""
    return (max(1, round(height * share)), max(1, round(width * share)))


def _resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """As `blocks.resized`, one axis after the other as matrix products, whose gradient a CPU has sooner."""
    rows, columns = linear_weights(logits.shape[2], size[0]), linear_weights(logits.shape[3], size[1])
    return rows.to(logits) @ (logits @ columns.to(logits).T)
