"""The parts of a search space, as its TOML has them (each field lists the choices), and of a subnet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from nasvit_edge.records import Record

# What a part may leave open, with the letter of `SubnetConfig.line`: where a part lists choices of it, that is a gene.
# `SubnetConfig` has a list for each.
GENES = {"width": "w", "depth": "d", "kernel_size": "k", "expand_ratio": "e"}


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
