"""Profiling segmenters: the decoder's ops and whole networks with their labels, measured like all others."""

from __future__ import annotations

import json
import random
import statistics
from collections import Counter

import numpy as np
import pytest
import torch
from conftest import TINIER, configs, edited, require_module, space_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from nasvit_edge import sizes
from nasvit_edge.latency import load_table
from nasvit_edge.latency.context import fit_context
from nasvit_edge.latency.estimate import FEWEST, features
from nasvit_edge.model.checkpoint import random_supernet
from nasvit_edge.model.subnet import materialise
from nasvit_edge.model.walk import run
from nasvit_edge.ops import Labels, Lateral, PixelClassifier, all_ops, lower, macs
from nasvit_edge.profile import run as profiling
from nasvit_edge.profile.canary import canaries
from nasvit_edge.profile.models import Item, Models, op_module, sources, subnet_id, template_of
from nasvit_edge.space import load_space

DENSE = load_space("nano-dense")
TEXT = edited(
    TINIER,
    ('name = "tiny"', 'name = "tiny-dense"\naspect = [3, 2]'),
    ("classes = 4", "classes = 3"),
    ("width = [16]\nexpand_ratio = 2", 'kind = "mlp"\nwidth = [8]'),
)
SPACE = space_of(TEXT)
KINDS = {"lateral", "pixels", "labels"}


@pytest.mark.parametrize("name", ["nano-dense", "nasvit-dense"])
def test_the_work_list_holds_every_op_of_every_segmenter(name):
    space = load_space(name)
    known, rng = set(all_ops(space)), random.Random(0)
    for _ in range(200):
        assert set(lower(space, space.sample(rng))) <= known
    assert {op.key().split("/")[0] for op in known} >= KINDS
    keys = [op.key() for op in known]
    assert len(set(keys)) == len(keys)


@settings(max_examples=5)
@given(st.data())
def test_macs_and_parameters_are_what_torch_counts(data):
    config = data.draw(configs(DENSE).filter(lambda c: c.resolution == DENSE.resolutions[0]))
    subnet = materialise(random_supernet(DENSE), config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        subnet(torch.zeros(1, 3, *subnet.size))
    assert counter.get_total_flops() == 2 * macs(DENSE, config)
    counted = sum(value.numel() for value in subnet.parameters())
    assert sizes.config_parameters(DENSE, config) == counted


@settings(max_examples=10)
@given(st.data())
def test_activations_hold_what_an_op_reads_and_gives(data):
    for op in lower(DENSE, data.draw(configs(DENSE))):
        ends = int(np.prod(op.in_shape())) + int(np.prod(op.out_shape()))
        if isinstance(op, Lateral) and op.out_shape()[1:] != op.in_shape()[1:]:
            ends = (
                int(np.prod(op.out_shape())) * 2
            )  # its input is free when it is resized; the sum so far is not
        assert sizes.activations(op) >= ends, op.key()


def test_file_sizes_are_those_of_real_files(tmp_path):
    require_module("onnx")
    models = Models(DENSE, "onnxruntime", tmp_path)
    for config in (DENSE.smallest(), DENSE.sample(random.Random(1))):
        path, _ = models.path(Item(subnet_id(config), config=config))
        computed = sum(sizes.file_bytes(op, "onnx", "fp32") for op in lower(DENSE, config))
        assert path.stat().st_size == pytest.approx(computed, rel=0.05)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "w8"])
def test_onnx_models_of_decoder_and_whole_give_what_they_say(tmp_path, precision):
    runtime = require_module("onnxruntime")
    models, config = Models(SPACE, "onnxruntime", tmp_path, 0, precision), SPACE.largest()
    ops = [op for op in lower(SPACE, config) if isinstance(op, Lateral | PixelClassifier | Labels)]
    for item in [*(Item(op.key(), op=op) for op in ops), Item(subnet_id(config), config=config)]:
        session = runtime.InferenceSession(models.path(item)[0].read_bytes())
        inputs = session.get_inputs()
        assert len(inputs) == 1, "a runner fills one input"
        (result,) = session.run(None, {inputs[0].name: np.zeros(inputs[0].shape, np.float32)})
        shape = SPACE.input_size(config.resolution) if item.op is None else item.op.out_shape()
        assert result.shape == (1, *shape)
        assert result.dtype == (np.int32 if item.op in (None, ops[-1]) else np.float32)


def test_the_addition_of_a_resized_lateral_is_in_its_own_model():
    for op in (op for op in lower(SPACE, SPACE.smallest()) if isinstance(op, Lateral)):
        module, x = op_module(op), torch.randn(1, *op.in_shape())
        resized = op.out_shape()[1:] != op.in_shape()[1:]
        assert hasattr(module, "total") == resized
        if resized:
            assert torch.equal(module(x), module.branch(x) + module.total)
            assert float(module.total.std()) > 0.5, "zeros could be left out by a runtime"


def test_an_op_with_sizes_among_its_constants_has_no_template():
    for op in all_ops(DENSE):
        if isinstance(op, Lateral | Labels):
            assert template_of(op) == op
        if isinstance(op, PixelClassifier):
            assert template_of(op) != op


def test_canaries_of_a_dense_space_are_models_too(tmp_path):
    require_module("onnxruntime")
    models = Models(SPACE, "onnxruntime", tmp_path)
    assert len([models.path(item) for item in canaries(SPACE)]) == 3


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    require_module("onnxruntime")
    folder = tmp_path_factory.mktemp("tables")
    (folder / "tiny-dense.toml").write_text(TEXT)
    path = profiling.profile(SPACE, protocol="quick", out=folder)
    return load_table(path, space=folder / "tiny-dense.toml")


@pytest.mark.slow
def test_a_table_has_the_decoder_and_whole_segmenters(profiled):
    assert set(profiled.ops_ms) == {op.key() for op in all_ops(SPACE)}
    assert len(profiled.file.subnets) >= 15
    wholes = [
        (whole.median_ms, profiled.predict(SPACE.config(**whole.config))) for whole in profiled.file.subnets
    ]
    assert all(predicted.coverage == 1 for _, predicted in wholes)
    # Loose on purpose, and of all together: a single one of these takes 35 us, and test machines are busy.
    assert 0.3 < statistics.median(predicted.ms / measured for measured, predicted in wholes) < 3
    assert set(profiled.parts(SPACE.smallest()).ms) >= KINDS


def test_kinds_of_the_decoder_can_have_factors_of_their_own(profiled):
    config = SPACE.largest()
    parts = profiled.parts(config)
    context, _ = fit_context([profiled.parts(SPACE.sample(random.Random(i))) for i in range(8)], [1.0] * 8)
    assert context.sum_ms(parts) > 0
    doubled = type(context)(dict.fromkeys(KINDS, 2.0), 0.0, 0.0)
    plain = type(context)({}, 0.0, 0.0)
    decoder = sum(parts.ms[kind] for kind in KINDS)
    assert doubled.sum_ms(parts) - plain.sum_ms(parts) == pytest.approx(decoder)


def test_missing_laterals_are_estimated_from_the_others():
    from dataclasses import replace

    from made_up import table

    whole = table(DENSE)
    laterals = [op.key() for op in all_ops(DENSE) if isinstance(op, Lateral)]
    left = {key: ms for key, ms in whole.ops_ms.items() if key not in laterals[::3]}
    actual = replace(whole, ops_ms=left).interpolated()
    assert set(actual.estimates) == set(laterals[::3])
    counted = Counter(features(op).kind for op in all_ops(DENSE))
    assert all(counted[kind] >= FEWEST for kind in KINDS)


@pytest.mark.slow
def test_a_segmenter_for_litert_is_put_together_from_its_ops(tmp_path):
    """It computes what torch computes with the same modules, and has the operators of a conversion in one piece (a reshape aside)."""
    require_module("litert_torch")
    from nasvit_edge.export import tflite
    from nasvit_edge.export.tflite_graph import chain
    from nasvit_edge.model.subnet import PixelLabels, fold

    config, models = SPACE.largest(), Models(SPACE, "litert", tmp_path)
    ops = lower(SPACE, config)
    x = torch.randn(2, 3, *SPACE.input_size(config.resolution), generator=torch.Generator().manual_seed(0))
    modules = {op.name: op_module(op) for op in ops}
    with torch.no_grad():
        logits = run(ops, lambda op, y: getattr(modules[op.name], "branch", modules[op.name])(y), x)
        expected = modules["labels"](logits).numpy()
    parts = [models.path(Item(op.key(), op=op))[0].read_bytes() for op in ops[:-1]]
    (tmp_path / "logits.tflite").write_bytes(chain(parts, [op.name for op in ops[:-1]], sources(ops)[:-1]))
    actual = tflite.runner(tmp_path / "logits.tflite")(x.numpy())
    assert np.abs(actual - logits.numpy()).max() < 1e-4 * float(logits.std())
    whole, _ = models.path(Item(subnet_id(config), config=config))
    labels = tflite.runner(whole)(x.numpy())
    assert labels.dtype == np.int32
    assert (labels == expected).mean() > 0.99
    one = PixelLabels(fold(materialise(random_supernet(SPACE), config), "NHWC")).eval()
    (tmp_path / "one.tflite").write_bytes(tflite.convert(one, (1, *x.shape[1:])))
    joined, converted = _operators(whole), _operators(tmp_path / "one.tflite")
    assert abs(len(joined) - len(converted)) <= 1
    assert set(joined) == set(converted)


def _operators(path):
    schema = require_module("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    return sorted(model.operatorCodes[op.opcodeIndex].builtinCode for op in model.subgraphs[0].operators)


@pytest.mark.slow
def test_litert_measures_segmenters_too(tmp_path):
    require_module("litert_torch")
    path = profiling.profile(SPACE, runtime="litert", protocol="quick", out=tmp_path)
    assert {key.split("/")[0] for key in json.loads(path.read_text())["ops"]} >= KINDS
