"""A plain transcription of the NASViT blocks: what exporting without care would convert.

Nothing is folded: batch norms, layer scaling, norm affine parts, position table and head mixing are
computed as they are written down (tokens (B, N, C), heads mixed by a linear layer on the last axis).
It is the reference of `compare_exports.py` and of nothing else; it takes its weights from an unfolded subnet.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasvit_edge.model.blocks import HeadMix, TransformerBlockModule, position_index
from nasvit_edge.model.subnet import Subnet


class PlainAttention(nn.Module):
    """Tokens (B, N, C) -> (B, N, C)."""

    def __init__(self, block: TransformerBlockModule) -> None:
        super().__init__()
        source = block.attention
        self.grid, self.heads = (block.op.height, block.op.width), block.op.heads
        self.query, self.key, self.value = (_linear(m) for m in (source.query, source.key, source.value))
        self.value_conv, self.project = source.value_conv, _linear(source.project)
        self.table = source.position_table
        self.register_buffer("index", position_index(*self.grid))
        self.mix_logits, self.mix_weights = _mix(source.mix_logits), _mix(source.mix_weights)

    def forward(self, t: Tensor) -> Tensor:
        b, n, _ = t.shape
        q = self.query(t).view(b, n, self.heads, -1).permute(0, 2, 1, 3)  # (B, h, N, D)
        k = self.key(t).view(b, n, self.heads, -1).permute(0, 2, 1, 3)
        v = self.value(t).transpose(1, 2).reshape(b, -1, *self.grid)  # (B, 4C, H, W)
        v = self.value_conv(v).flatten(2).transpose(1, 2).view(b, n, self.heads, -1).permute(0, 2, 1, 3)
        logits = (q / q.shape[-1] ** 0.5) @ k.transpose(-2, -1)  # (B, h, N, N)
        bias = self.table[self.index].view(n, n, -1).permute(2, 0, 1)
        logits = self.mix_logits((logits + bias).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        weights = logits.softmax(-1)
        weights = self.mix_weights(weights.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        out = (weights @ v).transpose(1, 2).reshape(b, n, -1)
        return self.project(F.silu(out))


class PlainTransformer(nn.Module):
    """(B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, block: TransformerBlockModule) -> None:
        super().__init__()
        self.attention = PlainAttention(block)
        self.gains = nn.ParameterList([n.weight for n in (block.norm1, block.norm2, block.norm3)])
        self.shifts = nn.ParameterList([n.bias for n in (block.norm1, block.norm2, block.norm3)])
        self.mlp1, self.mlp2 = (
            nn.Sequential(_linear(m.inner), nn.SiLU(), _linear(m.outer)) for m in (block.mlp1, block.mlp2)
        )
        self.scale_attention, self.scale_mlp = block.scale_attention, block.scale_mlp

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        t = x.flatten(2).transpose(1, 2)  # (B, N, C)
        t = t + self.scale_attention * 8 / c * self.attention(self._norm(t, 0))
        t = t + self.scale_mlp * 8 / c * self.mlp2(self._norm(t, 2))
        t = t + self.scale_mlp * 8 / c * self.mlp1(self._norm(t, 1))
        return t.transpose(1, 2).reshape(b, c, height, width)

    def _norm(self, t: Tensor, index: int) -> Tensor:
        return F.layer_norm(t, t.shape[1:], eps=1e-5) * self.gains[index] + self.shifts[index]


class PlainSubnet(nn.Module):
    """Images (B, 3, r, r) -> logits (B, classes)."""

    def __init__(self, subnet: Subnet) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(PlainTransformer(b) if isinstance(b, TransformerBlockModule) else b for b in subnet.blocks())
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


def _linear(conv: nn.Conv2d) -> nn.Linear:
    linear = nn.Linear(conv.in_channels, conv.out_channels)
    with torch.no_grad():
        linear.weight.copy_(conv.weight[:, :, 0, 0])
        linear.bias.copy_(conv.bias)
    return linear


def _mix(mix: HeadMix) -> nn.Linear:
    linear = nn.Linear(*mix.weight.shape)
    with torch.no_grad():
        linear.weight.copy_(mix.weight)
        linear.bias.copy_(mix.bias)
    return linear
