"""`benchmark` on real exports: top-1, the prediction of the device's table, and what other files lack."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from nasvit_edge.cli import app
from nasvit_edge.space import load_space


def run(*arguments):
    made = CliRunner().invoke(app, [str(a) for a in arguments])
    assert made.exception is None or isinstance(made.exception, SystemExit), made.exception
    return made


@pytest.mark.slow
def test_exports_bring_their_top1_their_ops_and_what_the_table_predicts(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    space = load_space("nano")
    for name, config in (("small", space.smallest()), ("large", space.largest())):
        (tmp_path / f"{name}.json").write_text(json.dumps(config.to_dict()))
        export = (
            "--space",
            "nano",
            "--supernet",
            "nano",
            "--config",
            f"{name}.json",
            "--calibrate",
            "bundled",
        )
        assert run("export", *export, "--format", "onnx", "--out", f"{name}.onnx").exit_code == 0
    assert run("profile", "--device", "host", "--space", "nano", "--protocol", "quick").exit_code == 0
    measure = ("--rounds", 3, "--seconds", 0.05, "--data", "bundled")
    run("benchmark", "large.onnx", "--baseline", "small.onnx", *measure)
    small, large = json.loads((tmp_path / "benchmark.json").read_text())["artifacts"]
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
