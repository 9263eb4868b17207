"""Fitted predictors: near what they were fitted to, monotone, honest about their error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY, one_line, space_of
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import predictor

from nasvit_edge import files
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.searching.accuracy import load_accuracy, predictor_of
from nasvit_edge.searching.fitting import drawn, fit
from nasvit_edge.space import load_space

TINY_SPACE = space_of(TINY)
NANO = load_space("nano")
DENSE = load_space("nano-dense")


def same_at_each_resolution(space, seed, saturation):
    """A truth that the fit can express: the same gains at each resolution."""
    truth = predictor(space, seed, saturation)
    first = truth.effects[space.resolutions[0]]
    return replace(truth, effects=dict.fromkeys(space.resolutions, first))


@given(
    seed=st.integers(0, 100), saturation=st.sampled_from([0.0, 1.0, 2.0]), noise=st.sampled_from([0.0, 0.003])
)
@settings(max_examples=10)
def test_a_fit_finds_what_is_there_and_states_its_error(seed, saturation, noise):
    truth = same_at_each_resolution(NANO, seed, saturation)
    configs, rng = drawn(NANO, 240, seed), np.random.default_rng(seed)
    fitted, others = configs[:200], configs[200:]
    measured = [truth(c) + rng.normal(0, noise) for c in fitted]
    content = fit(NANO, fitted, measured, "made up")
    result = predictor_of("made", content, NANO)
    error = np.array([result(c) - truth(c) for c in others])
    assert np.sqrt(np.mean(error**2)) < 0.002 + noise
    assert content.validation.rmse < 0.002 + 1.5 * noise
    assert content.validation.rmse >= 0.8 * noise
    assert result.uncertainty == pytest.approx(max(1e-6, content.validation.rmse))


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20)
def test_whatever_was_measured_gives_a_predictor_that_loads(seed):
    configs = drawn(TINY_SPACE, 30, seed)
    rng = np.random.default_rng(seed)
    content = fit(TINY_SPACE, configs, rng.uniform(1e-4, 1 - 1e-4, len(configs)) * rng.random(), "noise")
    result = predictor_of("noise", content, TINY_SPACE)
    assert 0 < result(TINY_SPACE.smallest()) <= result(TINY_SPACE.largest()) < 1


@given(seed=st.integers(0, 100), noise=st.sampled_from([0.0, 0.003]))
@settings(max_examples=5)
def test_a_segmenter_may_lose_by_larger_images(seed, noise):
    """As supernets do that are trained on crops; a fit whose bases never fall would blame the other genes."""
    truth = same_at_each_resolution(DENSE, seed, 0.0)
    truth = replace(truth, base={r: 0.4 - 0.02 * i for i, r in enumerate(DENSE.resolutions)})
    configs, rng = drawn(DENSE, 150, seed), np.random.default_rng(seed)
    fitted, others = configs[:120], configs[120:]
    result = predictor_of(
        "made", fit(DENSE, fitted, [truth(c) + rng.normal(0, noise) for c in fitted], "x"), DENSE
    )
    assert result.saturation == 0
    assert list(result.base.values()) == sorted(result.base.values(), reverse=True)
    assert np.sqrt(np.mean([(result(c) - truth(c)) ** 2 for c in others])) < 0.002 + noise


@pytest.mark.parametrize(
    ("count", "accuracies", "match"),
    [
        (19, [0.5 + i / 100 for i in range(19)], "too few"),
        (30, [0.5] * 30, "not all alike"),
        (30, [0.5] * 29 + [1.5], "between 0 and 1"),
        (30, [0.5] * 29 + [float("nan")], "between 0 and 1"),
    ],
)
def test_what_cannot_be_fitted_is_refused(count, accuracies, match):
    with pytest.raises(NasvitEdgeError, match=match) as error:
        fit(NANO, drawn(NANO, count, 0), accuracies, "bad")
    one_line(error)


def test_the_sample_holds_the_ends_and_no_subnet_twice():
    configs = drawn(NANO, 100, 5)
    assert configs[:2] == [NANO.smallest(), NANO.largest()]
    assert len(set(configs)) == 100
    assert configs == drawn(NANO, 100, 5)
    small = drawn(TINY_SPACE, 10**4, 0)
    assert len(set(small)) == len(small) <= TINY_SPACE.size()


def test_the_shipped_predictor_of_nano_says_how_good_it_is():
    result = load_accuracy("nano")
    checked = files.read_json(files.data("accuracy", "nano.json"), "predictor")["validation"]["test"]
    assert checked["images"] == 10_000
    assert result.uncertainty == checked["rmse"]
    assert abs(checked["bias"]) < 0.015  # validation images are easier than test images
    assert checked["rmse"] ** 2 - checked["bias"] ** 2 < 0.005**2  # what decides between subnets
    assert checked["tau"] > 0.5  # subnets are near each other: 0.54 measured
