"""What an ONNX file holds: its layers, and what NVIDIA's parser takes of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nasvit_edge import files
from nasvit_edge.errors import MissingExtraError, VerifyError, require
from nasvit_edge.export.layers import Layer
from nasvit_edge.export.nvidia_parser import refused_nodes
from nasvit_edge.export.onnx_quantised import CLIPS
from nasvit_edge.export.onnx_traced import GRAPH
from nasvit_edge.export.placement import Outside, Placement

_LAYERS, _PRODUCT = ("Conv", "Gemm", "MatMul"), "MatMul"


def layers(path: Path) -> list[Layer]:
    """Convolutions, linear layers and products, in the file's order."""
    return list(_layers(files.read_bytes(path, "artifact")))


def placements(path: Path) -> list[Placement]:
    """NVIDIA's own parser is asked, where it is installed."""
    onnx = require("onnx", "onnx")
    content = files.read_bytes(path, "artifact")
    try:
        nodes = list(onnx.load_from_string(content).graph.node)
    except Exception as error:  # noqa: BLE001 - protobuf's own error classes differ by version
        raise VerifyError(f"artifact {str(path)!r} is damaged: {type(error).__name__}") from None
    target = "NVIDIA's ONNX parser"
    try:
        refused = refused_nodes(content)
    except MissingExtraError as error:
        return [Placement(target, len(nodes), (), False, f"not asked: {error}", ("tensorrt",))]
    outside = tuple(Outside(node, op, why) for node, op, why in refused)
    return [Placement(f"{target} (asked here)", len(nodes), outside, True, "", ("tensorrt",))]


def _layers(content: bytes) -> Iterator[Layer]:
    """8-bit is what comes out of a DequantizeLinear of 8 bits, and goes into a QuantizeLinear alone; of a linear layer at the end it may stay a float."""
    onnx = require("onnx", "onnx")
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(content)).graph
    known = _OnnxValues(onnx, graph)
    whole = graph.name == GRAPH
    for node in graph.node:
        if node.op_type not in _LAYERS:
            continue
        left, right, out = node.input[0], node.input[1], node.output[0]
        depth = (
            math.prod(known.shapes[right][1:])
            if node.op_type == "Conv"
            else known.shapes[left][-1 - _transposed(node)]
        )
        held = known.is_8bit(right)
        yield Layer(
            name=node.name or out,
            macs=math.prod(known.shapes[out]) * depth,
            product=node.op_type == _PRODUCT and not (whole and known.is_weight(right)),
            int8=held and known.is_8bit(left) and (known.becomes_8bit(out) or known.is_last(node)),
            weights_8bit=held,
        )


def _transposed(node: Any) -> int:
    """1 where a Gemm takes its first factor transposed."""
    return next((int(a.i) for a in node.attribute if a.name == "transA"), 0)


class _OnnxValues:
    """Shapes (an open axis counts as 1) and kinds of the values of a graph."""

    def __init__(self, onnx: Any, graph: Any) -> None:
        types = onnx.TensorProto
        self.small = (types.INT8, types.UINT8)
        infos = [*graph.value_info, *graph.input, *graph.output]
        tensors = {value.name: value.type.tensor_type for value in infos}
        self.shapes = {name: [d.dim_value or 1 for d in t.shape.dim] for name, t in tensors.items()}
        self.kinds = {name: t.elem_type for name, t in tensors.items()}
        self.constants = {constant.name for constant in graph.initializer}
        for constant in graph.initializer:
            self.shapes[constant.name], self.kinds[constant.name] = list(constant.dims), constant.data_type
        self.makers = {out: node for node in graph.node for out in node.output}
        self.outputs = {value.name for value in graph.output}
        self.takers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self.takers.setdefault(name, []).append(node)

    def is_weight(self, name: str) -> bool:
        """Whether a value is a constant, or one that is held in 8 bits."""
        maker = self.makers.get(name)
        return name in self.constants or (maker is not None and maker.input[0] in self.constants)

    def is_8bit(self, name: str) -> bool:
        """Whether a value is 8-bit integers, scaled."""
        maker = self.makers.get(name)
        if maker is None or maker.op_type != "DequantizeLinear":
            return False
        return self.kinds.get(maker.input[0]) in self.small

    def becomes_8bit(self, name: str) -> bool:
        """Whether all that take a value take it as 8-bit integers, clipped before or not."""
        takers = self.takers.get(name, [])
        if len(takers) == 1 and takers[0].op_type in CLIPS:
            return self.becomes_8bit(takers[0].output[0])
        return bool(takers) and all(node.op_type == "QuantizeLinear" for node in takers)

    def is_last(self, node: Any) -> bool:
        """Whether a linear layer gives the model's output, which integer kernels write as floats."""
        return node.op_type == "Gemm" and node.output[0] in self.outputs
