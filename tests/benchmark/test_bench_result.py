"""Result files: what is read is what was written, and nothing else is taken for one."""

from __future__ import annotations

import copy
import json

import bench_results
import pytest

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
