"""Populations as integer arrays: a row is a subnet, a column a gene, a value the index of a choice."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasvit_edge.errors import SpaceError
from nasvit_edge.genes import count
from nasvit_edge.space import SearchSpace, SubnetConfig, get_gene

Rows = np.ndarray[Any, np.dtype[np.int8]]
_Keys = np.ndarray[Any, np.dtype[np.uint64]]


@dataclass(frozen=True, slots=True)
class Genes:
    """The genes of a space as columns, and which of their choices a search may take.

    Attributes:
        allowed: for each gene the indices of the choices that are allowed, rising.
    """

    space: SearchSpace
    allowed: tuple[Rows, ...]

    def random(self, rng: np.random.Generator, count: int) -> Rows:
        """(count, genes): half uniform over genes, half around one level from small to large for all of them."""
        uniform = rng.random((count, len(self.allowed)))
        level = rng.random((count, 1))
        around = np.clip(level + rng.normal(0, 0.15, uniform.shape), 0, 1)
        share = np.where(np.arange(count)[:, None] % 2 == 0, uniform, around)
        return self._picked(share)

    def extremes(self) -> Rows:
        """(2, genes): every gene at its smallest and at its largest allowed choice."""
        return self._picked(np.repeat([[0.0], [1.0]], len(self.allowed), axis=1))

    def mutated(self, rng: np.random.Generator, rows: Rows, chance: float) -> Rows:
        """`rows` with each free gene drawn anew with the probability `chance`, at least one in a row."""
        free = np.flatnonzero([len(choices) > 1 for choices in self.allowed])
        if not len(free):
            return rows
        hit = rng.random((len(rows), len(free))) < chance
        hit[np.arange(len(rows)), rng.integers(len(free), size=len(rows))] = True
        drawn = self._picked(rng.random(rows.shape))
        mutants = rows.copy()
        mutants[:, free] = np.where(hit, drawn[:, free], rows[:, free])
        return self.risen(mutants)

    def neighbours(self, rows: Rows) -> Rows:
        """Every subnet that differs from one of `rows` in one gene."""
        neighbours: list[Rows] = []
        for column, choices in enumerate(self.allowed):
            for choice in choices if len(choices) > 1 else []:
                other = rows[rows[:, column] != choice]
                other[:, column] = choice
                neighbours.append(other)
        return self.only_rising(np.concatenate(neighbours) if neighbours else rows[:0])

    def keys(self, rows: Rows) -> _Keys:
        """One number a row, different for different subnets (of spaces with up to 1.8e19 of them)."""
        radix, value = [], 1
        for gene in self.space.genes:
            radix.append(value % 2**64)
            value *= len(gene.choices)
        return rows.astype(np.uint64) @ np.array(radix, np.uint64)

    def restricted(self) -> dict[str, tuple[int, ...]]:
        """Gene name -> the choices that are allowed, where these are not all."""
        return {
            gene.name: tuple(gene.choices[int(c)] for c in choices)
            for gene, choices in zip(self.space.genes, self.allowed, strict=True)
            if len(choices) < len(gene.choices)
        }

    def size(self) -> int:
        """The number of subnets that are allowed."""
        genes = zip(self.space.genes, self.allowed, strict=True)
        return count([[gene.choices[int(c)] for c in choices] for gene, choices in genes], self.space.ordered)

    def all_rows(self) -> Rows:
        """Every allowed subnet, for spaces small enough."""
        grid = np.meshgrid(*self.allowed, indexing="ij")
        return self.only_rising(np.stack([axis.ravel() for axis in grid], 1).astype(np.int8))

    def config(self, row: Any) -> SubnetConfig:
        """The subnet of one row."""
        return self.space.from_choices(
            [g.choices[int(i)] for g, i in zip(self.space.genes, row, strict=True)]
        )

    def rows(self, configs: Sequence[SubnetConfig]) -> Rows:
        """The rows of subnets of the space."""
        indices = [[g.choices.index(get_gene(c, g)) for g in self.space.genes] for c in configs]
        return np.array(indices, np.int8).reshape(len(configs), len(self.space.genes))

    def _picked(self, share: Any) -> Rows:
        """The allowed choices at these shares (0 to 1) of their lists."""
        rows = np.empty(share.shape, np.int8)
        for column, choices in enumerate(self.allowed):
            at = np.minimum((share[:, column] * len(choices)).astype(np.intp), len(choices) - 1)
            rows[:, column] = choices[at]
        return self.risen(rows)

    def risen(self, rows: Rows) -> Rows:
        """`rows` with widths raised, where they have to rise, to the least that is allowed and no less than the one before."""
        least = np.zeros(len(rows), np.int64)
        for column, fixed_at in self.space.ordered:
            if column is None:
                least[:] = fixed_at
                continue
            choices, allowed = np.array(self.space.genes[column].choices), self.allowed[column]
            lowest = allowed[np.searchsorted(choices[allowed], least)]
            rows[:, column] = np.maximum(rows[:, column], lowest)
            least = choices[rows[:, column]]
        return rows

    def only_rising(self, rows: Rows) -> Rows:
        """Those of `rows` that are of the space."""
        return rows[(self.risen(rows.copy()) == rows).all(1)] if self.space.ordered else rows


def genes(
    space: SearchSpace,
    keep: Mapping[str, Sequence[float]] | None = None,
    drop: Mapping[str, Sequence[float]] | None = None,
) -> Genes:
    """The genes of `space`, some of them only with the choices in `keep`, or without those in `drop`.

    Args:
        keep, drop: gene name (`resolution`, `mb4 depth`; `mb4.depth` and `mb4_depth` too) -> choices.

    Raises:
        SpaceError: a gene or choice that the space does not have, or a gene without any choice left.
    """
    by_gene = {gene.name: list(gene.choices) for gene in space.genes}
    for source, inside in ((keep or {}, True), (drop or {}, False)):
        for text, values in source.items():
            name = _gene_name(space, text)
            _check(space, name, values)
            by_gene[name] = [c for c in by_gene[name] if (c in values) == inside]
            if not by_gene[name]:
                raise SpaceError(f"no choice of {name} is left")
    _leave_rising(space, by_gene)
    allowed = [np.array([g.choices.index(c) for c in by_gene[g.name]], np.int8) for g in space.genes]
    return Genes(space, tuple(allowed))


def _leave_rising(space: SearchSpace, by_gene: dict[str, list[int]]) -> None:
    """Take out the widths that no others that are left can stand before or behind."""
    chain = [
        (by_gene[space.genes[n].name], space.genes[n].name)
        if n is not None
        else ([fixed_at], "a fixed width")
        for n, fixed_at in space.ordered
    ]
    for (before, _), (after, name) in itertools.pairwise(chain):
        after[:] = [width for width in after if width >= min(before)]
        if not after:
            raise SpaceError(f"no choice of {name} is left: widths of space {space.name!r} rise")
    for (before, _), (after, _) in reversed(list(itertools.pairwise(chain))):
        before[:] = [width for width in before if width <= max(after)]


def _gene_name(space: SearchSpace, text: str) -> str:
    spelled = {_plain(gene.name): gene.name for gene in space.genes}
    if _plain(text) not in spelled:
        raise SpaceError(f"space {space.name!r} has no gene {text!r}; it has {', '.join(spelled.values())}")
    return spelled[_plain(text)]


def _plain(text: str) -> str:
    return text.replace("_", " ").replace(".", " ").replace("-", " ").lower()


def _check(space: SearchSpace, name: str, values: Sequence[float]) -> None:
    choices = next(gene.choices for gene in space.genes if gene.name == name)
    for value in values:
        if value not in choices:
            raise SpaceError(
                f"{name} {value!r} is not in space {space.name!r}; it has {' '.join(map(str, choices))}"
            )
