"""`search`, `predict` and `benchmark` on a machine that is slower today: both predictions are shown, and `--confirm` starts from it."""

from __future__ import annotations

import json

import pytest
from commands import run
from made_up import COMPOSITION, SETTING, predictor, table
from msgspec.structs import replace

from nasvit_edge import records
from nasvit_edge.benchmark.plan import Facts, Participant
from nasvit_edge.choosing import table as choosing
from nasvit_edge.device import load_device
from nasvit_edge.flows import artifact_predictions, confirm
from nasvit_edge.flows.prepared import Prepared
from nasvit_edge.latency import Prediction
from nasvit_edge.latency.speed import TodaysSpeed
from nasvit_edge.listening import Listener
from nasvit_edge.profile import speed
from nasvit_edge.profile.subnets import Visit
from nasvit_edge.profile.trust import fingerprint
from nasvit_edge.requests.search import Request
from nasvit_edge.searching.limits import Limit
from nasvit_edge.searching.search import Problem
from nasvit_edge.space import load_space
from nasvit_edge.units import show_ms

NANO = load_space("nano")
HERE = fingerprint()
TABLE = table(NANO, 0, COMPOSITION).holding(fingerprint=HERE, provenance="measured")
SLOWER = TodaysSpeed(factor=1.25, noise=0.04, models=3)
EFFORT = ("--population", "20", "--generations", "3")


@pytest.fixture
def folder(tmp_path):
    records.write(tmp_path / "t.json", TABLE.file)
    return tmp_path


def today(monkeypatch, seen):
    asked = []

    def look(made_of, listener):
        asked.append(made_of.path.name)
        return seen

    monkeypatch.setattr(choosing, "todays_speed", look)
    return asked


def searching(folder, *more):
    budget = f"{2 * TABLE.predict(NANO.smallest()).ms:.4f}ms"
    done = run(
        *("search", "--space", "nano", "--table", "t.json", "--latency", budget, *EFFORT, *more), cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done


def flat(text):
    return " ".join(text.split())


def test_a_search_shows_predictions_for_today_beside_the_table_s(folder, monkeypatch):
    today(monkeypatch, SLOWER)
    done = searching(folder, "--html", "s.html")
    result = json.loads((folder / "search.json").read_text())
    assert result["today"] == [{"factor": 1.25, "noise": 0.04, "models": 3}]
    assert "at today's speed" in flat(done.stdout)
    assert show_ms(1.25 * result["best"]["latency_ms"]) in done.stdout
    assert show_ms(result["best"]["latency_ms"]) in done.stdout
    assert done.stderr.count(SLOWER.line()) == 2  # before the answer, and of it
    page = (folder / "s.html").read_text()
    assert SLOWER.line() in page
    assert show_ms(1.25 * result["best"]["latency_ms"]) in page
    assert result["best"]["latency_ms"] <= result["budget_ms"]  # limits are the table's


def test_within_the_noise_nothing_is_shown_and_the_result_keeps_what_was_seen(folder, monkeypatch):
    today(monkeypatch, replace(SLOWER, factor=1.03))
    done = searching(folder)
    assert "today" not in done.stdout + done.stderr
    assert json.loads((folder / "search.json").read_text())["today"][0]["factor"] == 1.03


def test_a_prediction_says_both(folder, monkeypatch):
    asked = today(monkeypatch, SLOWER)
    (folder / "c.json").write_text(json.dumps(NANO.smallest().to_dict()))
    words = ("predict", "c.json", "--space", "nano", "--table", "t.json")
    prediction = json.loads(run(*words, "--json", cwd=folder).stdout)
    assert prediction["today_ms"] == pytest.approx(1.25 * prediction["ms"])
    assert prediction["today"]["factor"] == 1.25
    shown = run(*words, cwd=folder)
    assert show_ms(prediction["today_ms"]) in shown.stdout
    assert show_ms(prediction["ms"]) in shown.stdout
    assert len(asked) == 2
    without = json.loads(run(*words, "--no-canary", "--json", cwd=folder).stdout)
    assert (without["ms"], without["today"], without["today_ms"]) == (prediction["ms"], None, None)
    assert len(asked) == 2


def test_no_canary_times_nothing_before_a_search(folder, monkeypatch):
    asked = today(monkeypatch, SLOWER)
    searching(folder, "--no-canary")
    assert asked == []
    assert "today" not in json.loads((folder / "search.json").read_text())


def test_a_table_of_another_machine_starts_no_runner(folder, monkeypatch):
    monkeypatch.setattr(speed, "local_runner", None)
    records.write(folder / "t.json", TABLE.holding(fingerprint=HERE | {"soc": "another"}).file)
    searching(folder)
    assert "today" not in json.loads((folder / "search.json").read_text())


def confirmed(monkeypatch, factor, *speeds):
    """The rounds of a confirmation on a machine that takes `factor` times what the table says; and what it measured first."""
    budget_ms, first = 2 * TABLE.predict(NANO.smallest()).ms, []

    def measure(made_of, subnets, seed, listener=None, what="", runner=None):
        first.append([factor * made_of.predict(config).ms for config in subnets])
        return {config: [Visit(factor * made_of.predict(config).ms, 1.0)] * 2 for config in subnets}

    monkeypatch.setattr(confirm, "measure_subnets", measure)
    limit = Limit.latency(budget_ms, name="--latency")
    problem = Problem(space=NANO, tables=(TABLE,), accuracy=predictor(NANO), limits=(limit,))
    request = Request(population=30, generations=10, confirm=3, confirm_by="median")
    prepared = Prepared(problem=problem, setting=SETTING, today=speeds, request=request)
    result = confirm.search_and_confirm(prepared)
    assert result.best.median_ms <= budget_ms
    return result.confirmation.rounds, [ms / budget_ms for ms in first[0]]


def test_a_confirmation_starts_from_today_s_speed(monkeypatch):
    rounds, first = confirmed(monkeypatch, 1.25, SLOWER)
    blind_rounds, blind = confirmed(monkeypatch, 1.25)
    assert all(share <= 1 for share in first)  # the first round is within the budget already
    assert all(share > 1 for share in blind[:1])
    assert rounds < blind_rounds


def test_a_factor_within_the_noise_does_not_change_where_a_confirmation_starts(monkeypatch):
    assert confirmed(monkeypatch, 1.0, replace(SLOWER, factor=1.02)) == confirmed(monkeypatch, 1.0)


def test_a_benchmark_looks_once_for_each_table_and_says_what_it_saw(monkeypatch):
    looks, notes = [], []
    monkeypatch.setattr(artifact_predictions, "todays_speed", lambda *words: looks.append(words) or SLOWER)
    monkeypatch.setattr(
        artifact_predictions.Predictions,
        "_prediction",
        lambda self, entry: (TABLE, Prediction(1.0, 0.9, 1.1, 1.0)),
    )
    facts = Facts(sha256="a", bytes=1, format="onnx", precision="fp32", space="nano")
    entry = Participant(name="a", path=TABLE.path, runtime="onnxruntime", facts=facts)
    host = {"device": load_device("host"), "threads": 1, "about": HERE}
    seen = artifact_predictions.Predictions(**host, canary=object(), listener=Listener(note=notes.append))
    for _ in range(3):
        known = replace(facts, **seen.of(entry))
        assert known.today_ms == pytest.approx(1.25)
        assert known.predicted_ms[0] == 1.0
    assert len(looks) == 1
    assert notes == [f"table t: {SLOWER.line()}"]
    without = artifact_predictions.Predictions(**host)
    assert without.of(entry)["today"] is None
    assert len(looks) == 1
