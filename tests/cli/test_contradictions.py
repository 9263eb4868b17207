"""Options of which one used to win without a word: each pair is refused in one line."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from nasvit_edge.cli import app
from nasvit_edge.ops import all_ops
from nasvit_edge.space import load_space

# The list of docs/search.md and its neighbours: command, and what says that both cannot be.
PAIRS = [
    ("search --latency 20ms --table t.json --device jetson", "contradicts"),
    ("search --latency 20ms --table t.json --runtime litert", "contradicts"),
    ("search --latency 20ms --table t.json --threads 8", "contradicts"),
    ("search --latency 20ms --table t.json --precision int8", "contradicts"),
    ("search --latency 20ms --device host:litert --runtime onnxruntime", "contradicts"),
    ("search --latency 20ms --device host:2t --threads 4", "contradicts"),
    ("search --latency 20ms --device host:int8 --precision fp32", "contradicts"),
    ("search --latency host:litert=20ms --runtime onnxruntime", "contradicts"),
    ("search --latency host=20ms --device android", "of no budget"),
    ("search --latency 20ms --table t.json --resolution 192 --gene resolution=224", "give one"),
    ("search --latency 20ms --confirm-by median", "give that too"),
    ("search --latency 20ms --method exact --population 5", "leave out one"),
    ("search --latency 20ms --method exact --generations 5", "leave out one"),
    ("search --latency 20ms --accuracy nasvit --minutes 5", "leave out one"),
    ("search --latency 20ms --max-loss 0.5", "give that too"),
    ("search --latency 20ms --precision mixed --confirm 2", "does not go with it"),
    ("search --latency 20ms --precision mixed --minutes 5", "does not go with it"),
    ("search --latency 20ms --precision mixed --confidence 90%", "does not go with it"),
    ("search --latency 20ms --precision mixed --size-front", "--size-front does not go with it"),
    ("search --latency 20ms --precision mixed --table t.json", "does not go with it"),
    ("accuracy fit --samples 50 --minutes 5", "leave out one"),
    ("predict c.json --table t.json --device jetson", "contradicts"),
    ("predict c.json --device host:litert --runtime onnxruntime", "contradicts"),
    ("predict c.json --device host:1t:2t", "names two"),
    ("profile --sample-error 5%", "give that too"),
    ("profile --sample 20% --again", "leave out one"),
    ("export --space nano --supernet nano --config c.json --uncalibrated --calibrate bundled", "contradict"),
    ("export r.json --space nano", "not both"),
    ("evaluate --supernet nano --threads 2", "for an exported file"),
    ("evaluate m.onnx --seed 2", "for evaluate --supernet"),
    ("train --space nano --data bundled --epochs 3 --set run.epochs=4 --out run", "contradict each other"),
    (
        "train --space nano --data bundled --set run.epochs=3 --set run.epochs=4 --out run",
        "contradict each other",
    ),
    ("tables show t.json --space nano", "not 'nano'"),
]


@pytest.mark.parametrize(("line", "said"), PAIRS, ids=[line for line, _ in PAIRS])
def test_two_options_that_cannot_both_be_met_are_refused(line, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NASVIT_EDGE_DEVICE", raising=False)
    space = load_space("nasvit")
    ops = {op.key(): {"median_ms": 1.0} for op in all_ops(space)}
    fields = {"device": "host", "runtime": "onnxruntime", "threads": 1, "precision": "fp32"}
    raw = {
        "schema": 2,
        "space": "nasvit",
        "ops": ops,
        "call_ms": 0.0,
        "composition": None,
        "provenance": "imported",
    }
    (tmp_path / "t.json").write_text(json.dumps(raw | fields))
    (tmp_path / "c.json").write_text(json.dumps(space.smallest().to_dict()))
    done = CliRunner().invoke(app, line.split())
    assert done.exit_code == 2, done.output
    last = done.stderr.splitlines()[-1]
    assert said in last
    assert last.startswith("error: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "c.json",
        "t.json",
    ]  # nothing was measured or written


def test_the_usual_device_of_the_environment_is_no_choice_that_contradicts(tmp_path, monkeypatch):
    test_two_options_that_cannot_both_be_met_are_refused(PAIRS[-1][0], PAIRS[-1][1], tmp_path, monkeypatch)
    monkeypatch.setenv("NASVIT_EDGE_DEVICE", "jetson")
    done = CliRunner().invoke(app, ["predict", "c.json", "--table", "t.json", "--json"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["filled"] == {"space": "nasvit"}
