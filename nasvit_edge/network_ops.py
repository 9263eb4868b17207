"""The op of a network that is taken whole; methods as those of `ops`."""

from __future__ import annotations

from dataclasses import dataclass, field

from nasvit_edge.block_ops import KEY_VERSION, Placed
from nasvit_edge.specs import NetworkSpec

PLACE = "network"  # its name, and that of the one place of its space


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeNetwork(Placed):
    """Images to logits, by a network that somebody else wrote; what it costs was counted when it was adopted."""

    kind = "network"
    spec: NetworkSpec
    classes: int
    height: int
    width: int
    name: str = field(default=PLACE, compare=False)
    stage: str = field(default=PLACE, compare=False)

    def key(self) -> str:
        spec = self.spec
        return (
            f"{self.kind}/{KEY_VERSION}:{self.height}x{self.width}:{spec.source}:{self.classes}:{spec.digest}"
        )

    def in_shape(self) -> tuple[int, ...]:
        return (3, self.height, self.width)

    def out_shape(self) -> tuple[int, ...]:
        return (self.classes,)

    def macs(self) -> int:
        return self.spec.macs

    def weights(self) -> int:
        return self.spec.weights
