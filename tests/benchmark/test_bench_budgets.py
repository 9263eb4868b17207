"""Budgets: read strictly, judged by the pessimistic end."""

from __future__ import annotations

import bench_results
import numpy as np
import pytest
from conftest import only_user_errors
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.benchmark.budgets import read_budgets
from nasvit_edge.benchmark.report import make_report
from nasvit_edge.benchmark.result import read_result
from nasvit_edge.benchmark.verdicts import Rule
from nasvit_edge.errors import NasvitEdgeError


def outcome(tmp_path, lines, seed=1, effects=(0.0,), **options):
    (tmp_path / "b.toml").write_text(f"schema = 1\n[[budget]]\n{lines}\n")
    result = read_result(bench_results.write(tmp_path / "r.json", seed, effects, **options))
    report = make_report([result], Rule(), budgets=read_budgets(tmp_path / "b.toml"))
    return report.outcomes[0], report.exit_code


@pytest.mark.parametrize(
    ("lines", "status", "code"),
    [
        ('latency_p50 = "20ms"', "within", 0),
        ('latency_p50 = "10.3ms"', "too close", 1),
        ('latency_p50 = "9ms"', "exceeded", 1),
        ('latency_p50 = { max = "9ms", level = "warn" }', "exceeded", 0),
        ('latency_p90 = { max = "20ms" }', "within", 0),
        ('size = "1MB"', "exceeded", 1),
        ('size = "2MB"', "within", 0),
        ('memory = "64MB"', "within", 0),
        ("fallback_ops = 0", "unknown", 3),
        ('top1_drop = "1%"', "unknown", 3),
        ('mean_iou_drop = "1%"', "unknown", 3),
        ('top1_drop = { max = "1%", level = "warn" }', "unknown", 0),
    ],
)
def test_a_budget_is_judged_by_the_pessimistic_end(tmp_path, lines, status, code):
    verdict, exit_code = outcome(tmp_path, lines)
    assert (verdict.status, exit_code) == (status, code)


def test_one_round_has_no_end_that_would_be_within(tmp_path):
    assert outcome(tmp_path, 'latency_p50 = "1s"', rounds=1)[0].status == "too close"


def test_a_drop_of_accuracy_is_within_only_if_its_whole_interval_is(tmp_path):
    hits = [True] * 9000 + [False] * 1000
    assert outcome(tmp_path, 'top1_drop = "1%"', hits=hits)[0].status == "within"
    assert outcome(tmp_path, 'top1_drop = "1%"', hits=hits[::100])[0].status == "too close"


def test_a_drop_of_mean_iou_is_a_budget_of_segmenters(tmp_path):
    union = np.full((50, 3), 400)
    overlaps = np.stack([union // 2, union], axis=1)
    assert outcome(tmp_path, 'mean_iou_drop = "1%"', overlaps=overlaps)[0].status == "within"
    assert outcome(tmp_path, 'top1_drop = "1%"', overlaps=overlaps)[0].status == "unknown"


@pytest.mark.parametrize(
    ("lines", "about"),
    [
        ('device = "board"\nartifact = "model*"', True),
        ('format = "onnx"\nruntime = "onnxruntime"\nprecision = "fp32"', True),
        ('device = "jetson*"', False),
    ],
)
def test_filters_choose_what_a_budget_is_about_and_one_about_nothing_is_an_error(tmp_path, lines, about):
    lines += '\nlatency_p50 = "20ms"'
    if about:
        assert outcome(tmp_path, lines)[0].status == "within"
    else:
        with pytest.raises(NasvitEdgeError, match="about no artifact"):
            outcome(tmp_path, lines)


def test_what_was_not_measured_validly_cannot_keep_a_budget(tmp_path):
    verdict, code = outcome(tmp_path, 'latency_p50 = "1s"', within=0.3)
    assert (verdict.status, code) == ("unknown", 3)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "key 'schema' is missing"),
        ("schema = 1", "key 'budget' is missing"),
        ("schema = 2\n[[budget]]\nsize = '1MB'", "has schema 2; this version reads schema 1"),
        ("schema = 1\nbudget = 3", "key 'budget' is 3; it has to be a list"),
        ("schema = 1\n[[budget]]", "has no limit"),
        (
            "schema = 1\n[[budget]]\nlatency = '1ms'",
            r"key 'budget\[0\].latency' is unknown; possible are device, artifact",
        ),
        ("schema = 1\n[[budget]]\nlatency_p50 = 20", "text with a unit"),
        ("schema = 1\n[[budget]]\nlatency_p50 = '20'", "latency_p50"),
        (
            "schema = 1\n[[budget]]\nsize = { max = '1MB', level = 'fatal' }",
            r"key 'budget\[0\].size.level' is 'fatal'; possible are error, warn",
        ),
        ("schema = 1\n[[budget]]\nsize = { level = 'warn' }", r"key 'budget\[0\].size.max' is missing"),
        ("schema = 1\n[[budget]]\nfallback_ops = -1", "a count"),
        ("schema = 1\n[[budget]]\ndevice = 3\nsize = '1MB'", "a name is expected"),
        ("schema = 1\nbudget = [1]", r"key 'budget\[0\]' is 1; it has to be a table"),
    ],
)
def test_a_file_that_is_wrong_is_one_line(tmp_path, text, match):
    (tmp_path / "b.toml").write_text(text)
    with pytest.raises(NasvitEdgeError, match=match):
        read_budgets(tmp_path / "b.toml")


@given(st.text(max_size=60))
def test_any_text_is_budgets_or_one_line(tmp_path, text):
    for content in (text, f"schema = 1\n[[budget]]\n{text}", f"schema = 1\n[[budget]]\nsize = {text}"):
        (tmp_path / "b.toml").write_text(content)
        only_user_errors(read_budgets, tmp_path / "b.toml")
