"""The range of a tensor is what nearly all of its values lie in, found without keeping them."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from conftest import require_module
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.export.ranges import ranges

onnx = require_module("onnx")


def doubling(shape=(1, 4)):
    """A model whose tensor `twice` is two times its input, and `image` the input."""
    info = onnx.helper.make_tensor_value_info
    kind = onnx.TensorProto.FLOAT
    two = onnx.numpy_helper.from_array(np.array(2, np.float32), "two")
    nodes = [
        onnx.helper.make_node("Mul", ["image", "two"], ["twice"]),
        onnx.helper.make_node("Neg", ["twice"], ["logits"]),
    ]
    graph = onnx.helper.make_graph(
        nodes, "g", [info("image", kind, shape)], [info("logits", kind, shape)], [two]
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def batches(values):
    return list(np.asarray(values, np.float32).reshape(-1, 1, 4))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.floats(-5, 5), st.floats(0.1, 10))
def test_all_of_a_few_values_lie_within_and_so_does_zero(seed, middle, spread):
    values = np.random.default_rng(seed).normal(middle, spread, 64)
    limits = ranges(doubling(), ["image", "twice", "logits"], batches(values))
    low, high = limits["image"]
    assert low <= min(0, values.min()) + 1e-6
    assert high >= max(0, values.max()) - 1e-6
    assert limits["twice"] == pytest.approx((2 * low, 2 * high), rel=1e-5, abs=1e-5)
    assert limits["logits"] == pytest.approx((-2 * high, -2 * low), rel=0.01, abs=0.01)


def test_one_extreme_of_a_hundred_thousand_values_is_left_out():
    values = np.random.default_rng(0).uniform(0, 1, 100_000)
    values[5] = 3.0
    limits = ranges(doubling(), ["image"], batches(values))
    assert limits["image"][1] == pytest.approx(1.0, abs=0.002)
    assert ranges(doubling(), ["image"], batches(values), within=1.0)["image"][1] == pytest.approx(3.0)


def test_of_nothing_but_zeros_the_range_is_zero():
    assert ranges(doubling(), ["image"], batches(np.zeros(8)))["image"] == (0.0, 0.0)


def test_images_are_streamed():
    """One batch at a time is alive."""
    alive = []

    class Made:
        def __iter__(self):
            for seed in range(50):
                batch = np.full((1, 4), seed, np.float32)
                alive.append(weakref.ref(batch))
                assert sum(ref() is not None for ref in alive) <= 2
                yield batch

    assert ranges(doubling(), ["twice"], Made())["twice"] == pytest.approx((0, 98), abs=0.1)
