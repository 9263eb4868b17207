"""Sizes are those of the modules that ship."""

from __future__ import annotations

import random

import pytest
from conftest import require_module

from nasvit_edge import sizes
from nasvit_edge.model.blocks import build
from nasvit_edge.ops import all_ops, lower
from nasvit_edge.profile.models import Item, Models, subnet_id
from nasvit_edge.runtimes import RUNTIMES
from nasvit_edge.space import load_space


@pytest.mark.parametrize("name", ["nano", "nasvit", "alphanet"])
def test_parameters_are_those_of_the_module(name):
    ops = random.Random(0).sample(all_ops(load_space(name)), 40)
    for op in ops:
        assert sizes.parameters(op) == sum(p.numel() for p in build(op).parameters()), op.key()


@pytest.mark.parametrize(("end", "millions"), [("smallest", 8.24), ("largest", 16.68)])
def test_whole_subnets_have_the_parameters_of_the_specification(end, millions):
    space = load_space("nasvit")
    result = sizes.config_parameters(space, getattr(space, end)())
    assert result / 1e6 == pytest.approx(millions, abs=0.005)


def test_activations_hold_at_least_input_and_output():
    space = load_space("nasvit")
    for op in lower(space, space.largest()):
        ends = [1, 1]
        for i, shape in enumerate((op.in_shape(), op.out_shape())):
            for side in shape:
                ends[i] *= side
        assert sizes.activations(op) >= sum(ends), op.key()


@pytest.mark.parametrize("form", ["onnx", "tflite", "coreml"])
def test_fewer_bits_make_a_smaller_file(form):
    op = lower(load_space("nasvit"), load_space("nasvit").largest())[5]
    sizes_by_precision = [sizes.file_bytes(op, form, precision) for precision in ("fp32", "fp16", "w8")]
    assert sizes_by_precision == sorted(sizes_by_precision, reverse=True)
    assert 0.2 < sizes_by_precision[2] / sizes_by_precision[0] < 0.6


@pytest.mark.parametrize(
    ("runtime", "precision"),
    [
        *(("onnxruntime", precision) for precision in ("fp32", "int8")),
        *(pytest.param("litert", precision, marks=pytest.mark.slow) for precision in ("fp32", "int8")),
    ],
)
def test_computed_file_sizes_are_those_of_real_files(runtime, precision, tmp_path):
    """Not the smallest or largest, which the coefficients were fitted to."""
    space, form = load_space("nano"), RUNTIMES[runtime].form
    require_module({"onnx": "onnxruntime", "tflite": "litert_torch"}[form])
    config = space.sample(random.Random(5))
    path, _ = Models(space, runtime, tmp_path, 0, precision).path(Item(subnet_id(config), config=config))
    computed = sum(sizes.file_bytes(op, form, precision) for op in lower(space, config))
    assert computed / path.stat().st_size == pytest.approx(1, abs=0.02)
