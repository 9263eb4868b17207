"""What subnets and the largest subnet learn from.

p teacher, q student, both (B, classes) of one temperature. Only log q carries gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from nasvit_edge.train.recipe import Loss


def from_targets(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy, the mean over the batch; targets are classes (B,) or probabilities (B, classes)."""
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)


def kl(logits: Tensor, teacher: Tensor) -> Tensor:
    """KL(p || q), the mean over the batch; logits of both (B, classes)."""
    soft = teacher.detach().softmax(-1)
    return F.kl_div(logits.log_softmax(-1), soft, reduction="batchmean")


def alpha_divergence(logits: Tensor, teacher: Tensor, clip: float = 5.0) -> Tensor:
    """The adaptive alpha-divergence of AlphaNet, alpha in {-1, +1}; logits of both (B, classes).

    D = (sum q (p/q)^alpha - 1) / (alpha (alpha - 1)), and KL(p || q) for alpha -> 1. For alpha = -1 the
    importance weights q/p are clipped at `clip`. Per sample the larger of the two counts; its gradient is
    -(1/alpha) sum q w grad log q with q and w held fixed (spec section 4).

    Returns:
        The mean over the batch; its value is the divergence's, its gradient the one above.
    """
    log_q = logits.log_softmax(-1)
    log_p = teacher.detach().log_softmax(-1)
    fixed = log_q.detach()
    weighted = fixed.exp() * (fixed - log_p).clamp(max=math.log(clip)).exp()  # q w for alpha = -1
    p = log_p.exp()
    reverse = (weighted.sum(-1) - 1) / 2
    forward = (p * (log_p - fixed)).sum(-1)
    by_reverse = reverse > forward  # (B,)
    slope = torch.where(by_reverse[:, None], weighted, -p)
    surrogate = (slope * log_q).sum(-1)
    value = torch.where(by_reverse, reverse, forward)
    return (value + surrogate - surrogate.detach()).mean()


def from_largest(logits: Tensor, largest: Tensor, targets: Tensor, loss: Loss) -> Tensor:
    """A subnet's loss by the recipe: from the largest's logits (detached here), or from the targets."""
    if loss.distillation == "alpha":
        return alpha_divergence(logits, largest, loss.importance_clip)
    if loss.distillation == "kl":
        return kl(logits, largest)
    return from_targets(logits, targets, loss.label_smoothing)
