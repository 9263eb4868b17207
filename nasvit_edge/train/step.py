"""The gradients of one training step (spec section 4): the largest subnet, the smallest, random ones.

On a CPU with two threads or more the passes run side by side, each on one thread: the operators of small
networks are too short to share. What is added up is added in a fixed order, so results repeat bit for bit.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from nasvit_edge import ops
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.space import SearchSpace, SubnetConfig
from nasvit_edge.train import pixels
from nasvit_edge.train.divergence import from_largest, from_targets
from nasvit_edge.train.merge import Gradient, added
from nasvit_edge.train.recipe import Recipe, Subnets


@dataclass(frozen=True, slots=True)
class Passed:
    """What the passes of a step leave: g_T, g_S (the sum over the others), and their losses."""

    largest: Gradient
    subnets: Gradient
    loss: Tensor
    distilled: Tensor


def sandwich(
    space: SearchSpace, rule: Subnets, rng: random.Random, *, single: bool = False
) -> list[SubnetConfig]:
    """The largest subnet first, then the smallest, then random ones with every gene uniform and independent."""
    if single:
        return [space.largest()]
    smallest = [space.smallest()] if rule.smallest else []
    return [space.largest(), *smallest, *(space.sample(rng) for _ in range(rule.random))]


class Passes:
    """Runs the passes of steps; `close` ends its threads.

    Args:
        threads: of this process; passes run side by side where it is at least 2 and the device is the CPU.
        bf16: run the passes under bfloat16 autocast; weights and gradients stay as they are.
        class_weights: (C,) what a pixel of each class counts; None: all the same.
    """

    def __init__(
        self,
        supernet: Supernet,
        recipe: Recipe,
        *,
        threads: int = 1,
        bf16: bool = False,
        class_weights: Tensor | None = None,
    ) -> None:
        self.supernet, self.recipe, self.class_weights = supernet, recipe, class_weights
        self.parameters = [p for p in supernet.parameters() if p.requires_grad]
        self.device = self.parameters[0].device
        self.bf16, self.threads = bf16, threads
        self._pool: ThreadPoolExecutor | None = None
        if self.device.type == "cpu" and threads > 1 and not recipe.single:
            self._pool = ThreadPoolExecutor(threads)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def __call__(
        self, images: Tensor, targets: Tensor, configs: Sequence[SubnetConfig], teacher: Tensor | None = None
    ) -> Passed:
        """Gradients of every config; images (B, 3, H, W), targets (B,) or (B, classes), of scenes masks (B, H, W).

        `teacher` (B, classes): probabilities that the largest learns from instead of the targets.
        """
        if self._pool is not None:
            torch.set_num_threads(self.threads)  # alone so far; the passes beside each other have one each
        logits = self._logits(images, configs[0], self.recipe.subnets)
        loss = self._loss(logits, targets, teacher)
        subnet = functools.partial(self._subnet, images, targets, logits.detach())
        works = [functools.partial(self._gradient, loss)]
        works += [functools.partial(subnet, config) for config in configs[1:]]
        (largest, _), *others = self._run(works, configs)
        nothing: Gradient = [None] * len(self.parameters)
        summed = functools.reduce(added, (gradient for gradient, _ in others), nothing)
        distilled = sum((value for _, value in others), loss.new_zeros(())) / max(1, len(others))
        return Passed(largest, summed, loss.detach(), distilled)

    def _loss(self, logits: Tensor, targets: Tensor, teacher: Tensor | None) -> Tensor:
        if self.supernet.space.is_dense:
            return self._from_masks(logits, targets)
        if teacher is not None:
            return from_targets(logits, teacher)
        return from_targets(logits, targets, self.recipe.loss.label_smoothing)

    def _subnet(
        self, images: Tensor, targets: Tensor, largest: Tensor, config: SubnetConfig
    ) -> tuple[Gradient, Tensor]:
        return self._gradient(self._distilled(self._logits(images, config), largest, targets))

    def _distilled(self, logits: Tensor, largest: Tensor, targets: Tensor) -> Tensor:
        """A subnet's loss; pixels are compared on the grid of the largest's decoder."""
        rule = self.recipe.loss
        if not self.supernet.space.is_dense:
            return from_largest(logits, largest, targets, rule)
        if rule.distillation == "labels":
            return self._from_masks(logits, targets)
        grid = (largest.shape[2], largest.shape[3])
        return from_largest(pixels.rows(logits, grid), pixels.rows(largest, grid), targets, rule)

    def _from_masks(self, logits: Tensor, masks: Tensor) -> Tensor:
        return pixels.from_masks(logits, masks, self.recipe.loss.label_smoothing, self.class_weights)

    def _gradient(self, loss: Tensor) -> tuple[Gradient, Tensor]:
        return list(torch.autograd.grad(loss, self.parameters, allow_unused=True)), loss.detach()

    def _run(
        self, works: Sequence[Callable[[], tuple[Gradient, Tensor]]], configs: Sequence[SubnetConfig]
    ) -> list[tuple[Gradient, Tensor]]:
        """The results of `works` in order; side by side they start with the longest, for an even end."""
        if self._pool is None:
            return [work() for work in works]
        costs = [
            ops.macs(self.supernet.space, config) * (2 if i == 0 else 3) for i, config in enumerate(configs)
        ]
        order = sorted(range(len(works)), key=lambda i: -costs[i])
        futures = {i: self._pool.submit(_on_one_thread, works[i]) for i in order}
        return [futures[i].result() for i in range(len(works))]

    def _logits(self, images: Tensor, config: SubnetConfig, rule: Subnets | None = None) -> Tensor:
        """`rule`: what is left out at random; None: nothing."""
        left_out = {} if rule is None else {"dropout": rule.dropout, "drop_connect": rule.drop_connect}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits: Tensor = self.supernet(images, config, size=self._size(images, config), **left_out)
        return logits.float() if self.bf16 else logits

    def _size(self, images: Tensor, config: SubnetConfig) -> tuple[int, int] | None:
        """Of crops the share of theirs that the subnet's resolution is of the largest; else the resolution's."""
        space = self.supernet.space
        if not space.is_dense:
            return None
        share = config.resolution / max(space.resolutions)
        return pixels.size_of(images.shape[2], images.shape[3], share)


def _on_one_thread(work: Callable[[], tuple[Gradient, Tensor]]) -> tuple[Gradient, Tensor]:
    torch.set_num_threads(1)
    return work()
