"""Quantisation-aware training: a supernet of one subnet that computes as its int8 export will.

Each block runs as the very folded module that is exported, with weights that are folded on the way (batch norm with
its calibrated statistics, held fixed), so that gradients reach the supernet's own. Where the exports quantise, which
is around convolutions and linear layers, values are rounded to 8 bits: weights evenly to both sides of zero, a scale an
output channel; inputs and outputs to 256 steps of the whole tensor's range. Gradients pass straight through.

A tensor's range is that of the batch, as exports take the extremes over their calibration images. So there is nothing
to keep beside the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasvit_edge.errors import TrainingError
from nasvit_edge.model.blocks import ConvNorm, build, position_index, run
from nasvit_edge.model.folded import fold_block, query_slices
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.ops import Classifier, Op, TransformerBlock, lower
from nasvit_edge.space import SubnetConfig

_SMALLEST = 1e-8  # step between two values
_State = Mapping[str, Tensor]


class QuantisedSupernet(Supernet):
    """A supernet of a space with one subnet, quantised in train mode; its entries are those of `Supernet`.

    Args:
        supernet: with its subnet's calibrated statistics; it is copied.

    Raises:
        TrainingError: a space with more than one subnet.
    """

    def __init__(self, supernet: Supernet) -> None:
        super().__init__(supernet.space, supernet.scaling)
        if self.space.size() != 1:
            raise TrainingError(
                f"space {self.space.name!r} has {self.space.size()} subnets; only one can be quantised"
            )
        self.load_state_dict(supernet.state_dict())
        self.source = dict(supernet.source)
        self._blocks = {op.name: _Block(op) for op in lower(self.space, self.space.largest())}

    def forward(
        self,
        images: Tensor,
        config: SubnetConfig,
        statistics: _State | None = None,
        *,
        dropout: float = 0.0,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """As `Supernet.forward`, but in train mode in 8-bit arithmetic, with the running statistics, at the subnet's resolution."""
        if not self.training:
            return super().forward(images, config, statistics, size=size)
        own = self.space.input_size(config.resolution)
        if tuple(images.shape[-2:]) != own:
            images = F.interpolate(images, own, mode="bicubic", align_corners=False)

        def compute(op: Op, x: Tensor) -> Tensor:
            block = self._blocks[op.name]
            if dropout and isinstance(op, Classifier):
                x = F.dropout(x, dropout)
            return block(x, self.block_state(op, block.names))

        return run([block.op for block in self._blocks.values()], compute, images)


class _Block:
    """The folded module of an op, called with the unfolded weights."""

    def __init__(self, op: Op) -> None:
        built = build(op)
        self.op, self.folding = op, _folding(op, built)
        self.names = {
            n: v.shape for n, v in built.state_dict().items() if not n.endswith("num_batches_tracked")
        }
        self.module = fold_block(built).requires_grad_(False)
        self._weights = []
        for name, layer in self.module.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                self._weights.append(f"{name}.weight")
                layer.register_forward_pre_hook(lambda _, inputs: (rounded(inputs[0]),))
                layer.register_forward_hook(lambda _module, _inputs, output: rounded(output))

    def __call__(self, x: Tensor, state: _State) -> Tensor:
        folded = self.folding(state)
        folded |= {name: rounded_weight(folded[name]) for name in self._weights}
        out: Tensor = torch.func.functional_call(self.module, folded, (x,))
        return out


def rounded(x: Tensor) -> Tensor:
    """To the nearest of 256 even steps over the range of `x`, of which zero is one; straight-through gradient."""
    low, high = torch.aminmax(x.detach().float())
    low, high = low.clamp(max=0), high.clamp(min=0)
    step = ((high - low) / 255).clamp(min=_SMALLEST)
    zero = (-128 - low / step).round().clamp(-128, 127).int()
    return torch.fake_quantize_per_tensor_affine(x.float(), step, zero, -128, 127)


def rounded_weight(weight: Tensor) -> Tensor:
    """To 255 even steps between -max and max of each output channel (the first axis); straight-through gradient."""
    largest = weight.detach().flatten(1).abs().amax(1)
    steps = (largest / 127).clamp(min=_SMALLEST)
    return torch.fake_quantize_per_channel_affine(
        weight, steps, torch.zeros_like(steps, dtype=torch.int32), 0, -127, 127
    )


def _folding(op: Op, built: nn.Module) -> Callable[[_State], dict[str, Tensor]]:
    """From the entries of an op's module to those of its folded one, as `model/folded.py` makes them, with gradients."""
    if isinstance(op, TransformerBlock):
        return lambda state: dict(_transformer(op, state))
    norms = [name for name, child in built.named_children() if isinstance(child, ConvNorm)]
    return lambda state: _convolutions(state, norms)


def _convolutions(state: _State, norms: list[str]) -> dict[str, Tensor]:
    inside = tuple(f"{name}." for name in norms)
    made = {name: value for name, value in state.items() if not name.startswith(inside)}
    for name in norms:
        scale = state[f"{name}.norm.weight"] / (state[f"{name}.norm.running_var"] + 1e-5).sqrt()
        made[f"{name}.weight"] = state[f"{name}.conv.weight"] * scale[:, None, None, None]
        made[f"{name}.bias"] = state[f"{name}.norm.bias"] - state[f"{name}.norm.running_mean"] * scale
    return made


def _transformer(op: TransformerBlock, state: _State) -> Iterator[tuple[str, Tensor]]:
    factor = 8.0 / op.channels
    a, m = state["scale_attention"] * factor, state["scale_mlp"] * factor
    for name, scale in (("query", op.head_width**-0.5), ("key", 1.0), ("value", 1.0)):
        yield from _layer(state, f"attention.{name}", f"attention.{name}", norm="norm1", scale=scale)
    yield "attention.value_conv.weight", state["attention.value_conv.weight"]
    yield from _layer(state, "attention.project", "attention.project", scale=a)
    for mlp, norm in (("mlp1", "norm2"), ("mlp2", "norm3")):
        yield from _layer(state, f"{mlp}.inner", f"{mlp}.0", norm=norm)
        yield from _layer(state, f"{mlp}.outer", f"{mlp}.2", scale=m)
    yield from _mixing(op, state)


def _layer(
    state: _State, source: str, target: str, *, norm: str = "", scale: Tensor | float = 1.0
) -> Iterator[tuple[str, Tensor]]:
    """A 1x1 convolution that takes over the affine part of the norm before it and a scale after it."""
    weight, bias = state[f"{source}.weight"], state[f"{source}.bias"]
    if norm:
        bias = bias + weight[:, :, 0, 0] @ state[f"{norm}.bias"]
        weight = weight * state[f"{norm}.weight"][None, :, None, None]
    yield f"{target}.weight", weight * (scale[:, None, None, None] if isinstance(scale, Tensor) else scale)
    yield f"{target}.bias", bias * scale


def _mixing(op: TransformerBlock, state: _State) -> Iterator[tuple[str, Tensor]]:
    mix, table = state["attention.mix_logits.weight"], state["attention.position_table"]
    tokens = op.height * op.width
    index = position_index(op.height, op.width).to(table.device)
    positions = (
        mix @ table.index_select(0, index).T + state["attention.mix_logits.bias"][:, None]
    )  # (h, N * N)
    yield "attention.mix_logits", mix[None]
    yield "attention.mix_weights", state["attention.mix_weights.weight"][None]
    yield "attention.weights_bias", state["attention.mix_weights.bias"][:, None, None]
    slices = query_slices(op.heads, tokens)
    for i, part in enumerate(positions.unflatten(1, (tokens, tokens)).chunk(slices, 1)):  # type: ignore[no-untyped-call]
        yield f"attention.positions{i}", part.flatten(1)
