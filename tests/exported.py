"""The smallest subnet of the shipped weights in every format and precision, exported once for all of pytest's processes."""

from __future__ import annotations

import contextlib
import functools
import pickle
from typing import Any

import pytest
from conftest import shared

from nasvit_edge import data_sets
from nasvit_edge.export import artifact, tflite, writing
from nasvit_edge.export.formats import load_format
from nasvit_edge.export.writing import Options
from nasvit_edge.model.accuracy import calibrated
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.model.subnet import materialise
from nasvit_edge.space import load_space

SPACE = load_space("nano")
_FLOATS: dict[tuple[int, ...], Any] = {}


@functools.cache
def supernet():
    return load_supernet("nano", SPACE)


@functools.cache
def subnet():
    """The smallest, calibrated."""
    return calibrated(materialise(supernet(), SPACE.smallest()), data_sets.bundled("calibration", SPACE))


@functools.cache
def images():
    """128 images (128, 3, r, r) for the ranges of int8."""
    actual = data_sets.bundled("calibration", SPACE).take("some", slice(0, 128))
    return next(actual.batches(SPACE, SPACE.smallest().resolution, 128))[0].numpy()


@contextlib.contextmanager
def converted_once():
    """litert-torch takes seconds a model, and every precision is made of the same float one."""
    real = tflite._float_model

    def kept(module, shape):
        if shape not in _FLOATS:
            _FLOATS[shape] = real(module, shape)
        return _FLOATS[shape]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tflite, "_float_model", kept)
        yield


def exported(factory, name, precision="fp32"):
    """(its file, which no test changes; what `writing.export` said of it)"""
    form = load_format(name)

    def make(folder):
        options = Options(precision=precision, calibration=images())
        with converted_once():
            written = writing.export(
                supernet(), subnet(), form, folder / f"{precision}{form.suffix}", options
            )
        (folder / "written").write_bytes(pickle.dumps(written))

    folder = shared(factory, f"nano-{name}-{precision}", make)
    return folder / f"{precision}{form.suffix}", pickle.loads((folder / "written").read_bytes())


def copied(path, folder):
    """A copy of an exported file, with what lies beside it."""
    artifact.write_content(folder / path.name, artifact.read_content(path))
    for beside in (artifact.sidecar_path, artifact.reference_path):
        (folder / beside(path).name).write_bytes(beside(path).read_bytes())
    return folder / path.name
