"""Closing the loop: winners are measured, predictions corrected, and the budget holds for what was measured."""

from __future__ import annotations

import pytest
from conftest import TINY, one_line, space_of
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import COMPOSITION, SETTING, predictor, predictor_file, table

from nasvit_edge import records
from nasvit_edge.errors import BudgetError, DeviceError, NasvitEdgeError
from nasvit_edge.flows import confirm
from nasvit_edge.flows.prepared import Prepared, prepare
from nasvit_edge.listening import Listener
from nasvit_edge.profile.subnets import Visit
from nasvit_edge.profile.trust import fingerprint
from nasvit_edge.requests.options import TableChoice
from nasvit_edge.requests.search import Request
from nasvit_edge.searching.limits import Limit
from nasvit_edge.searching.search import Problem
from nasvit_edge.space import load_space

NANO = load_space("nano")
OTHER = table(NANO, 0, COMPOSITION)  # of a machine that does not say what it is
MADE = OTHER.holding(fingerprint=fingerprint())


def prepared(budget_ms, latencies=MADE, count=3, by="p90"):
    limit = Limit.latency(budget_ms, name="--latency")
    problem = Problem(space=NANO, tables=(latencies,), accuracy=predictor(NANO), limits=(limit,))
    return Prepared(
        problem=problem,
        setting=SETTING,
        request=Request(population=30, generations=10, confirm=count, confirm_by=by),
    )


def machine(monkeypatch, factor, noise=0.0):
    """A machine that takes `factor` times what the table says, with an error of its own for each subnet."""
    asked = []

    def measure(latencies, subnets, seed, listener=None, passes=2, what="", runner=None):
        asked.extend(subnets)
        visits = {}
        for config in subnets:
            wrong = 1 + noise * (hash((config, 7)) % 201 - 100) / 100
            ms = latencies.predict(config).ms * factor * wrong
            visits[config] = [Visit(ms, 1.02 * ms)] * passes
        return visits

    monkeypatch.setattr(confirm, "measure_subnets", measure)
    return asked


@pytest.mark.slow
@given(factor=st.floats(0.6, 1.6), share=st.floats(1.8, 4), noise=st.sampled_from([0.0, 0.03]))
@settings(max_examples=12)
def test_however_wrong_the_table_is_the_winner_is_measured_within_the_budget(factor, share, noise):
    budget = share * MADE.predict(NANO.smallest()).ms
    with pytest.MonkeyPatch.context() as monkeypatch:
        asked = machine(monkeypatch, factor, noise)
        actual = confirm.search_and_confirm(prepared(budget, count=5))
    assert actual.status == "confirmed"
    assert actual.best.p90_ms <= budget
    assert actual.budget_ms == budget
    assert len(set(asked)) == len(asked) == len(actual.confirmation.subnets)
    inside = [row for row in actual.confirmation.subnets if row.inside]
    assert actual.best.accuracy == max(row.accuracy for row in inside)
    assert actual.confirmation.factor == pytest.approx(1.02 * factor, rel=noise + 1e-6)


def test_a_faster_machine_than_the_table_s_gets_a_larger_subnet(monkeypatch):
    budget = 2 * MADE.predict(NANO.smallest()).ms
    best = []
    for factor in (0.7, 1.3):
        machine(monkeypatch, factor)
        best.append(confirm.search_and_confirm(prepared(budget, by="median")).best)
    assert best[0].accuracy > best[1].accuracy


def test_a_budget_that_nothing_was_measured_within_says_what_was_fastest(monkeypatch):
    machine(monkeypatch, 10)
    with pytest.raises(BudgetError, match="no subnet was measured with a p90 within") as error:
        confirm.search_and_confirm(prepared(1.5 * MADE.predict(NANO.smallest()).ms))
    assert "the fastest of 3 took" in one_line(error)


def test_only_latencies_can_be_confirmed():
    limit = Limit.of("parameters", 1e9, "--max-params")
    problem = Problem(space=NANO, tables=(MADE,), accuracy=predictor(NANO), limits=(limit,))
    with pytest.raises(NasvitEdgeError, match="give --latency as well"):
        confirm.search_and_confirm(Prepared(problem=problem, setting=SETTING))


def test_a_table_of_another_machine_cannot_be_confirmed():
    with pytest.raises(DeviceError, match="cannot be measured here"):
        confirm.search_and_confirm(prepared(2 * MADE.predict(NANO.smallest()).ms, OTHER))


@pytest.mark.slow
def test_a_real_machine_confirms(tmp_path):
    pytest.importorskip("onnxruntime")
    from nasvit_edge.latency import load_table
    from nasvit_edge.profile.run import profile

    toml = tmp_path / "tiny.toml"
    toml.write_text(TINY)
    space = load_space(toml)
    path = profile(space, protocol="quick", out=tmp_path)
    latencies = load_table(path, space=toml)
    accuracy = tmp_path / "tiny.json"
    records.write(accuracy, predictor_file(space_of(TINY)))
    budget = 3 * latencies.predict(space.smallest()).ms
    request = Request(
        space=str(toml),
        latency=[f"{budget!r}ms"],
        table=TableChoice(table=path),
        accuracy=str(accuracy),
        population=30,
        generations=10,
        confirm=2,
        confirm_by="median",
    )
    said = []
    ready = prepare(request, Listener(note=said.append))
    confirmed = confirm.search_and_confirm(ready, listener=Listener(note=said.append))
    assert confirmed.status == "confirmed"
    assert confirmed.best.median_ms <= budget
    assert any("round 1: measured 2" in line for line in said)
