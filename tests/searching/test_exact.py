"""The exact front is that of brute force, whatever is limited."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY, space_of
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import COMPOSITION, predictor, table

from nasvit_edge.latency import Context
from nasvit_edge.searching.evaluation import Evaluator
from nasvit_edge.searching.exact import ExactError, exact_front, smallest
from nasvit_edge.searching.limits import Limit, Quantity, SavedLimit, violation
from nasvit_edge.searching.pareto import front
from nasvit_edge.searching.population import genes
from nasvit_edge.searching.search import plane
from nasvit_edge.space import load_space

TINY_SPACE = space_of(TINY)
NASVIT = load_space("nasvit")
SPILLING = Context({"transformer": 1.3}, 0.01, 5.0, 0.02)
QUANTITIES = ("latency 0", "latency 1", "high 0", "macs", "parameters", "bytes", "peak", "accuracy")


def brute(evaluator, limits=()):
    """(latency, -accuracy) of the front of every allowed subnet within the limits."""
    values = evaluator(evaluator.genes.all_rows())
    points = plane(values[np.flatnonzero(violation(values, limits) <= 0)])
    return points[front(points)]


def exact(evaluator, limits=()):
    values = evaluator(exact_front(evaluator, limits))
    points = plane(values[np.flatnonzero(violation(values, limits) <= 0)])
    return points[front(points)]


def two_choices():
    """A part of the official space with 131,072 subnets and more: two choices for each of 17 genes."""
    free = [gene for gene in NASVIT.genes if len(gene.choices) > 1]
    chosen = {gene.name: (gene.choices[0], gene.choices[-1]) for gene in free}
    for gene in free[17:]:
        chosen[gene.name] = gene.choices[:1]
    return genes(NASVIT, chosen)


@pytest.mark.parametrize("context", [Context({}, 0.0, 0.0), Context({"transformer": 1.2}, 9.0, 0.3)])
def test_the_front_of_over_a_hundred_thousand_subnets_is_that_of_brute_force(context):
    some = two_choices()
    assert some.size() >= 100_000
    evaluator = Evaluator(some, [table(NASVIT, 3, COMPOSITION, context)], predictor(NASVIT))
    assert np.allclose(exact(evaluator), brute(evaluator), rtol=1e-9, atol=0)


@given(
    seed=st.integers(0, 1000),
    limited=st.lists(st.sampled_from(QUANTITIES), unique=True, max_size=3),
    share=st.floats(0.05, 0.9),
    saturation=st.sampled_from([0.0, 1.0]),
)
@settings(max_examples=40)
def test_limits_of_any_kind_are_kept_to_exactly(seed, limited, share, saturation):
    tables = [table(TINY_SPACE, seed, COMPOSITION, SPILLING), table(TINY_SPACE, seed + 1)]
    evaluator = Evaluator(genes(TINY_SPACE), tables, predictor(TINY_SPACE, seed, saturation))
    everything = evaluator(evaluator.genes.all_rows())
    limits = []
    for name in limited:
        limit = SavedLimit(quantity=name, bound=1.0, name=name).limit()
        at = 1 - share if name == "accuracy" else share
        limits.append(replace(limit, bound=float(np.quantile(limit.value(everything), at))))
    actual, expected = exact(evaluator, limits), brute(evaluator, limits)
    assert actual.shape == expected.shape
    assert np.allclose(actual, expected, rtol=1e-9, atol=1e-12)


@given(seed=st.integers(0, 1000), name=st.sampled_from(QUANTITIES))
@settings(max_examples=30)
def test_the_best_reachable_value_of_each_quantity_is_that_of_brute_force(seed, name):
    tables = [table(TINY_SPACE, seed, COMPOSITION, SPILLING), table(TINY_SPACE, seed + 1)]
    evaluator = Evaluator(genes(TINY_SPACE), tables, predictor(TINY_SPACE, seed))
    limit = SavedLimit(quantity=name, bound=1.0, name=name).limit()
    everything, actual = (
        limit.value(evaluator(rows)) for rows in (evaluator.genes.all_rows(), smallest(evaluator, limit))
    )
    best = np.max if name == "accuracy" else np.min
    assert best(actual) == pytest.approx(best(everything), rel=1e-9)


def test_measured_accuracies_have_no_exact_front():
    evaluator = Evaluator(genes(TINY_SPACE), [table(TINY_SPACE)], lambda config: 0.5)
    with pytest.raises(ExactError, match="accuracy is measured"):
        exact_front(evaluator)


def test_intervals_of_estimated_ops_cannot_be_limited_exactly():
    evaluator = Evaluator(
        genes(TINY_SPACE), [table(TINY_SPACE, 0, COMPOSITION, estimated=0.5)], predictor(TINY_SPACE)
    )
    with pytest.raises(ExactError, match="tables with estimates"):
        exact_front(evaluator, [Limit(Quantity("high"), 1e6, "--latency")])
