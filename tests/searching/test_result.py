"""Result files: read back as written; damaged ones give one line."""

from __future__ import annotations

import json

import pytest
from conftest import one_line, only_user_errors
from hypothesis import given
from hypothesis import strategies as st
from made_up import SETTING, table
from msgspec.structs import replace

import nasvit_edge as ne
from nasvit_edge import records
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.searching.evolution import Effort
from nasvit_edge.searching.result import file_of, read_result, sealed
from nasvit_edge.searching.search import search
from nasvit_edge.space import load_space, space_toml

SPACE = load_space("nasvit")


@pytest.fixture(scope="module")
def content():
    result = search(
        SPACE, table(SPACE), ne.load_accuracy("nasvit"), 1e6, 0, effort=Effort(population=10, generations=2)
    )
    return json.loads(json.dumps(records.content(file_of(result, SETTING)))) | {
        "genes": {"mb4 depth": [3, 4]}
    }


def test_a_result_is_read_back_as_written(content, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(content))
    saved = read_result(tmp_path / "r.json")
    assert saved.setting == SETTING
    assert saved.config.to_dict() == content["best"]["config"]
    assert saved.file.genes == {"mb4 depth": (3, 4)}
    assert content["best"]["parameters"] > 8e6


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"best": {}}, "key 'best.config' is missing"),
        ({"budget_ms": "x"}, "key 'budget_ms' is 'x'; a number that is not negative"),
        ({"kind": "benchmark"}, "key 'kind' is 'benchmark'; possible are search result"),
        ({"genes": {"mb4 depth": "3"}}, "key 'genes.mb4 depth' is '3'; it has to be a list"),
        ({"schema": 1}, "has schema 1; this version reads schema 2"),
        ({"stages": [{}]}, "key 'stages[0].name' is missing"),
    ],
    ids=str,
)
def test_a_damaged_result_says_where_and_what_to_do(content, tmp_path, change, told):
    (tmp_path / "r.json").write_text(json.dumps(content | change))
    with pytest.raises(NasvitEdgeError) as caught:
        read_result(tmp_path / "r.json")
    assert told in one_line(caught)
    assert one_line(caught).endswith("; run the search again")


def written(content, folder, setting, **changes):
    setting_values = json.loads(json.dumps(records.content(setting)))
    values = content | {
        "setting": setting_values | changes,
        "seal": sealed(setting),
        "space": space_toml(SPACE),
    }
    (folder / "r.json").write_text(json.dumps(values))
    return folder / "r.json"


PATHS = {
    "supernet": "runs/a.safetensors",
    "calibration": "/photos",
    "accuracy": "mine.json",
    "space": "s.toml",
}


def test_paths_that_were_typed_here_are_known_again(content, tmp_path):
    setting = replace(SETTING, labels_in_order=True, **PATHS)
    saved = read_result(written(content, tmp_path, setting))
    assert saved.setting == setting
    assert saved.is_own
    for name in PATHS:
        saved.refuse(tmp_path, name)


@pytest.mark.parametrize("change", [{"supernet": "b"}, {"calibration": "/other"}, {"labels_in_order": False}])
def test_a_changed_setting_names_no_path(content, tmp_path, change):
    setting = replace(SETTING, labels_in_order=True, **PATHS)
    saved = read_result(written(content, tmp_path, setting, **change))
    assert (saved.setting.supernet, saved.setting.calibration, saved.setting.accuracy) == (None, None, None)
    assert not saved.is_own
    assert saved.space == SPACE  # which is in the file


def test_what_was_left_out_is_said_with_what_to_add(content, tmp_path, monkeypatch):
    path = written(content, tmp_path, replace(SETTING, **PATHS | {"supernet": "a b;$(c)"}))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))  # another user
    saved = read_result(path)
    with pytest.raises(NasvitEdgeError, match="not followed") as error:
        saved.refuse(path, "supernet")
    assert one_line(error).endswith("add --supernet 'a b;$(c)'")


def test_names_of_shipped_things_stay_whoever_wrote_the_file(content, tmp_path):
    names = {"supernet": "nano", "calibration": "bundled", "accuracy": "nasvit", "space": "nasvit"}
    for supernet in ("nano", "random", "random:7"):
        values = content | {"setting": content["setting"] | names | {"supernet": supernet}, "seal": ""}
        (tmp_path / "r.json").write_text(json.dumps(values))
        saved = read_result(tmp_path / "r.json")
        assert (saved.setting.supernet, saved.setting.calibration) == (supernet, "bundled")
        assert saved.setting.accuracy == "nasvit"


def test_an_older_file_s_space_is_taken_by_name_only(content, tmp_path):
    values = content | {"setting": content["setting"] | {"space": str(tmp_path / "s.toml")}, "seal": None}
    (tmp_path / "s.toml").write_text(space_toml(SPACE))
    (tmp_path / "r.json").write_text(json.dumps(values))
    with pytest.raises(NasvitEdgeError, match="a path in a file is not followed"):
        read_result(tmp_path / "r.json")


@given(st.text(max_size=40))
def test_no_text_is_more_than_a_user_error_as_a_space(content, tmp_path_factory, text):
    path = tmp_path_factory.mktemp("r") / "r.json"
    path.write_text(json.dumps(content | {"space": text}))
    assert "r.json" in only_user_errors(read_result, path)
