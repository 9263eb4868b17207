"""Fronts, ranks and areas are what their definitions say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.searching.pareto import crowding, front, hypervolume, ranks

costs = st.tuples(st.integers(1, 5), st.integers(0, 700), st.integers(0, 10**6), st.integers(2, 12))


def drawn(shape):
    columns, rows, seed, levels = shape
    return np.random.default_rng(seed).integers(0, levels, (rows, columns)).astype(float)


@given(shape=costs)
def test_a_front_is_what_nothing_beats_or_equals(shape):
    rows = drawn(shape)
    places = front(rows)
    distinct = np.unique(rows, axis=0)
    beaten = [((distinct <= row).all(1) & (distinct < row).any(1)).any() for row in distinct]
    expected = distinct[~np.array(beaten, bool)]
    assert np.array_equal(np.unique(rows[places], axis=0), expected)
    assert len(places) == len(expected)


@given(shape=costs)
def test_ranks_peel_fronts(shape):
    rows = drawn(shape)
    peeled = ranks(rows, len(rows))
    for rank in range(peeled.max() + 1 if len(peeled) else 0):
        left = np.flatnonzero(peeled >= rank)
        assert set(left[front(rows[left])]) == set(np.flatnonzero(peeled == rank))


def test_the_ends_of_a_front_are_never_crowded_out():
    rows = np.array([[0.0, 4.0], [1.0, 2.0], [1.1, 1.9], [3.0, 0.0]])
    distances = crowding(rows, np.zeros(4, np.intp))
    assert np.isinf(distances[[0, 3]]).all()
    assert np.isfinite(distances[[1, 2]]).all()


@given(seed=st.integers(0, 10**6), count=st.integers(0, 40))
def test_a_hypervolume_is_the_area_that_is_dominated(seed, count):
    rows = np.random.default_rng(seed).random((count, 2)) * 1.2
    grid = (np.arange(100) + 0.5) / 100
    cells = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 1, 2)
    covered = (rows[None] <= cells).all(2).any(1).mean() if count else 0.0
    assert hypervolume(rows, np.ones(2)) == pytest.approx(covered, abs=0.025)
