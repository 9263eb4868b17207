"""What a folded block becomes for a runtime: rewrites that compute the same, in the order of `REWRITES`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nasvit_edge.model.blocks import LabelsBlock
from nasvit_edge.model.folded import (
    EPS,
    ChannelsLastLabels,
    FoldedTransformer,
    Norm,
    TokenTransformer,
    last_axes_norm,
)
from nasvit_edge.model.folding import folded

Rewrite = Callable[[nn.Module], nn.Module]  # may change the block it is given; others it leaves as they are

# Measured: well inside a second-level cache of 1-2 MB, and few enough slices not to cost anything themselves.
SLICE_BYTES, MOST_SLICES = 700_000, 16


def fold_block(block: nn.Module, runtime: str = "onnxruntime") -> nn.Module:
    """A folded copy of a block made by `blocks.build`, written for a runtime."""
    fused = folded(block)
    for rewrite in REWRITES[runtime]:
        fused = rewrite(fused)
    return fused


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
    return _normed(block, last_axes_norm)


def norm_in_steps(block: nn.Module) -> nn.Module:
    """Norms in the fewest steps a converter without such an operator writes; those it would write are more."""
    return _normed(block, _in_steps)


def _normed(block: nn.Module, norm: Norm) -> nn.Module:
    """With another norm; one of a token of (B, C, H, W) is over an axis in the middle, which these are not."""
    if isinstance(block, TokenTransformer) or (isinstance(block, FoldedTransformer) and not block.by_token):
        block.norm = norm
    return block


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
