"""Formats: every shipped TOML loads, a damaged one is one line."""

from __future__ import annotations

import pytest
from conftest import one_line, only_user_errors
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge import files
from nasvit_edge.errors import ExportError
from nasvit_edge.export import formats

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
    assert {"convert", "write_metadata", "read_metadata", "runner"} <= set(dir(form.module()))


def test_an_unknown_precision_lists_what_there_is():
    with pytest.raises(ExportError, match="no precision 'int8'; it has fp32, fp16, w8") as caught:
        formats.load_format("coreml").threshold("int8")
    assert one_line(caught)


@given(st.dictionaries(st.sampled_from(["error", "snr_db", "agreement", "other"]), VALUES) | VALUES)
def test_any_limits_are_read_or_refused_by_name(limits):
    only_user_errors(formats._threshold, limits, "format.toml")


def test_a_limit_that_is_no_number_is_named():
    with pytest.raises(ExportError, match="'snr_db' is 'high', not a number"):
        formats._threshold({"snr_db": "high"}, "format.toml")


def test_every_shipped_format_has_a_readme_and_a_program():
    for name in formats.format_names():
        folder = files.shipped("export") / name
        assert (folder / "README.md").exists()
        assert any(p.suffix in (".py", ".swift", ".kt") for p in folder.iterdir())
