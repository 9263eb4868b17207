"""The parts of a search space, as its TOML has them (each field lists the choices), and of a subnet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta
from msgspec.structs import replace

from nasvit_edge.records import Record, Strict

# What a part may leave open, with the letter of `SubnetConfig.line`: where a part lists choices of it, that is a gene.
# `SubnetConfig` has a list for each.
GENES = {"width": "w", "depth": "d", "kernel_size": "k", "expand_ratio": "e"}


_ODD = "odd numbers from 1 to 31, a list rising"
Kernel = Annotated[int, Meta(ge=1, le=31, description=_ODD)]
_Width = Annotated[int, Meta(ge=1, le=4096, description="numbers from 1 to 4096, a list rising")]
_Depth = Annotated[int, Meta(ge=1, le=64, description="numbers from 1 to 64, a list rising")]
_Ratio = Annotated[int, Meta(ge=1, le=32, description="numbers from 1 to 32, a list rising")]
_HeadWidth = Annotated[int, Meta(ge=1, le=65536, description="numbers from 1 to 65536, a list rising")]
SomeWidths = Annotated[tuple[_Width, ...], Meta(min_length=1, description="a rising list of 1 to 4096")]
Plain = Annotated[
    str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$(?!\n)", description="use letters, digits, - and _")
]


class StemSpec(Strict, frozen=True, kw_only=True):
    """The first convolution: k x k, batch norm, SiLU."""

    width: SomeWidths
    kernel_size: Kernel
    stride: Annotated[int, Meta(ge=1, le=4, description="1, 2, 3 or 4")]


class StageSpec(Strict, frozen=True, kw_only=True):
    """A stage of blocks; `hybrid` means one MBConv, then transformer blocks up to the active depth.

    `expands`: whether its MBConvs have a 1x1 convolution first; where any choice of `expand_ratio` is above 1, they do.
    """

    name: Plain
    kind: Literal["mbconv", "hybrid"]
    width: SomeWidths
    depth: Annotated[tuple[_Depth, ...], Meta(min_length=1, description="a rising list of 1 to 64")]
    kernel_size: Annotated[tuple[Kernel, ...], Meta(min_length=1, description="a rising list of odd numbers")]
    expand_ratio: Annotated[tuple[_Ratio, ...], Meta(min_length=1, description="a rising list of 1 to 32")]
    se: bool
    stride: Annotated[int, Meta(ge=1, le=2, description="1 or 2")]
    expands: bool | None = None

    @property
    def hybrid(self) -> bool:
        return self.kind == "hybrid"


class HeadSpec(Strict, frozen=True, kw_only=True):
    """What comes behind the stages.

    Attributes:
        kind: `classifier`: 1x1 to `expand_ratio` times the input, pooling, 1x1 to `width`, classes. `mlp`: a decoder for
            pixels, each level 1x1 to `width` (one choice), resized, added, 1x1 to the classes.
    """

    width: Annotated[tuple[_HeadWidth, ...], Meta(min_length=1, description="a rising list of 1 to 65536")]
    expand_ratio: Annotated[int, Meta(ge=0, le=32, description="a number from 1 to 32")] = 0
    kind: Literal["classifier", "mlp"] = "classifier"


class AttentionSpec(Strict, frozen=True, kw_only=True):
    """Widths per head and the side of the grid that the position tables are made for."""

    head_width: Annotated[int, Meta(ge=1, le=256, description="a number from 1 to 256")] = 8
    value_ratio: Annotated[int, Meta(ge=1, le=16, description="a number from 1 to 16")] = 4
    window: Annotated[int, Meta(ge=1, le=256, description="a number from 1 to 256")] = 18


Part = StemSpec | StageSpec | HeadSpec
_Part = TypeVar("_Part", StemSpec, StageSpec, HeadSpec)


class SubnetConfig(Record, frozen=True, repr_omit_defaults=True):
    """One subnet of a space: for each kind of gene, the choices of the places that have it, in order.

    Made and checked by `SearchSpace.config`.
    """

    resolution: int
    width: tuple[int, ...] = ()
    depth: tuple[int, ...] = ()
    kernel_size: tuple[int, ...] = ()
    expand_ratio: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; the inverse of `space.config(**...)`."""
        return {"resolution": self.resolution} | {kind: list(values) for kind, values in self._lists()}

    def line(self) -> str:
        """`r:192 w:16-16-24 d:1-2-3 k:3-5-3 e:1-4-4`."""
        lists = (f"{GENES[kind]}:{'-'.join(map(str, values))}" for kind, values in self._lists())
        return " ".join([f"r:{self.resolution}", *lists])

    def __hash__(self) -> int:  # that of the library differs from run to run, and with it the order of a set
        return hash((self.resolution, *(values for _, values in self._lists())))

    def _lists(self) -> list[tuple[str, tuple[int, ...]]]:
        return [(kind, getattr(self, kind)) for kind in GENES if getattr(self, kind)]


@dataclass(frozen=True, slots=True)
class Gene:
    """One free choice of a space: `gene.kind` at position `gene.index` (of the whole list).

    Attributes:
        place: the part whose choice it is: 0 the stem, then the stages, the head; -1 the input (its resolution).
        key: what it is called among its part's genes; its name begins with the part's.
    """

    kind: str
    index: int
    choices: tuple[int, ...]
    name: str
    place: int
    key: str


def listed_genes(resolutions: tuple[int, ...], parts: Sequence[Part]) -> Iterator[Gene]:
    """The genes of a space: the resolution, then for stem, stages and head whatever they list choices of."""
    yield Gene("resolution", 0, resolutions, "resolution", -1, "resolution")
    counts: Counter[str] = Counter()
    for place, part in enumerate(parts):
        last = "first_conv" if isinstance(part, StemSpec) else "last_conv"
        name = part.name if isinstance(part, StageSpec) else last
        for kind in GENES:
            choices = getattr(part, kind, None)
            if isinstance(choices, tuple):
                yield Gene(kind, counts[kind], choices, f"{name} {kind.replace('_', ' ')}", place, kind)
                counts[kind] += 1


def with_only(part: _Part, chosen: Mapping[str, int]) -> _Part:
    """A part that lists one choice of each of its genes, which are given by key."""
    changes: dict[str, Any] = {key: (choice,) for key, choice in chosen.items()}
    return replace(part, **changes)


def get_gene(config: SubnetConfig, gene: Gene) -> int:
    """The choice of `gene` in `config`."""
    if gene.kind == "resolution":
        return config.resolution
    value: int = getattr(config, gene.kind)[gene.index]
    return value
