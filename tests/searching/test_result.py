"""Result files: read back as written; damaged ones give one line."""

from __future__ import annotations

import json

import pytest
from conftest import only_user_errors
from hypothesis import given
from hypothesis import strategies as st
from made_up import SETTING, table

import nasvit_edge as ne
from nasvit_edge.searching.evolution import Effort
from nasvit_edge.searching.result import SavedResult, read_result, to_json
from nasvit_edge.searching.search import search
from nasvit_edge.space import load_space

SPACE = load_space("nasvit")


@pytest.fixture(scope="module")
def content():
    result = search(
        SPACE, table(SPACE), ne.load_accuracy("nasvit"), 1e6, 0, effort=Effort(population=10, generations=2)
    )
    return to_json(result, SETTING) | {"genes": {"mb4 depth": [3, 4]}}


def test_a_result_is_read_back_as_written(content, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(content))
    saved = read_result(tmp_path / "r.json")
    assert saved.setting == SETTING
    assert saved.config.to_dict() == content["best"]["config"]
    assert saved.genes == {"mb4 depth": [3, 4]}
    assert content["best"]["parameters"] > 8e6


@given(data=st.data())
def test_a_damaged_result_gives_one_line(content, tmp_path_factory, data):
    values = json.loads(json.dumps(content))
    where = data.draw(
        st.sampled_from(
            [values, values["setting"], values["best"], values["best"]["config"], values["genes"]]
        )
    )
    key = data.draw(st.sampled_from(sorted(where)))
    where[key] = data.draw(st.sampled_from([None, "x", -1, [], {}, [1, 2], True, 10**400]))
    path = tmp_path_factory.mktemp("r") / "r.json"
    path.write_text(json.dumps(values))
    made = only_user_errors(read_result, path)
    assert isinstance(made, SavedResult | str)
