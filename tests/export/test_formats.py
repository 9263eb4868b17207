"""Formats: every shipped TOML loads, a damaged one is one line."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

import pytest
from conftest import one_line, only_user_errors
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge import export, files, records
from nasvit_edge.errors import ExportError, NasvitEdgeError
from nasvit_edge.export import formats
from nasvit_edge.requests import export as requests_export

VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.lists(st.integers(), max_size=2)
)


@pytest.mark.parametrize("name", formats.format_names())
def test_every_shipped_format_has_limits_for_every_precision(name):
    form = formats.load_format(name)
    assert formats.format_of(form.suffix) == form
    assert form.thresholds["fp32"].error == 1e-4
    assert form.thresholds["fp16"].snr_db == 40


def test_an_unknown_precision_lists_what_there_is():
    with pytest.raises(ExportError, match="no precision 'int8'; it has fp32, fp16, w8") as caught:
        formats.load_format("coreml").threshold("int8")
    assert one_line(caught)


@pytest.mark.parametrize("name", formats.format_names())
def test_every_format_s_module_has_what_is_asked_of_one(name):
    """As mypy sees it; of a format that was added and is not among those it looks at, too."""
    form = formats.load_format(name)
    wanted = [formats.Converter, *([formats.Chaining] if form.chained else [])]
    for protocol in wanted:
        for called, method in inspect.getmembers(protocol, inspect.isfunction):
            if not called.startswith("_"):
                parameters = inspect.signature(getattr(form.module(), called)).parameters.values()
                needed = [one for one in parameters if one.default is one.empty]
                asked = len(inspect.signature(method).parameters) - 1
                assert len(needed) <= asked <= len(parameters), (name, called)


def test_mypy_looks_at_every_format_s_module():
    source = Path(export.__file__).read_text()
    listed = re.search(r"CONVERTERS.* = \((.*)\)", source)[1].split(", ")
    assert listed == formats.format_names()
    chained = [name for name in listed if formats.load_format(name).chained]
    assert re.search(r"CHAINING.* = \((.*),\)", source)[1].split(", ") == chained


def test_pip_brings_every_format_s_packages():
    extras = tomllib.loads((Path(export.__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for name in formats.format_names():
        for package in formats.load_format(name).packages.values():
            brought = extras["optional-dependencies"][package.extra]
            assert any(re.match(rf"{package.distribution}\b", line) for line in brought), package
        assert re.search(rf"\b{name}\b", inspect.getsource(requests_export)), "not in the help of --format"


@given(st.dictionaries(st.sampled_from(["error", "snr_db", "agreement", "other"]), VALUES) | VALUES)
def test_any_limits_are_read_or_refused_by_name(limits):
    table = files.read_toml(files.shipped("export") / "onnx" / "format.toml", "")
    only_user_errors(records.parse, formats.Format, table | {"threshold": {"fp32": limits}}, "format.toml")


def test_a_limit_that_is_no_number_is_named():
    table = files.read_toml(files.shipped("export") / "onnx" / "format.toml", "")
    with pytest.raises(NasvitEdgeError, match=r"'threshold.fp16.snr_db' is 'high'; a number") as caught:
        records.parse(formats.Format, table | {"threshold": {"fp16": {"snr_db": "high"}}}, "format.toml")
    assert one_line(caught)


def test_limits_of_no_precision_are_refused():
    table = files.read_toml(files.shipped("export") / "onnx" / "format.toml", "")
    with pytest.raises(NasvitEdgeError, match="possible are fp32, fp16, int8, dynamic, w8"):
        records.parse(formats.Format, table | {"threshold": {"fp33": {}}}, "format.toml")


def test_every_shipped_format_has_a_readme_and_a_program():
    for name in formats.format_names():
        folder = files.shipped("export") / name
        assert (folder / "README.md").exists()
        assert any(p.suffix in (".py", ".swift", ".kt") for p in folder.iterdir())
