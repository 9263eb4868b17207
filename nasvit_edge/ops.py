"""Block-level ops and the one walk over a subnet.

`lower(space, config)` is the only code that knows the order of blocks: latency prediction, MACs,
the profiler's work list and the standalone model are read off its result.

Sizes: `height`, `width` are the op's *input* grid. Names (`mb4.2`) and the active depth of a stage
belong to a place in a subnet, not to what is computed, and take no part in equality or keys.
`macs()` are multiply-accumulates for one image; `weights()` are the constants of the folded op, biases aside.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nasvit_edge.pixel_ops import Labels as Labels
from nasvit_edge.pixel_ops import Lateral as Lateral
from nasvit_edge.pixel_ops import PixelClassifier as PixelClassifier
from nasvit_edge.space import SearchSpace, SubnetConfig
from nasvit_edge.specs import StageSpec

KEY_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Stem:
    """k x k conv (3 -> channels), batch norm, SiLU."""

    channels: int
    kernel_size: int
    stride: int
    height: int
    width: int
    name: str = field(default="first_conv", compare=False)

    def key(self) -> str:
        return f"stem/{KEY_VERSION}:{self.height}x{self.width}:3-{self.channels}:k{self.kernel_size}:s{self.stride}"

    def in_shape(self) -> tuple[int, ...]:
        return (3, self.height, self.width)

    def out_shape(self) -> tuple[int, ...]:
        return (self.channels, strided(self.height, self.stride), strided(self.width, self.stride))

    def macs(self) -> int:
        return 3 * self.kernel_size**2 * math.prod(self.out_shape())

    def weights(self) -> int:
        return 3 * self.kernel_size**2 * self.channels


@dataclass(frozen=True, slots=True, kw_only=True)
class MBConv:
    """[1x1 conv], depthwise k x k, [SE], 1x1 conv, plus the shortcut (spec section 2).

    `expanded` is the hidden width E; `expands` says whether the first 1x1 conv exists;
    `squeezed` is the SE bottleneck M, 0 for none.
    """

    in_channels: int
    expanded: int
    channels: int
    expands: bool
    squeezed: int
    kernel_size: int
    stride: int
    height: int
    width: int
    name: str = field(default="mbconv", compare=False)

    @property
    def projects_shortcut(self) -> bool:
        """Whether the shortcut needs a 1x1 conv."""
        return self.in_channels != self.channels

    def key(self) -> str:
        expanded = f"{'x' if self.expands else ''}{self.expanded}"
        return (
            f"mbconv/{KEY_VERSION}:{self.height}x{self.width}:{self.in_channels}-{expanded}-{self.channels}"
            f":k{self.kernel_size}:s{self.stride}:se{self.squeezed}"
        )

    def in_shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.height, self.width)

    def out_shape(self) -> tuple[int, ...]:
        return (self.channels, strided(self.height, self.stride), strided(self.width, self.stride))

    def macs(self) -> int:
        inputs, outputs = self.height * self.width, math.prod(self.out_shape()[1:])
        expand = self.in_channels * self.expanded * inputs if self.expands else 0
        depthwise = self.expanded * self.kernel_size**2 * outputs
        squeeze = 2 * self.expanded * self.squeezed
        project = self.expanded * self.channels * outputs
        shortcut = self.in_channels * self.channels * outputs if self.projects_shortcut else 0
        return expand + depthwise + squeeze + project + shortcut

    def weights(self) -> int:
        wide, narrow = self.expanded, self.in_channels + self.channels
        shortcut = self.in_channels * self.channels if self.projects_shortcut else 0
        pointwise = wide * (narrow if self.expands else self.channels)
        return pointwise + wide * (self.kernel_size**2 + 2 * self.squeezed) + shortcut


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerBlock:
    """Attention and two MLPs on a grid of N = height * width tokens of C channels."""

    channels: int
    head_width: int
    value_ratio: int
    height: int
    width: int
    depth: int = field(default=1, compare=False)
    name: str = field(default="transformer", compare=False)

    @property
    def heads(self) -> int:
        return self.channels // self.head_width

    @property
    def value_channels(self) -> int:
        return self.channels * self.value_ratio

    def key(self) -> str:
        return (
            f"transformer/{KEY_VERSION}:{self.height}x{self.width}:{self.channels}"
            f":h{self.heads}:v{self.value_ratio}"
        )

    def in_shape(self) -> tuple[int, ...]:
        return (self.channels, self.height, self.width)

    def out_shape(self) -> tuple[int, ...]:
        return self.in_shape()

    def macs(self) -> int:
        tokens, c, v = self.height * self.width, self.channels, self.value_channels
        linear = tokens * (2 * c * c + 2 * c * v + 9 * v + 4 * c * c)  # q k, v proj, v conv, MLPs
        return linear + tokens**2 * (c + v + 2 * self.heads**2)

    def weights(self) -> int:
        tokens, c, v = self.height * self.width, self.channels, self.value_channels
        positions = self.heads * tokens**2  # the table is spread out when folded
        return 2 * c * c + 2 * c * v + 9 * v + 4 * c * c + positions


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """1x1 conv to `expanded`, batch norm, SiLU, global average pool, 1x1 conv to `features`, SiLU."""

    in_channels: int
    expanded: int
    features: int
    height: int
    width: int
    name: str = field(default="last_conv", compare=False)

    def key(self) -> str:
        widths = f"{self.in_channels}-{self.expanded}-{self.features}"
        return f"head/{KEY_VERSION}:{self.height}x{self.width}:{widths}"

    def in_shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.height, self.width)

    def out_shape(self) -> tuple[int, ...]:
        return (self.features,)

    def macs(self) -> int:
        return self.expanded * (self.in_channels * self.height * self.width + self.features)

    def weights(self) -> int:
        return self.expanded * (self.in_channels + self.features)


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """Linear to the classes."""

    features: int
    classes: int
    name: str = field(default="classifier", compare=False)

    def key(self) -> str:
        return f"classifier/{KEY_VERSION}:{self.features}-{self.classes}"

    def in_shape(self) -> tuple[int, ...]:
        return (self.features,)

    def out_shape(self) -> tuple[int, ...]:
        return (self.classes,)

    def macs(self) -> int:
        return self.features * self.classes

    def weights(self) -> int:
        return self.features * self.classes


Op = Stem | MBConv | TransformerBlock | Head | Classifier | Lateral | PixelClassifier | Labels


def lower(space: SearchSpace, config: SubnetConfig, size: tuple[int, int] | None = None) -> tuple[Op, ...]:
    """The ops of a subnet in order, for an input of `size` (height, width); that of the config's resolution by default.

    Each takes what the one before gives, but a `Lateral` takes the output of its stage, and the op behind the laterals
    their sum.
    """
    return tuple(_walk(space, config, size or space.input_size(config.resolution)))


def _walk(space: SearchSpace, config: SubnetConfig, size: tuple[int, int]) -> Iterator[Op]:
    chosen = space.chosen(config)
    op: Op = Stem(
        channels=chosen[0]["width"],
        kernel_size=space.stem.kernel_size,
        stride=space.stem.stride,
        height=size[0],
        width=size[1],
    )
    yield op
    grids = {}
    for i, stage in enumerate(space.stages):
        for block in range(chosen[i + 1]["depth"]):
            op = _block(space, stage, chosen[i + 1], block, op.out_shape())
            yield op
        grids[i] = op.out_shape()
    if space.is_dense:
        yield from _decoder(space, [(space.stages[i].name, grids[i]) for i in space.levels], size)
        return
    channels, height, width = op.out_shape()
    op = Head(
        in_channels=channels,
        expanded=round8(channels * space.head.expand_ratio),
        features=chosen[-1]["width"],
        height=height,
        width=width,
    )
    yield op
    yield Classifier(features=op.features, classes=space.classes)


def _decoder(
    space: SearchSpace, levels: list[tuple[str, tuple[int, ...]]], size: tuple[int, int]
) -> Iterator[Op]:
    finest, decoded = levels[0][1][1:], space.head.width[0]
    for place, (stage, (channels, height, width)) in enumerate(levels):
        yield Lateral(
            in_channels=channels,
            channels=decoded,
            height=height,
            width=width,
            out_height=finest[0],
            out_width=finest[1],
            stage=stage,
            name=f"lateral.{place}",
        )
    yield PixelClassifier(channels=decoded, classes=space.classes, height=finest[0], width=finest[1])
    yield Labels(
        classes=space.classes,
        height=finest[0],
        width=finest[1],
        out_height=size[0],
        out_width=size[1],
    )


def _block(
    space: SearchSpace, stage: StageSpec, own: Mapping[str, int], block: int, shape: tuple[int, ...]
) -> Op:
    channels, height, width = shape
    if stage.hybrid and block > 0:
        return TransformerBlock(
            channels=channels,
            head_width=space.attention.head_width,
            value_ratio=space.attention.value_ratio,
            height=height,
            width=width,
            depth=own["depth"],
            name=f"{stage.name}.{block}",
        )
    expands = bool(stage.expands)
    expanded = round8(channels * own["expand_ratio"]) if expands else channels
    return MBConv(
        in_channels=channels,
        expanded=expanded,
        channels=own["width"],
        expands=expands,
        squeezed=round8(expanded // 4) if stage.se else 0,
        kernel_size=own["kernel_size"],
        stride=stage.stride if block == 0 else 1,
        height=height,
        width=width,
        name=f"{stage.name}.{block}",
    )


@functools.lru_cache(maxsize=8)  # a command asks for those of one space several times
def all_ops(space: SearchSpace) -> tuple[Op, ...]:
    """Every distinct op of every subnet of `space`, in a stable order.

    An op depends on the genes of its place and the width that enters, so one walk per combination of those, with
    everything else smallest, meets them all.
    """
    found: dict[Op, None] = {}
    for resolution in space.resolutions:
        for place in range(len(space.parts)):
            for config in _variants(space, resolution, place):
                found |= dict.fromkeys(lower(space, config))
    return tuple(found)


def _variants(space: SearchSpace, resolution: int, place: int) -> Iterator[SubnetConfig]:
    """All choices of what a place depends on, at one resolution."""
    base, near = space.smallest(), space.near(place)
    for values in itertools.product((resolution,), *(space.genes[n].choices for n in near[1:])):
        yield space.varied(base, dict(zip(near, values, strict=True)))


def macs(space: SearchSpace, config: SubnetConfig) -> int:
    """Multiply-accumulates for one image: convolutions, linear layers and attention products."""
    return sum(op.macs() for op in lower(space, config))


def round8(value: float) -> int:
    """The nearest multiple of 8 (half up), 8 more where that falls below 0.9 of `value` (spec section 2)."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


def strided(size: int, stride: int) -> int:
    """The output side of a convolution with odd kernel k and padding k // 2."""
    return -(-size // stride)


@functools.lru_cache(maxsize=8)
def op_keys(space: SearchSpace) -> frozenset[str]:
    """The keys of a space's ops."""
    return frozenset(op.key() for op in all_ops(space))


def ops_digest(space: SearchSpace) -> str:
    """Eight digits of which ops a space has: what a latency table is of, whatever the space is called."""
    return hashlib.sha256("\n".join(sorted(op_keys(space))).encode()).hexdigest()[:8]
