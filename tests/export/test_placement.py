"""Placement: what a target would not take is listed by layer."""

from __future__ import annotations

import importlib.metadata
import re

import pytest
import torch
from conftest import TINY, space_of

from nasvit_edge.errors import ExportError, VerifyError
from nasvit_edge.export import coreml, onnx, tflite, tflite_reading, writing
from nasvit_edge.export.formats import format_names, format_of, load_format
from nasvit_edge.export.writing import Options
from nasvit_edge.flows import doctor
from nasvit_edge.model.checkpoint import random_supernet
from nasvit_edge.model.subnet import materialise

SPACE = space_of(TINY)


class SixAxes(torch.nn.Module):
    def forward(self, x):
        wide = x.reshape(1, 2, 2, 2, 2, 2)
        return (wide * wide.mean(1, keepdim=True)).reshape(1, 32)


def placements(path):
    return format_of(path.suffix).module().placements(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", format_names())
def test_every_op_of_a_subnet_has_a_place(name, tmp_path):
    net = random_supernet(SPACE)
    subnet = materialise(net, SPACE.largest())  # with transformer blocks
    form = load_format(name)
    path = tmp_path / f"m{form.suffix}"
    writing.export(net, subnet, form, path, Options(uncalibrated=True))
    for actual in placements(path):
        assert actual.ops > 50
        assert actual.outside == (), actual.target


def test_an_op_that_the_gpu_delegate_lacks_is_named_with_its_layer(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(tflite.convert(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Softplus()), (1, 4)))
    known = tflite_reading.gpu_ops()
    kinds = {op.name for op in tflite_reading.tflite_ops(path)}
    _, gpu = placements(path)
    assert {o.op for o in gpu.outside} == kinds - known


def test_more_than_four_axes_are_too_many_for_the_gpu_delegate(tmp_path):
    model = tmp_path / "m.tflite"
    model.write_bytes(tflite.convert(SixAxes(), (1, 32)))
    assert any("6 axes" in o.why for o in placements(model)[1].outside)


def test_more_than_five_axes_do_not_convert_to_core_ml():
    with pytest.raises(ExportError, match="rank"):
        coreml.convert(SixAxes(), (1, 32))


def test_nvidias_parser_is_asked(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx.convert(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1)), (1, 3, 8, 8)))
    (placement,) = placements(path)
    assert placement.asked
    assert placement.ops == 1


def test_a_damaged_file_is_one_line(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"\x00" * 100)
    with pytest.raises(VerifyError, match="damaged"):
        placements(path)


def test_the_environment_names_every_extra():
    rows = doctor.packages()
    extras = set(importlib.metadata.metadata("nasvit-edge").get_all("Provides-Extra"))
    assert {row.extra for row in rows} == extras - {"all", "bench", "dev"} | {"-"}


def test_the_environment_names_every_package_of_the_extras_that_people_install():
    extras = r"; extra == '(onnx|tflite|coreml|tensorrt|train|heif|photos|report|devices)'"
    required = [r for r in importlib.metadata.requires("nasvit-edge") if re.search(extras, r)]
    named = {row.package for row in doctor.packages()}
    assert {re.match(r"[\w-]+", requirement).group() for requirement in required} <= named
