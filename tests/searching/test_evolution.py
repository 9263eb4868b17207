"""Search: within budget, seeded, finite; the fastest subnet is the fastest."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from conftest import TINY, space_of
from hypothesis import given, settings
from hypothesis import strategies as st

import nasvit_edge as ne
from nasvit_edge.errors import BudgetError
from nasvit_edge.latency import Composition, Context, LatencyTable
from nasvit_edge.latency.context import PLAIN
from nasvit_edge.ops import all_ops, macs
from nasvit_edge.searching.evolution import Effort, search
from nasvit_edge.searching.fastest import fastest
from nasvit_edge.space import load_space

TINY_SPACE = space_of(TINY)
NASVIT = load_space("nasvit")


def table(space, seed=0, composition=None, context=PLAIN):
    """Made-up latencies, about proportional to MACs, with noise: for everything but what is measured."""
    rng = random.Random(seed)
    ops = {op.key(): (0.01 + op.macs() / 1e7) * rng.uniform(0.7, 1.3) for op in all_ops(space)}
    return LatencyTable(
        Path("t"), space, ops, 0.005, composition, {"device": "host", "runtime": "onnxruntime"}, context
    )


def accuracy_of(space):
    return lambda config: 0.5 + macs(space, config) / macs(space, space.largest()) / 3


@given(
    seed=st.integers(0, 1000),
    composed=st.booleans(),
    fits=st.floats(0, 0.02),
    spill=st.sampled_from([0.0, 5.0, 50.0]),
)
@settings(max_examples=20)
def test_the_fastest_subnet_is_that_of_brute_force(seed, composed, fits, spill):
    composition = Composition(1.2, 0.02, 0.1, 0.1) if composed else None
    made = table(TINY_SPACE, seed, composition, Context({"transformer": 1.3}, fits, spill))
    best = min(made.predict(config).ms for config in TINY_SPACE.all_configs())
    assert made.predict(fastest(TINY_SPACE, made)).ms == pytest.approx(best)


@given(seed=st.integers(0, 1000), share=st.floats(0.02, 1))
@settings(max_examples=10)
def test_no_returned_subnet_is_over_the_budget(seed, share):
    made = table(NASVIT)
    low, high = (made.predict(c).ms for c in (fastest(NASVIT, made), NASVIT.largest()))
    budget = low + share * (high - low)
    result = search(
        NASVIT, made, ne.load_accuracy("nasvit"), budget, seed, effort=Effort(population=20, generations=5)
    )
    assert result.best.latency_ms <= budget
    assert all(c.latency_ms <= budget for c in result.front)
    assert result.best.accuracy == max(c.accuracy for c in result.front)


def test_the_same_seed_gives_the_same_result_and_another_one_may_not():
    made, accuracy = table(NASVIT), ne.load_accuracy("nasvit")
    budget = made.predict(NASVIT.smallest()).ms * 2
    effort = Effort(population=20, generations=6)
    first, again = (search(NASVIT, made, accuracy, budget, 3, effort=effort) for _ in range(2))
    assert first == again
    assert first.seed == 3


def test_a_small_space_is_searched_to_its_optimum():
    made, accuracy = table(TINY_SPACE), accuracy_of(TINY_SPACE)
    configs = list(TINY_SPACE.all_configs())
    latencies = sorted(made.predict(c).ms for c in configs)
    for share in (0.05, 0.3, 0.8):
        budget = latencies[int(share * len(latencies))]
        best = max(accuracy(c) for c in configs if made.predict(c).ms <= budget)
        found = search(TINY_SPACE, made, accuracy, budget, 0, effort=Effort(population=40, generations=30))
        assert found.best.accuracy == pytest.approx(best, abs=0.005)


def test_the_front_rises_in_both_latency_and_accuracy():
    made = table(NASVIT)
    result = search(
        NASVIT, made, ne.load_accuracy("nasvit"), 1e6, 0, effort=Effort(population=30, generations=5)
    )
    pairs = [(c.latency_ms, c.accuracy) for c in result.front]
    assert pairs == sorted(pairs)
    assert len({a for _, a in pairs}) == len(pairs)


def test_an_impossible_budget_names_the_smallest_reachable_latency():
    made = table(NASVIT)
    with pytest.raises(BudgetError, match="smallest reachable latency here is"):
        search(NASVIT, made, ne.load_accuracy("nasvit"), 1e-6)
