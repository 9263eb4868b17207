"""Ops of a decoder, which labels pixels; methods as those of `ops`."""

from __future__ import annotations

from dataclasses import dataclass, field

from nasvit_edge.block_ops import KEY_VERSION, Placed


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateral(Placed):
    """A decoder's branch: 1x1 conv of a level's output, batch norm, bilinear resize to the finest level's grid.

    The decoder adds its branches up: the all-MLP decoder of SegFormer (Xie et al., NeurIPS 2021, section 3.2), whose
    linear layers before and behind the concatenation, with nothing between, are one here.
    """

    kind = "lateral"
    in_channels: int
    channels: int
    height: int
    width: int
    out_height: int
    out_width: int
    name: str = field(default="lateral", compare=False)

    def key(self) -> str:
        return (
            f"{self.kind}/{KEY_VERSION}:{self.height}x{self.width}-{self.out_height}x{self.out_width}"
            f":{self.in_channels}-{self.channels}"
        )

    def in_shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.height, self.width)

    def out_shape(self) -> tuple[int, ...]:
        return (self.channels, self.out_height, self.out_width)

    def macs(self) -> int:
        return self.in_channels * self.channels * self.height * self.width

    def weights(self) -> int:
        return self.in_channels * self.channels


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelClassifier(Placed):
    """Activation of the sum of the laterals, 1x1 conv to the classes: logits on the finest level's grid."""

    kind = "pixels"
    channels: int
    classes: int
    height: int
    width: int
    activation: str = "silu"
    name: str = field(default="pixel_classifier", compare=False)
    stage: str = field(default="last_conv", compare=False)

    def key(self) -> str:
        more = "" if self.activation == "silu" else f":{self.activation}"
        return f"{self.kind}/{KEY_VERSION}:{self.height}x{self.width}:{self.channels}-{self.classes}{more}"

    def in_shape(self) -> tuple[int, ...]:
        return (self.channels, self.height, self.width)

    def out_shape(self) -> tuple[int, ...]:
        return (self.classes, self.height, self.width)

    def macs(self) -> int:
        return self.channels * self.classes * self.height * self.width

    def weights(self) -> int:
        return self.channels * self.classes


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels(Placed):
    """Bilinear resize of the logits to the input's size, and the largest class of each pixel."""

    kind = "labels"
    classes: int
    height: int
    width: int
    out_height: int
    out_width: int
    name: str = field(default="labels", compare=False)
    stage: str = field(default="last_conv", compare=False)

    def key(self) -> str:
        return (
            f"{self.kind}/{KEY_VERSION}:{self.height}x{self.width}-{self.out_height}x{self.out_width}"
            f":{self.classes}"
        )

    def in_shape(self) -> tuple[int, ...]:
        return (self.classes, self.height, self.width)

    def out_shape(self) -> tuple[int, ...]:
        return (self.out_height, self.out_width)

    def macs(self) -> int:
        return 0

    def weights(self) -> int:
        return 0
