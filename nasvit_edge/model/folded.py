"""Constant folding: the same function with everything constant moved into neighbouring weights.

Batch norm goes into the convolution before it; layer scaling into the projections it scales; the
affine part of a norm into the linear layers after it; q's 1/sqrt(D) into q; position table and first
head-mixing bias into one constant per block; the second head-mixing bias, a constant added to every
weight, becomes a multiple of the sum over v (which is N times cheaper than adding it).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasvit_edge.model.blocks import MLP, ConvNorm, LabelsBlock, TransformerBlockModule, resized

# Measured: well inside a second-level cache of 1-2 MB, and few enough slices not to cost anything themselves.
SLICE_BYTES, MOST_SLICES = 700_000, 16


class FoldedAttention(nn.Module):
    """Attention on an already normalised grid (B, C, H, W), its output already scaled.

    Queries are taken a slice at a time where all (h, N, N) weights at once would leave the processor's
    cache: every step between the two matrix products is then done on what is still at hand.
    """

    def __init__(self, block: TransformerBlockModule) -> None:
        super().__init__()
        attention, norm = block.attention, block.norm1
        op = block.op
        self.heads, self.grid = op.heads, (op.height, op.width)
        self.tokens = op.height * op.width
        self.slices = query_slices(op.heads, self.tokens)
        self.query = _scaled(_after_norm(attention.query, norm), torch.tensor(op.head_width**-0.5))
        self.key = _after_norm(attention.key, norm)
        self.value = _after_norm(attention.value, norm)
        self.value_conv = attention.value_conv
        self.mix_logits = nn.Parameter(attention.mix_logits.weight.detach().clone()[None])  # (1, h, h)
        for i, positions in enumerate(_mixed_positions(block).chunk(self.slices, 1)):
            self.register_buffer(f"positions{i}", positions.flatten(1).contiguous())  # (h, N/slices * N)
        self.mix_weights = nn.Parameter(attention.mix_weights.weight.detach().clone()[None])
        self.weights_bias = nn.Parameter(attention.mix_weights.bias.detach().clone()[:, None, None])
        self.act = attention.act
        self.project = _scaled(attention.project, block.scales()[0].detach().flatten())

    def forward(self, x: Tensor) -> Tensor:
        q = self.query(x).flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)  # (B, h, N, D)
        k = self.key(x).flatten(2).unflatten(1, (self.heads, -1))  # (B, h, D, N)
        v = self.value_conv(self.value(x)).flatten(2).unflatten(1, (self.heads, -1))  # (B, h, 4D, N)
        out = self.attend(q, k, v.transpose(2, 3)).transpose(2, 3)  # (B, h, 4D, N)
        out = out + v.sum(3, keepdim=True) * self.weights_bias
        out = out.flatten(1, 2).unflatten(2, self.grid)  # (B, 4C, H, W)
        projected: Tensor = self.project(self.act(out))
        return projected

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
        logits = torch.matmul(self.mix_logits, logits) + getattr(self, f"positions{index}")
        weights = logits.unflatten(2, grid).softmax(-1)
        weights = torch.matmul(self.mix_weights, weights.flatten(2))
        return torch.matmul(weights.unflatten(2, grid), v)  # type: ignore[no-untyped-call]


def query_slices(heads: int, tokens: int) -> int:
    """Into how many equal slices the queries are cut: the fewest whose weights fit in SLICE_BYTES, within limits."""
    possible = [n for n in range(1, MOST_SLICES + 1) if tokens % n == 0]
    fitting = (n for n in possible if 4 * heads * tokens**2 <= n * SLICE_BYTES)
    return next(fitting, possible[-1])


def _mixed_positions(block: TransformerBlockModule) -> Tensor:
    """Position bias and first mixing bias, mixed: (h, N, N)."""
    mix = block.attention.mix_logits
    positions = block.attention.positions().detach().double()  # (h, N, N)
    mixed = torch.einsum("gh,hij->gij", mix.weight.detach().double(), positions)
    return (mixed + mix.bias.detach().double()[:, None, None]).to(mix.weight.dtype)


class FoldedTransformer(nn.Module):
    """`TransformerBlockModule` with norms without affine part and scaling inside the projections."""

    def __init__(self, block: TransformerBlockModule) -> None:
        super().__init__()
        self.shape = block.op.in_shape()
        scale = block.scales()[1].detach().flatten()
        self.attention = FoldedAttention(block)
        self.mlp1 = _fold_mlp(block.mlp1, block.norm2, scale)
        self.mlp2 = _fold_mlp(block.mlp2, block.norm3, scale)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(F.layer_norm(x, self.shape, eps=1e-5))
        x = x + self.mlp2(F.layer_norm(x, self.shape, eps=1e-5))
        out: Tensor = x + self.mlp1(F.layer_norm(x, self.shape, eps=1e-5))
        return out


class TokenTransformer(nn.Module):
    """`FoldedTransformer` for channels-last runtimes: tokens (B, N, C), linear layers on the last axis.

    The transposes at its borders meet those of the convolutions around it and vanish in conversion.
    """

    def __init__(self, block: FoldedTransformer) -> None:
        super().__init__()
        source = block.attention
        self.attention = source
        self.heads, self.grid, self.tokens = source.heads, source.grid, source.tokens
        self.query, self.key, self.value = (_linear(m) for m in (source.query, source.key, source.value))
        self.value_conv, self.project = source.value_conv, _linear(source.project)
        bias = (
            source.weights_bias.detach()
            .flatten()
            .repeat_interleave(source.value_conv.out_channels // source.heads)
        )
        self.register_buffer("weights_bias", bias)  # (4C,)
        self.mlp1, self.mlp2 = (
            nn.Sequential(_linear(m[0]), m[1], _linear(m[2])) for m in (block.mlp1, block.mlp2)
        )

    def forward(self, x: Tensor) -> Tensor:
        t = x.permute(0, 2, 3, 1).flatten(1, 2)  # (B, N, C)
        t = t + self.attend(_normalised(t))
        t = t + self.mlp2(_normalised(t))
        t = t + self.mlp1(_normalised(t))
        out: Tensor = t.unflatten(1, self.grid).permute(0, 3, 1, 2)
        return out

    def attend(self, t: Tensor) -> Tensor:
        """Attention on normalised tokens (B, N, C)."""
        shape = (self.heads, -1)
        q = self.query(t).unflatten(2, shape).transpose(1, 2)  # (B, h, N, D)
        k = self.key(t).unflatten(2, shape).permute(0, 2, 3, 1)  # (B, h, D, N)
        v = self.value(t).unflatten(1, self.grid).permute(0, 3, 1, 2)  # (B, 4C, H, W)
        v = self.value_conv(v).permute(0, 2, 3, 1).flatten(1, 2)  # (B, N, 4C)
        out = self.attention.attend(q, k, v.unflatten(2, shape).transpose(1, 2))  # (B, h, N, 4D)
        out = out.transpose(1, 2).flatten(2) + v.sum(1, keepdim=True) * self.weights_bias
        projected: Tensor = self.project(self.attention.act(out))
        return projected


class ChannelsLastLabels(nn.Module):
    """`LabelsBlock` for channels-last runtimes: the largest of the last axis, so that nothing is transposed."""

    def __init__(self, block: LabelsBlock) -> None:
        super().__init__()
        self.size = block.size

    def forward(self, x: Tensor) -> Tensor:
        return resized(x, self.size).permute(0, 2, 3, 1).argmax(3).to(torch.int32)


def _normalised(t: Tensor) -> Tensor:
    """(t - mean) / std over all N * C values of a sample, in the fewest steps a converter writes: (B, N, C)."""
    centred = t - t.mean((1, 2), keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean((1, 2), keepdim=True) + 1e-5)


def _linear(conv: nn.Module) -> nn.Linear:
    """A 1x1 convolution as a linear layer on the last axis."""
    assert isinstance(conv, nn.Conv2d)
    linear = nn.utils.skip_init(nn.Linear, conv.in_channels, conv.out_channels)  # type: ignore[no-untyped-call]
    linear.weight = nn.Parameter(conv.weight.detach()[:, :, 0, 0].contiguous())
    linear.bias = nn.Parameter(_bias(conv).to(conv.weight.dtype))
    assert isinstance(linear, nn.Linear)
    return linear


def fold_block(block: nn.Module, layout: str = "NCHW") -> nn.Module:
    """A folded copy of a block made by `blocks.build`, written for runtimes that keep images as `layout`."""
    if isinstance(block, TransformerBlockModule):
        folded_block = FoldedTransformer(copy.deepcopy(block))
        return folded_block if layout == "NCHW" else TokenTransformer(folded_block)
    if isinstance(block, LabelsBlock) and layout == "NHWC":
        return ChannelsLastLabels(block)
    folded = copy.deepcopy(block)
    for name, child in block.named_children():
        if isinstance(child, ConvNorm):
            setattr(folded, name, fold_norm(child))
    return folded


def fold_norm(block: ConvNorm) -> nn.Conv2d:
    """Convolution and batch norm (running statistics) as one convolution with bias; in double inside."""
    conv, norm = block.conv, block.norm
    if norm.running_mean is None or norm.running_var is None:
        raise TypeError("this batch norm has no statistics to fold")
    scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = norm.bias.detach().double() - norm.running_mean.double() * scale
    return _conv_like(conv, conv.weight.detach().double() * scale[:, None, None, None], bias)


def _after_norm(conv: nn.Conv2d, norm: nn.GroupNorm) -> nn.Conv2d:
    """A 1x1 convolution that has taken over the affine part of the norm before it."""
    weight, gain = conv.weight.detach().double(), norm.weight.detach().double()
    bias = _bias(conv) + weight[:, :, 0, 0] @ norm.bias.detach().double()
    return _conv_like(conv, weight * gain[None, :, None, None], bias)


def _scaled(conv: nn.Conv2d, scale: Tensor) -> nn.Conv2d:
    """The convolution with its outputs scaled: `scale` (C') or a scalar."""
    wide = scale.double().expand(conv.out_channels)
    return _conv_like(conv, conv.weight.detach().double() * wide[:, None, None, None], _bias(conv) * wide)


def _fold_mlp(mlp: MLP, norm: nn.GroupNorm, scale: Tensor) -> nn.Sequential:
    return nn.Sequential(_after_norm(mlp.inner, norm), mlp.act, _scaled(mlp.outer, scale))


def _bias(conv: nn.Conv2d) -> Tensor:
    if conv.bias is None:
        return torch.zeros(conv.out_channels, dtype=torch.float64)
    return conv.bias.detach().double()


def _conv_like(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    folded = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Conv2d,
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        groups=conv.groups,
    )
    dtype = conv.weight.dtype
    folded.weight = nn.Parameter(weight.to(dtype).contiguous())
    folded.bias = nn.Parameter(bias.to(dtype).contiguous())
    assert isinstance(folded, nn.Conv2d)
    return folded
