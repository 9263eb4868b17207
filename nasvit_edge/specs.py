"""The parts of a search space, as its TOML has them (each field lists the choices), and of a subnet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

GENES = ("width", "depth", "kernel_size", "expand_ratio")


@dataclass(frozen=True, slots=True, kw_only=True)
class StemSpec:
    """The first convolution: k x k, batch norm, SiLU."""

    width: tuple[int, ...]
    kernel_size: int
    stride: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec:
    """A stage; `hybrid` means one MBConv, then transformer blocks up to the active depth.

    `expands`: whether its MBConvs have a 1x1 convolution first; where any choice of `expand_ratio` is above 1, they do.
    """

    name: str
    hybrid: bool
    width: tuple[int, ...]
    depth: tuple[int, ...]
    kernel_size: tuple[int, ...]
    expand_ratio: tuple[int, ...]
    se: bool
    stride: int
    expands: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """What comes behind the stages.

    Attributes:
        kind: `classifier`: 1x1 to `expand_ratio` times the input, pooling, 1x1 to `width`, classes. `mlp`: a decoder for
            pixels, each level 1x1 to `width` (one choice), resized, added, 1x1 to the classes.
    """

    width: tuple[int, ...]
    expand_ratio: int = 0
    kind: str = "classifier"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSpec:
    """Widths per head and the side of the grid that the position tables are made for."""

    head_width: int = 8
    value_ratio: int = 4
    window: int = 18


@dataclass(frozen=True, slots=True)
class SubnetConfig:
    """One subnet of a space. Made and checked by `SearchSpace.config`."""

    resolution: int
    width: tuple[int, ...]
    depth: tuple[int, ...]
    kernel_size: tuple[int, ...]
    expand_ratio: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; the inverse of `space.config(**...)`."""
        return {"resolution": self.resolution} | {g: list(getattr(self, g)) for g in GENES}

    def line(self) -> str:
        """`r:192 w:16-16-24 d:1-2-3 k:3-5-3 e:1-4-4`."""
        return f"r:{self.resolution} " + " ".join(
            f"{g[0]}:{'-'.join(map(str, getattr(self, g)))}" for g in GENES
        )


@dataclass(frozen=True, slots=True)
class Gene:
    """One free choice of a space: `gene.kind` at position `gene.index` (of the whole list)."""

    kind: str
    index: int
    choices: tuple[int, ...]
    name: str


def get_gene(config: SubnetConfig, gene: Gene) -> int:
    """The choice of `gene` in `config`."""
    if gene.kind == "resolution":
        return config.resolution
    value: int = getattr(config, gene.kind)[gene.index]
    return value
