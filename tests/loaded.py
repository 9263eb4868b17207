"""Programs imported as they lie in a bundle: beside the file that prepares images."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import require_module

from nasvit_edge.export.programs import programs

RUNTIMES = {"onnx": "onnxruntime", "tflite": "ai_edge_litert", "tensorrt": None}


def folder(form, at, *, segments=False):
    """The programs of a format, written to a folder."""
    for name, content in programs(form, segments=segments).items():
        (at / name).write_bytes(content)
    if form == "tensorrt" and segments:
        (at / "classify.py").write_bytes(programs(form, segments=False)["classify.py"])
    return at


def program(form, name="classify"):
    """A program of a format as a module."""
    if RUNTIMES[form]:
        require_module(RUNTIMES[form])
    require_module("PIL.Image")
    with tempfile.TemporaryDirectory() as where, pytest.MonkeyPatch.context() as patch:
        at = folder(form, Path(where), segments=name == "segment")
        patch.syspath_prepend(where)
        for other in ("classify", "prepare_image"):
            sys.modules.pop(other, None)
        spec = importlib.util.spec_from_file_location(f"{name}_{form}", at / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules.pop("classify", None)
    return module
