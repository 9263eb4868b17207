"""Standalone subnets: taken out of a supernet, calibrated, folded."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from nasvit_edge.errors import DataError
from nasvit_edge.model.blocks import build
from nasvit_edge.model.rewrites import fold_block
from nasvit_edge.model.supernet import Supernet, attach, stage_ops
from nasvit_edge.model.walk import run
from nasvit_edge.ops import Op, WholeNetwork, lower
from nasvit_edge.space import SearchSpace, SubnetConfig

AS_TRAINED = {
    "data": "none: taken as it is, with the statistics of its training",
    "images": 0,
}  # of a whole network


class Subnet(nn.Module):
    """A plain static network: images (B, 3, H, W) of its size -> logits, (B, classes) or (B, classes, H', W').

    Attributes:
        size: height and width of its images.
        space, config, ops: what it is; `ops` in the order they run.
        source: where the weights are from (as `Supernet.source`).
        calibration: what its batch-norm statistics were estimated on; None before `calibrate`.
        folded: whether `fold` made it.
    """

    def __init__(self, space: SearchSpace, config: SubnetConfig, ops: tuple[Op, ...]) -> None:
        super().__init__()
        self.space, self.config, self.ops = space, config, ops
        self.size = (ops[0].in_shape()[1], ops[0].in_shape()[2])
        self.source: dict[str, object] = {"kind": "untrained"}
        self.calibration: dict[str, object] | None = None
        self.folded = False

    def blocks(self) -> list[nn.Module]:
        """The modules of `ops`."""
        return [self.get_submodule(op.name) for op in self.ops]

    def forward(self, x: Tensor) -> Tensor:
        return run(self.ops, self._compute, x)

    def features(self, x: Tensor) -> list[Tensor]:
        """The outputs (B, C, H', W') of `space.levels`."""
        outputs: dict[str, Tensor] = {}
        run(stage_ops(self.space, self.config, self.size), self._compute, x, outputs)
        return [outputs[self.space.stages[i].name] for i in self.space.levels]

    def _compute(self, op: Op, x: Tensor) -> Tensor:
        return self.get_submodule(op.name)(x)


class PixelLabels(nn.Module):
    """A subnet of a dense space with the largest class of each pixel as its output: (B, 3, H, W) -> int32 (B, H, W)."""

    def __init__(self, subnet: Subnet) -> None:
        super().__init__()
        self.subnet = subnet

    def forward(self, x: Tensor) -> Tensor:
        return self.subnet.get_submodule(self.subnet.ops[-1].name)(self.subnet(x))


def materialise(supernet: Supernet, config: SubnetConfig, size: tuple[int, int] | None = None) -> Subnet:
    """The subnet `config` with its own storage, unfolded, in eval mode; for images of `size`, by default of its resolution.

    Every tensor is sliced to what the subnet uses, so later changes to the supernet, or taking
    another subnet, leave it as it is.
    """
    ops = lower(supernet.space, config, size)
    subnet = Subnet(supernet.space, config, ops)
    for op in ops:
        whole = isinstance(op, WholeNetwork)
        attach(
            subnet, op.name, copy.deepcopy(supernet.get_submodule(op.name)) if whole else _taken(supernet, op)
        )
    subnet.source = dict(supernet.source)
    if supernet.space.network is not None:
        subnet.calibration = dict(AS_TRAINED)
    return subnet.eval()


def _taken(supernet: Supernet, op: Op) -> nn.Module:
    """The block of an op with slices of the shared weights as its own."""
    with torch.device("meta"):
        block = build(op)
    names = {n: v.shape for n, v in block.state_dict().items() if not n.endswith("num_batches_tracked")}
    with torch.no_grad():
        state = {
            n: v.detach().clone(memory_format=torch.contiguous_format)
            for n, v in supernet.block_state(op, names).items()
        }
    state |= {n: torch.tensor(0) for n in block.state_dict() if n.endswith("num_batches_tracked")}
    block.load_state_dict(state, assign=True)
    for parameter in block.parameters():
        parameter.requires_grad_(True)
    return block


def fold(subnet: Subnet, layout: str = "NCHW") -> Subnet:
    """A new subnet that computes the same with all constants folded (see `model/folding.py`).

    `layout` ("NCHW" or "NHWC") is how the runtime it is for keeps images; inputs are (B, 3, r, r) in both.
    """
    return fold_for(subnet, "litert" if layout == "NHWC" else "onnxruntime")


def fold_for(subnet: Subnet, runtime: str) -> Subnet:
    """`fold`, and the rewrites of a runtime (`model/rewrites.py`)."""
    if subnet.folded:
        return copy.deepcopy(subnet)
    folded = Subnet(subnet.space, subnet.config, subnet.ops)
    for op, block in zip(subnet.ops, subnet.blocks(), strict=True):
        attach(folded, op.name, fold_block(block, runtime))
    folded.source, folded.calibration = dict(subnet.source), copy.deepcopy(subnet.calibration)
    folded.folded = True
    for parameter in folded.parameters():
        parameter.requires_grad_(False)
    return folded.eval()


def calibrate(subnet: Subnet, batches: Iterable[Tensor], *, data: str = "unnamed") -> Subnet:
    """Re-estimate the batch-norm statistics in place: cleared, then the average over all images (spec section 2).

    A network that is taken as it is keeps those of its training.

    Args:
        subnet: unfolded.
        batches: images (B, 3, r, r), normalised, at the subnet's resolution.
        data: the name of the images, kept in `subnet.calibration` and in what is exported from it.
    """
    if subnet.space.network is not None:
        return subnet
    if subnet.folded:
        raise DataError("a folded subnet has no batch norm left: calibrate it before folding")
    norms = [m for m in subnet.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    before = {name: value.clone() for name, value in statistics(subnet).items()}
    images, done = 0, False
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    try:
        with torch.no_grad():
            for batch in batches:
                images += len(batch)
                for norm in norms:
                    norm.momentum = len(batch) / images  # a batch of few images counts for few
                subnet(batch)
        done = images > 0
    finally:
        if not done:
            subnet.load_state_dict(before, strict=False)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        subnet.eval()
    if images == 0:
        raise DataError("no images to calibrate on")
    subnet.calibration = {"data": data, "images": images}
    return subnet


def statistics(subnet: Subnet) -> dict[str, Tensor]:
    """The batch-norm statistics of an unfolded subnet, for `supernet(x, config, statistics)`."""
    return {
        name: value
        for name, value in subnet.state_dict().items()
        if name.endswith(("running_mean", "running_var"))
    }


@functools.lru_cache(maxsize=4096)
def parameter_count(op: Op) -> int:
    """The parameters of `build(op)`."""
    if isinstance(op, WholeNetwork):
        return op.spec.parameters
    with torch.device("meta"):
        return sum(p.numel() for p in build(op).parameters())
