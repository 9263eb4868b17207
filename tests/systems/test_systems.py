"""The promised commands on macOS and Windows, as far as Linux can show it: `shim` has what they have, and not more."""

from __future__ import annotations

import json

import pytest
from promised import CHIPS, LINES, NAMES, ON_A_MAC, PROMISED, SLOW, TABLE, failures, not_refused, there


@pytest.fixture(scope="module", params=["win32", pytest.param("darwin", marks=pytest.mark.slow)])
def results(request, tmp_path_factory):
    """Every command that Windows is promised, and of macOS's what differs by the system; all modules once on each."""
    refused = {line: line for line in LINES[request.param]}
    promised = PROMISED if request.param == "win32" else {name: PROMISED[name] for name in ON_A_MAC}
    return there(tmp_path_factory.mktemp(request.param), promised | refused, request.param)


@pytest.mark.slow
def test_every_module_is_imported(results):
    assert results["failed"] == {}


def test_what_is_promised_runs(results):
    assert failures(results["done"], PROMISED) == {}


@pytest.mark.slow
@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_everything_that_is_promised_runs(tmp_path, system):
    commands = PROMISED | SLOW[system]
    assert failures(there(tmp_path, commands, system)["done"], commands) == {}


def test_what_is_not_promised_is_refused_in_one_line(results):
    assert not_refused(results["done"], results["system"]) == {}


def test_a_table_says_which_processor_it_is_of(results):
    table = json.loads((results["folder"] / TABLE).read_text())
    assert table["fingerprint"]["soc"] == CHIPS[results["system"]]


def test_an_artifact_says_which_processor_checked_it(results):
    sidecar = json.loads((results["folder"] / "m.onnx.json").read_text())
    assert CHIPS[results["system"]] in json.dumps(sidecar)


def test_conditions_say_what_the_system_neither_does_nor_tells(results):
    table = json.loads((results["folder"] / TABLE).read_text())
    name = NAMES[results["system"]]
    assert table["conditions"] == {
        "pinning": f"none on {name}",
        "clocks": f"not told by {name}",
        "temperature": f"not told by {name}",
    }
    assert table["cores"] == []


def test_a_check_asks_for_no_runtime_that_is_not_promised(results):
    steps = {step["name"]: step for step in json.loads(results["done"]["check"]["out"])}
    assert all(step["good"] for name, step in steps.items() if name != "other work")
    assert "onnxruntime" in steps
    assert ("litert" in steps) == (results["system"] == "darwin")


def test_models_are_measured_in_fresh_processes_that_take_turns(results):
    if "benchmark" not in results["done"]:
        pytest.skip("the slow test benchmarks there")
    benchmark = json.loads((results["folder"] / "benchmark.json").read_text())
    assert len(benchmark["artifacts"]) == 2
    for artifact in benchmark["artifacts"]:
        assert artifact["rounds"]
        assert all(len(measurement["turns"]) > 0 for measurement in artifact["rounds"])
