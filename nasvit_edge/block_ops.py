"""Ops of a subnet, a block each: what they are is all that `build` needs.

Sizes: `height`, `width` are the op's *input* grid. Names (`mb4.2`) and the active depth of a stage
belong to a place in a subnet, not to what is computed, and take no part in equality or keys.
`macs()` are multiply-accumulates for one image; `weights()` are the constants of the folded op, biases aside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

KEY_VERSION = 1
IMAGE = ""  # the name of what the first op takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What every op has: its kind, with which its key begins, and where in a subnet it is, which is no part of what is computed.

    Attributes:
        name: of its module, as `mb4.2`.
        stage: whose genes it depends on; of a branch of a decoder, the one whose output it takes.
        inputs: the names of the ops whose outputs it takes: it computes on the first one's, and adds the others' to what that gives.
    """

    kind: ClassVar[str]
    name: str = field(default="", compare=False)
    stage: str = field(default="", compare=False)
    inputs: tuple[str, ...] = field(default=(), compare=False)


def _more(*words: str | bool) -> str:
    """What a key says of an op that is not as ops were before there was a choice."""
    return "".join(f":{word}" for word in words if word and word != "silu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stem(Placed):
    """k x k conv (3 -> channels), batch norm, activation; `same`: padded as TensorFlow does it."""

    kind = "stem"
    channels: int
    kernel_size: int
    stride: int
    height: int
    width: int
    activation: str = "silu"
    same: bool = False
    eps: float = 1e-5
    name: str = field(default="first_conv", compare=False)
    stage: str = field(default="first_conv", compare=False)

    def more(self) -> str:
        """What its key adds."""
        return _more(self.activation, self.same and "same")

    def key(self) -> str:
        sizes = f"3-{self.channels}:k{self.kernel_size}:s{self.stride}"
        return f"{self.kind}/{KEY_VERSION}:{self.height}x{self.width}:{sizes}{self.more()}"

    def in_shape(self) -> tuple[int, ...]:
        return (3, self.height, self.width)

    def out_shape(self) -> tuple[int, ...]:
        return (self.channels, strided(self.height, self.stride), strided(self.width, self.stride))

    def macs(self) -> int:
        return 3 * self.kernel_size**2 * math.prod(self.out_shape())

    def weights(self) -> int:
        return 3 * self.kernel_size**2 * self.channels


@dataclass(frozen=True, slots=True, kw_only=True)
class MBConv(Placed):
    """[1x1 conv], depthwise k x k, [SE], 1x1 conv, plus the shortcut (spec section 2).

    `expanded` is the hidden width E; `expands` says whether the first 1x1 conv exists;
    `squeezed` is the SE bottleneck M, 0 for none. `fused`: a k x k conv in place of the first two; one that does
    not expand is all there is. `last_active`: what the shortcut is added to has an activation. `same`: padded as
    TensorFlow does it. `eps` of batch norm is folded away, so no part of the key.
    """

    kind = "mbconv"
    in_channels: int
    expanded: int
    channels: int
    expands: bool
    squeezed: int
    kernel_size: int
    stride: int
    height: int
    width: int
    activation: str = "silu"
    squeeze: tuple[str, str] = ("relu", "hard_sigmoid")  # activation and gate
    fused: bool = False
    shortcut: bool = True
    last_active: bool = False
    same: bool = False
    eps: float = 1e-5
    name: str = field(default="mbconv", compare=False)

    @property
    def projects_shortcut(self) -> bool:
        """Whether the shortcut needs a 1x1 conv."""
        return self.shortcut and self.in_channels != self.channels

    @property
    def has_depthwise(self) -> bool:
        return not self.fused

    @property
    def has_project(self) -> bool:
        """Whether a 1x1 conv is last."""
        return self.expands or not self.fused

    def more(self) -> str:
        """What its key adds."""
        squeeze = self.squeezed and self.squeeze != ("relu", "hard_sigmoid") and "-".join(self.squeeze)
        form = (
            self.fused and "fused",
            not self.shortcut and "noskip",
            self.last_active and "active",
            self.same and "same",
        )

        return _more(self.activation, squeeze or "", *form)

    def key(self) -> str:
        expanded = f"{'x' if self.expands else ''}{self.expanded}"
        return (
            f"{self.kind}/{KEY_VERSION}:{self.height}x{self.width}:{self.in_channels}-{expanded}-{self.channels}"
            f":k{self.kernel_size}:s{self.stride}:se{self.squeezed}{self.more()}"
        )

    def in_shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.height, self.width)

    def out_shape(self) -> tuple[int, ...]:
        return (self.channels, strided(self.height, self.stride), strided(self.width, self.stride))

    def macs(self) -> int:
        inputs, outputs = self.height * self.width, math.prod(self.out_shape()[1:])
        first, depthwise, project, shortcut = self._layers()
        squeeze = 2 * self.expanded * self.squeezed
        return (
            first * (outputs if self.fused else inputs) + (depthwise + project + shortcut) * outputs + squeeze
        )

    def weights(self) -> int:
        return sum(self._layers()) + 2 * self.expanded * self.squeezed

    def _layers(self) -> tuple[int, int, int, int]:
        """The weights of the conv that expands (or of a fused one), the depthwise one, the last and the shortcut's."""
        area, wide = self.kernel_size**2, self.expanded if self.has_project else self.channels
        first = self.in_channels * wide * (area if self.fused else 1) if self.expands or self.fused else 0
        shortcut = self.in_channels * self.channels if self.projects_shortcut else 0
        project = wide * self.channels if self.has_project else 0
        return first, 0 if self.fused else wide * area, project, shortcut


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerBlock(Placed):
    """Attention and MLPs on a grid of N = height * width tokens of C channels.

    `mixes`: heads are mixed before and behind the softmax; `by_token`: norms are over a token, not all of a sample;
    `biased`: q, k and v have biases; `scaled`: branches have weights a channel before they are added.
    """

    kind = "transformer"
    channels: int
    head_width: int
    value_ratio: int
    height: int
    width: int
    mlps: int = 2
    mlp_ratio: int = 1
    mixes: bool = True
    by_token: bool = False
    biased: bool = True
    scaled: bool = True
    activation: str = "silu"
    depth: int = field(default=1, compare=False)
    name: str = field(default="transformer", compare=False)

    @property
    def heads(self) -> int:
        return self.channels // self.head_width

    @property
    def value_channels(self) -> int:
        return self.channels * self.value_ratio

    @property
    def inner(self) -> int:
        """The width inside an MLP."""
        return self.channels * self.mlp_ratio

    def more(self) -> str:
        """What its key adds."""
        mlps = (self.mlps, self.mlp_ratio) != (2, 1) and f"m{self.mlps}x{self.mlp_ratio}"
        plain = (not self.mixes and "unmixed", self.by_token and "token")
        return _more(
            mlps, *plain, not self.biased and "unbiased", not self.scaled and "unscaled", self.activation
        )

    def key(self) -> str:
        return (
            f"{self.kind}/{KEY_VERSION}:{self.height}x{self.width}:{self.channels}"
            f":h{self.heads}:v{self.value_ratio}{self.more()}"
        )

    def in_shape(self) -> tuple[int, ...]:
        return (self.channels, self.height, self.width)

    def out_shape(self) -> tuple[int, ...]:
        return self.in_shape()

    def macs(self) -> int:
        tokens, c, v = self.height * self.width, self.channels, self.value_channels
        return tokens * self.token_weights() + tokens**2 * (c + v + 2 * self.heads**2 * self.mixes)

    def weights(self) -> int:
        tokens = self.height * self.width
        return (
            self.token_weights() + self.heads * tokens**2
        )  # the table of positions is spread out when folded

    def token_weights(self) -> int:
        """The weights of what is applied to each token: q k, v proj, v conv, MLPs."""
        c, v = self.channels, self.value_channels
        return 2 * c * c + 2 * c * v + 9 * v + self.mlps * 2 * c * self.inner


@dataclass(frozen=True, slots=True, kw_only=True)
class Head(Placed):
    """1x1 conv to `expanded`, batch norm, activation, global average pool, 1x1 conv to `features`, activation.

    `features` 0: there is no second conv.
    """

    kind = "head"
    in_channels: int
    expanded: int
    features: int
    height: int
    width: int
    biased: bool = False
    activation: str = "silu"
    eps: float = 1e-5
    name: str = field(default="last_conv", compare=False)
    stage: str = field(default="last_conv", compare=False)

    def more(self) -> str:
        """What its key adds."""
        return _more(self.biased and "biased", not self.features and "pooled", self.activation)

    def key(self) -> str:
        widths = f"{self.in_channels}-{self.expanded}-{self.features}"
        return f"{self.kind}/{KEY_VERSION}:{self.height}x{self.width}:{widths}{self.more()}"

    def in_shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.height, self.width)

    def out_shape(self) -> tuple[int, ...]:
        return (self.features or self.expanded,)

    def macs(self) -> int:
        return self.expanded * (self.in_channels * self.height * self.width + self.features)

    def weights(self) -> int:
        return self.expanded * (self.in_channels + self.features)


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier(Placed):
    """Linear to the classes."""

    kind = "classifier"
    features: int
    classes: int
    name: str = field(default="classifier", compare=False)
    stage: str = field(default="last_conv", compare=False)

    def key(self) -> str:
        return f"{self.kind}/{KEY_VERSION}:{self.features}-{self.classes}"

    def in_shape(self) -> tuple[int, ...]:
        return (self.features,)

    def out_shape(self) -> tuple[int, ...]:
        return (self.classes,)

    def macs(self) -> int:
        return self.features * self.classes

    def weights(self) -> int:
        return self.features * self.classes


def kind_of(key: str) -> str:
    """The kind of op that a table's key is of, where there is no op."""
    return key.partition("/")[0]


def round8(value: float) -> int:
    """The nearest multiple of 8 (half up), 8 more where that falls below 0.9 of `value` (spec section 2)."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


def strided(size: int, stride: int) -> int:
    """The output side of a convolution with odd kernel k and padding k // 2."""
    return -(-size // stride)


def padded_unevenly(stride: int, *sides: int) -> bool:
    """Whether padding as TensorFlow's SAME differs from k // 2 all round: strides over an even side begin at the first pixel."""
    return stride > 1 and any((strided(side, stride) - 1) * stride + 1 < side for side in sides)
