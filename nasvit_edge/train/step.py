"""One training step: the sandwich rule with in-place distillation (spec section 4, BigNAS)."""

from __future__ import annotations

import random

import torch
from torch import Tensor
from torch.nn import functional as F

from nasvit_edge.model.supernet import Supernet
from nasvit_edge.space import SubnetConfig


def sandwich(supernet: Supernet, rng: random.Random, random_subnets: int) -> list[SubnetConfig]:
    """The largest subnet first, then the smallest, then `random_subnets` with every gene uniform."""
    space = supernet.space
    return [space.largest(), space.smallest()] + [space.sample(rng) for _ in range(random_subnets)]


def accumulate(
    supernet: Supernet,
    images: Tensor,
    labels: Tensor,
    configs: list[SubnetConfig],
    label_smoothing: float,
) -> tuple[float, float]:
    """Add the gradients of all `configs` to `.grad`.

    The first config learns from the labels (cross-entropy), the others from its logits, detached
    (in-place distillation, Kullback-Leibler). Images (B, 3, H, W), labels (B,).

    Returns:
        The loss of the first config and the mean loss of the others.
    """
    teacher = supernet(images, configs[0])
    loss = F.cross_entropy(teacher, labels, label_smoothing=label_smoothing)
    loss.backward()  # type: ignore[no-untyped-call]
    soft = teacher.detach().softmax(-1)
    distilled = 0.0
    for config in configs[1:]:
        student = distillation(supernet(images, config), soft)
        student.backward()  # type: ignore[no-untyped-call]
        distilled += student.item() / max(1, len(configs) - 1)
    return loss.item(), distilled


def distillation(logits: Tensor, soft: Tensor) -> Tensor:
    """KL(soft || softmax(logits)), the mean over the batch; logits and soft (B, classes)."""
    return F.kl_div(torch.log_softmax(logits, -1), soft, reduction="batchmean")
