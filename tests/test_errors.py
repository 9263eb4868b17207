"""User-facing errors: one tree, documented, with exit codes."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
from conftest import one_line

from nasvit_edge import errors
from nasvit_edge.errors import MissingExtraError, NasvitEdgeError, require


def _children() -> list[type[NasvitEdgeError]]:
    return [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, NasvitEdgeError)]


def test_the_docstring_lists_the_whole_tree():
    for child in _children():
        assert child.__name__ in (errors.__doc__ or "")


def test_exit_codes_are_those_of_the_house():
    codes = {child.__name__: child.exit_code for child in _children()}
    special = {"BudgetError": 1, "VerifyError": 1, "TrainingError": 1, "MeasurementError": 3}
    assert codes == {name: special.get(name, 2) for name in codes}


def test_a_missing_extra_says_what_to_install():
    with pytest.raises(MissingExtraError) as caught:
        require("no_such_module_of_ours.part", "onnx")
    assert "pip install 'nasvit-edge[onnx]'" in one_line(caught)


def test_an_extra_that_is_there_is_imported():
    assert require("json", "onnx").loads("1") == 1


def test_an_extra_that_is_broken_is_one_line_and_keeps_its_cause(tmp_path, monkeypatch):
    (tmp_path / "broken_extra.py").write_text("raise RuntimeError('operator x::y does not exist\\nmore')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingExtraError) as caught:
        require("broken_extra", "train")
    assert "operator x::y does not exist" in one_line(caught)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_errors_need_no_heavy_import():
    code = "import sys, nasvit_edge.errors; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["", "board"])
def test_what_happened_and_what_to_do_are_known_apart_and_survive_another_process(name):
    error = errors.DeviceError("it is full; very", "free some space", device=name)
    for either in (error, pickle.loads(pickle.dumps(error))):
        assert str(either) == ("device 'board': " if name else "") + "it is full; very; free some space"
        assert (either.what, either.todo) == ("it is full; very", "free some space")
    assert NasvitEdgeError("all is said").todo == ""
