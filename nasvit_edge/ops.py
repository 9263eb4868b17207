"""Block-level ops and the one walk over a subnet.

`lower(space, config)` is the only code that knows the order of blocks: latency prediction, MACs,
the profiler's work list and the standalone model are read off its result.
(Ops themselves: `block_ops`, and of a decoder `pixel_ops`.)
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nasvit_edge.block_ops import IMAGE as IMAGE
from nasvit_edge.block_ops import Classifier as Classifier
from nasvit_edge.block_ops import Head as Head
from nasvit_edge.block_ops import MBConv as MBConv
from nasvit_edge.block_ops import Stem as Stem
from nasvit_edge.block_ops import TransformerBlock as TransformerBlock
from nasvit_edge.block_ops import kind_of as kind_of
from nasvit_edge.block_ops import padded_unevenly as padded_unevenly
from nasvit_edge.block_ops import round8 as round8
from nasvit_edge.block_ops import strided as strided
from nasvit_edge.errors import SpaceError
from nasvit_edge.network_ops import WholeNetwork as WholeNetwork
from nasvit_edge.pixel_ops import Labels as Labels
from nasvit_edge.pixel_ops import Lateral as Lateral
from nasvit_edge.pixel_ops import PixelClassifier as PixelClassifier
from nasvit_edge.space import SearchSpace, SubnetConfig
from nasvit_edge.specs import AttentionSpec, NetworkSpec, SqueezeSpec, StageSpec

Op = Stem | MBConv | TransformerBlock | Head | Classifier | Lateral | PixelClassifier | Labels | WholeNetwork


def lower(space: SearchSpace, config: SubnetConfig, size: tuple[int, int] | None = None) -> tuple[Op, ...]:
    """The ops of a subnet in order, for an input of `size` (height, width); that of the config's resolution by default.

    Each says which ones' outputs it takes: a `Lateral` that of its stage, to which it adds what the laterals before gave.
    """
    return tuple(_walk(space, config, size or space.input_size(config.resolution)))


def _walk(space: SearchSpace, config: SubnetConfig, size: tuple[int, int]) -> Iterator[Op]:
    if space.network is not None:
        yield _network(space, space.network, size)
        return
    chosen, stem = space.chosen(config), space.stem
    assert stem is not None
    op: Op = Stem(
        channels=chosen[0]["width"],
        kernel_size=stem.kernel_size,
        stride=stem.stride,
        height=size[0],
        width=size[1],
        activation=stem.activation or space.activation,
        same=space.padding == "same" and padded_unevenly(stem.stride, *size),
        eps=space.norm_eps,
        inputs=(IMAGE,),
    )
    yield op
    last = {}
    for i, stage in enumerate(space.stages):
        for block in range(chosen[i + 1]["depth"] + (not stage.counts_first)):
            op = _block(space, stage, chosen[i + 1], block, op)
            yield op
        last[i] = op
    if space.is_dense:
        yield from _decoder(space, [last[i] for i in space.levels], size)
        return
    op = _head(space, chosen[-1]["width"], op)
    yield op
    yield Classifier(features=op.out_shape()[0], classes=space.classes, inputs=(op.name,))


def _network(space: SearchSpace, spec: NetworkSpec, size: tuple[int, int]) -> WholeNetwork:
    """SpaceError for another size than the one that its costs were counted for."""
    if size != space.input_size(space.resolutions[0]):
        side = space.resolutions[0]
        raise SpaceError(
            f"{spec.source} of space {space.name!r} takes images of {side} x {side}, not of {size[0]} x {size[1]}"
        )
    return WholeNetwork(spec=spec, classes=space.classes, height=size[0], width=size[1], inputs=(IMAGE,))


def _head(space: SearchSpace, widest: int, before: Op) -> Head:
    channels, height, width = before.out_shape()
    head = space.head
    assert head is not None
    pooled = head.kind == "pooled"
    return Head(
        in_channels=channels,
        expanded=widest if pooled else round8(channels * head.expand_ratio),
        features=0 if pooled else widest,
        height=height,
        width=width,
        biased=head.bias,
        activation=head.activation or space.activation,
        eps=space.norm_eps,
        inputs=(before.name,),
    )


def _decoder(space: SearchSpace, levels: list[Op], size: tuple[int, int]) -> Iterator[Op]:
    head = space.head
    assert head is not None
    finest, decoded = levels[0].out_shape()[1:], head.width[0]
    so_far: tuple[str, ...] = ()
    for place, level in enumerate(levels):
        channels, height, width = level.out_shape()
        branch = Lateral(
            in_channels=channels,
            channels=decoded,
            height=height,
            width=width,
            out_height=finest[0],
            out_width=finest[1],
            name=f"lateral.{place}",
            stage=level.stage,
            inputs=(level.name, *so_far),
        )
        yield branch
        so_far = (branch.name,)
    logits = PixelClassifier(
        channels=decoded,
        classes=space.classes,
        height=finest[0],
        width=finest[1],
        activation=head.activation or space.activation,
        inputs=so_far,
    )
    yield logits
    yield Labels(
        classes=space.classes,
        height=finest[0],
        width=finest[1],
        out_height=size[0],
        out_width=size[1],
        inputs=(logits.name,),
    )


def _block(space: SearchSpace, stage: StageSpec, choices: Mapping[str, Any], block: int, before: Op) -> Op:
    if stage.attention is not None and block > 0:
        return _transformer(space, stage, stage.attention, choices, block, before)
    channels, height, width = before.out_shape()
    kernel, ratio = (
        choices[kind] if kind in choices else choices[f"{kind}_{block}"]
        for kind in ("kernel_size", "expand_ratio")
    )
    expanded = round8(channels * ratio) if stage.expands else channels
    stride = stage.stride if block == 0 else 1
    same = stride == 1 and channels == choices["width"]
    return MBConv(
        in_channels=channels,
        expanded=expanded,
        channels=choices["width"],
        expands=bool(stage.expands),
        squeezed=_squeezed(space.squeeze, expanded, channels) if choices["se"] else 0,
        kernel_size=kernel,
        stride=stride,
        height=height,
        width=width,
        activation=stage.activation or space.activation,
        squeeze=(space.squeeze.activation, space.squeeze.gate),
        fused=stage.form == "fused",
        shortcut=stage.shortcut == "pooled" or (stage.shortcut == "identity" and same),
        last_active=stage.last_activation,
        same=space.padding == "same" and padded_unevenly(stride, height, width),
        eps=space.norm_eps,
        name=f"{stage.name}.{block}",
        stage=stage.name,
        inputs=(before.name,),
    )


def _squeezed(spec: SqueezeSpec, expanded: int, channels: int) -> int:
    wide = expanded if spec.of == "expanded" else channels
    return round8(wide // spec.divisor) if spec.rounded else max(1, wide // spec.divisor)


def _transformer(
    space: SearchSpace,
    stage: StageSpec,
    spec: AttentionSpec,
    choices: Mapping[str, Any],
    block: int,
    before: Op,
) -> Op:
    channels, height, width = before.out_shape()
    return TransformerBlock(
        channels=channels,
        head_width=spec.head_width,
        value_ratio=choices["value_ratio"],
        height=height,
        width=width,
        mlps=choices["mlps"],
        mlp_ratio=choices["mlp_ratio"],
        mixes=spec.mixing != "none",
        by_token=spec.norm == "token",
        biased=spec.bias,
        scaled=spec.scaling,
        activation=stage.activation or space.activation,
        depth=choices["depth"],
        name=f"{stage.name}.{block}",
        stage=stage.name,
        inputs=(before.name,),
    )


def last_reads(ops: Sequence[Op]) -> list[list[str]]:
    """For each op, the names of those whose outputs nobody reads behind it."""
    read: set[str] = set()
    reads = []
    for op in reversed(ops):
        reads.append([name for name in op.inputs if name not in read])
        read.update(op.inputs)
    return reads[::-1]


@functools.lru_cache(maxsize=8)  # a command asks for those of one space several times
def all_ops(space: SearchSpace) -> tuple[Op, ...]:
    """Every distinct op of every subnet of `space`, in a stable order.

    An op depends on the genes of its place and the width that enters, so one walk per combination of those, with
    everything else smallest, meets them all.
    """
    ops: dict[Op, None] = {}
    for resolution in space.resolutions:
        for place in range(len(space.parts)):
            for config in _variants(space, resolution, place):
                ops |= dict.fromkeys(lower(space, config))
    return tuple(ops)


def _variants(space: SearchSpace, resolution: int, place: int) -> Iterator[SubnetConfig]:
    """All choices of what a place depends on, at one resolution."""
    base, near = space.smallest(), space.near(place)
    for values in itertools.product((resolution,), *(space.genes[n].choices for n in near[1:])):
        yield space.varied(base, dict(zip(near, values, strict=True)))


def macs(space: SearchSpace, config: SubnetConfig) -> int:
    """Multiply-accumulates for one image: convolutions, linear layers and attention products."""
    return sum(op.macs() for op in lower(space, config))


@functools.lru_cache(maxsize=8)
def op_keys(space: SearchSpace) -> frozenset[str]:
    """The keys of a space's ops."""
    return frozenset(op.key() for op in all_ops(space))


def ops_digest(space: SearchSpace) -> str:
    """Eight digits of which ops a space has: what a latency table is of, whatever the space is called."""
    return hashlib.sha256("\n".join(sorted(op_keys(space))).encode()).hexdigest()[:8]
