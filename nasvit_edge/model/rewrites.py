"""What a folded block becomes for a runtime: rewrites that compute the same, in the order of `REWRITES`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasvit_edge.model.blocks import LabelsBlock, resized
from nasvit_edge.model.folded import EPS, FoldedTransformer, folded

Rewrite = Callable[
    [nn.Module], nn.Module
]  # may change the block that it is given; others it leaves as they are

# Measured: well inside a second-level cache of 1-2 MB, and few enough slices not to cost anything themselves.
SLICE_BYTES, MOST_SLICES = 700_000, 16


def fold_block(block: nn.Module, runtime: str = "onnxruntime") -> nn.Module:
    """A folded copy of a block made by `blocks.build`, written for a runtime."""
    made = folded(block)
    for rewrite in REWRITES[runtime]:
        made = rewrite(made)
    return made


def slice_queries(block: nn.Module) -> nn.Module:
    """Queries a slice at a time where all (h, N, N) weights at once would leave the processor's cache.

    Every step between the two matrix products is then done on what is still at hand.
    """
    if isinstance(block, FoldedTransformer):
        attention = block.attention
        attention.slices = query_slices(attention.heads, attention.tokens)
        for name, part in sliced(attention.get_buffer("positions0"), attention.slices).items():
            attention.register_buffer(name, part)
    return block


def query_slices(heads: int, tokens: int) -> int:
    """Into how many equal slices the queries are cut: the fewest whose weights fit in SLICE_BYTES, within limits."""
    possible = [n for n in range(1, MOST_SLICES + 1) if tokens % n == 0]
    fitting = (n for n in possible if 4 * heads * tokens**2 <= n * SLICE_BYTES)
    return next(fitting, possible[-1])


def sliced(positions: Tensor, slices: int) -> dict[str, Tensor]:
    """The position biases (h, N * N) of all queries as those of each slice, by their names in `FoldedAttention`."""
    return {f"positions{i}": part.contiguous() for i, part in enumerate(positions.chunk(slices, 1))}


def layer_norm(block: nn.Module) -> nn.Module:
    """Norms as one layer norm over all axes but the batch, which runtimes have and fuse."""
    return _normed(block, _layer_norm)


def norm_in_steps(block: nn.Module) -> nn.Module:
    """Norms in the fewest steps a converter without such an operator writes; those it would write are more."""
    return _normed(block, _in_steps)


def _normed(block: nn.Module, norm: Callable[[Tensor, tuple[int, ...]], Tensor]) -> nn.Module:
    """With another norm; one of a token of (B, C, H, W) is over an axis in the middle, which these are not."""
    if isinstance(block, TokenTransformer) or (isinstance(block, FoldedTransformer) and not block.by_token):
        block.norm = norm
    return block


def _layer_norm(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return F.layer_norm(x, shape, eps=EPS)


def _in_steps(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(x - mean) / std over all values of a sample, or of a token of (B, N, C)."""
    axes = (2,) if len(shape) == 1 else tuple(range(1, 1 + len(shape)))
    centred = x - x.mean(axes, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(axes, keepdim=True) + EPS)


def channels_last(block: nn.Module) -> nn.Module:
    """For runtimes that keep images as (B, H, W, C): linear layers and the largest class over the last axis.

    The transposes at a block's borders meet those of the convolutions around it and vanish in conversion.
    """
    if isinstance(block, FoldedTransformer):
        return TokenTransformer(block)
    return ChannelsLastLabels(block) if isinstance(block, LabelsBlock) else block


class TokenTransformer(nn.Module):
    """`FoldedTransformer` on tokens (B, N, C), linear layers on the last axis."""

    def __init__(self, block: FoldedTransformer) -> None:
        super().__init__()
        source = block.attention
        self.attention = source
        self.heads, self.grid, self.tokens = source.heads, source.grid, source.tokens
        self.shape = block.shape[:1] if block.by_token else (source.tokens, block.shape[0])
        self.norm: Callable[[Tensor, tuple[int, ...]], Tensor] = _layer_norm
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
        out: Tensor = t.unflatten(1, self.grid).permute(0, 3, 1, 2)  # type: ignore[no-untyped-call]
        return out

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
        projected: Tensor = self.project(self.attention.act(out))
        return projected


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


_CHANNELS_FIRST: tuple[Rewrite, ...] = (slice_queries, layer_norm)
_CHANNELS_LAST: tuple[Rewrite, ...] = (slice_queries, channels_last, norm_in_steps)
REWRITES: dict[str, tuple[Rewrite, ...]] = {
    "coreml": _CHANNELS_FIRST,
    "coreml-cpu": _CHANNELS_FIRST,
    "coreml-gpu": _CHANNELS_FIRST,
    "coreml-ne": _CHANNELS_FIRST,
    "litert": _CHANNELS_LAST,
    "litert-gpu": _CHANNELS_LAST,
    "onnxruntime": _CHANNELS_FIRST,
    "onnxruntime-web": _CHANNELS_FIRST,
    "onnxruntime-webgpu": _CHANNELS_FIRST,
    "tensorrt": _CHANNELS_FIRST,
}
