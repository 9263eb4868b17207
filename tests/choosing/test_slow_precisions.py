"""A precision that the tables at hand know as no faster than fp32 is told where files of it are made and looked at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import TINY, require_module
from made_up import table_file
from typer.testing import CliRunner

from nasvit_edge import cache, records
from nasvit_edge.cli import app
from nasvit_edge.latency.file import OpEntry
from nasvit_edge.latency.names import table_name
from nasvit_edge.ops import all_ops
from nasvit_edge.space import load_space

require_module("onnxruntime")


@pytest.fixture
def home(tmp_path, monkeypatch):
    (tmp_path / "tiny.toml").write_text(TINY)
    space = load_space(tmp_path / "tiny.toml")
    (tmp_path / "small.json").write_text(json.dumps(space.smallest().to_dict()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cache, "root", lambda: tmp_path / "cache")
    return space


def write(space, **ms):
    """A table of each precision, with so many ms for each op."""
    for precision, each in ms.items():
        ops = {op.key(): OpEntry(median_ms=each) for op in all_ops(space)}
        file = table_file(space, precision=precision, ops=ops)
        name = table_name(file.device, file.runtime, file.threads, precision, space.name)
        records.write(Path("latency_tables") / name, file)


def run(*arguments) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def exported(precision):
    named = ("--supernet", "random:1", "--space", "tiny.toml", "--config", "small.json", "--overwrite")
    return run("export", *named, "--precision", precision, "--uncalibrated", "--out", "m.onnx")


@pytest.mark.parametrize(("ms", "slow"), [(0.11, True), (0.05, False)])
def test_export_and_doctor_tell_of_int8_what_its_table_says(home, ms, slow):
    write(home, fp32=0.1, int8=ms)
    for printed in (exported("int8"), run("doctor", "m.onnx")):
        assert ("int8 takes 1.10 of fp32's time" in printed) == slow
        assert ("w8 is as small" in printed) == slow


def test_of_another_precision_and_without_tables_nothing_is_told(home):
    assert "of fp32's time" not in exported("int8")
    write(home, fp32=0.1, int8=0.2)
    assert "of fp32's time" not in exported("fp16")
