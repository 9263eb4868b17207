"""Stopping a run that has diverged, and saying where it did."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from nasvit_edge.errors import TrainingError
from nasvit_edge.space import SearchSpace
from nasvit_edge.train.merge import Gradient, Merged
from nasvit_edge.train.recipe import Recipe
from nasvit_edge.train.step import Passed

_SMOOTHING = 0.98  # of the loss that is watched
_WORSE = 1.5  # times the loss of guessing


class DivergedError(TrainingError):
    """A run whose loss or gradients are of no use any more."""


class KeptStates(Protocol):
    """What is kept of a run."""

    def paths(self) -> list[Path]:
        """The newest first."""


class WatchedRun(Protocol):
    """What a watch knows of a run."""

    space: SearchSpace
    recipe: Recipe
    step: int
    per_epoch: int

    @property
    def supernet(self) -> nn.Module:
        """What is trained."""

    @property
    def checkpoints(self) -> KeptStates:
        """Of this run."""

    def rate(self) -> float:
        """The learning rate of the step."""


class Watch:
    """Called with every step's losses and gradients before they are used; raises DivergedError with a diagnosis.

    A loss or gradient that is not finite stops the run at once. So does a smoothed loss of the largest subnet
    above 1.5 times that of guessing (the logarithm of the number of classes), once the warm-up is over.
    """

    def __init__(self, trainer: WatchedRun) -> None:
        self.trainer = trainer
        self.guessing = math.log(max(2, trainer.space.classes))
        self.smoothed = self.guessing

    def __call__(self, losses: list[float], merged: Merged, passed: Passed) -> None:
        total = float(merged.products.largest.sum() + merged.products.subnets.sum())
        if not all(map(math.isfinite, (*losses, total))):
            raise DivergedError(self._broken(losses, passed))
        self.smoothed = _SMOOTHING * self.smoothed + (1 - _SMOOTHING) * losses[0]
        warm = self.trainer.recipe.run.warmup_epochs * self.trainer.per_epoch
        if self.trainer.step > warm and self.smoothed > _WORSE * self.guessing:
            raise DivergedError(
                f"{self._where()}: the loss is {self.smoothed:.3g} (smoothed), guessing gives {self.guessing:.3g}: training diverged; {self._advice()}"
            )

    def _broken(self, losses: list[float], passed: Passed) -> str:
        named = [name for name, p in self.trainer.supernet.named_parameters() if p.requires_grad]
        broken = {
            who: _not_finite(named, gradient)
            for who, gradient in (("largest", passed.largest), ("subnets", passed.subnets))
        }
        parts = [
            f"{len(v)} of {len(named)} tensors of the {k}'s gradient, first {v[0]!r}"
            for k, v in broken.items()
            if v
        ]
        where = f" (not finite: {'; '.join(parts)})" if parts else ""
        return f"{self._where()}: loss {losses[0]:.4g}, subnets' {losses[1]:.4g}{where}: training diverged; {self._advice()}"

    def _where(self) -> str:
        step, per_epoch = self.trainer.step, self.trainer.per_epoch
        return f"step {step} (epoch {step // per_epoch})"

    def _advice(self) -> str:
        paths = self.trainer.checkpoints.paths()
        last = f"; the newest checkpoint is {paths[0].name}" if paths else ""
        return f"lower optimizer.learning_rate (now {self.trainer.rate():.3g}) or clip with --set merge.clip=1{last}"


def _not_finite(names: list[str], gradient: Gradient) -> list[str]:
    pairs = zip(names, gradient, strict=True)
    return [name for name, g in pairs if g is not None and not bool(torch.isfinite(g).all())]
