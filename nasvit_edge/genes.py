"""The genes of a space, declared once: what a part may leave open, and a subnet, which has chosen of all of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from msgspec import Meta
from msgspec.structs import replace

from nasvit_edge.errors import SpaceError
from nasvit_edge.records import Record
from nasvit_edge.specs import HeadSpec, Part, StageSpec, StemSpec

# Kind, with the letter of `SubnetConfig.line`: where a part (or its attention) lists choices of it, that is a gene.
# `SubnetConfig` has a list for each.
GENES = {
    "width": "w",
    "depth": "d",
    "kernel_size": "k",
    "expand_ratio": "e",
    "se": "s",
    "value_ratio": "v",
    "mlps": "n",
    "mlp_ratio": "m",
}
_Part = TypeVar("_Part", StemSpec, StageSpec, HeadSpec)
# expansions of published networks are fractions at times: 2.5 (MobileNetV3)
Choice = int | Annotated[float, Meta(ge=1, le=32)]


class SubnetConfig(Record, frozen=True, repr_omit_defaults=True):
    """One subnet of a space: for each kind of gene, the choices of the places that have it, in order.

    Made and checked by `SearchSpace.config`.
    """

    resolution: int
    width: tuple[int, ...] = ()
    depth: tuple[int, ...] = ()
    kernel_size: tuple[int, ...] = ()
    expand_ratio: tuple[Choice, ...] = ()
    se: tuple[int, ...] = ()
    value_ratio: tuple[int, ...] = ()
    mlps: tuple[int, ...] = ()
    mlp_ratio: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, object]:
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
    choices: tuple[Any, ...]  # whole numbers, of expansions fractions, too
    name: str
    place: int
    key: str


def listed(part: Part, kind: str) -> Any:
    """What a part says of a kind of gene; None where it says nothing."""
    return getattr(part, kind, getattr(getattr(part, "attention", None), kind, None))


def listed_genes(resolutions: tuple[int, ...], parts: Sequence[Part]) -> Iterator[Gene]:
    """The genes of a space: the resolution, then for stem, stages and head whatever they list choices of."""
    yield Gene("resolution", 0, resolutions, "resolution", -1, "resolution")
    counts: Counter[str] = Counter()
    for place, part in enumerate(parts):
        last = "first_conv" if isinstance(part, StemSpec) else "last_conv"
        name = part.name if isinstance(part, StageSpec) else last
        for kind in GENES:
            for key, choices in _keyed(kind, listed(part, kind)):
                yield Gene(kind, counts[kind], choices, f"{name} {key.replace('_', ' ')}", place, key)
                counts[kind] += 1


def _keyed(kind: str, choices: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Key and choices of each gene: one, or one for each block."""
    if isinstance(choices, tuple) and isinstance(choices[0], tuple):
        yield from ((f"{kind}_{block}", values) for block, values in enumerate(choices))
    elif isinstance(choices, tuple):
        yield kind, choices


def with_only(part: _Part, chosen: Mapping[str, int]) -> _Part:
    """A part that lists one choice of each of its genes, which are given by key."""
    return _with_only(part, chosen)


def _with_only(record: Any, chosen: Mapping[str, int]) -> Any:
    changes: dict[str, object] = {}
    for kind in GENES:
        if kind in chosen and isinstance(getattr(record, kind, None), tuple):
            changes[kind] = (chosen[kind],)
        elif f"{kind}_0" in chosen and hasattr(record, kind):
            changes[kind] = tuple((chosen[f"{kind}_{i}"],) for i in range(len(getattr(record, kind))))
    if getattr(record, "attention", None) is not None:
        changes["attention"] = _with_only(record.attention, chosen)
    return replace(record, **changes)


def fixed(part: Part) -> dict[str, object]:
    """What a part has in place of genes: kind -> number."""
    numbers = ((kind, listed(part, kind)) for kind in GENES)
    return {kind: number for kind, number in numbers if isinstance(number, int | float)}


def has_choice(gene: Gene, value: object) -> bool:
    """Whether a gene has this choice, whole where the space has a whole number."""
    return any(value == choice and type(value) is type(choice) for choice in gene.choices)


def get_gene(config: SubnetConfig, gene: Gene) -> Any:
    """The choice of `gene` in `config`."""
    if gene.kind == "resolution":
        return config.resolution
    return getattr(config, gene.kind)[gene.index]


Ordered = Sequence[tuple[int | None, int]]  # (gene by number, 0) or (None, what it is fixed at), in order


def risen(values: Sequence[int], genes: Sequence[Gene], ordered: Ordered) -> list[int]:
    """Choices of all genes, those that are `ordered` raised to the least that is no less than the one before."""
    adjusted, least = list(values), 0
    for n, fixed_at in ordered:
        if n is not None:
            adjusted[n] = max(adjusted[n], min(c for c in genes[n].choices if c >= least))
        least = fixed_at if n is None else adjusted[n]
    return adjusted


def count(choices: Sequence[Sequence[int]], ordered: Ordered = ()) -> int:
    """How many ways there are to choose of every gene, where those that are `ordered` may not fall."""
    ways, before = {0: 1}, None
    for n, fixed_at in ordered:
        if n is None or n != before:
            allowed = [fixed_at] if n is None else choices[n]
            ways = {c: sum(k for least, k in ways.items() if least <= c) for c in allowed}
        before = n
    chained = {n for n, _ in ordered}
    return sum(ways.values()) * math.prod(
        len(allowed) for n, allowed in enumerate(choices) if n not in chained
    )


def check_lists(values: Mapping[str, Any], counts: Mapping[str, int], space: str) -> None:
    """SpaceError where there is not a list of the right length for each kind of gene, or another one."""
    for kind, length in counts.items():
        numbers = values[kind]
        if not isinstance(numbers, list | tuple) or len(numbers) != length:
            raise SpaceError(f"{kind} is {numbers!r}; space {space!r} needs a list of {length} numbers")


def check_keys(values: Collection[str], known: Collection[str], what: str) -> None:
    """SpaceError for the first key that is missing or unknown."""
    for key in known:
        if key not in values:
            raise SpaceError(f"{what} has no {key!r}; it needs {', '.join(known)}")
    for key in values:
        if key not in known:
            raise SpaceError(f"{what} has an unknown key {key!r}; it takes {', '.join(known)}")
