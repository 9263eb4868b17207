"""The layers of an exported file that multiply: how often, and in what arithmetic; read from the file itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasvit_edge import files
from nasvit_edge.errors import NasvitEdgeError, VerifyError, require
from nasvit_edge.export import mil, tensorrt
from nasvit_edge.export.placement import short_name

_ONNX, _PRODUCTS = ("Conv", "Gemm", "MatMul"), ("MatMul", "BATCH_MATMUL", "matmul")
_TFLITE = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")
_MIL = {"conv": "weight", "linear": "weight", "matmul": "y"}  # operation -> its second factor


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution, a linear layer, or a product of activations (attention's).

    Attributes:
        macs: multiply-accumulates of a call.
        product: both factors are activations, or constants that are no layer's weights.
        int8: inputs, weights and outputs are 8-bit integers.
        weights_8bit: weights are, whatever they are multiplied in.
    """

    name: str
    macs: int
    product: bool
    int8: bool
    weights_8bit: bool


def layers(path: Path, format_name: str) -> list[Layer]:
    """The layers of a file (or folder) of a format, in its order.

    Raises:
        VerifyError: it is damaged.
        MissingExtraError: what reads the format is not installed.
    """
    try:
        if format_name == "tflite":
            return list(_of_tflite(files.read_bytes(path, "artifact")))
        if format_name == "coreml":
            return list(_of_mil(mil.Program(path)))
        model = path / tensorrt.MODEL if format_name == "tensorrt" else path
        return list(_of_onnx(files.read_bytes(model, "artifact")))
    except NasvitEdgeError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged graph can break any step in any way
        raise VerifyError(f"artifact {str(path)!r} is damaged: {type(error).__name__}") from None


def _of_onnx(content: bytes) -> Iterator[Layer]:
    """8-bit is what comes out of a DequantizeLinear of 8 bits, and goes into a QuantizeLinear alone."""
    onnx = require("onnx", "onnx")
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(content)).graph
    known = _OnnxValues(onnx, graph)
    for node in graph.node:
        if node.op_type not in _ONNX:
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
            product=node.op_type in _PRODUCTS,
            int8=held and known.is_8bit(left) and known.becomes_8bit(out),
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
        held = [*graph.value_info, *graph.input, *graph.output]
        tensors = {value.name: value.type.tensor_type for value in held}
        self.shapes = {name: [d.dim_value or 1 for d in t.shape.dim] for name, t in tensors.items()}
        self.kinds = {name: t.elem_type for name, t in tensors.items()}
        for constant in graph.initializer:
            self.shapes[constant.name], self.kinds[constant.name] = list(constant.dims), constant.data_type
        self.makers = {out: node for node in graph.node for out in node.output}
        self.takers: dict[str, list[str]] = {}
        for node in graph.node:
            for name in node.input:
                self.takers.setdefault(name, []).append(node.op_type)

    def is_8bit(self, name: str) -> bool:
        """Whether a value is 8-bit integers, scaled."""
        maker = self.makers.get(name)
        if maker is None or maker.op_type != "DequantizeLinear":
            return False
        return self.kinds.get(maker.input[0]) in self.small

    def becomes_8bit(self, name: str) -> bool:
        """Whether all that take a value take it as 8-bit integers."""
        return set(self.takers.get(name, [""])) == {"QuantizeLinear"}


def _of_tflite(content: bytes) -> Iterator[Layer]:
    schema = require("ai_edge_litert.schema_py_generated", "tflite")
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    graph = model.subgraphs[0]
    kinds = [names[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in model.operatorCodes]
    held = {  # weights that are held in 8 bits, and computed with in floating point
        int(op.outputs[0]): int(op.inputs[0])
        for op in graph.operators
        if kinds[op.opcodeIndex] == "DEQUANTIZE"
    }
    for op in graph.operators:
        kind = kinds[op.opcodeIndex]
        if kind not in _TFLITE:
            continue
        left, right, out = (graph.tensors[int(index)] for index in (*op.inputs[:2], op.outputs[0]))
        stored = graph.tensors[held.get(int(op.inputs[1]), int(op.inputs[1]))]
        yield Layer(
            name=short_name(out.name.decode()),
            macs=_size(out.shape) * _depth(kind, left.shape, right.shape),
            product=kind in _PRODUCTS,
            int8={left.type, right.type, out.type} == {schema.TensorType.INT8},
            weights_8bit=stored.type == schema.TensorType.INT8,
        )


def _depth(kind: str, left: Any, right: Any) -> int:
    """How many products each output adds up."""
    if kind == "BATCH_MATMUL":
        return int(left[-1])
    return _size(right[1:3]) if kind == "DEPTHWISE_CONV_2D" else _size(right[1:])


def _size(shape: Any) -> int:
    return math.prod(int(side) for side in shape)


def _of_mil(program: mil.Program) -> Iterator[Layer]:
    """Core ML's programs here have 8-bit weights at most."""
    for op in program.block.operations:
        if op.type not in _MIL:
            continue
        factor = program.producers.get(program.bound(op, _MIL[op.type]))
        product = op.type in _PRODUCTS
        depth = _depth_of_product(program, op) if product else math.prod(_sides(factor)[1:])
        yield Layer(
            name=op.outputs[0].name,
            macs=math.prod(_sides(op)) * depth,
            product=product,
            int8=False,
            weights_8bit=factor is not None and factor.type.startswith("constexpr_"),
        )


def _depth_of_product(program: mil.Program, op: Any) -> int:
    """The shared side of a matmul's factors, by the one that an operation made."""
    for name in ("x", "y"):
        maker = program.producers.get(program.bound(op, name))
        if maker is not None:
            turned = program.flag(op, f"transpose_{name}")
            return _sides(maker)[-2 if turned == (name == "x") else -1]
    raise VerifyError("a product of two inputs")


def _sides(op: Any) -> list[int]:
    """The shape of an operation's output."""
    return [int(d.constant.size) or 1 for d in op.outputs[0].type.tensorType.dimensions]
