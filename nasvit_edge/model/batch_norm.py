"""Batch norm whose mean and variance are over the batches of several processes.

torch's own SyncBatchNorm refuses CPU tensors. This one exchanges (mean, variance, count) a channel once
on the way forth and two sums a channel on the way back; batches may differ in size.

Legend: B batch, C channels, H W grid, R processes.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class Ranks(Protocol):
    """The processes that share statistics; every one makes the same calls in the same order."""

    def gathered(self, values: Tensor) -> Tensor:
        """(n,) of every process -> (R, n), by rank."""

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes."""


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm from the batches of all `ranks`, with nothing kept; (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int, eps: float, ranks: Ranks) -> None:
        super().__init__(channels, eps, track_running_stats=False)
        self.ranks = ranks

    def forward(self, x: Tensor) -> Tensor:
        """Gradients are those of the sum of all ranks' losses: their mean over ranks is the mean loss's."""
        return _Normalise.apply(x, self.weight, self.bias, self.eps, self.ranks)


def share_statistics(module: nn.Module, ranks: Ranks) -> None:
    """Every batch norm below `module` takes its statistics over all ranks' batches; its parameters stay as named.

    Calls of several threads would meet in another order on another rank: one pass at a time.
    """
    for name, child in list(module.named_modules()):
        if isinstance(child, nn.BatchNorm2d):
            with torch.device(child.weight.device):
                module.set_submodule(name, SharedBatchNorm(child.num_features, child.eps, ranks))


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, ranks: Ranks) -> Tensor:
        mean, variance, count = _merged(ranks.gathered(_statistics(x, weight.dtype)))
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.eps, ctx.ranks = eps, ranks
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, count = ctx.saved_tensors
        # as if the statistics were constants; what flows through them is added below
        through, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        products, sums = ctx.ranks.total(torch.cat((of_weight, of_bias))).chunk(2)
        deviation = (variance + ctx.eps).rsqrt()
        slope = -weight * deviation.square() * products / count
        offset = -weight * deviation * sums / count - slope * mean
        kind = weight.dtype  # x may be of half the precision
        through = torch.addcmul(through.to(kind), x.to(kind), slope[:, None, None]).add_(
            offset[:, None, None]
        )
        return through.to(x.dtype), of_weight, of_bias, None, None


def _statistics(x: Tensor, kind: torch.dtype) -> Tensor:
    """Mean and variance of every channel and the count, (2 C + 1,), of this process's batch."""
    unused = torch.zeros(2, x.shape[1], dtype=kind, device=x.device)  # their dtype is the results'
    mean, variance = torch.batch_norm_update_stats(x, unused[0], unused[1], 0.0)
    count = mean.new_full((1,), x.numel() // x.shape[1])
    return torch.cat((mean, variance, count))


def _merged(statistics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), variance (C,) and count (1,) of all, from (R, 2 C + 1); centred, so nothing cancels."""
    channels = statistics.shape[1] // 2
    means, variances, counts = torch.split(statistics, [channels, channels, 1], dim=1)
    count = counts.sum(0)
    share = counts / count
    mean = (share * means).sum(0)
    return mean, (share * (variances + (means - mean).square())).sum(0), count
