"""ONNX in 8 bits: QDQ pairs where a runtime computes with integers, and nowhere else.

ONNX Runtime on a CPU has integer kernels for activations without a sign and weights with one. What it cannot fuse between a
DequantizeLinear and a QuantizeLinear it computes in floating point, and pays for both; so sums, gates and activation functions
between layers are in 8 bits as well, and attention's products are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasvit_edge.errors import require
from nasvit_edge.export import onnx_traced
from nasvit_edge.export.formats import Conversion, node_prefix
from nasvit_edge.export.ranges import Range, ranges

_INSIDE = "subnet_"  # where a segmenter with its labels keeps its ops
CLIPS = ("Clip", "Relu")
_SMALLEST = 1e-8  # step between two values
_Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class IntegerRules:
    """What a runtime takes in 8 bits.

    Attributes:
        signed: activations are symmetric around zero, -128 to 127; else 0 to 255 with a zero point.
        most: the largest weight: 127, or 63 where sums of two products with 127 do not fit the processor's 16 bits (x86 without VNNI).
        integers: weights are held as integers and biases as 32-bit ones; else both as floats, weights with a pair of their own.
        between: ops that are in 8 bits where all that they take is.
    """

    signed: bool
    most: int
    integers: bool
    between: frozenset[str] = frozenset()


RULES = {
    "onnxruntime": IntegerRules(
        signed=False,
        most=63,
        integers=True,
        between=frozenset(
            ("Add", "AveragePool", "Clip", "GlobalAveragePool", "HardSigmoid", "Mul", "Relu", "Sigmoid")
        ),
    ),
    "tensorrt": IntegerRules(signed=True, most=127, integers=False),  # what NVIDIA's parsers take
}


def quantised(model: bytes, batch: int, recipe: Conversion, runtime: str) -> bytes:
    """A float model with layers in 8 bits, but not those of `recipe.kept`; ranges from `recipe.calibration`."""
    onnx = require("onnx", "onnx")
    assert recipe.calibration is not None
    proto = onnx.load_from_string(model)
    rules = RULES[runtime]
    chosen = _chosen(proto, recipe.kept, rules)
    count = max(1, len(recipe.calibration) // batch) * batch
    images = np.resize(recipe.calibration, (count, *recipe.calibration.shape[1:]))
    writer = _Writer(onnx, proto, rules, chosen)
    batches = list(images.reshape(-1, batch, *images.shape[1:]))
    writer.ranges = ranges(proto, writer.values(), batches)
    content: bytes = writer.written().SerializeToString(deterministic=True)
    return content


def _chosen(proto: Any, kept: tuple[str, ...], rules: IntegerRules) -> list[Any]:
    """The nodes that are to be in 8 bits, in the graph's order."""
    prefixes = tuple(inside + node_prefix(name) for name in kept for inside in ("", _INSIDE))
    constants = {constant.name for constant in proto.graph.initializer}
    layers = {node.name for node, _, _ in onnx_traced.weights(proto)}
    if proto.graph.name != onnx_traced.GRAPH:  # ours multiply by constants only to resize
        layers -= {node.name for node in proto.graph.node if node.op_type == "MatMul"}
    nodes, small = [], set[str]()
    for node in proto.graph.node:
        if prefixes and node.name.startswith(prefixes):
            continue
        given = [name for name in node.input if name and name not in constants]
        between = node.op_type in rules.between and all(name in small for name in given)
        if node.name in layers or between:
            nodes.append(node)
            small.update(node.output)
    return nodes


class _Writer:
    """A graph in which what the chosen nodes take and give passes through 8 bits."""

    def __init__(self, onnx: Any, proto: Any, rules: IntegerRules, chosen: list[Any]) -> None:
        self.onnx, self.proto, self.rules = onnx, proto, rules
        self.chosen = {node.name for node in chosen}
        self.constants = {constant.name: constant for constant in proto.graph.initializer}
        self.layers = {
            node.name: place for node, place, _ in onnx_traced.weights(proto) if node.name in self.chosen
        }
        self.outputs = {value.name for value in proto.graph.output}
        self.ranges: dict[str, Range] = {}
        self.nodes: list[Any] = []
        self.held: dict[str, str] = {}  # a tensor -> what is taken in its place
        self.absorbed = set(self._absorbed())

    def values(self) -> list[str]:
        """The tensors, no constants, that pass through 8 bits."""
        names = dict[str, None]()
        for node in self.proto.graph.node:
            if node.name in self.chosen:
                given = node.input[:1] if node.name in self.layers else node.input
                names |= dict.fromkeys(
                    n for n in given if n and n not in self.constants and n not in self.absorbed
                )
                names |= dict.fromkeys(name for name in node.output if not self._stays(node, name))
        return list(names)

    def _absorbed(self) -> Iterator[str]:
        """What layers give to a clipping alone, which the range of its own output does in their place."""
        takers = dict[str, list[Any]]()
        for node in self.proto.graph.node:
            for name in node.input:
                takers.setdefault(name, []).append(node)
        for node in self.proto.graph.node:
            alone = takers.get(node.output[0], [])
            clips = len(alone) == 1 and alone[0].op_type in CLIPS and alone[0].name in self.chosen
            if node.name in self.layers and clips:
                yield node.output[0]

    def _stays(self, node: Any, name: str) -> bool:
        """Whether a node's output stays a float: logits in 8 bits would be the largest single loss."""
        last = self.rules.integers and node.op_type == "Gemm" and name in self.outputs
        return last or name in self.absorbed

    def written(self) -> Any:
        """The model."""
        for node in list(self.proto.graph.node):
            copy = type(node).FromString(node.SerializeToString())
            if node.name in self.layers:
                self._layer(copy)
            elif node.name in self.chosen:
                copy.input[:] = [self._taken(copy, name) for name in copy.input]
            else:
                copy.input[:] = [self.held.get(name, name) for name in copy.input]
            self.nodes.append(copy)
            for place, name in enumerate(copy.output):
                if name in self.ranges:
                    self._leave(copy, place)
        onnx_traced.set_nodes(self.proto, self.nodes)
        del self.proto.graph.value_info[:]
        self.proto.producer_name, self.proto.producer_version = "nasvit-edge", ""
        return self.proto

    def _leave(self, node: Any, place: int) -> None:
        """A node's output through 8 bits; an output of the graph keeps its name."""
        name = node.output[place]
        if name in self.outputs:
            node.output[place] = f"{name}_float"
            self.held[name] = self._pair(f"{name}_float", self.ranges[name], out=name)
        else:
            self._passed(name)

    def _passed(self, name: str) -> str:
        """A value after its way through 8 bits, which it takes once."""
        if name in self.absorbed:
            return name
        if name not in self.held:
            self.held[name] = self._pair(name, self.ranges[name])
        return self.held[name]

    def _pair(self, name: str, limits: Range, out: str = "") -> str:
        steps, ends = f"{name}_8bit", out or f"{name}_from_8bit"
        scale, zero = self._step(name, limits)
        self._emit("QuantizeLinear", [name, scale, zero], steps)
        return self._emit("DequantizeLinear", [steps, scale, zero], ends)

    def _step(self, name: str, limits: Range) -> tuple[str, str]:
        """Names of a tensor's scale and zero point."""
        low, high = limits
        span = 2 * max(-low, high) / 254 if self.rules.signed else (high - low) / 255
        scale = max(span, _SMALLEST)
        kind = np.int8 if self.rules.signed else np.uint8
        zero = np.array(0 if self.rules.signed else np.clip(round(-low / scale), 0, 255), kind)
        return self._constant(f"{name}_scale", np.float32(scale)), self._constant(f"{name}_zero", zero)

    def _taken(self, node: Any, name: str) -> str:
        """What a node that is no layer takes: in 8 bits, constants too, but not the limits of a Clip."""
        if node.op_type in CLIPS and name != node.input[0]:
            return name
        if name in self.constants and name not in self.held:
            value = self._array(name)
            self.held[name] = self._pair(name, (min(0.0, value.min()), max(0.0, value.max())))
        return self._passed(name)

    def _layer(self, node: Any) -> None:
        """A layer's input, weight and bias."""
        place = self.layers[node.name]
        source, weight = node.input[0], node.input[place]
        bias = node.input[2] if len(node.input) > 2 and node.input[2] in self.constants else ""
        node.input[0] = self._passed(source) if source not in self.constants else source
        axis = onnx_traced.output_axis(node)
        scale = self._weight_steps(weight, axis, source, bias)
        node.input[place] = self._weight(weight, axis, scale)
        if bias and self.rules.integers:
            node.input[2] = self._bias(f"{node.name}.bias", self._array(bias), self._scale(source) * scale)

    def _weight_steps(self, name: str, axis: int, source: str, bias: str) -> _Array:
        """The step of each output channel; large enough that the bias is a 32-bit number of them."""
        array = self._array(name)
        others = tuple(a for a in range(array.ndim) if a != axis)
        steps = np.abs(array).max(others) / self.rules.most
        if bias and self.rules.integers:
            steps = np.maximum(steps, np.abs(self._array(bias)) / (self._scale(source) * 2.0**30))
        return np.maximum(steps, _SMALLEST).astype(np.float32)

    def _weight(self, name: str, axis: int, steps: _Array) -> str:
        if name not in self.held:
            array = self._array(name)
            scale = self._constant(f"{name}.scale", steps)
            zero = self._constant(f"{name}.zero", np.zeros(len(steps), np.int8))
            if self.rules.integers:
                shape = [-1 if a == axis else 1 for a in range(array.ndim)]
                whole = np.rint(array / steps.reshape(shape)).clip(-self.rules.most, self.rules.most)
                held = self._constant(f"{name}.int8", whole.astype(np.int8))
            else:
                held = self._emit("QuantizeLinear", [name, scale, zero], f"{name}.int8", axis=axis)
            self.held[name] = self._emit("DequantizeLinear", [held, scale, zero], f"{name}.float", axis=axis)
        return self.held[name]

    def _bias(self, name: str, value: _Array, steps: _Array) -> str:
        whole = self._constant(f"{name}.int32", np.rint(value / steps).astype(np.int32))
        inputs = [whole, self._constant(f"{name}.int32.scale", steps.astype(np.float32))]
        return self._emit("DequantizeLinear", inputs, f"{name}.int32.float", axis=0)

    def _scale(self, source: str) -> float:
        return float(self._array(f"{source}_scale"))

    def _array(self, name: str) -> _Array:
        array: _Array = self.onnx.numpy_helper.to_array(self.constants[name])
        return array

    def _constant(self, name: str, value: Any) -> str:
        if name not in self.constants:
            tensor = self.onnx.numpy_helper.from_array(np.asarray(value, order="C"), name)
            self.constants[name] = tensor
            self.proto.graph.initializer.append(tensor)
        return name

    def _emit(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output
