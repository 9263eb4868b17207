"""Search: within budget, seeded, finite; the fastest subnet is the fastest."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import TINY, space_of
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import COMPOSITION, predictor, table

import nasvit_edge as ne
from nasvit_edge.errors import BudgetError, NasvitEdgeError
from nasvit_edge.latency import Composition, Context
from nasvit_edge.ops import macs
from nasvit_edge.searching.evolution import Effort, evolve
from nasvit_edge.searching.infeasible import InfeasibleError
from nasvit_edge.searching.limits import Limit
from nasvit_edge.searching.search import Problem, fastest, search, solve
from nasvit_edge.space import load_space

TINY_SPACE = space_of(TINY)
NASVIT = load_space("nasvit")


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
    latencies = table(TINY_SPACE, seed, composition, Context({"transformer": 1.3}, fits, spill))
    best = min(latencies.predict(config).ms for config in TINY_SPACE.all_configs())
    assert latencies.predict(fastest(TINY_SPACE, latencies)).ms == pytest.approx(best)


@given(seed=st.integers(0, 1000), share=st.floats(0.02, 1), method=st.sampled_from(["evolutionary", "exact"]))
@settings(max_examples=3)
def test_no_returned_subnet_is_over_the_budget(seed, share, method):
    latencies = table(NASVIT, composition=COMPOSITION)
    low, high = (latencies.predict(c).ms for c in (fastest(NASVIT, latencies), NASVIT.largest()))
    budget = low + share * (high - low)
    accuracy, effort = ne.load_accuracy("nasvit"), Effort(population=20, generations=5)
    result = search(NASVIT, latencies, accuracy, budget, seed, effort=effort, method=method)
    assert latencies.predict(result.best.config).ms == pytest.approx(result.best.latency_ms)
    assert result.best.latency_ms <= budget
    assert all(c.latency_ms <= budget for c in result.front)
    assert all(c.latency_ms > budget for c in result.beyond)
    assert result.best.accuracy == max(c.accuracy for c in result.front)


def test_the_same_seed_gives_the_same_result():
    latencies, accuracy = table(NASVIT), ne.load_accuracy("nasvit")
    budget = latencies.predict(NASVIT.smallest()).ms * 2
    effort = Effort(population=20, generations=6)
    first, again = (search(NASVIT, latencies, accuracy, budget, 3, effort=effort) for _ in range(2))
    assert first == again
    assert first.seed == 3


def test_a_small_space_is_searched_to_its_optimum_by_measured_accuracies():
    timings, accuracy = table(TINY_SPACE), accuracy_of(TINY_SPACE)
    configs = list(TINY_SPACE.all_configs())
    latencies = sorted(timings.predict(c).ms for c in configs)
    for share in (0.05, 0.3, 0.8):
        budget = latencies[int(share * len(latencies))]
        best = max(accuracy(c) for c in configs if timings.predict(c).ms <= budget)
        result = search(
            TINY_SPACE, timings, accuracy, budget, 0, effort=Effort(population=40, generations=30)
        )
        assert result.best.accuracy == pytest.approx(best, abs=0.005)
        assert result.gap is None  # measured accuracies have no exact front


def test_the_front_rises_in_both_latency_and_accuracy():
    latencies = table(NASVIT)
    result = search(
        NASVIT, latencies, ne.load_accuracy("nasvit"), 1e6, effort=Effort(population=30, generations=5)
    )
    pairs = [(c.latency_ms, c.accuracy) for c in result.front]
    assert pairs == sorted(pairs)
    assert len({a for _, a in pairs}) == len(pairs)


def test_a_search_stays_near_the_exact_optimum():
    latencies = table(NASVIT, composition=COMPOSITION)
    for budget in np.geomspace(1.2, 6, 5) * latencies.predict(NASVIT.smallest()).ms:
        gap = search(NASVIT, latencies, ne.load_accuracy("nasvit"), float(budget)).gap
        assert 0 <= gap.accuracy < 2e-4
        assert gap.hypervolume > 0.999


@pytest.mark.slow
def test_the_size_of_files_can_be_a_third_objective():
    evaluator = Problem(space=NASVIT, tables=(table(NASVIT),), accuracy=predictor(NASVIT)).evaluator
    effort = Effort(population=60, generations=10)
    plain, sized = (evolve(evaluator, (), 0, effort, with_size=on) for on in (False, True))
    assert len(sized.kept) > len(plain.kept)
    assert sized.kept_values.bytes.min() <= plain.kept_values.bytes.min()


def test_an_impossible_budget_names_the_smallest_reachable_latency():
    latencies = table(NASVIT)
    least = latencies.predict(fastest(NASVIT, latencies)).ms
    with pytest.raises(BudgetError, match="smallest reachable latency here is") as error:
        search(NASVIT, latencies, ne.load_accuracy("nasvit"), 1e-6)
    assert isinstance(error.value, InfeasibleError)
    assert error.value.report.limits[0].best == pytest.approx(least)
    assert NASVIT.config_from(error.value.report.nearest.config.to_dict())


def test_limits_that_exclude_each_other_name_what_binds_and_the_nearest_subnet():
    latencies, accuracy = table(NASVIT), ne.load_accuracy("nasvit")
    least = latencies.predict(fastest(NASVIT, latencies)).ms
    limits = (
        Limit.latency(1.05 * least, name="--latency"),
        Limit.of("accuracy", 0.82, "--min-accuracy"),
        Limit.of("parameters", 1e9, "--max-params"),
    )
    for method in ("evolutionary", "exact"):
        with pytest.raises(InfeasibleError, match="together; binding: ") as error:
            solve(Problem(space=NASVIT, tables=(latencies,), accuracy=accuracy, limits=limits), method=method)
        assert "--max-params" not in str(error.value).split("binding: ")[1].split("(")[0]
        alone = {limit.name: limit for limit in error.value.report.limits}
        assert all(limit.possible for limit in alone.values())
        assert alone["--latency"].best == pytest.approx(least)


def test_an_unknown_method_lists_what_there_is():
    with pytest.raises(NasvitEdgeError, match="evolutionary, exact"):
        search(TINY_SPACE, table(TINY_SPACE), predictor(TINY_SPACE), 1e6, method="random")
