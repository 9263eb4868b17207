"""Result files: what is read is what was written, and nothing else is taken for one."""

from __future__ import annotations

import copy
import json

import bench_results
import pytest
from conftest import only_user_errors
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.benchmark.report import make_report
from nasvit_edge.benchmark.result import ResultError, read_result
from nasvit_edge.benchmark.verdicts import Rule
from nasvit_edge.errors import NasvitEdgeError

GOOD = bench_results.content(0, (0.0,), rounds=3, count=12, hits=[True, False, True])


def test_a_result_is_read_whole(tmp_path):
    result = read_result(bench_results.write(tmp_path / "r.json", 3, (0.0, 0.1)))
    assert [a.name for a in result.artifacts] == [
        "main/model0.onnx",
        "model0.onnx",
        "main/model1.onnx",
        "model1.onnx",
    ]
    assert [a.baseline for a in result.artifacts] == [None, 0, None, 2]
    assert (result.rounds, result.threads, result.stopped) == (8, 1, None)
    assert {len(a.rounds) for a in result.artifacts} == {8}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not valid JSON"),
        ("{}", "no benchmark result"),
        ("[]", "benchmark result"),
        ('{"kind": "search result", "schema": 2}', "'search result'"),
        ('{"kind": "benchmark", "schema": 7}', "schema '7'.*measure again"),
        ('{"kind": "benchmark", "schema": 1}', "damaged"),
        (json.dumps(GOOD).replace('"first_ms"', '"first_ms": NaN, "x"', 1), "not valid JSON"),
        (json.dumps(GOOD)[:500], "not valid JSON"),
    ],
)
def test_another_file_is_one_line(tmp_path, text, match):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(NasvitEdgeError, match=match) as caught:
        read_result(tmp_path / "r.json")
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [0, -1.0, "fast", None, [], True, 1e300, 1e-300])
def test_a_sample_that_is_no_latency_is_refused(tmp_path, value):
    content = copy.deepcopy(GOOD)
    content["artifacts"][0]["rounds"][1]["samples_us"][3] = value
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(ResultError, match="damaged"):
        read_result(tmp_path / "r.json")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value, path=()):
    """The paths to everything in a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


PLACES = [path for path in places(GOOD) if path]


@given(st.sampled_from(PLACES), JSON, st.booleans())
def test_a_field_of_another_kind_is_an_error_or_of_no_account(tmp_path, path, value, drop):
    content = copy.deepcopy(GOOD)
    *upper, last = path
    inner = content
    for key in upper:
        inner = inner[key]
    if drop and isinstance(inner, dict):
        del inner[last]
    else:
        inner[last] = value
    (tmp_path / "r.json").write_text(json.dumps(content))
    only_user_errors(_reported, tmp_path / "r.json")


def _reported(path):
    report = make_report([read_result(path)], Rule())
    json.dumps(report.to_dict(), allow_nan=False)
    assert report.exit_code in (0, 1, 3)


def test_the_share_in_int8_is_a_share_and_may_be_missing(tmp_path):
    path = tmp_path / "r.json"
    for value, kept in ((0.25, 0.25), (None, None), (1, 1.0)):
        content = copy.deepcopy(GOOD)
        content["artifacts"][0] |= {"int8_macs": value, "precision": "int8"}
        path.write_text(json.dumps(content))
        assert read_result(path).artifacts[0].int8_macs == kept
        said = " ".join(make_report([read_result(path)], Rule()).remarks)
        assert ("25.0% of its MACs are in int8" in said) == (value == 0.25)
    for wrong in (1.5, -0.1, True, "1", []):
        content = copy.deepcopy(GOOD)
        content["artifacts"][0]["int8_macs"] = wrong
        path.write_text(json.dumps(content))
        with pytest.raises(ResultError, match="a number from 0 to 1"):
            read_result(path)
