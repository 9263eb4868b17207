"""The modules that ship: what a block computes once its constants are folded (`folding`), and as `rewrites` make of it.

Converters write the names of these classes, with that of this file, into TFLite files.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasvit_edge.model.blocks import ACTIVATIONS, LabelsBlock, resized
from nasvit_edge.ops import TransformerBlock

Norm = Callable[[Tensor, tuple[int, ...]], Tensor]  # over axes of these sizes
EPS = 1e-5


class FoldedAttention(nn.Module):
    """Attention on an already normalised grid (B, C, H, W), its output already scaled; queries in `slices` equal parts."""

    def __init__(self, op: TransformerBlock) -> None:
        super().__init__()
        c, v = op.channels, op.value_channels
        self.heads, self.grid = op.heads, (op.height, op.width)
        self.tokens, self.slices, self.mixes = op.height * op.width, 1, op.mixes
        self.query, self.key, self.value = nn.Conv2d(c, c, 1), nn.Conv2d(c, c, 1), nn.Conv2d(c, v, 1)
        self.value_conv = nn.Conv2d(v, v, 3, padding=1, groups=v, bias=False)
        self.register_buffer("positions0", torch.empty(op.heads, self.tokens**2))
        if op.mixes:
            self.mix_logits = nn.Parameter(torch.empty(1, op.heads, op.heads))
            self.mix_weights = nn.Parameter(torch.empty(1, op.heads, op.heads))
            self.weights_bias = nn.Parameter(torch.empty(op.heads, 1, 1))
        self.act = ACTIVATIONS[op.activation]()
        self.project = nn.Conv2d(v, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        q = self.query(x).flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)  # (B, h, N, D)
        k = self.key(x).flatten(2).unflatten(1, (self.heads, -1))  # (B, h, D, N)
        v = self.value_conv(self.value(x)).flatten(2).unflatten(1, (self.heads, -1))  # (B, h, 4D, N)
        out = self.attend(q, k, v.transpose(2, 3)).transpose(2, 3)  # (B, h, 4D, N)
        if self.mixes:
            out = out + v.sum(3, keepdim=True) * self.weights_bias
        out = out.flatten(1, 2).unflatten(2, self.grid)  # type: ignore[no-untyped-call]  # (B, 4C, H, W)
        return self.project(self.act(out))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (B, h, N, D), k (B, h, D, N), v (B, h, N, 4D) -> (B, h, N, 4D), without the second mixing bias."""
        rows = self.tokens // self.slices
        if self.slices == 1:
            return self._attend(q, k, v, 0)
        parts = [self._attend(q.narrow(2, i * rows, rows), k, v, i) for i in range(self.slices)]
        return torch.cat(parts, 2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, index: int) -> Tensor:
        grid = (self.tokens // self.slices, self.tokens)
        logits = torch.matmul(q, k).flatten(2)  # (B, h, n * N), n queries
        if self.mixes:
            logits = torch.matmul(self.mix_logits, logits)
        logits = logits + getattr(self, f"positions{index}")
        weights = logits.unflatten(2, grid).softmax(-1)
        if self.mixes:
            weights = torch.matmul(self.mix_weights, weights.flatten(2)).unflatten(2, grid)  # type: ignore[no-untyped-call]
        return torch.matmul(weights, v)


def group_norm(x: Tensor, _shape: tuple[int, ...]) -> Tensor:
    """All values of a sample (B, C, H, W) together, as the unfolded block does it."""
    return F.group_norm(x, 1, eps=EPS)


def token_norm(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The values of each token of (B, C, H, W) together."""
    return F.layer_norm(x.permute(0, 2, 3, 1), shape[:1], eps=EPS).permute(0, 3, 1, 2)


def last_axes_norm(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The values of the last axes, of sizes `shape`, together."""
    return F.layer_norm(x, shape, eps=EPS)


class FoldedTransformer(nn.Module):
    """`TransformerBlockModule` with norms without affine part and scaling inside the projections."""

    def __init__(self, op: TransformerBlock) -> None:
        super().__init__()
        self.shape, self.mlps, self.by_token = op.in_shape(), op.mlps, op.by_token
        self.norm: Norm = token_norm if op.by_token else group_norm
        self.attention = FoldedAttention(op)
        for i in range(op.mlps):
            self.add_module(f"mlp{i + 1}", _mlp(op))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm(x, self.shape))
        for i in range(self.mlps, 0, -1):
            x = x + self.get_submodule(f"mlp{i}")(self.norm(x, self.shape))
        return x


def _mlp(op: TransformerBlock) -> nn.Sequential:
    inner, act = nn.Conv2d(op.channels, op.inner, 1), ACTIVATIONS[op.activation]()
    return nn.Sequential(inner, act, nn.Conv2d(op.inner, op.channels, 1))


class TokenTransformer(nn.Module):
    """`FoldedTransformer` on tokens (B, N, C), linear layers on the last axis."""

    def __init__(self, block: FoldedTransformer) -> None:
        super().__init__()
        source = block.attention
        self.attention = source
        self.heads, self.grid, self.tokens = source.heads, source.grid, source.tokens
        self.shape = block.shape[:1] if block.by_token else (source.tokens, block.shape[0])
        self.norm: Norm = last_axes_norm
        self.query, self.key, self.value = (_linear(m) for m in (source.query, source.key, source.value))
        self.value_conv, self.project = source.value_conv, _linear(source.project)
        if source.mixes:
            each = source.value_conv.out_channels // source.heads
            bias = source.weights_bias.detach().flatten().repeat_interleave(each)
            self.register_buffer("weights_bias", bias)  # (4C,)
        self.mlps = block.mlps
        for i in range(block.mlps):
            inner, act, outer = block.get_submodule(f"mlp{i + 1}").children()
            self.add_module(f"mlp{i + 1}", nn.Sequential(_linear(inner), act, _linear(outer)))

    def forward(self, x: Tensor) -> Tensor:
        t = x.permute(0, 2, 3, 1).flatten(1, 2)  # (B, N, C)
        t = t + self.attend(self.norm(t, self.shape))
        for i in range(self.mlps, 0, -1):
            t = t + self.get_submodule(f"mlp{i}")(self.norm(t, self.shape))
        return t.unflatten(1, self.grid).permute(0, 3, 1, 2)  # type: ignore[no-untyped-call]

    def attend(self, t: Tensor) -> Tensor:
        """Attention on normalised tokens (B, N, C)."""
        shape = (self.heads, -1)
        q = self.query(t).unflatten(2, shape).transpose(1, 2)  # (B, h, N, D)
        k = self.key(t).unflatten(2, shape).permute(0, 2, 3, 1)  # (B, h, D, N)
        v = self.value(t).unflatten(1, self.grid).permute(0, 3, 1, 2)  # (B, 4C, H, W)
        v = self.value_conv(v).permute(0, 2, 3, 1).flatten(1, 2)  # (B, N, 4C)
        out = self.attention.attend(q, k, v.unflatten(2, shape).transpose(1, 2))  # (B, h, N, 4D)
        out = out.transpose(1, 2).flatten(2)
        if self.attention.mixes:
            out = out + v.sum(1, keepdim=True) * self.weights_bias
        return self.project(self.attention.act(out))


class ChannelsLastLabels(nn.Module):
    """`LabelsBlock` with the largest of the last axis, so that nothing is transposed."""

    def __init__(self, block: LabelsBlock) -> None:
        super().__init__()
        self.size = block.size

    def forward(self, x: Tensor) -> Tensor:
        return resized(x, self.size).permute(0, 2, 3, 1).argmax(3).to(torch.int32)


def _linear(conv: nn.Module) -> nn.Linear:
    """A 1x1 convolution as a linear layer on the last axis."""
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    with torch.device("meta"):
        linear = nn.Linear(conv.in_channels, conv.out_channels)
    linear.weight = nn.Parameter(conv.weight.detach()[:, :, 0, 0].clone())
    linear.bias = nn.Parameter(conv.bias.detach().clone())
    return linear
