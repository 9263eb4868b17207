"""Verdicts on results whose truth is known."""

from __future__ import annotations

import json
import math

import bench_results
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.benchmark.metrics import METRICS, changes, spread
from nasvit_edge.benchmark.report import make_report
from nasvit_edge.benchmark.result import MeasuredArtifact, read_result
from nasvit_edge.benchmark.session import Round
from nasvit_edge.benchmark.verdicts import VERDICTS, Rule, judge
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.transport.answers import Measurement, measurement


@pytest.fixture
def made(tmp_path):
    """From arguments of `bench_results.write` to a result."""

    def make(seed=0, effects=(0.0,), **options):
        return read_result(bench_results.write(tmp_path / f"{seed}.json", seed, effects, **options))

    return make


RULE = Rule()


def verdict(result, metric="latency_p50", rule=RULE):
    return {c.artifact.name: c for c in judge([result], rule) if c.metric.name == metric}


@pytest.mark.parametrize(
    ("effect", "expected"), [(0.15, "regression"), (-0.15, "improvement"), (0.0, "equivalent")]
)
def test_a_large_change_is_found_and_none_is_said_to_be_none(made, effect, expected):
    assert verdict(made(1, (effect,), between=0.004))["model0.onnx"].verdict == expected


def test_a_small_change_in_much_noise_is_inconclusive_and_says_what_would_tell(made):
    cell = verdict(made(2, (0.03,), between=0.05))["model0.onnx"]
    assert cell.verdict == "inconclusive"
    assert "more rounds" in cell.reason


def test_a_change_below_the_smallest_that_counts_is_no_regression_however_sure(made):
    cell = verdict(made(3, (0.02,), between=0.0005, within=0.001, drift=0.0))["model0.onnx"]
    assert cell.chance < 1e-6
    assert cell.verdict == "equivalent"


@pytest.mark.parametrize("flag", ["throttled", "preempted", "screen off"])
def test_disturbed_rounds_count_for_nothing(made, tmp_path, flag):
    content = bench_results.content(4, (0.0,), between=0.004)
    for entry in content["artifacts"][1]["rounds"][:2]:
        entry["flags"] = [flag]
        entry["samples_us"] = [10 * s for s in entry["samples_us"]]
    (tmp_path / "r.json").write_text(json.dumps(content))
    cell = verdict(read_result(tmp_path / "r.json"))["model0.onnx"]
    assert (cell.verdict, cell.pairs) == ("equivalent", 6)


def test_too_many_disturbed_rounds_are_no_measurement(made, tmp_path):
    content = bench_results.content(5, (0.2,))
    for entry in content["artifacts"][0]["rounds"][:3]:
        entry["flags"] = ["throttled"]
    (tmp_path / "r.json").write_text(json.dumps(content))
    cell = verdict(read_result(tmp_path / "r.json"))["model0.onnx"]
    assert cell.verdict == "invalid"
    assert "5 of 8" in cell.reason
    assert "throttled" in cell.reason


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            lambda c: c.update(complete=False, stopped="interrupted after 3 of 8 rounds"),
            "interrupted after 3",
        ),
        (lambda c: c["artifacts"][1]["rounds"][0].update(flags=["fallback"]), "fallback"),
        (
            lambda c: (
                c["artifacts"][0]["rounds"][0].update(after={"clocks_mhz": [900.0]})
                or c["artifacts"][0]["rounds"][1].update(after={"clocks_mhz": [1500.0]})
            ),
            "clocks moved between 900 and 1500 MHz",
        ),
    ],
)
def test_a_measurement_that_does_not_hold_is_invalid_and_says_why(tmp_path, spoil, reason):
    content = bench_results.content(6, (0.2,))
    spoil(content)
    (tmp_path / "r.json").write_text(json.dumps(content))
    report = make_report([read_result(tmp_path / "r.json")], Rule())
    cell = next(c for c in report.cells if c.metric.name == "latency_p50")
    assert (cell.verdict, reason in cell.reason) == ("invalid", True)
    assert report.exit_code == 3


def test_samples_that_scatter_too_much_are_invalid(made):
    assert "scatter" in verdict(made(7, (0.2,), within=0.3))["model0.onnx"].reason


def test_a_larger_file_is_a_regression_without_any_noise(made):
    cells = verdict(made(8, (0.0,), changes={"bytes": 1_500_000}), "size")
    assert cells["model0.onnx"].verdict == "regression"
    assert (
        verdict(made(9, (0.0,), changes={"bytes": 1_410_000}), "size")["model0.onnx"].verdict == "equivalent"
    )


@pytest.mark.parametrize(
    ("before", "after", "expected"), [(0, 1, "regression"), (3, 2, "improvement"), (2, 2, "equivalent")]
)
def test_each_op_outside_the_accelerator_counts(tmp_path, before, after, expected):
    content = bench_results.content(10, (0.0,))
    content["artifacts"][0]["fallback_ops"], content["artifacts"][1]["fallback_ops"] = before, after
    (tmp_path / "r.json").write_text(json.dumps(content))
    assert verdict(read_result(tmp_path / "r.json"), "fallback_ops")["model0.onnx"].verdict == expected


def test_lost_accuracy_is_a_regression_and_other_images_are_not_compared(tmp_path):
    base, worse = [True] * 900 + [False] * 100, [True] * 860 + [False] * 140
    cell = verdict(_with_hits(tmp_path, base, worse), "top1")["model0.onnx"]
    assert (cell.verdict, cell.change.value) == ("regression", pytest.approx(-0.04))
    assert verdict(_with_hits(tmp_path, worse, base), "top1")["model0.onnx"].verdict == "improvement"
    assert verdict(_with_hits(tmp_path, base, worse[:500]), "top1")["model0.onnx"].verdict is None


def test_lost_mean_iou_is_a_regression_and_other_scenes_are_not_compared(tmp_path):
    union = np.random.default_rng(0).integers(50, 500, (100, 3))
    base, worse = (np.stack([(share * union).astype(int), union], 1) for share in (0.8, 0.75))
    cells = verdict(_with_hits(tmp_path, base, worse, "overlaps"), "mean_iou")
    assert cells["model0.onnx"].change.value == pytest.approx(-0.05, abs=0.002)
    assert cells["model0.onnx"].verdict == "regression"
    for overlaps, expected in ((worse, "improvement"), (worse[:60], None)):
        cells = verdict(_with_hits(tmp_path, overlaps, base, "overlaps"), "mean_iou")
        assert cells["model0.onnx"].verdict == expected
    assert not verdict(_with_hits(tmp_path, base, worse, "overlaps"), "top1")


def _with_hits(tmp_path, base, candidate, kind="hits"):
    content = bench_results.content(11, (0.0,), **{kind: base})
    other = bench_results.content(11, (0.0,), **{kind: candidate})
    content["artifacts"][1] = other["artifacts"][1]
    (tmp_path / "r.json").write_text(json.dumps(content))
    return read_result(tmp_path / "r.json")


def test_an_artifact_alone_has_figures_and_no_verdict(tmp_path):
    content = bench_results.content(12, (0.0,))
    content["artifacts"] = [content["artifacts"][0]]
    (tmp_path / "r.json").write_text(json.dumps(content))
    report = make_report([read_result(tmp_path / "r.json")], Rule())
    assert {cell.verdict for cell in report.cells} == {None}
    assert (report.exit_code, report.headline) == (0, "1 artifact measured")


@pytest.mark.slow
def test_among_many_artifacts_without_a_change_hardly_one_is_alarmed(made):
    results = [made(seed, (0.0,) * 20, count=10, within=0.01) for seed in range(100, 110)]
    alarmed = sum(any(c.verdict == "regression" for c in judge([r], Rule(min_effect=0.0))) for r in results)
    assert alarmed <= 1  # one in a hundred is expected; without adjustment more than half


def test_gates_decide_the_exit_code_and_verdicts_are_urgent_first(made):
    result = made(13, (0.2,))
    assert make_report([result], Rule()).exit_code == 1
    assert make_report([result], Rule(gates=frozenset({"size"}))).exit_code == 0
    assert VERDICTS[0] == "regression"


def test_the_same_run_twice_is_refused(made):
    result = made(14)
    with pytest.raises(NasvitEdgeError, match="given already"):
        make_report([result, result], Rule())


def test_a_stored_baseline_gives_trends_and_never_a_verdict(made, tmp_path):
    now, then = made(15, (0.3,)), made(16, (0.0,))
    report = make_report([now], Rule(gates=frozenset({"size"})), baseline=then)
    trend = next(t for t in report.trends if t.metric == "latency_p50")
    assert trend.change.value == pytest.approx(0.3, abs=0.08)
    assert report.exit_code == 0


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda c: c["device"]["about"].update(board="Other"), "another device"),
        (lambda c: c["device"].update(name="phone"), "another device"),
        (
            lambda c: [e.update(runtime_version="2.0") for a in c["artifacts"] for e in a["rounds"]],
            "runtime version '2.0'",
        ),
        (lambda c: c["protocol"].update(threads=4), "threads 4"),
        (lambda c: [a.update(name="x.onnx") for a in c["artifacts"]], "none of the artifacts"),
    ],
)
def test_a_baseline_of_something_else_is_refused(made, tmp_path, spoil, match):
    content = bench_results.content(18)
    spoil(content)
    (tmp_path / "then.json").write_text(json.dumps(content))
    with pytest.raises(NasvitEdgeError, match=match):
        make_report([made(17)], Rule(), baseline=read_result(tmp_path / "then.json"))


def test_an_aa_run_tells_what_can_be_found_and_refuses_an_effect_below(made):
    result = made(19, (0.0,), aa=True, between=0.03)
    (noise,) = make_report([result], Rule()).noise
    assert 0.02 < noise.paired < 0.09
    assert noise.detects[8] > noise.detects[20]
    with pytest.raises(NasvitEdgeError, match="below what 'board' can show"):
        make_report([result], Rule(min_effect=0.001), explicit=True)


# --- turns --------------------------------------------------------------------------------------------------------


def side(rounds):
    """An artifact with rounds of turns of samples."""
    listed = tuple(
        Round(
            round=n,
            position=n,
            flags=(),
            samples_us=tuple(s for t in turns for s in t),
            turns=tuple(map(len, turns)),
            runtime_version="1",
        )
        for n, turns in enumerate(rounds)
    )
    facts = {"name": "m", "baseline": None, "runtime": "r", "sha256": "0", "bytes": 1, "format": "onnx"}
    return MeasuredArtifact(**facts, precision="fp32", rounds=listed)


SLOW = st.lists(
    st.lists(st.floats(1, 3), min_size=1, max_size=9), min_size=1, max_size=8
)  # of each turn, each round


@given(SLOW, st.floats(0.5, 2), st.integers(0, 2**32 - 1), st.sampled_from(["latency_p50", "latency_p90"]))
def test_what_slows_a_device_for_whole_turns_does_not_change_what_is_found(slow, factor, seed, metric):
    rng = np.random.default_rng(seed)
    base = [[list(100 * f * rng.uniform(0.99, 1.01, 12)) for f in turns] for turns in slow]
    other = [[[factor * s for s in turn] for turn in turns] for turns in base]
    actual = changes(side(base), side(other), METRICS[metric])
    assert list(actual) == list(range(len(slow)))
    assert list(actual.values()) == pytest.approx([math.log(factor)] * len(slow))
    assert spread(side(base)) < 0.02


def test_one_slow_turn_of_one_side_is_no_change_where_pooled_samples_would_say_so():
    fast, slow = [100.0] * 12, [170.0] * 12
    base, other = [[fast, slow, fast, slow, fast]], [[fast, slow, slow, slow, fast]]
    assert changes(side(base), side(other), METRICS["latency_p50"])[0] == 0
    pooled = [[[s for t in turns for s in t] for turns in rounds] for rounds in (base, other)]
    whole = [side([[turn[0]]]) for turn in pooled]
    assert changes(*whole, METRICS["latency_p50"])[0] == pytest.approx(math.log(1.7))


@pytest.mark.parametrize("turns", [[[100.0] * 12], [[100.0] * 3] * 2])
def test_turns_that_do_not_fit_each_other_or_the_metric_are_taken_as_one(turns):
    """Another number of turns, or fewer than ten samples of one, which say nothing of a 90th percentile."""
    other = [[110.0] * 12, [110.0] * 12] if len(turns) == 1 else [[110.0] * 30, [110.0] * 3]
    assert changes(side([turns]), side([other]), METRICS["latency_p50"])[0] == pytest.approx(math.log(1.1))
    if len(turns) == 1:
        assert changes(side([turns]), side([other]), METRICS["latency_p90"])[0] == pytest.approx(
            math.log(1.1)
        )


@given(st.lists(st.integers(-2, 6), max_size=5), st.integers(1, 12))
def test_a_result_whose_turns_are_not_of_its_samples_is_damaged(counts, samples):
    answer = {"samples_us": [1.0] * samples, "runtime_version": "1", "turns": counts}
    fits = sum(counts) == samples and min(counts, default=0) > 0
    assert isinstance(measurement(answer, "m"), Measurement) == fits
