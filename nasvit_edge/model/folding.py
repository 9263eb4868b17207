"""Constant folding: the same function with everything constant moved into neighbouring weights.

Batch norm goes into the convolution before it; layer scaling into the projections it scales; the
affine part of a norm into the linear layers after it; q's 1/sqrt(D) into q; position table and first
head-mixing bias into one constant per block; the second head-mixing bias, a constant added to every
weight, becomes a multiple of the sum over v (which is N times cheaper than adding it).

`folded` makes the module that ships, before a runtime's rewrites (`rewrites`); `folded_state` its weights, with
gradients where training wants them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from nasvit_edge.model.blocks import ConvNorm, TransformerBlockModule, position_index
from nasvit_edge.model.folded import FoldedTransformer
from nasvit_edge.model.networks import NetworkBlock
from nasvit_edge.ops import TransformerBlock

State = Mapping[str, Tensor]


def folded(block: nn.Module) -> nn.Module:
    """A folded copy of a block made by `blocks.build`; computed in double inside. Of a whole network: as it ships."""
    if isinstance(block, NetworkBlock):
        return block.deployed()
    fused = _structure(block)
    with torch.no_grad():
        state = folded_state(block, block.state_dict(), torch.float64)
        tensors = {name: value.clone(memory_format=torch.contiguous_format) for name, value in state.items()}
    fused.load_state_dict(tensors, assign=True)
    return fused


def _structure(block: nn.Module) -> nn.Module:
    """The folded module of a block, without its weights."""
    with torch.device("meta"):
        if isinstance(block, TransformerBlockModule):
            return FoldedTransformer(block.op)
        fused = copy.deepcopy(block)
        for name, child in block.named_children():
            if isinstance(child, ConvNorm):
                setattr(fused, name, _with_bias(child.conv))
    return fused


def _with_bias(conv: nn.Conv2d) -> nn.Conv2d:
    sizes = (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
    return nn.Conv2d(*sizes, groups=conv.groups)  # type: ignore[arg-type]


def folded_state(block: nn.Module, state: State, within: torch.dtype | None = None) -> dict[str, Tensor]:
    """The entries of `folded(block)` from those of the block, `state`: with their gradients and in their type.

    `within` is the type that is computed in, by default that of the entries.
    """
    if isinstance(block, TransformerBlockModule):
        return dict(_transformer(block.op, state, within))
    norms = {name: child.norm.eps for name, child in block.named_children() if isinstance(child, ConvNorm)}
    inside = tuple(f"{name}." for name in norms)
    tensors = {name: value for name, value in state.items() if not name.startswith(inside)}
    for name, eps in norms.items():
        weight, gain, shift, mean, var = (
            state[f"{name}.{part}"].to(within)
            for part in (
                "conv.weight",
                *(f"norm.{p}" for p in ("weight", "bias", "running_mean", "running_var")),
            )
        )
        scale, dtype = gain / (var + eps).sqrt(), state[f"{name}.conv.weight"].dtype
        tensors[f"{name}.weight"] = (weight * scale[:, None, None, None]).to(dtype)
        tensors[f"{name}.bias"] = (shift - mean * scale).to(dtype)
    return tensors


def _transformer(
    op: TransformerBlock, state: State, within: torch.dtype | None
) -> Iterator[tuple[str, Tensor]]:
    layer = _Layers(state, within)
    factor = 8.0 / op.channels
    one = state["attention.project.weight"].new_ones(1)
    a, m = (state[f"scale_{of}"] * factor if op.scaled else one for of in ("attention", "mlp"))
    q = layer.after_norm("attention.query", "norm1")
    yield from layer.named("attention.query", layer.scaled(*q, a.new_tensor(op.head_width**-0.5)))
    for name in ("key", "value"):
        yield from layer.named(f"attention.{name}", layer.after_norm(f"attention.{name}", "norm1"))
    yield "attention.value_conv.weight", state["attention.value_conv.weight"]
    yield from layer.named("attention.project", layer.scaled(*layer.own("attention.project"), a))
    for mlp, norm in ((f"mlp{i}", f"norm{i + 1}") for i in range(1, op.mlps + 1)):
        yield from layer.named(f"{mlp}.0", layer.after_norm(f"{mlp}.inner", norm))
        yield from layer.named(f"{mlp}.2", layer.scaled(*layer.own(f"{mlp}.outer"), m))
    yield from _mixing(op, state, within)


class _Layers:
    """1x1 convolutions of a block, as weight (C', C, 1, 1) and bias (C')."""

    def __init__(self, state: State, within: torch.dtype | None) -> None:
        self.state, self.within = state, within

    def own(self, name: str) -> tuple[Tensor, Tensor]:
        weight = self.state[f"{name}.weight"]
        return weight, self.state.get(f"{name}.bias", weight.new_zeros(len(weight)))

    def after_norm(self, name: str, norm: str) -> tuple[Tensor, Tensor]:
        """Having taken over the affine part of the norm before it."""
        (weight, bias), (gain, shift) = map(self._wide, (self.own(name), self.own(norm)))
        bias = bias + weight[:, :, 0, 0] @ shift
        return self._narrow(weight * gain[None, :, None, None], bias)

    def scaled(self, weight: Tensor, bias: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """With its outputs scaled: `scale` (C') or a scalar."""
        weight, bias, scale = self._wide((weight, bias, scale))
        return self._narrow(weight * scale.view(-1, 1, 1, 1), bias * scale)

    def named(self, name: str, layer: tuple[Tensor, Tensor]) -> Iterator[tuple[str, Tensor]]:
        yield from zip((f"{name}.weight", f"{name}.bias"), layer, strict=True)

    def _wide(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(tensor.to(self.within) for tensor in tensors)

    def _narrow(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        dtype = self.state["attention.project.weight"].dtype
        return weight.to(dtype), bias.to(dtype)


def _mixing(op: TransformerBlock, state: State, within: torch.dtype | None) -> Iterator[tuple[str, Tensor]]:
    """Position bias (h, N * N), mixed as logits are where heads mix, with that bias; and what mixes them."""
    table = state["attention.position_table"]
    positions = table.to(within).index_select(0, position_index(op.height, op.width).to(table.device)).T
    if op.mixes:
        mix, bias = (state[f"attention.mix_logits.{part}"] for part in ("weight", "bias"))
        positions = mix.to(within) @ positions + bias.to(within)[:, None]
        yield "attention.mix_logits", mix[None]
        yield "attention.mix_weights", state["attention.mix_weights.weight"][None]
        yield "attention.weights_bias", state["attention.mix_weights.bias"][:, None, None]
    yield "attention.positions0", positions.to(table.dtype)
