"""The optimizer, its learning rate, and the averaged weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nasvit_edge.train.recipe import Optimizer, Run


def optimizer_for(module: nn.Module, rule: Optimizer) -> torch.optim.Optimizer:
    """AdamW (betas `momentum` and 0.999) or SGD with Nesterov momentum; vectors do not decay."""
    own = [p for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in own if p.dim() > 1], "weight_decay": rule.weight_decay},
        {"params": [p for p in own if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if rule.kind == "adamw":
        return torch.optim.AdamW(groups, lr=rule.learning_rate, betas=(rule.momentum, 0.999), fused=True)
    return torch.optim.SGD(groups, lr=rule.learning_rate, momentum=rule.momentum, nesterov=rule.momentum > 0)


def learning_rate(step: int, per_epoch: int, images: int, rule: Optimizer, run: Run) -> float:
    """The rate of a step: linear from the first rate over the warm-up epochs, then a cosine to the last.

    Args:
        step: from 0. per_epoch: steps an epoch. images: of one step, over all processes.
    """
    factor = images / rule.reference_batch if rule.reference_batch else 1.0
    first, top, last = rule.first_rate * factor, rule.learning_rate * factor, rule.last_rate * factor
    steps, warm = run.epochs * per_epoch, min(run.warmup_epochs, run.epochs) * per_epoch
    if step < warm:
        return first + (top - first) * step / warm
    done = (step - warm) / max(1.0, steps - warm)
    return last + (top - last) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class Average:
    """The exponential moving average of weights; decay 0 keeps none, and `weights` are the weights themselves."""

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self.decay, self._parameters = decay, list(parameters)
        self._own = [p.detach().clone() for p in parameters] if decay else []

    def update(self) -> None:
        """After each step: average = decay * average + (1 - decay) * weights."""
        if self._own:
            torch._foreach_lerp_(self._own, [p.detach() for p in self._parameters], 1 - self.decay)

    @property
    def weights(self) -> list[Tensor]:
        """In the order of the parameters."""
        return self._own if self._own else [p.detach() for p in self._parameters]

    def state(self) -> list[Tensor]:
        """What a checkpoint keeps; empty without an average."""
        return self._own

    def load(self, state: Sequence[Tensor]) -> None:
        """Put a checkpoint's average back."""
        for own, value in zip(self._own, state, strict=True):
            own.copy_(value)
