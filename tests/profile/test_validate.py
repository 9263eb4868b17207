"""Validation: the right subnets, the right arithmetic, and a real run."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import TINIER
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.latency import load_table
from nasvit_edge.latency.file import Validated
from nasvit_edge.profile import run as profiling
from nasvit_edge.profile import validate as validation
from nasvit_edge.space import load_space


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("validate")
    toml = folder / "tiny.toml"
    toml.write_text(TINIER)
    path = profiling.profile(load_space(toml), protocol="quick", out=folder)
    return load_table(path, space=toml), toml


def test_the_subnets_hold_the_ends_and_spread_over_latency(table):
    result = table[0]
    chosen = validation.validation_subnets(result, 20, seed=3)
    assert {result.space.smallest(), result.space.largest()} <= set(chosen)
    assert len(chosen) == 20
    assert chosen == validation.validation_subnets(result, 20, seed=3)
    assert chosen != validation.validation_subnets(result, 20, seed=4)


@pytest.mark.slow
def test_a_real_validation_is_stored_in_the_table(table):
    result, toml = table
    figures = validation.validate(result, 4, seed=1)
    validation.store(result, figures)
    again = load_table(result.path, space=toml)
    assert again.file.validation.count == 4
    assert {len(row.measured_ms) for row in again.file.validation.subnets} == {2}
    assert again.file.ops == result.file.ops


def test_three_subnets_validate_nothing(table):
    with pytest.raises(NasvitEdgeError, match="at least 4"):
        validation.validate(table[0], 3)


@given(
    bias=st.floats(-0.2, 0.2).filter(lambda b: abs(abs(b) - 0.1) > 1e-6),
    noise=st.floats(0, 0.05),
    seed=st.integers(0, 100),
)
def test_the_report_says_how_far_off_predictions_are(bias, noise, seed):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(5, 60, 30)
    rows = [
        Validated(
            config={},
            predicted_ms=t * (1 + bias),
            low_ms=t * 0.7,
            high_ms=t * 1.4,
            measured_ms=(t * (1 - noise), t * (1 + noise)),
        )
        for t in truth
    ]
    report = validation.report(rows)
    assert report.mape == pytest.approx(abs(bias), abs=1e-3)
    assert report.bias == pytest.approx(bias, abs=1e-3)
    assert report.repeat_mape == pytest.approx(1 - (1 - noise) / (1 + noise), abs=1e-3)
    assert report.tau == 1
    assert report.inside_interval == 1
    assert report.within_10 == (abs(bias) <= 0.1)


def test_ranks_are_also_judged_among_near_neighbours():
    rows = [
        Validated(config={}, predicted_ms=p, measured_ms=(m, m))
        for p, m in ((10, 11), (11, 10), (50, 51), (51, 50))
    ]
    report = validation.report(rows)
    assert report.tau_bands == -1
    assert report.tau == pytest.approx(1 / 3, abs=1e-3)
    assert report.inside_interval is None
