"""Precisions as genes: the front over subnets and precisions together is that of brute force."""

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
from nasvit_edge.searching.exact import ExactError, exact_front
from nasvit_edge.searching.limits import Limit, SavedLimit, violation
from nasvit_edge.searching.mixing import MixedEvaluator, Mixing
from nasvit_edge.searching.pareto import front
from nasvit_edge.searching.population import genes
from nasvit_edge.searching.search import Problem, one_precision, plane, solve

SPACE = space_of(TINY)
FEW = genes(SPACE, {"mb1 kernel_size": [3], "mb2 depth": [1, 2], "mb1 width": [8]})
PRECISIONS = ("fp32", "int8")


def mixing(seed, losses=((0.0, 0.0), (0.1, 0.01), (1.0, 0.2))):
    rng = np.random.default_rng(seed)
    context = Context({"transformer": 1.3}, 0.01, 5.0, 0.02)
    tables = tuple(
        table(SPACE, seed + i, COMPOSITION, context, precision=precision)
        for i, precision in enumerate(PRECISIONS)
    )
    places = [place.name for place in Evaluator(FEW, tables[:1], predictor(SPACE)).places]
    noise = {place: {"fp32": 0.0, "int8": float(rng.uniform(0, 0.1))} for place in places}
    return Mixing(tables=tables, noise=noise, losses=losses)


def inside(evaluator, rows, limits):
    values = evaluator(rows)
    points = plane(values[np.flatnonzero(violation(values, limits) <= 0)])
    return points[front(points)]


@given(seed=st.integers(0, 1000), share=st.floats(0.0, 1.0), quick=st.floats(0.1, 1.0))
@settings(max_examples=20)
def test_the_front_is_that_of_brute_force_within_the_limits(seed, share, quick):
    evaluator = MixedEvaluator(FEW, mixing(seed), predictor(SPACE, seed))
    every = evaluator.genes.all_rows()
    values = evaluator(every)
    limits = [
        Limit.of("loss", float(np.quantile(values.loss, share)), "--max-loss"),
        Limit.latency(float(np.quantile(values.latency_ms[:, 0], quick))),
    ]
    actual, expected = (inside(evaluator, rows, limits) for rows in (exact_front(evaluator, limits), every))
    assert actual.shape == expected.shape
    assert np.allclose(actual, expected, rtol=1e-9, atol=1e-12)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_with_one_precision_a_subnet_is_what_that_precisions_table_says(seed):
    cost = mixing(seed)
    evaluator = MixedEvaluator(FEW, cost, predictor(SPACE, seed))
    config = SPACE.smallest()
    for precision, latencies in zip(PRECISIONS, cost.tables, strict=True):
        row = evaluator.row(config, dict.fromkeys(cost.noise, precision))
        values = evaluator(row[None])
        alone = Evaluator(FEW, [latencies], predictor(SPACE, seed))(FEW.rows([config]))
        assert evaluator.by_place(row) == dict.fromkeys(cost.noise, precision)
        assert evaluator.genes.config(row) == config
        assert values.bytes == alone.bytes
        if precision == "fp32":
            assert values.latency_ms == pytest.approx(alone.latency_ms)
            assert (values.loss, values.accuracy) == (0, alone.accuracy)
        total = sum(noise[precision] for noise in cost.noise.values())
        assert values.loss[0] == pytest.approx(evaluator.loss(np.array([total]))[0])
        assert values.accuracy[0] == pytest.approx(alone.accuracy[0] - values.loss[0])


@given(
    seed=st.integers(0, 100),
    steps=st.lists(st.tuples(st.floats(1e-4, 1), st.floats(0, 0.2)), min_size=1, max_size=6),
    loss=st.floats(0, 0.5),
)
@settings(max_examples=40)
def test_up_to_the_most_noise_the_loss_is_kept_and_beyond_it_is_not(seed, steps, loss):
    at = np.cumsum([0.0, *(noise for noise, _ in steps)])
    lost = np.cumsum([0.0, *(more for _, more in steps)])
    pairs = tuple(zip(at.tolist(), lost.tolist(), strict=True))
    evaluator = MixedEvaluator(FEW, mixing(seed, pairs), predictor(SPACE))
    most = evaluator.most_noise(loss)
    levels = np.linspace(0, 3 * at[-1], 50)
    rising = evaluator.loss(levels)
    assert (np.diff(rising) >= 0).all()
    assert (rising[levels <= most] <= loss + 1e-9).all()
    if lost[-1] > 0:
        assert (rising[levels > most * (1 + 1e-6) + 1e-9] >= loss - 1e-9).all()


def test_no_mixture_is_worse_than_one_precision_and_the_winner_says_which_has_which():
    problem = Problem(
        space=SPACE,
        tables=mixing(3).tables,
        accuracy=predictor(SPACE, 3),
        mixing=mixing(3),
        genes=FEW,
    )
    values = problem.evaluator(problem.evaluator.genes.all_rows())
    bounded = replace(
        problem,
        limits=(Limit.latency(float(np.quantile(values.latency_ms, 0.3))), Limit.of("loss", 0.01)),
    )
    best = solve(bounded, method="exact").best
    assert set(best.precisions) == set(mixing(3).noise)
    assert best.loss <= 0.01
    for precision in PRECISIONS:
        alone = one_precision(bounded, precision)
        if alone is not None:
            assert set(alone.precisions.values()) == {precision}
            assert best.accuracy >= alone.accuracy


@given(seed=st.integers(0, 100), factor=st.floats(0.2, 5))
@settings(max_examples=10)
def test_a_table_of_a_slower_day_is_that_much_slower(seed, factor):
    one = mixing(seed).tables[0]
    for config in (SPACE.smallest(), SPACE.largest()):
        assert one.slowed(factor).predict(config).ms == pytest.approx(factor * one.predict(config).ms)


def test_what_is_estimated_is_told_and_widens_the_interval():
    for estimated in (0.0, 0.9):
        tables = tuple(
            table(SPACE, 3, COMPOSITION, estimated=estimated, precision=precision) for precision in PRECISIONS
        )
        cost = replace(mixing(3), tables=tables)
        evaluator = MixedEvaluator(FEW, cost, predictor(SPACE))
        row = evaluator.row(SPACE.smallest(), dict.fromkeys(cost.noise, "fp32"))
        ms = float(evaluator(row[None]).latency_ms[0, 0])
        actual, expected = evaluator.prediction(row, ms), tables[0].predict(SPACE.smallest())
        assert actual.ms == pytest.approx(expected.ms)
        assert actual.coverage == pytest.approx(expected.coverage, abs=1e-3)
        assert actual.high_ms == pytest.approx(expected.high_ms, rel=1e-3)
        assert (actual.coverage < 1) == (estimated > 0)


def test_measured_accuracies_have_no_exact_front_to_mix_on():
    with pytest.raises(ExactError, match="predicted"):
        Problem(space=SPACE, tables=mixing(0).tables, accuracy=lambda config: 0.5, mixing=mixing(0))


def test_a_limit_on_the_loss_is_written_and_read():
    limit = Limit.of("loss", 0.005, "--max-loss")
    assert SavedLimit.of(limit).limit() == limit
    assert limit.show(limit.bound) == "0.5 points"
