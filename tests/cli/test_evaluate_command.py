"""`evaluate` and `finetune` as a user calls them."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from nasvit_edge.cli import app

SMALL = {
    "resolution": 20,
    "width": [8, 16, 24, 32, 48, 160],
    "depth": [1, 1, 1, 1],
    "kernel_size": [3, 3, 3, 3],
    "expand_ratio": [1, 2, 2, 3],
}


def _run(*arguments: object):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_a_supernet_is_evaluated_into_a_table_or_json(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "small.json"
    path.write_text(json.dumps([SMALL]))
    arguments = [
        "evaluate",
        "--supernet",
        "nano",
        "--subnets",
        path,
        "--workers",
        1,
        "--calibration-images",
        64,
    ]
    shown = _run(*arguments, "--out", tmp_path / "e.csv")
    assert shown.exit_code == 0
    assert "621.7 k" in shown.stdout
    assert "standard error" in shown.stderr
    assert (tmp_path / "e.csv").read_text().startswith("subnet,accuracy,macs,parameters,config\n")
    content = json.loads(_run(*arguments, "--json").stdout)
    assert content["subnets"][0]["config"] == SMALL


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["evaluate"], "give one of them"),
        (["evaluate", "m.onnx", "--supernet", "nano"], "give one of them"),
        (["evaluate", "m.onnx", "--workers", 2], "--workers is for evaluate --supernet"),
        (["evaluate", "--supernet", "nano", "--split", "train"], "--split is 'train'"),
        (["evaluate", "--supernet", "nano", "--subnets", "best"], "'best' is not known"),
        (["finetune"], "--space, --supernet and --config"),
        (["finetune", "absent.json"], "absent.json"),
        (["finetune", "a.json", "--quantise", "int4"], "there is int8"),
    ],
)
def test_a_mistake_is_one_line(arguments, part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = _run(*arguments)
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert part in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_its_sidecar_is_evaluated_with_a_note(tmp_path):
    path = tmp_path / "model.onnx"
    config = tmp_path / "config.json"
    config.write_text(json.dumps(SMALL))
    command_line = [
        "export",
        "--space",
        "nano",
        "--supernet",
        "nano",
        "--config",
        config,
        "--uncalibrated",
        "--out",
        path,
    ]
    assert _run(*command_line, "--no-cache").exit_code == 0
    path.with_name("model.onnx.json").unlink()
    for arguments in (["evaluate", path, "--json"], ["doctor", path, "--json"]):
        process = _run(*arguments)
        assert process.exit_code == 0
        assert json.loads(process.stdout)["checked"] is False
        assert "model.onnx.json, its sidecar, is not here" in process.stderr
    refused = _run("verify", path)
    assert refused.exit_code == 2
    assert "sidecar" in refused.stderr
