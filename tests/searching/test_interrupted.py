"""A search that was killed goes on to the very result it would have had."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import COMPOSITION, predictor, table

from nasvit_edge.searching import interrupted as progress
from nasvit_edge.searching.evolution import Effort, evolve
from nasvit_edge.searching.search import Problem
from nasvit_edge.space import load_space

NASVIT = load_space("nasvit")
EFFORT = Effort(population=24, generations=9)


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def problem():
    tables = (table(NASVIT, 0, COMPOSITION), table(NASVIT, 1))  # the second knows no interval
    return Problem(space=NASVIT, tables=tables, accuracy=predictor(NASVIT))


@pytest.fixture(autouse=True)
def always_written(monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS", 0.0)


def whole(problem, seed):
    return evolve(problem.evaluator, (), seed, EFFORT)


def interrupted(problem, seed, after, path):
    """The state on disk of a search that was killed after some generations."""
    keeper = progress.Keeper(path, "key")

    def show(state):
        keeper.save(state)
        if state.generation == after:
            raise KilledError

    with pytest.raises(KilledError):
        evolve(problem.evaluator, (), seed, EFFORT, on_generation=show)


@pytest.mark.parametrize("after", [0, 4, 8])
def test_a_resumed_search_ends_as_an_uninterrupted_one(problem, tmp_path, after):
    path = tmp_path / "s.partial"
    interrupted(problem, 3, after, path)
    state = progress.Keeper(path, "key").load()
    assert state.generation == after
    resumed = evolve(problem.evaluator, (), 3, EFFORT, state=state)
    expected = whole(problem, 3)
    assert np.array_equal(resumed.kept, expected.kept)
    assert np.array_equal(resumed.rows, expected.rows)
    assert resumed.evaluated == expected.evaluated
    assert np.array_equal(resumed.kept_values.accuracy, expected.kept_values.accuracy)


def test_the_state_of_another_search_is_not_continued(problem, tmp_path):
    path = tmp_path / "s.partial"
    interrupted(problem, 0, 2, path)
    assert progress.Keeper(path, "another").load() is None
    assert progress.Keeper(tmp_path / "none", "key").load() is None


@given(data=st.data())
@settings(max_examples=60)
def test_a_damaged_state_is_not_continued(problem, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("p") / "s.partial"
    interrupted(problem, 0, 1, path)
    raw = json.loads(path.read_text())
    where = data.draw(st.sampled_from([raw, raw["state"]]))
    key = data.draw(st.sampled_from(sorted(where)))
    old = where[key]
    where[key] = data.draw(
        st.sampled_from([None, "x", -1, [], {}, [[1, 2], [3]], True, 10**400, [[99] * 31]])
    )
    if where[key] == old:
        return
    path.write_text(json.dumps(raw))
    assert progress.Keeper(path, "key").load() is None
