"""What segmenters learn from: masks, and the largest subnet's logits, pixel by pixel.

Shapes: B batch, C classes, H W the images' size, h w a decoder's grid.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from nasvit_edge.data_sets.scenes import IGNORE
from nasvit_edge.model.blocks import resized


def from_masks(logits: Tensor, masks: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits (B, C, h, w), resized to the masks (B, H, W): the mean over labelled pixels, 0 without any."""
    whole = resized(logits, (masks.shape[1], masks.shape[2]))
    total = F.cross_entropy(
        whole, masks, ignore_index=IGNORE, label_smoothing=label_smoothing, reduction="sum"
    )
    return total / (masks != IGNORE).sum().clamp(min=1)


def rows(logits: Tensor, grid: tuple[int, int]) -> Tensor:
    """A row of logits for each cell of a grid: (B, C, h, w) -> (B * h' * w', C)."""
    if tuple(logits.shape[-2:]) != grid:
        logits = resized(logits, grid)
    return logits.permute(0, 2, 3, 1).flatten(0, 2)


def size_of(height: int, width: int, share: float) -> tuple[int, int]:
    """A crop's size for a subnet whose resolution is this share of the largest."""
    return (max(1, round(height * share)), max(1, round(width * share)))
