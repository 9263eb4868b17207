"""`benchmark` on real exports: top-1, the prediction of the device's table, and what other files lack."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nasvit_edge.cli import app
from nasvit_edge.model.checkpoint import load_supernet, resolve_weights, save_supernet
from nasvit_edge.model.narrow import narrowed
from nasvit_edge.space import load_space, space_toml
from nasvit_edge.train.initial import initialised


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


IMAGES = ["--calibrate", "bundled"]


def alone(name, labels=None):
    """`NAME.onnx` of the smallest subnet as a supernet of its own, as fine-tuning makes it; `labels` are other classes."""
    supernet = load_supernet(resolve_weights("nano"), load_space("nano"))
    narrow = narrowed(supernet, supernet.space.smallest())
    if labels is not None:
        narrow = initialised(narrow.space.with_labels(labels), 0, narrow.scaling)
    save_supernet(narrow, Path(f"{name}.safetensors"), narrow.source)
    Path(f"{name}.toml").write_text(space_toml(narrow.space))
    how = IMAGES if labels is None else ["--uncalibrated", "--force"]
    subject = ("--space", f"{name}.toml", "--supernet", f"{name}.safetensors", "--config", "small.json")
    export(*subject, *how, name=name)


def export(*options, name):
    result = run("export", *options, "--format", "onnx", "--out", f"{name}.onnx")
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_exports_bring_their_top1_their_ops_and_what_the_table_predicts(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    space = load_space("nano")
    for name, config in (("small", space.smallest()), ("large", space.largest())):
        Path(f"{name}.json").write_text(json.dumps(config.to_dict()))
        export("--space", "nano", "--supernet", "nano", "--config", f"{name}.json", *IMAGES, name=name)
    assert run("profile", "--device", "host", "--space", "nano", "--protocol", "quick").exit_code == 0
    measure = ("--rounds", 3, "--seconds", 0.05, "--data", "bundled")
    run("benchmark", "large.onnx", "--baseline", "small.onnx", *measure)
    small, large = json.loads(Path("benchmark.json").read_text())["artifacts"]
    assert (small["precision"], small["space"]) == ("fp32", "nano")
    assert small["accuracy"]["images"] == large["accuracy"]["images"] == 2000
    assert 0.85 < small["accuracy"]["top1"] < large["accuracy"]["top1"] < 0.95
    for artifact in (small, large):
        value, low, high = artifact["predicted_ms"]
        assert low < value < high
        assert 0.2 < value / (sorted(artifact["rounds"][0]["samples_us"])[0] / 1e3) < 5
    report = json.loads(run("report", "bench", "benchmark.json", "--json", "--gate", "top1").stdout)
    verdicts = {cell["metric"]: cell["verdict"] for cell in report["cells"]}
    assert (verdicts["top1"], verdicts["size"]) == ("improvement", "regression")
    assert report["exit_code"] in (0, 3)
    _a_subnet_with_a_space_of_its_own_is_predicted(small)


def _a_subnet_with_a_space_of_its_own_is_predicted(small):
    alone("tuned")
    alone("transferred", labels=["cat", "dog"])  # its classifier is an op that the table lacks
    run("benchmark", "tuned.onnx", "transferred.onnx", "--rounds", 1, "--seconds", 0.05)
    tuned, transferred = json.loads(Path("benchmark.json").read_text())["artifacts"]
    assert tuned["space"].startswith("nano-subnet-")
    assert tuned["predicted_ms"] == small["predicted_ms"]
    assert transferred["predicted_ms"] is None
    profiling = ("--device", "host", "--space", "transferred.toml", "--protocol", "quick")
    assert run("profile", *profiling).exit_code == 0
    options = ("--space", "transferred.toml", "--rounds", 1, "--seconds", 0.05)
    run("benchmark", "transferred.onnx", *options)
    (transferred,) = json.loads(Path("benchmark.json").read_text())["artifacts"]
    low, high = transferred["predicted_ms"][1:]
    assert 0 < low < high
