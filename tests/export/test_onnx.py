"""The ONNX writer: same numbers, plain bytes, honest metadata."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.errors import ExportError, NasvitEdgeError, VerifyError
from nasvit_edge.export import onnx, parity
from nasvit_edge.export.formats import Conversion, load_format
from nasvit_edge.model.blocks import build, linear_weights, resized
from nasvit_edge.model.checkpoint import fill_generic, random_supernet
from nasvit_edge.model.rewrites import fold_block
from nasvit_edge.model.subnet import fold, materialise, statistics
from nasvit_edge.ops import all_ops
from nasvit_edge.space import load_space

pytest.importorskip("onnxruntime")
SPACE = load_space("nano")
SUPERNET = random_supernet(SPACE)


def _run(content, tmp_path, images):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    return onnx.runner(path)(images)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_any_subnet_computes_what_the_elastic_supernet_does(tmp_path_factory, seed):
    config = SPACE.sample(random.Random(seed))
    subnet = materialise(SUPERNET, config)
    images, _ = parity.inputs(SPACE, config.resolution, seed % 97)
    expected = parity.reference(SUPERNET, config, statistics(subnet), images)
    content = onnx.convert(fold(subnet), (1, 3, config.resolution, config.resolution))
    logits = _run(content, tmp_path_factory.mktemp("onnx"), images)
    assert parity.relative_error(logits, expected) <= 1e-5


def test_every_kind_of_op_converts_alone(tmp_path):
    kinds = {type(op): op for op in all_ops(SPACE)}
    for op in kinds.values():
        block = build(op)
        fill_generic(block)
        folded = fold_block(block.eval())
        x = torch.randn(2, *op.in_shape())
        logits = _run(onnx.convert(folded, (1, *op.in_shape())), tmp_path, x.numpy())
        with torch.no_grad():
            expected = folded(x).numpy()
        assert np.abs(logits - expected).max() <= 1e-4 * expected.std()


def test_the_same_subnet_gives_the_same_bytes_without_local_paths():
    config = SPACE.smallest()
    graphs = [onnx.convert(fold(materialise(SUPERNET, config)), (1, 3, 20, 20)) for _ in range(2)]
    assert graphs[0] == graphs[1]
    assert b"/home" not in graphs[0]
    assert b".py" not in graphs[0]


def test_metadata_come_back_as_they_were_written(tmp_path):
    content = onnx.convert(fold(materialise(SUPERNET, SPACE.smallest())), (1, 3, 20, 20))
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx.write_metadata(content, {"labels": '["ä", "b"]', "resolution": "20"}))
    assert onnx.read_metadata(path) == {"labels": '["ä", "b"]', "resolution": "20"}


def test_a_module_without_a_lowering_is_named():
    with pytest.raises(ExportError, match="Mish"):
        onnx.convert(torch.nn.Sequential(torch.nn.Mish()), (1, 3))


@settings(max_examples=30, deadline=None)
@given(content=st.binary(max_size=300))
def test_garbage_is_refused_with_one_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("garbage") / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(NasvitEdgeError):
        onnx.runner(path)


@settings(max_examples=40, deadline=None)
@given(source=st.integers(1, 40), target=st.integers(1, 90))
def test_a_product_with_the_weights_of_an_axis_resizes_it(source, target):
    x = torch.randn(1, 1, source, 1, dtype=torch.float64)
    expected = resized(x, (target, 1))[0, 0]
    assert torch.allclose(linear_weights(source, target) @ x[0, 0], expected, rtol=0, atol=1e-12)


class Resized(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.interpolate(x, (9, 12), mode="bilinear", align_corners=False)


@pytest.mark.parametrize("runtime", ["onnxruntime", "tensorrt"], ids=["matrix products", "Resize"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_resize_computes_what_torchs_does(runtime, batch, tmp_path):
    x = torch.randn(batch, 2, 5, 6)
    recipe = Conversion(dynamic_batch=batch == 3)
    content = onnx.convert(Resized(), (1, 2, 5, 6), recipe, runtime=runtime)
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    actual = onnx.runner(path)(x.numpy())
    assert np.abs(actual - Resized()(x).numpy()).max() <= 1e-5


@pytest.mark.parametrize("precision", list(load_format("onnx").thresholds))
def test_files_ask_for_no_newer_runtime_than_they_need(precision):
    """Opset 17 and IR version 8; ONNX Runtime up to 1.19 computes norms without bias, or in half precision, wrong or not at all."""
    library = pytest.importorskip("onnx")
    side = SPACE.largest().resolution
    recipe = Conversion(precision=precision, calibration=parity.inputs(SPACE, side)[0])
    content = onnx.convert(fold(materialise(SUPERNET, SPACE.largest())), (1, 3, side, side), recipe)
    model = library.load_from_string(content)
    assert (model.ir_version, [(o.domain, o.version) for o in model.opset_import]) == (8, [("", 17)])
    held = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    assert norms
    for node in norms:
        assert [held[name] for name in node.input[1:]] == [library.TensorProto.FLOAT] * 2


class Mean(torch.nn.Module):
    def forward(self, x):
        return x.mean(1)


def test_a_mean_over_any_axis_is_lowered(tmp_path):
    x = torch.randn(2, 3, 4, 5)
    result = _run(onnx.convert(Mean(), (2, 3, 4, 5)), tmp_path, x.numpy())
    np.testing.assert_allclose(result, x.mean(1).numpy(), atol=1e-6)


@pytest.mark.parametrize("where", ["initializer", "attribute", "inner graph", "sparse"])
def test_numbers_in_other_files_are_refused_wherever_the_graph_names_them(where, tmp_path):
    """Older versions of ONNX Runtime open whatever path is named."""
    import onnx as library

    helper = library.helper
    tensor = library.numpy_helper.from_array(np.zeros((1, 4), np.float32), "w")
    library.external_data_helper.set_external_data(tensor, "/etc/hostname")
    tensor.ClearField("raw_data")
    inner = helper.make_graph([], "inner", [], [], [tensor])
    nodes = [helper.make_node("Identity", ["image"], ["logits"])]
    nodes += {
        "attribute": [helper.make_node("Constant", [], ["c"], value=tensor)],
        "inner graph": [helper.make_node("If", ["image"], ["c"], then_branch=inner, else_branch=inner)],
    }.get(where, [])
    value = helper.make_tensor_value_info("image", library.TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph(nodes, "g", [value], [value], [tensor] if where == "initializer" else [])
    if where == "sparse":
        graph.sparse_initializer.add().values.CopyFrom(tensor)
    path = tmp_path / "m.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(VerifyError, match=r"'/etc/hostname'.*are not followed"):
        onnx.read_metadata(path)
