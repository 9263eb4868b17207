"""Steps of a history: few where there are none, those that are there, whatever single runs say."""

from __future__ import annotations

import math
import runpy
from pathlib import Path

import numpy as np
import pytest
from history_points import points
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from nasvit_edge.benchmark.history import steps
from nasvit_edge.benchmark.steps import LEAST, fit, levels

SIMULATION = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "step_detection.py"))
simulated, ours = SIMULATION["simulated"], SIMULATION["ours"]
false_alarms, hits = SIMULATION["false_alarms"], SIMULATION["hits"]


@pytest.mark.parametrize("truth", [{}, {"outliers": 0.0}, {"outliers": 0.1}, {"least": 6, "most": 15}])
def test_at_most_one_series_in_twenty_has_a_step_that_is_none(truth):
    share, _ = false_alarms(ours, np.random.default_rng(1), 150, **truth)
    assert share <= 0.05


@pytest.mark.parametrize("step", [0.06, -0.06])
def test_nine_in_ten_steps_of_six_percent_are_found_within_two_runs(step):
    share, others = hits(ours, np.random.default_rng(2), 150, step)
    assert share >= 0.9
    assert others <= 0.05


def test_a_slow_drift_is_no_staircase():
    for drift in (0.05, 0.1, 0.3, -0.3):
        _, mean = false_alarms(ours, np.random.default_rng(3), 50, drift=math.log1p(drift))
        assert mean <= 1


def test_a_step_in_a_drift_is_found_and_the_drift_told():
    values = simulated(np.random.default_rng(0), 120, step=0.15, place=70, drift=math.log(1.3), outliers=0)
    line = fit(points(values))
    assert [abs(i - 70) <= 2 for i in line.starts] == [True]
    assert line.drift == pytest.approx(0.3, abs=0.08)


@given(seed=st.integers(0, 10**6), place=st.integers(0, 39), off=st.floats(0.02, 50))
def test_one_run_however_far_off_is_never_a_level(seed, place, off):
    values = simulated(np.random.default_rng(seed), 40, outliers=0.0)
    values[place] *= off
    around = [
        level for level in levels(points(values), steps(points(values))) if level.start <= place < level.end
    ]
    assert [level.end - level.start > LEAST for level in around] == [True]


@pytest.mark.parametrize("beside", [1, 2])
def test_runs_that_are_off_alike_make_no_steps(beside):
    rng, count = np.random.default_rng(4), 0
    for _ in range(150):
        values = simulated(rng, 40, outliers=0.0)
        place = int(rng.integers(0, 40 - beside))
        values[place : place + beside] *= rng.uniform(1.1, 3)
        count += bool(steps(points(values)))
    assert count <= 0.05 * 150


@given(
    values=st.lists(st.floats(0, 1e12), max_size=40),
    metric=st.sampled_from(["latency_p50", "size", "fallback_ops", "top1"]),
    bounded=st.booleans(),
)
def test_any_figures_have_levels_that_cover_them_once(values, metric, bounded):
    line = points(values, metric=metric, **({} if bounded else {"low": None, "high": None}))
    starts = steps(line)
    assert starts == sorted(set(starts))
    assert all(0 < start < len(line) for start in starts)
    spans = levels(line, starts)
    assert [i for level in spans for i in range(level.start, level.end)] == list(range(len(line)))
    if metric == "latency_p50":
        assert all(level.end - level.start >= LEAST for level in spans if starts)


@given(seed=st.integers(0, 10**6), factor=st.sampled_from([1e-6, 0.1, 3.0, 1e9]))
def test_a_unit_changes_no_step(seed, factor):
    values = simulated(np.random.default_rng(seed), 60, step=0.08, place=30)
    assert steps(points(values)) == steps(points(values * factor))


def test_fewer_than_six_runs_have_no_step():
    assert steps([]) == steps(points([1.0])) == steps(points([1, 1, 1, 9, 9])) == []
    assert steps(points([1, 1, 1, 9, 9, 9])) == [3]


def test_runs_that_are_known_badly_make_no_step():
    values = [10.0] * 10 + [10.6] * 10
    wide = [replace(p, low=p.value / 1.3, high=p.value * 1.3) for p in points(values)]
    assert steps(points(values)) == [10]
    assert steps(wide) == []


def test_each_change_of_a_files_size_is_one_even_in_the_last_run():
    exact = {"metric": "size", "low": None, "high": None}
    assert steps(points([5.0] * 7 + [5.001] * 4 + [5.0] * 3 + [9.0], **exact)) == [7, 11, 14]
    ops = {"metric": "fallback_ops", "low": None, "high": None}
    assert steps(points([0, 0, 0, 0, 2, 2], **ops)) == [4]
    assert [level.change for level in levels(points([0, 0, 0, 0, 2, 2], **ops), [4])] == [None, None]
