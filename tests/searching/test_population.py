"""Populations: rows and subnets are one to one, and only what is allowed is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import TINY, one_line, space_of
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.errors import SpaceError
from nasvit_edge.searching.population import genes
from nasvit_edge.space import load_space

TINY_SPACE = space_of(TINY)
NASVIT = load_space("nasvit")


@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_rows_and_subnets_are_one_to_one(seed):
    every = genes(NASVIT)
    rows = every.random(np.random.default_rng(seed), 50)
    configs = [every.config(row) for row in rows]
    assert np.array_equal(every.rows(configs), rows)
    assert len(set(every.keys(rows).tolist())) == len(set(configs))


def test_all_rows_are_all_subnets():
    every = genes(TINY_SPACE)
    rows = every.all_rows()
    assert len(rows) == every.size() == len(set(every.keys(rows).tolist()))
    assert {every.config(row) for row in rows} == set(TINY_SPACE.all_configs())


@given(seed=st.integers(0, 1000), data=st.data())
@settings(max_examples=30)
def test_only_allowed_choices_are_ever_made(seed, data):
    gene = data.draw(st.sampled_from(NASVIT.genes))
    some = data.draw(st.lists(st.sampled_from(gene.choices), min_size=1, unique=True))
    rng = np.random.default_rng(seed)
    kept = genes(NASVIT, keep={gene.name: some})
    rows = kept.random(rng, 40)
    generations = [rows, kept.extremes(), kept.mutated(rng, rows, 0.5), kept.neighbours(rows[:3])]
    column = NASVIT.genes.index(gene)
    for row in np.concatenate(generations):
        assert gene.choices[row[column]] in some
    if len(some) < len(gene.choices):
        assert kept.restricted() == {gene.name: tuple(sorted(some))}
        dropped = genes(NASVIT, drop={gene.name: some})
        assert not set(dropped.restricted()[gene.name]) & set(some)


def test_a_mutant_differs_and_a_neighbour_differs_in_one_gene():
    every, rng = genes(NASVIT), np.random.default_rng(0)
    rows = every.random(rng, 200)
    mutants = every.mutated(rng, rows, 0.1)
    assert (mutants != rows).any(1).mean() > 0.5  # a gene may be drawn as it was
    near = every.neighbours(rows[:1])
    assert set((near != rows[0]).sum(1).tolist()) == {1}
    assert len(near) == sum(len(gene.choices) - 1 for gene in NASVIT.genes)


@pytest.mark.parametrize(
    ("keep", "drop", "match"),
    [
        ({"mb9 depth": [3]}, {}, "has no gene"),
        ({"mb4.depth": [99]}, {}, "mb4 depth 99 is not in space"),
        ({"resolution": []}, {}, "no choice of resolution is left"),
        ({}, {"resolution": [192, 224, 256, 288]}, "no choice of resolution is left"),
    ],
)
def test_a_gene_or_choice_that_is_not_there_is_refused(keep, drop, match):
    with pytest.raises(SpaceError, match=match) as error:
        genes(NASVIT, keep, drop)
    one_line(error)


def test_genes_may_be_spelled_with_dots_or_underscores():
    for name in ("mb4 depth", "mb4.depth", "mb4_depth", "MB4-Depth"):
        assert genes(NASVIT, {name: [3]}).restricted() == {"mb4 depth": (3,)}
