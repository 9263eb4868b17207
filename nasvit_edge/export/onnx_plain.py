"""An ONNX model without its rounding: what it holds, computed in single precision.

Processors round 8 and 16 bits each in their own way, and one value that is rounded otherwise moves all that follow. Without rounding
a model gives the same everywhere to a millionth, and every change of its weights shows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nasvit_edge.errors import require


def plain(model: bytes) -> bytes:
    """The model with weights as they are held, half precision as single, and activations clipped to the range of their 8 bits."""
    onnx = require("onnx", "onnx")
    proto = onnx.load_from_string(model)
    del proto.graph.value_info[:]  # of types that change
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    rounded = set[str]()
    for node in proto.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] not in constants:
            rounded.add(node.output[0])
            _clip(onnx, node, constants, proto.graph)
        elif node.op_type == "DequantizeLinear" and node.input[0] in rounded:
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]
        elif node.op_type == "Cast":
            _to_single(onnx, node)
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT16:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return proto.SerializeToString()


def _clip(onnx: Any, node: Any, constants: dict[str, object], graph: Any) -> None:
    """A QuantizeLinear of a whole tensor as a Clip to the values that it can give."""
    scale, zero = (onnx.numpy_helper.to_array(constants[name]) for name in node.input[1:3])
    limits = np.iinfo(zero.dtype)
    ends = [(np.float32(end) - np.float32(zero)) * scale for end in (limits.min, limits.max)]
    names = [f"{node.output[0]}_{end}" for end in ("lowest", "highest")]
    graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(end, np.float32).reshape(()), name)
        for end, name in zip(ends, names, strict=True)
    )
    node.op_type = "Clip"
    del node.input[1:], node.attribute[:]
    node.input.extend(names)


def _to_single(onnx: Any, node: Any) -> None:
    for attribute in node.attribute:
        if attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT16:
            attribute.i = onnx.TensorProto.FLOAT
