"""The space whose largest subnet is a network that was read, and what of it may be smaller."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from msgspec.structs import replace

from nasvit_edge.adopting.layers import Block, UnreadableError
from nasvit_edge.adopting.reading import Network
from nasvit_edge.errors import SpaceError
from nasvit_edge.ops import macs, round8
from nasvit_edge.preparation import Filter
from nasvit_edge.space import SearchSpace, parse_space
from nasvit_edge.space_parts import SpaceFile, content
from nasvit_edge.specs import Activation, Gate, HeadSpec, SqueezeSpec, StageSpec, StemSpec

LEAST_MACS = 0.35  # of the largest's, what the smallest subnet keeps at the same resolution
_SHARES = (1 / 2, 2 / 3)  # of a block's expanded channels, beside all of them: 3 and 4 of 6
_LAST_WIDTHS = (0.5, 0.75)  # of a last block without shortcut, whose width nothing is tied to
_MOST_DIGITS = 6  # of an expansion that is no whole number
_DIVISORS = range(1, 65)
_NARROWER_THAN: tuple[Literal["expanded", "input"], ...] = ("expanded", "input")


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """How images become a network's input, and its classes; see `SearchSpace`.

    Attributes:
        size: side of the images that it is trained and judged on, the largest resolution.
        resolutions: all that subnets take.
    """

    size: int
    resolutions: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_share: float
    filter: Filter = "bicubic"
    labels: Sequence[str] | str = "numbers"


def largest_space(network: Network, images: Images, name: str) -> SearchSpace:
    """The space of one: the network itself.

    Raises:
        SpaceError: it has what the grammar cannot say; names block and reason.
    """
    stages = [_stage(i, blocks) for i, blocks in enumerate(_runs(network.blocks), 1)]
    return _space(network, images, name, stages)


def elastic_space(network: Network, images: Images, name: str, least_macs: float = LEAST_MACS) -> SearchSpace:
    """The largest space that begins at `least_macs` of the network's MACs, by stages' depths, kernels and expansions."""
    runs = list(_runs(network.blocks))
    whole = largest_space(network, images, name)
    most = macs(whole, whole.largest())
    for depths in _least_depths(runs):
        stages = [
            _elastic(_stage(i, run), run, depth)
            for i, (run, depth) in enumerate(zip(runs, depths, strict=True), 1)
        ]
        stages[-1] = _free_last_width(stages[-1], runs[-1])
        space = _space(network, images, name, stages)
        smallest = space.from_choices([max(images.resolutions), *space.values(space.smallest())[1:]])
        if macs(space, smallest) >= least_macs * most:
            return space
    raise SpaceError(
        f"no space of {name} keeps {least_macs:.0%} of its MACs: at full depth its smallest has "
        f"{macs(space, smallest) / most:.0%}; give a smaller --least-macs"
    )


def _space(network: Network, images: Images, name: str, stages: Sequence[StageSpec]) -> SearchSpace:
    named = not isinstance(images.labels, str)
    file = SpaceFile(
        schema=1,
        name=name,
        resolutions=images.resolutions,
        classes=len(images.labels) if named else network.classifier.out_features,
        labels=tuple(images.labels) if named else str(images.labels),
        mean=images.mean,
        std=images.std,
        image_size=images.size,
        crop_share=images.crop_share,
        filter=images.filter,
        activation=_known(network.stem.activation),
        padding="same" if network.same else "even",
        norm_eps=network.eps,
        stem=StemSpec(
            width=network.stem.conv.out_channels,
            kernel_size=network.stem.kernel,
            stride=network.stem.stride,
        ),
        stage=tuple(stages),
        head=_head(network),
        squeeze=_squeeze(network.blocks),
    )
    return parse_space(content(file), Path(f"{name}.toml"))  # which checks every number


def _runs(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Blocks that are one stage: of one form, and behind the first of one width, without stride, with shortcuts or without."""
    run: list[Block] = []
    for block in blocks:
        if run and not _joins(block, run):
            yield run
            run = []
        run.append(block)
    yield run


def _joins(block: Block, run: Sequence[Block]) -> bool:
    skips = {other.skip for other in run if _stays(other)}
    return _stays(block) and _form(block) == _form(run[0]) and skips <= {block.skip}


def _stays(block: Block) -> bool:
    """Whether its shortcut could be the identity."""
    return block.first.stride == 1 and block.inputs == block.outputs


def _form(block: Block) -> tuple[object, ...]:
    layers = (block.fused, block.expand is not None, block.squeeze is not None)
    return (*layers, block.activation, block.project.activation)


def _stage(number: int, run: Sequence[Block]) -> StageSpec:
    """A stage of which nothing is elastic."""
    first = run[0]
    if first.skip and not _stays(first):
        raise UnreadableError(first.name, "has a shortcut although size or width change")
    shortcut: Literal["identity", "none"] = (
        "identity" if any(block.skip for block in run) or not any(map(_stays, run)) else "none"
    )
    ratios = [_ratio(block) for block in run]
    kernels = [block.first.kernel for block in run]
    return StageSpec(
        name=f"mb{number}",
        kind="mbconv",
        form="fused" if first.fused else "inverted",
        width=first.outputs,
        depth=len(run),
        kernel_size=kernels[0] if len(set(kernels)) == 1 else tuple((k,) for k in kernels),
        expand_ratio=ratios[0] if len(set(ratios)) == 1 else tuple((r,) for r in ratios),
        expands=first.expand is not None,
        se=first.squeeze is not None,
        stride=first.first.stride,
        activation=_known(first.activation),
        shortcut=shortcut,
        last_activation=bool(first.project.activation),
    )


def _ratio(block: Block) -> float:
    """The shortest number by which the input's width becomes the expanded one."""
    if block.expand is None:
        return 1
    for digits in range(_MOST_DIGITS + 1):
        ratio = round(block.expanded / block.inputs, digits)
        if round8(block.inputs * ratio) == block.expanded and ratio >= 1:
            return int(ratio) if ratio == int(ratio) else ratio
    raise UnreadableError(
        block.name,
        f"expands {block.inputs} channels to {block.expanded}; the grammar has multiples of 8, and not fewer than enter",
    )


def _squeeze(blocks: Sequence[Block]) -> SqueezeSpec:
    """How all squeeze-excitations are made."""
    squeezes = [(block, block.squeeze) for block in blocks if block.squeeze is not None]
    if not squeezes:
        return SqueezeSpec()
    kinds = {(squeeze.activation, squeeze.gate) for _, squeeze in squeezes}
    if len(kinds) > 1:
        raise SpaceError(
            f"its squeeze-excitations have different activations and gates, {sorted(kinds)}; one space has one kind"
        )
    act, gate = kinds.pop()
    for of, rounded, divisor in itertools.product(_NARROWER_THAN, (True, False), _DIVISORS):
        if all(
            _squeezed(block, of, rounded, divisor) == squeeze.reduce.weight.shape[0]
            for block, squeeze in squeezes
        ):
            return SqueezeSpec(
                of=of, divisor=divisor, rounded=rounded, activation=_known(act), gate=cast(Gate, gate)
            )
    block, squeeze = squeezes[0]
    raise UnreadableError(
        block.name,
        f"squeezes {block.expanded} channels to {squeeze.reduce.weight.shape[0]}, by no rule that all blocks share",
    )


def _squeezed(block: Block, of: str, rounded: bool, divisor: int) -> int:
    wide = (block.expanded if of == "expanded" else block.inputs) // divisor
    return round8(wide) if rounded else max(1, wide)


def _known(activation: str) -> Activation:
    return cast(Activation, activation)  # `parse_space` refuses others


def _head(network: Network) -> HeadSpec:
    inputs, wide = network.head.conv.in_channels, network.head.conv.out_channels
    act = _known(network.head.activation)
    if network.features is None:
        return HeadSpec(kind="pooled", width=(wide,), activation=act)
    ratio = wide // inputs
    if round8(inputs * ratio) != wide or network.features_activation != act:
        raise UnreadableError(
            "head",
            f"widens {inputs} channels to {wide} before pooling; the grammar has whole multiples, and one activation",
        )
    biased = network.features.bias is not None
    return HeadSpec(
        width=(network.features.weight.shape[0],), expand_ratio=ratio, bias=biased, activation=act
    )


def _least_depths(runs: Sequence[Sequence[Block]]) -> Iterator[list[int]]:
    """From one block a stage on, one more in the stage that is cut most, up to all of them."""
    depths = [1] * len(runs)
    yield list(depths)
    while any(depth < len(run) for depth, run in zip(depths, runs, strict=True)):
        shares = [depth / len(run) for depth, run in zip(depths, runs, strict=True)]
        at = min(range(len(runs)), key=lambda i: (shares[i], -len(runs[i])))
        depths[at] += 1
        yield list(depths)


def _elastic(stage: StageSpec, run: Sequence[Block], least_depth: int) -> StageSpec:
    if least_depth < len(run):
        stage = replace(stage, depth=tuple(range(least_depth, len(run) + 1)))
    stage = replace(
        stage, kernel_size=_each(stage.kernel_size, lambda k, _: tuple(range(3, k + 1, 2)) or (k,), run)
    )
    if run[0].expand is None:
        return stage
    return replace(stage, expand_ratio=_each(stage.expand_ratio, _ratios, run))


def _each(
    value: Any, choices: Callable[[Any, Sequence[Block]], tuple[Any, ...]], run: Sequence[Block]
) -> Any:
    """The choices of a stage, or of each block; a number where there is but one."""
    if isinstance(value, tuple):
        return tuple(choices(of_block[0], [block]) for of_block, block in zip(value, run, strict=True))
    listed = choices(value, run)
    return listed if len(listed) > 1 else value


def _ratios(ratio: float, blocks: Sequence[Block]) -> tuple[float, ...]:
    """Half, two thirds and all of an expansion, as far as they differ in channels."""
    whole = ratio == int(ratio)
    shares = [max(1, math.ceil(ratio * share) if whole else round(ratio * share, 1)) for share in _SHARES]
    kept: list[float] = []
    for each in sorted({*shares, ratio}):
        wide = [round8(block.inputs * each) for block in blocks]
        if each == ratio or (
            wide != [block.expanded for block in blocks]
            and all(wide != [round8(b.inputs * k) for b in blocks] for k in kept)
        ):
            kept.append(each)
    return tuple(kept)


def _free_last_width(stage: StageSpec, run: Sequence[Block]) -> StageSpec:
    """A last stage of one block without shortcut has widths of its own."""
    if len(run) > 1 or run[0].skip:
        return stage
    width = run[0].outputs
    widths = tuple(sorted({*(round8(width * share) for share in _LAST_WIDTHS), width}))
    return replace(stage, width=widths, shortcut="none")
