"""Chained and resized TFLite graphs compute what a conversion computes, with the same operators."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from conftest import TINIER, TINY, require_module, space_of
from msgspec import structs

from nasvit_edge.ops import all_ops, lower
from nasvit_edge.profile.models import Item, Models, op_module, subnet_id, template_of
from nasvit_edge.space import load_space

SPACE, SMALL = space_of(TINY), space_of(TINIER)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The largest subnet: its chain, and its conversion in one piece."""
    require_module("litert_torch")
    import torch

    from nasvit_edge.export import tflite

    folder = tmp_path_factory.mktemp("chain")
    config = SMALL.largest()
    chained, _ = Models(SMALL, "litert", folder).path(Item(subnet_id(config), config=config))
    ops = [op_module(op, "litert") for op in lower(SMALL, config)]
    whole = folder / "whole.tflite"
    side = config.resolution
    whole.write_bytes(tflite.convert(torch.nn.Sequential(*ops).eval(), (1, 3, side, side)))
    return chained, whole


def operators(path):
    schema = require_module("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    return sorted(model.operatorCodes[op.opcodeIndex].builtinCode for op in model.subgraphs[0].operators)


@pytest.mark.slow
def test_a_chain_computes_the_same_logits(pair):
    from nasvit_edge.export import tflite

    side = SMALL.largest().resolution
    images = np.random.default_rng(0).normal(size=(2, 3, side, side)).astype(np.float32)
    chained, whole = (tflite.runner(path)(images) for path in pair)
    assert np.array_equal(chained, whole)
    assert chained.std() > 0


@pytest.mark.slow
def test_a_chain_has_the_operators_of_the_whole(pair):
    chained, whole = map(operators, pair)
    assert abs(len(chained) - len(whole)) <= 1
    assert set(chained) == set(whole)


@pytest.mark.slow
def test_a_chain_is_quantised_like_a_conversion(tmp_path, pair):
    config = SMALL.largest()
    path, _ = Models(SMALL, "litert", tmp_path, 0, "int8").path(Item(subnet_id(config), config=config))
    assert path.stat().st_size < 0.9 * pair[0].stat().st_size


@pytest.mark.slow
def test_each_kind_of_op_is_quantised_alone(tmp_path):
    require_module("litert_torch")
    models = Models(SMALL, "litert", tmp_path, 0, "int8")
    kinds = {type(op): op for op in lower(SMALL, SMALL.smallest())}
    for op in kinds.values():
        path, _ = models.path(Item(op.key(), op=op))
        floats, _ = replace(models, precision="fp32", known={}).path(Item(op.key(), op=op))
        assert path.read_bytes() != floats.read_bytes(), op.key()


def test_values_stay_in_range_through_a_long_chain():
    """An int8 runtime refuses a convolution whose input is a few hundred times larger than its output."""
    import torch

    space = load_space("nasvit")
    config = structs.replace(space.largest(), resolution=space.smallest().resolution)
    values = torch.randn(
        1, 3, config.resolution, config.resolution, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        for op in lower(space, config):
            values = op_module(op)(values)
            assert 0.05 < float(values.std()) < 500, op.key()


@pytest.mark.slow
@pytest.mark.parametrize("space", ["tiny", "nano"])
def test_a_resized_graph_is_that_of_a_conversion(tmp_path, space):
    require_module("litert_torch")
    from nasvit_edge.export import tflite

    ops = [op for op in all_ops(SPACE if space == "tiny" else load_space(space)) if template_of(op) != op]
    models = Models(SPACE, "litert", tmp_path)
    for op in random.Random(0).sample(ops, 12):
        resized, _ = models.path(Item(op.key(), op=op))
        whole = tmp_path / "whole.tflite"
        whole.write_bytes(tflite.convert(op_module(op, "litert"), (1, *op.in_shape())))
        assert operators(resized) == operators(whole), op.key()
        images = np.random.default_rng(0).normal(size=(1, *op.in_shape())).astype(np.float32)
        # folded constants of two modules of the same seed are the same numbers
        assert np.allclose(tflite.runner(resized)(images), tflite.runner(whole)(images), atol=1e-5), op.key()
