"""The supernet: every block at its largest, run as any of its subnets by taking slices.

`supernet(images, config)` keeps no state between calls. Each block runs the very module that a
standalone subnet is made of (`blocks.build(op)`), with the leading slices of the largest weights in
place of its own (spec section 2).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasvit_edge.data_sets.trained_on import TrainedOn
from nasvit_edge.errors import CheckpointError, SpaceError
from nasvit_edge.model.batch_norm import Ranks, share_statistics
from nasvit_edge.model.blocks import MBConvBlock, TransformerBlockModule, build
from nasvit_edge.model.walk import run
from nasvit_edge.ops import Classifier, MBConv, Op, Stem, TransformerBlock, WholeNetwork, lower
from nasvit_edge.space import SearchSpace, SubnetConfig

SCALING_SWITCHES = 8  # rows of the layer scaling per depth, chosen by the token count mod 8


class Supernet(nn.Module):
    """The shared weights of a space.

    Attributes:
        space: the search space.
        scaling: how transformer blocks scale their branches: `switchable` by depth and token count
            (spec section 2), one `shared` row for all, or `none` (branches are added as they are).
        ranks: the processes whose batches batch norm takes together in train mode; None: this one's alone.
        source: where the weights are from: kind, sha256 or seed, and for random ones a plain warning.
        trained_on: the images that trained them; None where that is not known.
    """

    def __init__(self, space: SearchSpace, scaling: str = "switchable") -> None:
        super().__init__()
        if scaling not in SCALINGS:
            raise CheckpointError(f"layer scaling {scaling!r} is unknown; there are {', '.join(SCALINGS)}")
        self.space, self.scaling = space, scaling
        self.ranks: Ranks | None = None
        self.source: dict[str, object] = {"kind": "untrained"}
        self.trained_on: TrainedOn | None = TrainedOn()
        self.ops = largest_ops(space)
        for op in self.ops.values():
            attach(self, op.name, _elastic(op, space))

    def forward(
        self,
        images: Tensor,
        config: SubnetConfig,
        statistics: Mapping[str, Tensor] | None = None,
        *,
        dropout: float = 0.0,
        drop_connect: float = 0.0,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Logits of the subnet `config` for images (B, 3, H, W): (B, classes), of a dense space (B, classes, H', W').

        Images of another size are resized bicubically to `size`, without it to that of the subnet's
        resolution. In train mode batch norm uses the batch, in eval mode the running statistics, or
        `statistics` where given (the names of the subnet's state dict, such as a calibrated subnet has).
        `dropout` is the share of the classifier's inputs that train mode leaves out, `drop_connect` that of samples without what
        the last MBConv adds to its shortcut; of block i of n it is i/n as large, and 0 before the last two stages.
        """
        size = size or self.space.input_size(config.resolution)
        if tuple(images.shape[-2:]) != size:
            images = F.interpolate(images, size, mode="bicubic", align_corners=False)
        ops = lower(self.space, config, size)
        dropped = self._dropped(ops, drop_connect) if drop_connect and self.training else {}
        return run(ops, self._compute(statistics, dropout, dropped), images)

    def features(
        self, images: Tensor, config: SubnetConfig, statistics: Mapping[str, Tensor] | None = None
    ) -> list[Tensor]:
        """The outputs (B, C, H', W') of `space.levels` for images (B, 3, H, W), taken at the size they have."""
        outputs: dict[str, Tensor] = {}
        ops = stage_ops(self.space, config, (images.shape[-2], images.shape[-1]))
        run(ops, self._compute(statistics), images, outputs)
        return [outputs[self.space.stages[i].name] for i in self.space.levels]

    def _compute(
        self,
        statistics: Mapping[str, Tensor] | None,
        dropout: float = 0.0,
        dropped: Mapping[str, float] = MappingProxyType({}),
    ) -> Callable[[Op, Tensor], Tensor]:
        """How an op is computed with slices of the shared weights; `dropped`: of ops by name, the share of samples without it."""

        def apply(op: Op, x: Tensor) -> Tensor:
            if isinstance(op, WholeNetwork):
                return self._whole(op, x, statistics)
            skeleton = _skeleton(op, self.training, self.ranks if self.training else None)
            state = self.block_state(op, skeleton.names)
            if statistics and not self.training:
                state |= {n: statistics[f"{op.name}.{n}"] for n in state if n.endswith(_STATISTICS)}
            if dropout and self.training and isinstance(op, Classifier):
                x = F.dropout(x, dropout)
            out: Tensor = torch.func.functional_call(skeleton.module, state, (x,))
            return _connected(out, x, skeleton.module, state, dropped[op.name]) if op.name in dropped else out

        return apply

    def _whole(self, op: WholeNetwork, x: Tensor, statistics: Mapping[str, Tensor] | None) -> Tensor:
        """A network that is taken as it is has nothing to slice: it runs itself."""
        block = self.get_submodule(op.name)
        if self.training:
            raise SpaceError(
                f"{op.spec.source} of space {self.space.name!r} is taken as it is: it cannot be trained here"
            )
        begin = f"{op.name}."
        state = {n.removeprefix(begin): v for n, v in (statistics or {}).items()}
        logits: Tensor = torch.func.functional_call(block, state, (x,))
        return logits

    def _dropped(self, ops: Sequence[Op], share: float) -> dict[str, float]:
        """Of the MBConvs with a shortcut in the last two stages, the share of samples that are without them."""
        last = tuple(f"{stage.name}." for stage in self.space.stages[-2:])
        blocks = [op for op in ops if isinstance(op, MBConv | TransformerBlock)]
        shares = {
            op.name: share * i / len(blocks)
            for i, op in enumerate(blocks)
            if isinstance(op, MBConv) and op.shortcut
        }
        return {name: value for name, value in shares.items() if name.startswith(last)}

    def block_state(self, op: Op, names: Mapping[str, torch.Size]) -> dict[str, Tensor]:
        """The entries `names` (name -> shape) of `build(op)`'s state dict, as views where possible."""
        deepest = getattr(self.ops.get(op.name), "depth", 0)
        if op.name not in self.ops or getattr(op, "depth", 0) > deepest:
            raise CheckpointError(f"the supernet of space {self.space.name!r} has no block {op.name!r}")
        block = self.get_submodule(op.name)
        mine = dict(block.named_parameters()) | dict(block.named_buffers())
        state = {name: self._slice(name, mine[name], shape, op) for name, shape in names.items()}
        for name, shape in names.items():
            if state[name].shape != shape:
                raise CheckpointError(
                    f"block {op.name!r} of the supernet of space {self.space.name!r} is narrower than the config asks"
                )
        return state

    def _slice(self, name: str, largest: Tensor, shape: torch.Size, op: Op) -> Tensor:
        if name not in _SCALES or self.scaling == "switchable":
            return _slice(name, largest, shape, op)
        if self.scaling == "shared":
            return largest[0, 0, : shape[0]]
        return torch.full(
            shape, shape[0] / 8.0, dtype=largest.dtype, device=largest.device
        )  # blocks: times 8 / C


SCALINGS = ("switchable", "shared", "none")
_SCALES = ("scale_attention", "scale_mlp")
_STATISTICS = ("running_mean", "running_var")


def _connected(out: Tensor, x: Tensor, block: nn.Module, state: Mapping[str, Tensor], share: float) -> Tensor:
    """`out` where a sample keeps what the block adds to its shortcut, in the mean as large; the shortcut alone where it does not."""
    tensors = {
        name.removeprefix("shortcut."): value for name, value in state.items() if name.startswith("shortcut.")
    }
    shortcut: Tensor = torch.func.functional_call(block.get_submodule("shortcut"), tensors, (x,))
    mask = (torch.rand(len(x), 1, 1, 1, device=x.device) >= share) / (1 - share)
    return shortcut + mask.to(out.dtype) * (out - shortcut)


class _Skeleton:
    """The module of an op without memory of its own, and the entries to give it."""

    def __init__(self, op: Op, batch_statistics: bool, ranks: Ranks | None) -> None:
        with torch.device("meta"):
            self.module = build(op)
        if batch_statistics:
            drop_statistics(self.module)
        if ranks is not None:
            share_statistics(self.module, ranks)
        self.module.train(batch_statistics)
        self.names = {
            name: value.shape
            for name, value in self.module.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
        for module in self.module.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.num_batches_tracked = None


_skeletons = threading.local()  # a functional call puts weights into the module: one thread, one module


def _skeleton(op: Op, batch_statistics: bool, ranks: Ranks | None) -> _Skeleton:
    skeletons: dict[Any, _Skeleton] = _skeletons.__dict__
    key = (op, batch_statistics, ranks)
    if key not in skeletons:
        skeletons[key] = _Skeleton(*key)
    return skeletons[key]


def drop_statistics(module: nn.Module) -> None:
    """Batch norm from the batch alone, with nothing kept."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.track_running_stats = False
            child.running_mean = child.running_var = None


def largest_ops(space: SearchSpace) -> dict[str, Op]:
    """Name -> the largest op at each place: the walk of the largest subnet, whose ops contain all others'."""
    return {op.name: op for op in lower(space, space.largest())}


def stage_ops(space: SearchSpace, config: SubnetConfig, size: tuple[int, int]) -> list[Op]:
    """The ops up to the last stage, for images of a size."""
    return [op for op in lower(space, config, size) if isinstance(op, Stem | MBConv | TransformerBlock)]


def attach(root: nn.Module, name: str, block: nn.Module) -> None:
    """`root.mb4[2] = block` for the name `mb4.2`, making the list as needed."""
    stage, dot, index = name.partition(".")
    if not dot:
        root.add_module(stage, block)
        return
    if not hasattr(root, stage):
        root.add_module(stage, nn.ModuleList())
    blocks = root.get_submodule(stage)
    assert isinstance(blocks, nn.ModuleList)
    assert len(blocks) == int(index)
    blocks.append(block)


def _elastic(op: Op, space: SearchSpace) -> nn.Module:
    """The module of the largest op at a place, with what other sizes and depths need."""
    stage = next((s for s in space.stages if s.name == op.name.partition(".")[0]), None)
    if isinstance(op, MBConv):
        # published supernets hold one everywhere
        pooled = stage is not None and stage.shortcut == "pooled"
        return MBConvBlock(op, project_shortcut=True if pooled else None)
    block = build(op)
    if isinstance(op, TransformerBlock):
        assert isinstance(block, TransformerBlockModule)
        assert stage is not None
        assert stage.attention is not None
        if op.scaled:
            bank = torch.full((_scaling_rows(space), SCALING_SWITCHES, op.channels), 1e-4)
            block.scale_attention = nn.Parameter(bank.clone())
            block.scale_mlp = nn.Parameter(bank.clone())
        side = 2 * stage.attention.window - 1
        block.attention.position_table = nn.Parameter(torch.zeros(side * side, op.heads))
    return block


def _scaling_rows(space: SearchSpace) -> int:
    depths = (
        part["depth"]
        for part, stage in zip(space.chosen(space.largest())[1:], space.stages, strict=False)
        if stage.hybrid
    )
    return 1 + max(depths)


def _slice(name: str, largest: Tensor, shape: torch.Size, op: Op) -> Tensor:
    """The leading part of `largest` with `shape`; kernels from the centre, scaling and positions by place."""
    if isinstance(op, TransformerBlock):
        if name in _SCALES:
            return largest[op.depth, op.height * op.width % SCALING_SWITCHES, : shape[0]]
        if name == "attention.position_table":
            return crop_positions(largest, op.height, op.width, op.heads)
    if largest.shape == shape:
        return largest
    return leading(largest, shape)


def leading(largest: Tensor, shape: torch.Size) -> Tensor:
    """The leading part with `shape`; kernels from the centre."""
    if len(shape) == 4:
        margin = (largest.shape[-1] - shape[-1]) // 2
        kernel = slice(margin, margin + shape[-1])
        return largest[: shape[0], : shape[1], kernel, kernel]
    return largest[tuple(slice(0, n) for n in shape)]


def crop_positions(table: Tensor, height: int, width: int, heads: int) -> Tensor:
    """The offsets that a grid uses, ((2H-1) * (2W-1), heads), of a square table.

    Its middle; along an axis that is longer than the table was made for, all of it, resized bicubically.
    """
    side = round(table.shape[0] ** 0.5)
    window = (side + 1) // 2
    image = table[:, :heads].view(side, side, heads)
    top, left = max(0, window - height), max(0, window - width)
    image = image[top : side - top, left : side - left]
    if max(height, width) > window:
        image = resize_positions(image, (2 * height - 1, 2 * width - 1))
    return image.reshape(-1, heads)


def resize_positions(image: Tensor, size: tuple[int, int]) -> Tensor:
    """A position table (side, side, h) resized bicubically to (*size, h)."""
    resized = F.interpolate(image.permute(2, 0, 1)[None], size, mode="bicubic", align_corners=False)
    return resized[0].permute(1, 2, 0)


__all__ = [
    "SCALINGS",
    "SCALING_SWITCHES",
    "Supernet",
    "attach",
    "crop_positions",
    "drop_statistics",
    "largest_ops",
    "leading",
    "stage_ops",
]
