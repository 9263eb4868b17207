"""Quickstart's subnet is the exact optimum within the budget, unless another one is surely better on the same images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import COMPOSITION, predictor, table

from nasvit_edge.flows import near_top
from nasvit_edge.listening import SILENT
from nasvit_edge.searching.limits import Limit, violation
from nasvit_edge.searching.search import Problem, solve
from nasvit_edge.space import load_space

NANO = load_space("nano")
TABLE = table(NANO, 0, COMPOSITION)
FASTEST = TABLE.predict(NANO.smallest()).ms
IMAGES = 1000


def solved(budget_ms):
    limit = Limit.latency(budget_ms, name="--latency")
    problem = Problem(space=NANO, tables=(TABLE,), accuracy=predictor(NANO), limits=(limit,))
    return problem, solve(problem, method="exact")


class Images:
    """Validation images of which only the number is read."""

    validation = range(IMAGES)


def judged(monkeypatch, near, rights):
    """The choice where `rights[place]` says which images each subnet gets right; and who was judged on how many."""
    asked = []

    def hits(self, place, chosen, every):
        assert chosen is near[place]
        asked.append((place, every))
        return rights[place][::every]

    monkeypatch.setattr(near_top._Subnets, "hits", hits)
    best, choice = near_top.judge(near, Images(), SILENT)
    return best, choice, asked


@given(share=st.floats(1.3, 6.0))
@settings(max_examples=10)
def test_candidates_are_within_the_limits_the_exact_optimum_first(share):
    problem, result = solved(share * FASTEST)
    near = near_top.near_top(problem, result)
    rows = problem.evaluator.genes.rows([each.config for each in near])
    assert (violation(problem.evaluator(rows), problem.limits) <= 0).all()
    assert near[0] == result.best
    assert len({each.config for each in near}) == len(near) <= near_top.NEAR
    accuracies = [each.accuracy for each in near]
    assert accuracies == sorted(accuracies, reverse=True)


def flips(count, better, worse, seed=0):
    """What a subnet gets right that wins `better` images of another's and loses `worse`."""
    base = np.arange(IMAGES) % 10 != 0
    other, rng = base.copy(), np.random.default_rng(seed)
    other[rng.choice(np.flatnonzero(~base), better, replace=False)] = True
    other[rng.choice(np.flatnonzero(base), worse, replace=False)] = False
    return [base, *([other] * count)]


@pytest.mark.parametrize(("better", "worse"), [(20, 15), (12, 3), (0, 40)])
def test_what_chance_may_have_made_better_does_not_take_the_place_of_the_optimum(monkeypatch, better, worse):
    problem, result = solved(3 * FASTEST)
    near = near_top.near_top(problem, result)
    best, choice, _ = judged(monkeypatch, near, flips(len(near) - 1, better, worse))
    assert best == result.best
    assert not choice.replaced
    assert "none is surely better" in choice.line()


def test_one_that_is_surely_better_takes_its_place_and_the_report_says_why(monkeypatch):
    problem, result = solved(3 * FASTEST)
    near = near_top.near_top(problem, result)
    rights = [flips(1, 0, 30)[0]] * len(near)
    rights[4] = flips(1, 45, 3)[1]
    best, choice, _ = judged(monkeypatch, near, rights)
    assert best == near[4]
    assert choice.replaced
    assert choice.correct - choice.predicted == 42
    assert "one is surely better than the one predicted best (+4.2 points" in choice.line()


def test_all_are_judged_on_some_images_and_the_best_and_the_optimum_on_all(monkeypatch):
    problem, result = solved(3 * FASTEST)
    near = near_top.near_top(problem, result)
    rights = [np.arange(IMAGES) % 100 >= 80 - 4 * place for place in range(len(near))]
    _, choice, asked = judged(monkeypatch, near, rights)
    assert sorted(place for place, every in asked if every > 1) == list(range(len(near)))
    on_all = {place for place, every in asked if every == 1}
    assert on_all == {0, *range(len(near) - near_top.LAST + 1, len(near))}
    assert (choice.last, choice.images) == (near_top.LAST, IMAGES)


@pytest.mark.slow
def test_a_quickstart_s_choice_takes_its_budget(tmp_path):
    """On a shipped table: within 5 % of the exact optimum of the same table, or another that is surely better."""
    from nasvit_edge import files
    from nasvit_edge.flows.quickstart import SPACE, choose
    from nasvit_edge.latency import load_table
    from nasvit_edge.searching.accuracy import load_accuracy
    from nasvit_edge.searching.search import search

    shipped = load_table(files.shipped("latency_tables") / "intel-xeon-6-167-onnxruntime-1t-fp32-nano.json")
    result, choice = choose(shipped, 0.15, 0, tmp_path, SILENT)
    exact = search(shipped.space, shipped, load_accuracy(SPACE), 0.15, method="exact").best
    assert choice.replaced or 0.95 * exact.latency_ms <= result.best.latency_ms <= 0.15
    assert choice.correct > 850
