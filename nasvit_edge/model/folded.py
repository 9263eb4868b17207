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

from nasvit_edge.model.blocks import MLP, ConvNorm, TransformerBlockModule


class FoldedAttention(nn.Module):
    """Attention on an already normalised grid (B, C, H, W), its output already scaled."""

    positions: Tensor

    def __init__(self, block: TransformerBlockModule) -> None:
        super().__init__()
        attention, norm = block.attention, block.norm1
        op = block.op
        self.heads, self.grid = op.heads, (op.height, op.width)
        self.tokens = op.height * op.width
        self.query = _scaled(_after_norm(attention.query, norm), torch.tensor(op.head_width**-0.5))
        self.key = _after_norm(attention.key, norm)
        self.value = _after_norm(attention.value, norm)
        self.value_conv = attention.value_conv
        mix = attention.mix_logits
        self.mix_logits = nn.Parameter(mix.weight.detach().clone())
        positions = attention.positions().detach().double().flatten(1)  # (h, N*N)
        positions = mix.weight.detach().double() @ positions + mix.bias.detach().double()[:, None]
        self.register_buffer("positions", positions.to(mix.weight.dtype))
        self.mix_weights = nn.Parameter(attention.mix_weights.weight.detach().clone())
        self.weights_bias = nn.Parameter(attention.mix_weights.bias.detach().clone()[:, None, None])
        self.act = attention.act
        self.project = _scaled(attention.project, block.scales()[0].detach().flatten())

    def forward(self, x: Tensor) -> Tensor:
        q = self.query(x).flatten(2).unflatten(1, (self.heads, -1))  # (B, h, D, N)
        k = self.key(x).flatten(2).unflatten(1, (self.heads, -1))  # (B, h, D, N)
        v = self.value_conv(self.value(x)).flatten(2).unflatten(1, (self.heads, -1))  # (B, h, 4D, N)
        logits = torch.matmul(q.transpose(2, 3), k).flatten(2)  # (B, h, N*N)
        logits = torch.matmul(self.mix_logits, logits) + self.positions
        grid = (self.tokens, self.tokens)
        weights: Tensor = logits.unflatten(2, grid).softmax(-1)  # type: ignore[no-untyped-call]  # (B, h, N, N)
        weights = torch.matmul(self.mix_weights, weights.flatten(2))
        weights = weights.unflatten(2, grid)  # type: ignore[no-untyped-call]
        out = torch.matmul(v, weights.transpose(2, 3)) + v.sum(3, keepdim=True) * self.weights_bias
        out = out.flatten(1, 2).unflatten(2, self.grid)  # (B, 4C, H, W)
        projected: Tensor = self.project(self.act(out))
        return projected


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


def fold_block(block: nn.Module) -> nn.Module:
    """A folded copy of a block made by `blocks.build`."""
    if isinstance(block, TransformerBlockModule):
        return FoldedTransformer(copy.deepcopy(block))
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
