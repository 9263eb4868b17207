"""The optimizer, its learning rate, and the averaged weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nasvit_edge.errors import require
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.train.recipe import Optimizer, Run

_CLASSIFIERS = ("classifier.", "pixel_classifier.")
_WITHOUT_DECAY = ("bias", "scale_attention", "scale_mlp")


def optimizer_for(module: nn.Module, rule: Optimizer) -> torch.optim.Optimizer:
    """AdamW or Adam (betas `momentum` and 0.999), SGD with Nesterov momentum, or RMSProp as TensorFlow's (decay 0.9, epsilon 1e-3).

    Tensors of one dimension, biases and layer scaling do not decay (spec section 4). Of the classifier's groups `factor` is
    the rule's `head_factor`, by which their rate is multiplied.
    """
    groups: list[dict[str, object]] = []
    for factor, parameters in _by_factor(module, rule.head_factor):
        decaying = [
            p for name, p in parameters if p.dim() > 1 and name.rpartition(".")[2] not in _WITHOUT_DECAY
        ]
        others = [p for _, p in parameters if all(p is not other for other in decaying)]
        for params, decay in ((decaying, rule.weight_decay), (others, 0.0)):
            groups += [{"params": params, "weight_decay": decay, "factor": factor}] if params else []
    if rule.kind in ("adamw", "adam"):
        kind = torch.optim.AdamW if rule.kind == "adamw" else torch.optim.Adam
        return kind(groups, lr=rule.learning_rate, betas=(rule.momentum, 0.999), fused=True)
    if rule.kind == "rmsprop":
        return require("timm.optim", "train").RMSpropTF(
            groups, lr=rule.learning_rate, alpha=0.9, eps=1e-3, momentum=rule.momentum
        )
    return torch.optim.SGD(groups, lr=rule.learning_rate, momentum=rule.momentum, nesterov=rule.momentum > 0)


def _by_factor(module: nn.Module, head: float) -> list[tuple[float, list[tuple[str, nn.Parameter]]]]:
    """Parameters that train, by what their rate is multiplied with; all together where that is one number."""
    parameters = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    if head == 1.0:
        return [(1.0, parameters)]
    classifier = [pair for pair in parameters if pair[0].startswith(_CLASSIFIERS)]
    return [(1.0, [pair for pair in parameters if not pair[0].startswith(_CLASSIFIERS)]), (head, classifier)]


def freeze(supernet: Supernet, parts: int) -> None:
    """Let the first `parts` parts of a supernet, the stem and stages, stay as they are."""
    names = ("first_conv.", *(f"{stage.name}." for stage in supernet.space.stages))[:parts]
    for name, parameter in supernet.named_parameters():
        if name.startswith(names):
            parameter.requires_grad_(False)


def learning_rate(step: int, per_epoch: int, images: int, rule: Optimizer, run: Run) -> float:
    """The rate of a step: linear from the first rate over the warm-up epochs, then a cosine to the last.

    Of the exponential schedule the steps are counted from the run's begin, and the rate never falls below the last.

    Args:
        step: from 0. per_epoch: steps an epoch. images: of one step, over all processes.
    """
    factor = max(rule.least_factor, images / rule.reference_batch) if rule.reference_batch else 1.0
    first, top, last = rule.first_rate * factor, rule.learning_rate * factor, rule.last_rate * factor
    steps, warm = run.epochs * per_epoch, min(run.warmup_epochs, run.epochs) * per_epoch
    if step < warm:
        return first + (top - first) * step / warm
    if rule.schedule == "exponential":
        return max(last, top * rule.decay_rate ** math.floor(step / per_epoch / rule.decay_epochs))
    done = (step - warm) / max(1.0, steps - warm)
    return last + (top - last) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class Average:
    """The exponential moving average of weights; decay 0 keeps none, and `weights` are the weights themselves.

    Args:
        ramp: the decay of step n, from 1, is at most (1 + n) / (10 + n).
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float, *, ramp: bool = False) -> None:
        self.decay, self.ramp, self._parameters = decay, ramp, list(parameters)
        self._own = [p.detach().clone() for p in parameters] if decay else []

    def update(self, step: int) -> None:
        """After step `step`, from 1: average = decay * average + (1 - decay) * weights."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.ramp else self.decay
        if self._own:
            torch._foreach_lerp_(self._own, [p.detach() for p in self._parameters], 1 - decay)

    @property
    def weights(self) -> list[Tensor]:
        """In the order of the parameters."""
        return self._own if self._own else [p.detach() for p in self._parameters]

    def state(self) -> list[Tensor]:
        """What a checkpoint keeps; empty without an average."""
        return self._own

    def load(self, state: Sequence[Tensor]) -> None:
        """Put a checkpoint's average back; of a run that kept none, the weights as they are now are where it begins."""
        state = state or [p.detach() for p in self._parameters]
        for target, value in zip(self._own, state, strict=True) if self._own else ():
            target.copy_(value)
