"""Result files: read back as written; damaged ones give one line."""

from __future__ import annotations

import json

import pytest
from conftest import only_user_errors
from hypothesis import given
from hypothesis import strategies as st
from test_evolution import table

import nasvit_edge as ne
from nasvit_edge.searching.evolution import Effort, search
from nasvit_edge.searching.result import SavedResult, Setting, read_result, to_json
from nasvit_edge.space import load_space

SPACE = load_space("nasvit")
SETTING = Setting(
    space="nasvit",
    supernet=None,
    calibration=None,
    accuracy_source="nasvit",
    accuracy_uncertainty=0.004,
    device="host",
    runtime="onnxruntime",
    threads=1,
    precision="fp32",
    table="host.json",
    table_sha256="0" * 64,
)


@pytest.fixture(scope="module")
def content():
    result = search(
        SPACE, table(SPACE), ne.load_accuracy("nasvit"), 1e6, 0, effort=Effort(population=10, generations=2)
    )
    return to_json(SPACE, result, SETTING)


def test_a_result_is_read_back_as_written(content, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(content))
    saved = read_result(tmp_path / "r.json")
    assert saved.setting == SETTING
    assert saved.config.to_dict() == content["best"]["config"]
    assert content["best"]["parameters"] > 8e6


@given(data=st.data())
def test_a_damaged_result_gives_one_line(content, tmp_path_factory, data):
    values = json.loads(json.dumps(content))
    where = data.draw(st.sampled_from([values, values["setting"], values["best"], values["best"]["config"]]))
    key = data.draw(st.sampled_from(sorted(where)))
    where[key] = data.draw(st.sampled_from([None, "x", -1, [], {}, [1, 2], True, 10**400]))
    path = tmp_path_factory.mktemp("r") / "r.json"
    path.write_text(json.dumps(values))
    made = only_user_errors(read_result, path)
    assert isinstance(made, SavedResult | str)
