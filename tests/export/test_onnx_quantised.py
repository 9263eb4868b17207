"""Where ONNX Runtime and NVIDIA's parsers are given integers, and that ONNX Runtime then computes with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import require_module
from torch import nn

from nasvit_edge.export import onnx as converter
from nasvit_edge.export import parity
from nasvit_edge.export.formats import Conversion

onnx = require_module("onnx")
ort = require_module("onnxruntime")
INTEGER = {"QLinearConv", "QGemm", "QLinearAdd", "QLinearMul", "QLinearSigmoid"}


class Block(nn.Module):
    """What the blocks of our spaces are made of: SiLU, a gate, a sum, a mean, a linear layer."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
        self.gate = nn.Conv2d(16, 16, 1)
        self.act, self.clip, self.hard = nn.SiLU(), nn.ReLU6(), nn.Hardsigmoid()
        self.linear = nn.Linear(16, 5)

    def forward(self, x):
        y = self.act(self.first(x))
        z = self.clip(self.second(y))
        z = z * self.hard(self.gate(z.mean((2, 3), keepdim=True)))
        return self.linear((y + z).mean((2, 3)))


class Body(nn.Module):
    """A convolution and a sum."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 3, 1), nn.SiLU()

    def forward(self, x):
        return self.act(self.conv(x)) + x


@pytest.fixture(scope="module")
def block():
    torch.manual_seed(0)
    return Block().eval()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(32, 3, 12, 12)).astype(np.float32)


def model(block, images, runtime="onnxruntime", **options):
    recipe = Conversion(precision="int8", calibration=images, **options)
    return converter.convert(block, (1, 3, 12, 12), recipe, runtime)


def optimised(content, tmp_path):
    """The kinds of nodes that ONNX Runtime runs."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(str(tmp_path / "optimised.onnx")).graph.node]


def test_onnx_runtime_computes_all_of_a_block_with_integers(block, images, tmp_path):
    kinds = optimised(model(block, images), tmp_path)
    assert kinds.count("QLinearConv") == 3
    assert set(kinds) >= INTEGER
    floats = [kind for kind in kinds if kind in ("Conv", "Gemm", "MatMul", "Mul", "Add", "Sigmoid", "Clip")]
    assert floats == []


def test_it_computes_what_the_floats_do(block, images, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(model(block, images))
    with torch.no_grad():
        expected = block(torch.from_numpy(images)).numpy()
    assert parity.snr_db(converter.runner(path)(images), expected) > 25
    assert parity.snr_db(converter.plain_runner(path)(images), expected) > 30


def test_activations_have_no_sign_and_weights_fit_sums_of_two_in_16_bits(block, images):
    proto = onnx.load_from_string(model(block, images))
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    zeros = {tensors[n.input[2]].dtype for n in proto.graph.node if n.op_type == "QuantizeLinear"}
    assert zeros == {np.dtype(np.uint8)}
    weights = [a for name, a in tensors.items() if name.endswith(".weight.int8")]
    assert len(weights) == 4
    assert all(np.abs(a.astype(int)).max() <= 63 for a in weights)  # 2 * 255 * 63 < 2 ** 15


def test_sums_are_exact_on_processors_without_vnni(block, images, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(model(block, images * 100))
    assert not converter.saturates(path, images * 100)


def test_nvidias_parsers_get_symmetric_numbers_with_a_sign_and_biases_in_floats(block, images):
    proto = onnx.load_from_string(model(block, images, "tensorrt"))
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    pairs = [n for n in proto.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert all((tensors[n.input[2]] == 0).all() and tensors[n.input[2]].dtype == np.int8 for n in pairs)
    convs = [n for n in proto.graph.node if n.op_type in ("Conv", "Gemm")]
    assert all(tensors[n.input[2]].dtype == np.float32 for n in convs)
    between = {n.op_type for n in proto.graph.node} & {"Sigmoid", "Mul", "Add"}
    assert between == {"Sigmoid", "Mul", "Add"}


def test_what_is_kept_in_floats_takes_its_sums_with_it(images, tmp_path):
    """Of two blocks the first is kept: what is in 8 bits is the second's alone."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Body(), Body()

        def forward(self, x):
            return self.second(self.first(x))

    proto = onnx.load_from_string(model(Two().eval(), images, kept=("first",)))
    makers = {node.output[0]: node.name for node in proto.graph.node}
    rounded = [node.input[0] for node in proto.graph.node if node.op_type == "QuantizeLinear"]
    assert any(makers[name].startswith("second_") for name in rounded)
    kept = [makers[name] for name in rounded if makers[name].startswith("first_")]
    assert len(kept) == 1  # what the second one takes


def test_a_bias_that_is_far_larger_than_its_products_is_kept(images, tmp_path):
    block = Block().eval()
    with torch.no_grad():
        block.second.weight.mul_(1e-12)
        block.second.bias.fill_(3.0)
        expected = block(torch.from_numpy(images)).numpy()
    path = tmp_path / "model.onnx"
    path.write_bytes(model(block, images))
    assert parity.snr_db(converter.runner(path)(images), expected) > 20


def test_the_same_input_gives_the_same_bytes(block, images):
    assert model(block, images) == model(block, images)
