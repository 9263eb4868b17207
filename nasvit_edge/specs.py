"""The parts of a search space, as its TOML has them: the grammar of blocks.

What a part leaves open is a list of choices, which is a gene; a plain number is fixed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from nasvit_edge.records import Strict
from nasvit_edge.trusting import TIMM

Kernel = Annotated[int, Meta(ge=1, le=31, description="an odd number from 1 to 31, or a rising list")]
Width = Annotated[int, Meta(ge=1, le=4096, description="a number from 1 to 4096, or a rising list")]
_Depth = Annotated[int, Meta(ge=1, le=64, description="a number from 1 to 64, or a rising list")]
_RATIO = "a number from 1 to 32, or a rising list"
_Ratio = Annotated[int, Meta(ge=1, le=32, description=_RATIO)]
_Fraction = Annotated[float, Meta(ge=1, le=32, description=_RATIO)]
_Expansion = _Ratio | _Fraction
_Values = Annotated[int, Meta(ge=1, le=16, description="a number from 1 to 16, or a rising list")]
_Few = Annotated[int, Meta(ge=1, le=4, description="a number from 1 to 4, or a rising list")]
_HeadWidth = Annotated[int, Meta(ge=1, le=65536, description="a rising list of 1 to 65536")]
_SOME = Meta(min_length=1, description="a number, or a rising list of at least one")
Plain = Annotated[
    str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$(?!\n)", description="use letters, digits, - and _")
]
Counted = Annotated[int, Meta(ge=0, lt=10**15, description="a number, as `adopt` counts it")]
Activation = Literal["silu", "hard_swish", "relu", "relu6", "gelu"]
Gate = Literal["hard_sigmoid", "sigmoid"]


class StemSpec(Strict, frozen=True, kw_only=True):
    """The first convolution: k x k, batch norm, activation."""

    width: Width | Annotated[tuple[Width, ...], _SOME]
    kernel_size: Kernel
    stride: Annotated[int, Meta(ge=1, le=4, description="1, 2, 3 or 4")]
    activation: Activation | None = None  # where a part names none, it is the space's


class SqueezeSpec(Strict, frozen=True, kw_only=True):
    """How squeeze-excitation is made.

    Attributes:
        of: what it is narrower than, `divisor` times: the `expanded` width inside the block, or its `input`.
        rounded: whether to a multiple of 8.
    """

    of: Literal["expanded", "input"] = "expanded"
    divisor: Annotated[int, Meta(ge=1, le=64, description="a number from 1 to 64")] = 4
    rounded: bool = True
    activation: Activation = "relu"
    gate: Gate = "hard_sigmoid"


class AttentionSpec(Strict, frozen=True, kw_only=True):
    """Transformer blocks: attention, then MLPs, each added to what it is computed from.

    Attributes:
        head_width: q and k channels a head; v has `value_ratio` times as many.
        window: side of the grid that position tables are made for.
        mixing: whether heads are mixed by linear layers, before and behind the softmax.
        norm: over all values of a `sample`, or of a `token`.
        bias: of the layers that make q, k and v.
        mlps, mlp_ratio: how many MLPs follow, and how much wider they are inside.
        scaling: whether each branch is scaled by weights a channel.
    """

    head_width: Annotated[int, Meta(ge=1, le=256, description="a number from 1 to 256")] = 8
    value_ratio: _Values | Annotated[tuple[_Values, ...], _SOME] = 4
    window: Annotated[int, Meta(ge=1, le=256, description="a number from 1 to 256")] = 18
    mixing: Literal["talking_heads", "none"] = "talking_heads"
    norm: Literal["sample", "token"] = "sample"
    bias: bool = True
    mlps: _Few | Annotated[tuple[_Few, ...], _SOME] = 2
    mlp_ratio: _Values | Annotated[tuple[_Values, ...], _SOME] = 1
    scaling: bool = True


class StageSpec(Strict, frozen=True, kw_only=True):
    """A stage of blocks; `hybrid` means one MBConv, then transformer blocks up to the active depth.

    Attributes:
        width: `same`: tied to the width that enters.
        kernel_size, expand_ratio: of MBConvs; lists in a list are each block's own.
        expands: whether its MBConvs have a 1x1 convolution first; where any choice of `expand_ratio` is above 1, they do.
        form: `inverted`: 1x1, depthwise k x k, 1x1; without `expands` that is a depthwise-separable convolution. `fused`:
            k x k, 1x1; without `expands` it is a k x k convolution alone.
        shortcut: `pooled` to every size and width, `identity` where both stay, or `none`.
        last_activation: whether what is added has an activation, too.
        counts_first: of a hybrid stage, whether its depth counts the MBConv.
        attention: of a hybrid stage, what is not as in the space's.
    """

    name: Plain
    kind: Literal["mbconv", "hybrid"]
    width: Width | Literal["same"] | Annotated[tuple[Width, ...], _SOME]
    depth: _Depth | Annotated[tuple[_Depth, ...], _SOME]
    kernel_size: Kernel | Annotated[tuple[Kernel | Annotated[tuple[Kernel, ...], _SOME], ...], _SOME]
    expand_ratio: (
        _Expansion | Annotated[tuple[_Expansion | Annotated[tuple[_Expansion, ...], _SOME], ...], _SOME]
    )
    se: bool | Annotated[tuple[Literal[0, 1], ...], Meta(min_length=1, description="true, false or [0, 1]")]
    stride: Annotated[int, Meta(ge=1, le=2, description="1 or 2")]
    expands: bool | None = None
    activation: Activation | None = None
    form: Literal["inverted", "fused"] = "inverted"
    shortcut: Literal["pooled", "identity", "none"] = "pooled"
    last_activation: bool = False
    counts_first: bool = True
    attention: AttentionSpec | None = None

    @property
    def hybrid(self) -> bool:
        return self.kind == "hybrid"


class HeadSpec(Strict, frozen=True, kw_only=True):
    """What comes behind the stages.

    Attributes:
        kind: `classifier`: 1x1 to `expand_ratio` times the input, pooling, 1x1 to `width`, classes. `pooled`: 1x1 to `width`,
            pooling, classes. `mlp`: a decoder for pixels, each level 1x1 to `width` (one choice), resized, added, 1x1 to the classes.
        bias: of a classifier's second 1x1.
    """

    width: Annotated[tuple[_HeadWidth, ...], Meta(min_length=1, description="a rising list of 1 to 65536")]
    expand_ratio: Annotated[int, Meta(ge=0, le=32, description="a number from 1 to 32")] = 0
    kind: Literal["classifier", "pooled", "mlp"] = "classifier"
    activation: Activation | None = None
    bias: bool = False


class NetworkSpec(Strict, frozen=True, kw_only=True):
    """A whole network that is taken as it is, in place of stem, stages and head: `docs/fixed.md`.

    Attributes:
        source: who makes it: `timm:NAME`, or a function `module:function` of the user's own.
        digest: of its layers and the shapes of its weights (`model.networks.digest`); another one is refused.
        macs, weights, parameters, activations: what `sizes` says of other ops; here they were counted when it was adopted.
    """

    source: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z0-9_][A-Za-z0-9_.]*$(?!\n)",
            description="timm:NAME, or module:function",
        ),
    ]
    digest: Annotated[
        str, Meta(pattern=r"^[0-9a-f]{16}$(?!\n)", description="16 digits, as `adopt` writes it")
    ]
    macs: Counted
    weights: Counted
    parameters: Counted
    activations: Counted

    @property
    def is_program(self) -> bool:
        """Whether a function makes it that is nobody's but the user's, or of whoever wrote the space."""
        return not self.source.startswith(TIMM)


Part = StemSpec | StageSpec | HeadSpec | NetworkSpec
