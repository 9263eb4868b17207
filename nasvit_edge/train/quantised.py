"""Quantisation-aware training: a supernet of one subnet that is rounded about as much as its int8 export will be.

Each block runs as the very folded module that is exported, with weights that are folded on the way (batch norm with
its calibrated statistics, held fixed), so that gradients reach the supernet's own. Around convolutions and linear
layers values are rounded: weights to 127 steps evenly to both sides of zero, as ONNX Runtime's
files have them, a scale an output channel; inputs and outputs, but not the logits, to 256 steps of the whole tensor's range. What is
between layers is rounded by ONNX files and not here, and a linear layer of a TFLite file takes and gives floats: the noise is as large as a
file's, single errors are others. Gradients pass straight through.

A tensor's range is that of the batch, where exports take the range of nearly all values of their calibration images. So there is
nothing to keep beside the weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasvit_edge.errors import TrainingError
from nasvit_edge.export.onnx_quantised import RULES
from nasvit_edge.model.blocks import build
from nasvit_edge.model.folded import FoldedTransformer
from nasvit_edge.model.folding import folded_state
from nasvit_edge.model.rewrites import fold_block, sliced
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.model.walk import run
from nasvit_edge.ops import Classifier, Op, lower
from nasvit_edge.space import SubnetConfig

MOST = RULES["onnxruntime"].most  # the largest weight, in steps
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
        drop_connect: float = 0.0,  # noqa: ARG002 - of supernets' training alone
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """As `Supernet.forward`, but in train mode in 8-bit arithmetic, with the running statistics, at the subnet's resolution."""
        if not self.training:
            return super().forward(images, config, statistics, size=size)
        target = self.space.input_size(config.resolution)
        if tuple(images.shape[-2:]) != target:
            images = F.interpolate(images, target, mode="bicubic", align_corners=False)

        def compute(op: Op, x: Tensor) -> Tensor:
            block = self._blocks[op.name]
            if dropout and isinstance(op, Classifier):
                x = F.dropout(x, dropout)
            return block(x, self.block_state(op, block.names))

        return run([block.op for block in self._blocks.values()], compute, images)


class _Block:
    """The folded module of an op, called with the unfolded weights."""

    def __init__(self, op: Op) -> None:
        self.op, self.built = op, build(op)
        self.names = {
            n: v.shape for n, v in self.built.state_dict().items() if not n.endswith("num_batches_tracked")
        }
        self.module = fold_block(self.built).requires_grad_(False)
        self._weights = []
        for name, layer in self.module.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                self._weights.append(f"{name}.weight")
                layer.register_forward_pre_hook(lambda _, inputs: (rounded(inputs[0]),))
                if not isinstance(op, Classifier):
                    layer.register_forward_hook(lambda _module, _inputs, output: rounded(output))

    def folding(self, state: _State) -> dict[str, Tensor]:
        """The weights of the folded module from the unfolded ones, with their gradients."""
        tensors = folded_state(self.built, state)
        if isinstance(self.module, FoldedTransformer):
            parts = sliced(tensors.pop("attention.positions0"), self.module.attention.slices)
            tensors |= {f"attention.{name}": part for name, part in parts.items()}
        return tensors

    def __call__(self, x: Tensor, state: _State) -> Tensor:
        folded = self.folding(state)
        folded |= {name: rounded_weight(folded[name]) for name in self._weights}
        return torch.func.functional_call(self.module, folded, (x,))


def rounded(x: Tensor) -> Tensor:
    """To the nearest of 256 even steps over the range of `x`, of which zero is one; straight-through gradient."""
    low, high = torch.aminmax(x.detach().float())
    low, high = low.clamp(max=0), high.clamp(min=0)
    step = ((high - low) / 255).clamp(min=_SMALLEST)
    zero = (-128 - low / step).round().clamp(-128, 127).int()
    return torch.fake_quantize_per_tensor_affine(x.float(), step, zero, -128, 127)


def rounded_weight(weight: Tensor) -> Tensor:
    """To 127 even steps between -max and max of each output channel (the first axis); straight-through gradient."""
    largest = weight.detach().flatten(1).abs().amax(1)
    steps = (largest / MOST).clamp(min=_SMALLEST)
    return torch.fake_quantize_per_channel_affine(
        weight, steps, torch.zeros_like(steps, dtype=torch.int32), 0, -MOST, MOST
    )
