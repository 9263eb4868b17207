"""A session: the order of rounds, fresh processes, disturbed rounds, and what is left when it ends early."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.benchmark.plan import BenchmarkProtocol, Participant, turn, units
from nasvit_edge.benchmark.result import read_result
from nasvit_edge.benchmark.session import measure
from nasvit_edge.device import load_device
from nasvit_edge.errors import MeasurementError
from nasvit_edge.profile.models import Item, Models
from nasvit_edge.space import load_space
from nasvit_edge.transport.local import local_runner

RUNNER = """
import json, os, pathlib, sys
log = pathlib.Path(__file__).with_suffix(".log")
for line in sys.stdin:
    job = json.loads(line)
    asked = [json.loads(l) for l in log.read_text().splitlines()] if log.exists() else []
    log.open("a").write(json.dumps([job["id"], os.getpid(), job.get("detail")]) + "\\n")
    name = job["id"].split(":")[0]
    share = 0.5 if name == "disturbed" and sum(a[0].startswith("disturbed") for a in asked) < 2 else 1.0
    answer = {"id": job["id"], "samples_us": [10.0] * 20, "runtime_version": "1", "cpu_share": share}
    print(json.dumps({"id": job["id"], "error": "no such model"} if name == "broken" else answer), flush=True)
"""


def entries(*names, base=True):
    """Each behind a baseline of its own, or alone."""
    results = []
    for name in names:
        if base:
            results.append(Participant(name=f"main {name}", path=f"/{name}", runtime="onnxruntime"))
        place = len(results) - 1 if base else None
        results.append(Participant(name=name, path=f"/{name}", runtime="onnxruntime", baseline=place))
    return results


def session(tmp_path, listed, rounds=4):
    path = tmp_path / "runner.py"
    path.write_text(textwrap.dedent(RUNNER))
    with local_runner(path) as runner:
        measured = measure(listed, runner, BenchmarkProtocol(rounds=rounds), ())
    return measured, [json.loads(line) for line in path.with_suffix(".log").read_text().splitlines()]


def test_base_and_candidate_take_turns_in_fresh_processes(tmp_path):
    actual, asked = session(tmp_path, entries("a", "b"))
    order = [name.split(":")[0] for name, _, _ in asked]
    forth = ["main a", "a", "main b", "b"]
    assert order == [*forth, *forth[::-1]] * 2
    assert len({pid for _, pid, _ in asked}) == len(asked)
    assert all(detail is True for _, _, detail in asked)
    assert [[entry.round for entry in rounds] for rounds in actual] == [[0, 1, 2, 3]] * 4


def test_disturbed_rounds_are_measured_again_and_kept(tmp_path):
    actual, _ = session(tmp_path, entries("a", "disturbed"))
    assert [len(rounds) for rounds in actual] == [4, 4, 6, 6]
    assert [entry.flags for entry in actual[3]] == [("preempted",)] * 2 + [()] * 4


def test_an_artifact_that_does_not_run_ends_the_session_and_is_named(tmp_path):
    with pytest.raises(MeasurementError, match=r"'broken' could not be measured in round 1: no such model"):
        session(tmp_path, entries("a", "broken", base=False))


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(1, 12))
def test_every_unit_stays_together_and_a_drift_cancels(alone, rounds):
    listed = []
    for place, single in enumerate(alone):
        listed += entries(str(place), base=not single)
    chosen = units([*_placed(listed)])
    places: dict[int, list[int]] = {}
    order = [place for number in range(rounds) for unit in turn(chosen, number) for place in unit]
    for position, place in enumerate(order):
        places.setdefault(place, []).append(position)
    assert {place for unit in chosen for place in unit} == set(range(len(listed)))
    for base, candidate in (unit for unit in chosen if len(unit) == 2):
        lead = [b - c for b, c in zip(places[base], places[candidate], strict=True)]
        assert {abs(step) for step in lead} == {1}
        assert abs(sum(lead)) <= 1


def _placed(listed):
    """Baselines by their place in the whole list."""
    for place, entry in enumerate(listed):
        baseline = None if entry.baseline is None else place - 1
        yield Participant(name=entry.name, path=entry.path, runtime=entry.runtime, baseline=baseline)


def test_base_and_candidate_of_a_real_runner_take_turns_in_processes_of_their_own(tmp_path):
    pytest.importorskip("onnxruntime")
    model, _ = Models(load_space("nano"), "onnxruntime", tmp_path).path(Item("empty"))
    pair = [
        Participant(name="base", path=model, runtime="onnxruntime"),
        Participant(name="m", path=model, runtime="onnxruntime", baseline=0),
    ]
    protocol = BenchmarkProtocol(rounds=2, runs=20, seconds=0.1, most_seconds=0.1)
    with local_runner(load_device("host").runner) as runner:
        runner.about()
        base, measured = measure(pair, runner, protocol, ())
    for one, other in zip(base, measured, strict=True):
        assert len(one.turns) == len(other.turns) >= 1
        for entry in (one, other):
            assert sum(entry.turns) == len(entry.samples_us)
            assert min(entry.turns) >= 4
            text = (entry.load_ms, entry.first_ms, entry.warm_load_ms, entry.memory_bytes)
            assert None not in text
    assert [[entry.position for entry in side[:2]] for side in (base, measured)] == [[0, 3], [1, 2]]


def test_of_a_pair_the_artifact_that_does_not_run_is_named(tmp_path):
    pytest.importorskip("onnxruntime")
    model, _ = Models(load_space("nano"), "onnxruntime", tmp_path).path(Item("empty"))
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    pair = [
        Participant(name="base", path=model, runtime="onnxruntime"),
        Participant(name="bad", path=tmp_path / "bad.onnx", runtime="onnxruntime", baseline=0),
    ]
    with local_runner(load_device("host").runner) as runner:
        runner.about()
        with pytest.raises(MeasurementError, match="'bad' could not be measured in round 1"):
            measure(pair, runner, BenchmarkProtocol(rounds=2, seconds=0.01, most_seconds=0.05), ())


def test_a_real_model_tells_cold_and_warm_load_and_its_memory(tmp_path):
    pytest.importorskip("onnxruntime")
    model, _ = Models(load_space("nano"), "onnxruntime", tmp_path).path(Item("empty"))
    protocol = BenchmarkProtocol(rounds=2, runs=5, seconds=0.01, most_seconds=0.1)
    with local_runner(load_device("host").runner) as runner:
        rounds = measure([Participant(name="m", path=model, runtime="onnxruntime")], runner, protocol, ())[0]
    first, second = rounds[:2]
    assert first.load_ms > 0
    assert second.warm_load_ms > 0
    if sys.platform == "linux":
        assert 1e4 < first.memory_bytes < 1e9


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_what_is_interrupted_leaves_a_result_that_says_so(tmp_path, sign):
    pytest.importorskip("onnxruntime")
    model, _ = Models(load_space("nano"), "onnxruntime", tmp_path).path(Item("empty"))
    out = tmp_path / "benchmark.json"
    command = [sys.executable, "-m", "nasvit_edge.cli", "benchmark", str(model), "--rounds", "500"]
    child = subprocess.Popen(
        [*command, "--seconds", "0.01", "--out", str(out)], start_new_session=True, stderr=subprocess.PIPE
    )
    while not out.exists():
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.05)
    os.killpg(child.pid, sign)
    assert child.wait(30) == (130 if sign == signal.SIGINT else -9)
    child.stderr.close()
    assert read_result(out).stopped.endswith("of 500 rounds")
    done = subprocess.run(
        [sys.executable, "-m", "nasvit_edge.cli", "report", "bench", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)
    assert f"{'interrupted' if sign == signal.SIGINT else 'killed'} after" in done.stderr
