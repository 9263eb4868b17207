"""The gain over ordinary subnets is what it says, and only what is beyond the errors counts."""

from __future__ import annotations

import pytest
from made_up import COMPOSITION, predictor, table

from nasvit_edge.searching.baseline import same_macs
from nasvit_edge.searching.limits import Limit
from nasvit_edge.searching.search import Problem, solve
from nasvit_edge.space import load_space

NASVIT = load_space("nasvit")
TABLE = table(NASVIT, 0, COMPOSITION)


def solved():
    budget = Limit.latency(3 * TABLE.predict(NASVIT.smallest()).ms, name="--latency")
    problem = Problem(space=NASVIT, tables=(TABLE,), accuracy=predictor(NASVIT), limits=(budget,))
    return problem, solve(problem).best


def test_a_winner_is_compared_with_random_subnets_of_its_macs():
    problem, best = solved()
    actual = same_macs(problem, best, 0, 0.004)
    assert actual.count >= 30
    assert actual.better > 0
    assert actual.better_above == pytest.approx(max(0.0, actual.better - 0.004))
    assert actual.faster == pytest.approx(1 - best.latency_ms / actual.latency_ms)
    assert actual.latency_error == COMPOSITION.error
    assert same_macs(problem, best, 0, 1.0).better_above == 0


def test_only_subnets_within_the_limits_on_sizes_are_ordinary():
    problem, best = solved()
    everything = same_macs(problem, best, 0, 0.004).count
    limit = Limit.of("parameters", float(best.parameters), "--max-params")
    limited = Problem(space=NASVIT, tables=(TABLE,), accuracy=predictor(NASVIT), limits=(limit,))
    actual = same_macs(limited, best, 0, 0.004)
    assert 30 <= actual.count < everything
    nothing = Limit.of("parameters", 1.0, "--max-params")
    none = Problem(space=NASVIT, tables=(TABLE,), accuracy=predictor(NASVIT), limits=(nothing,))
    assert same_macs(none, best, 0, 0.004) is None


def test_measured_accuracies_are_not_compared():
    best = solved()[1]
    measured = Problem(space=NASVIT, tables=(TABLE,), accuracy=lambda config: 0.5)
    assert same_macs(measured, best, 0, 0.004) is None
