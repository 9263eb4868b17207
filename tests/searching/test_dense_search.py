"""Searching segmenters: gathered values are those of `lower`, and what levels keep for the decoder counts as memory."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY, configs, edited, space_of
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import COMPOSITION, predictor, table

from nasvit_edge import sizes
from nasvit_edge.latency import Context
from nasvit_edge.ops import Lateral, lower, macs
from nasvit_edge.searching.evaluation import Evaluator
from nasvit_edge.searching.exact import exact_front, smallest
from nasvit_edge.searching.limits import SavedLimit, violation
from nasvit_edge.searching.pareto import front
from nasvit_edge.searching.population import genes
from nasvit_edge.searching.search import plane
from nasvit_edge.space import load_space

DENSE = load_space("nano-dense")
TINY_DENSE = space_of(
    edited(
        TINY,
        ('name = "tiny"', 'name = "tiny-dense"\naspect = [3, 2]'),
        ("classes = 4", "classes = 2"),
        ("width = [16, 32]\nexpand_ratio = 2", 'kind = "mlp"\nwidth = [8]'),
    )
)
SPILLING = Context({"transformer": 1.3, "lateral": 0.8, "labels": 1.1}, 0.01, 5.0, 0.02)
QUANTITIES = ("latency 0", "high 0", "macs", "parameters", "bytes", "peak", "accuracy")


def evaluator_of(space, seed=0, context=SPILLING):
    tables = [table(space, seed, COMPOSITION, context), table(space, seed + 1)]
    return Evaluator(genes(space), tables, predictor(space, seed))


@given(seed=st.integers(0, 100), space=st.sampled_from([DENSE, TINY_DENSE]))
@settings(max_examples=10)
def test_every_value_is_that_of_the_segmenter(seed, space):
    evaluator = evaluator_of(space, seed)
    rows = evaluator.genes.random(np.random.default_rng(seed), 20)
    values = evaluator(rows)
    for i, row in enumerate(rows):
        config = evaluator.genes.config(row)
        ops = lower(space, config)
        assert values.latency_ms[i, 0] == pytest.approx(evaluator.tables[0].predict(config).ms, rel=1e-9)
        assert values.macs[i] == macs(space, config)
        assert values.parameters[i] == sizes.config_parameters(space, config)
        assert values.bytes[i] == pytest.approx(sum(sizes.file_bytes(op, "onnx", "fp32") for op in ops))
        assert values.peak[i] == 4 * sizes.peak(space, config)


@given(data=st.data(), space=st.sampled_from([DENSE, TINY_DENSE]))
@settings(max_examples=30)
def test_the_peak_is_that_of_a_simulation_that_frees_each_value_after_its_last_reader(data, space):
    config = data.draw(configs(space))
    ops = lower(space, config)
    reads = [_read(ops, i) for i in range(len(ops))]
    alive = []
    for i, op in enumerate(ops):
        later = set(reads[i + 1 :]) & set(range(i)) - {reads[i]}
        waiting = [ops[j] for j in later if not isinstance(ops[j], Lateral)]  # the sum is the laterals' own
        alive.append(sizes.activations(op) + sum(math.prod(other.out_shape()) for other in waiting))
    assert sizes.peak(space, config) == max(alive)


def _read(ops, i):
    """The op whose output the op number `i` reads."""
    if not isinstance(ops[i], Lateral):
        return i - 1
    return max(j for j in range(i) if ops[j].name.split(".")[0] == ops[i].stage)


def test_what_waits_for_the_decoder_can_be_what_decides():
    """The sum of places is more than the largest op of one: with the maximum alone this would go unseen."""
    spills = [
        sizes.peak(TINY_DENSE, config) - max(map(sizes.activations, lower(TINY_DENSE, config)))
        for config in map(TINY_DENSE.sample, map(random.Random, range(30)))
    ]
    assert min(spills) >= 0
    assert max(spills) > 0


@given(
    seed=st.integers(0, 1000),
    limited=st.lists(st.sampled_from(QUANTITIES), unique=True, max_size=3),
    share=st.floats(0.05, 0.9),
)
@settings(max_examples=30)
def test_limits_are_kept_to_exactly(seed, limited, share):
    evaluator = evaluator_of(TINY_DENSE, seed)
    everything = evaluator(evaluator.genes.all_rows())
    limits = []
    for name in limited:
        limit = SavedLimit(quantity=name, bound=1.0, name=name).limit()
        at = 1 - share if name == "accuracy" else share
        limits.append(replace(limit, bound=float(np.quantile(limit.value(everything), at))))

    def points(values):
        kept = plane(values[np.flatnonzero(violation(values, limits) <= 0)])
        return kept[front(kept)]

    actual, expected = points(evaluator(exact_front(evaluator, limits))), points(everything)
    assert actual.shape == expected.shape
    assert np.allclose(actual, expected, rtol=1e-9, atol=1e-12)


@given(seed=st.integers(0, 1000), name=st.sampled_from(QUANTITIES))
@settings(max_examples=15)
def test_the_best_reachable_value_is_that_of_brute_force(seed, name):
    evaluator = evaluator_of(TINY_DENSE, seed)
    limit = SavedLimit(quantity=name, bound=1.0, name=name).limit()
    everything, actual = (
        limit.value(evaluator(rows)) for rows in (evaluator.genes.all_rows(), smallest(evaluator, limit))
    )
    best = np.max if name == "accuracy" else np.min
    assert best(actual) == pytest.approx(best(everything), rel=1e-9)
