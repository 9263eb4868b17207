"""Compositions and contexts: robust, never negative, with intervals that hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nasvit_edge as ne
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.latency.context import Parts, fit_context


@given(
    scale=st.floats(0.5, 3), per_op=st.floats(0, 0.05), offset=st.floats(0, 0.5), seed=st.integers(0, 1000)
)
def test_a_composition_recovers_a_linear_truth_despite_outliers(scale, per_op, offset, seed):
    rng = np.random.default_rng(seed)
    sums, counts = rng.uniform(1, 30, 40), rng.integers(10, 45, 40)
    measured = scale * sums + per_op * counts + offset
    measured[:2] *= 1.6  # a busy moment
    fitted = ne.fit_composition(sums, counts, measured).predict(sums, counts)
    assert np.abs(fitted.ms[2:] / measured[2:] - 1).max() < 0.02


def test_a_composition_covers_about_what_its_interval_says():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(30):
        sums, counts = rng.uniform(1, 30, 80), rng.integers(10, 45, 80)
        measured = (1.2 * sums + 0.01 * counts + 0.1) * np.exp(rng.normal(0, 0.03, 80))
        prediction = ne.fit_composition(sums[:40], counts[:40], measured[:40]).predict(sums[40:], counts[40:])
        inside += list((prediction.low_ms <= measured[40:]) & (measured[40:] <= prediction.high_ms))
    assert 0.85 <= np.mean(inside) <= 0.97


@pytest.mark.parametrize(
    "lists",
    [
        ([1], [1], [1]),
        ([1, 2, 3], [1, 2], [1, 2, 3]),
        ([1, 2, 3], [1, 2, 3], [1, 0, 3]),
        ([1, 2, float("nan")], [1, 2, 3], [1, 2, 3]),
    ],
)
def test_a_composition_refuses_what_it_cannot_fit(lists):
    with pytest.raises(NasvitEdgeError):
        ne.fit_composition(*lists)


def parts(rng, count):
    return [
        Parts(
            {"mbconv": rng.uniform(1, 10), "transformer": rng.uniform(0.5, 10)},
            int(rng.integers(10, 45)),
            rng.uniform(0.1, 1.5),
            int(rng.integers(2, 25)),
        )
        for _ in range(count)
    ]


@given(
    seed=st.integers(0, 1000),
    split=st.floats(0.7, 1.6),
    fits=st.sampled_from([0.4, 0.8]),
    spill=st.floats(0, 3),
    block=st.sampled_from([0.0, 0.1]),
)
@settings(max_examples=8)
def test_a_context_is_learned_from_whole_subnets(seed, split, fits, spill, block):
    rng = np.random.default_rng(seed)
    subnets = parts(rng, 60)
    truth = [
        1.1 * p.ms["mbconv"]
        + 1.1 * split * p.ms["transformer"]
        + 0.01 * p.count
        + spill * max(0.0, p.weights - fits)
        + block * p.blocks
        for p in subnets
    ]
    context, composition = fit_context(subnets[:40], truth[:40])
    predicted = [composition.predict(context.sum_ms(p), p.count).ms for p in subnets]
    assert np.abs(np.array(predicted[40:]) / truth[40:] - 1).mean() < 0.02
    assert (
        min(
            context.spill_ms,
            context.block_ms,
            composition.scale,
            composition.per_op_ms,
            composition.offset_ms,
        )
        >= 0
    )


@given(seed=st.integers(0, 100))
@settings(max_examples=5)
def test_more_of_anything_never_predicts_less(seed):
    rng = np.random.default_rng(seed)
    subnets = parts(rng, 30)
    context, composition = fit_context(subnets, rng.uniform(1, 20, 30))

    def ms(p):
        return composition.predict(context.sum_ms(p), p.count).ms

    for p in subnets:
        assert (
            ms(
                Parts(
                    {**p.ms, "transformer": p.ms["transformer"] + 1},
                    p.count + 1,
                    p.weights + 0.2,
                    p.blocks + 1,
                )
            )
            >= ms(p) - 1e-9
        )
