"""A format is a folder and a module: what is added that way is exported, checked, looked at and read again."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
from conftest import one_line
from msgspec.structs import replace
from typer.testing import CliRunner

from nasvit_edge import files
from nasvit_edge.cli import app
from nasvit_edge.errors import ExportError
from nasvit_edge.export import verification
from nasvit_edge.export.formats import format_names, format_of, load_format
from nasvit_edge.flows import doctor
from nasvit_edge.space import load_space


@pytest.fixture
def onyx(tmp_path, monkeypatch):
    """The shipped formats and `onyx`."""
    formats = tmp_path / "export"
    shutil.copytree(files.shipped("export"), formats)
    (formats / "onyx").mkdir()
    text = (formats / "onnx" / "format.toml").read_text()
    text = text.replace('name = "onnx"', 'name = "onyx"').replace('suffix = ".onnx"', 'suffix = ".onyx"')
    (formats / "onyx" / "format.toml").write_text(text)
    shipped = files.shipped
    monkeypatch.setattr(files, "shipped", lambda folder: formats if folder == "export" else shipped(folder))
    spec = importlib.util.spec_from_file_location(
        "nasvit_edge.export.onyx", Path(__file__).with_name("onyx.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "nasvit_edge.export.onyx", module)
    monkeypatch.chdir(tmp_path)
    return load_format("onyx")


def run(*words):
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, (words, done.output, done.stderr)
    return done


def test_a_format_that_was_added_is_exported_checked_and_read_again(onyx, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("config.json").write_text(json.dumps(load_space("nano").smallest().to_dict()))
    subnet = ("--space", "nano", "--supernet", "nano", "--config", "config.json")
    by_format = {}
    for name in ("onnx", "onyx"):
        path = Path(f"m.{name}")
        run("export", *subnet, "--format", name, "--uncalibrated", "--out", str(path), "--precision", "w8")
        check = verification.verify(path)
        assert check.passed
        by_format[name] = (check.error, check.snr_db, replace(doctor.examine(path), artifact=""))
    assert by_format["onyx"] == by_format["onnx"]
    assert "onyx" in doctor.environment().formats
    assert format_of(".onyx") == onyx


def test_what_is_no_format_lists_the_one_that_was_added(onyx):
    assert onyx.name in format_names()
    with pytest.raises(ExportError, match="there are coreml, onnx, onyx, tensorrt, tflite") as caught:
        load_format("onix")
    one_line(caught)
