"""TFLite graphs from other TFLite graphs: milliseconds where a conversion takes seconds.

`resized` gives an op's graph other sides; `chain` puts whole subnets together from the graphs of their ops, end to end.

What a converter does across borders of ops is done there too: a reshape of a reshape is one. Everything else it
makes is the same, operator by operator (`tests/export/test_tflite_graph.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nasvit_edge.errors import ExportError, require

_INSIDE = "Sequential_wrapped/"  # how litert-torch begins the names of tensors inside a sequence of modules


def chain(models: Sequence[bytes], names: Sequence[str], sources: Sequence[int] | None = None) -> bytes:
    """One TFLite model that runs `models` one after another.

    Each has one subgraph, one input and one output; each output has the shape of the next input.
    `names` prefix the tensors' names, all but the last model's. `sources`: for each model the number of the one whose
    output it takes, where that is not always the one before; such a branch, where it ends in adding a constant of its output's
    shape, adds the output of the model before it instead.
    """
    schema = require("ai_edge_litert.schema_py_generated", "tflite")
    parts = [schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0)) for model in models]
    whole = parts[0]
    merged = _Merged(whole.buffers[0])
    outputs: list[int] = []
    for index, (part, name) in enumerate(zip(parts, names, strict=True)):
        prefix = "" if index == len(parts) - 1 else f"{_INSIDE}{name}/"
        source = index - 1 if sources is None else sources[index]
        if source == index - 1:
            merged.add(part, prefix)
        else:
            place = _constant_of_sum(part, schema.BuiltinOperator.ADD)
            merged.last = outputs[source]
            merged.add(part, prefix)
            if place is not None:
                merged.operators[-1].inputs[place] = outputs[-1]
        outputs.append(merged.last)
    graph = whole.subgraphs[0]
    operators = _folded(merged, schema.BuiltinOperator.RESHAPE)
    merged.keep_used(operators)
    graph.tensors, graph.operators = merged.tensors, operators
    graph.inputs = np.array([merged.first], np.int32)
    graph.outputs = np.array([merged.last], np.int32)
    whole.buffers, whole.operatorCodes, whole.metadata = merged.buffers, merged.codes, None
    if whole.signatureDefs:
        whole.signatureDefs[0].inputs[0].tensorIndex = merged.first
        whole.signatureDefs[0].outputs[0].tensorIndex = merged.last
    return _packed(whole)


def resized(model: bytes, shape: tuple[int, ...]) -> bytes:
    """The model for inputs of `shape` (B, H, W, C): the interpreter works out every tensor's new shape.

    Only for graphs without shapes among their constants: convolutions, pooling, means, elementwise operators.

    Raises:
        ExportError: the runtime cannot resize the graph.
    """
    schema = require("ai_edge_litert.schema_py_generated", "tflite")
    interpreters = require("ai_edge_litert.interpreter", "tflite")
    interpreter = interpreters.Interpreter(
        model_content=model,
        experimental_op_resolver_type=interpreters.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    try:
        interpreter.resize_tensor_input(
            interpreter.get_input_details()[0]["index"], list(shape), strict=False
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ExportError(f"this TFLite graph has no other size: {error}") from None
    graph = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    sizes = {d["index"]: d["shape"] for d in interpreter.get_tensor_details()}
    for index, tensor in enumerate(graph.subgraphs[0].tensors):
        if index in sizes and len(sizes[index]):
            tensor.shape = np.array(sizes[index], np.int32)
    return _packed(graph)


class _Merged:
    """Tensors, buffers, operators of all parts under one numbering; `last` is the output so far."""

    def __init__(self, empty: Any) -> None:
        self.buffers: list[Any] = [empty]
        self.codes: list[Any] = []
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.first = self.last = -1

    def add(self, part: Any, prefix: str) -> None:
        """Append a model whose input is the output so far."""
        graph = part.subgraphs[0]
        entry, leave = int(graph.inputs[0]), int(graph.outputs[0])
        renamed: dict[int, int] = {-1: -1}
        for index, tensor in enumerate(graph.tensors):
            if index == entry and self.last >= 0:
                renamed[index] = self.last
                continue
            renamed[index] = len(self.tensors)
            tensor.buffer = self._buffer(part, tensor.buffer)
            tensor.name = prefix.encode() + bytes(tensor.name or b"")
            self.tensors.append(tensor)
        codes = [self._code(code) for code in part.operatorCodes]
        for operator in graph.operators:
            operator.opcodeIndex = codes[operator.opcodeIndex]
            operator.inputs = np.array([renamed[int(i)] for i in operator.inputs], np.int32)
            operator.outputs = np.array([renamed[int(i)] for i in operator.outputs], np.int32)
            self.operators.append(operator)
        if self.first < 0:
            self.first = renamed[entry]
        self.last = renamed[leave]

    def keep_used(self, operators: Sequence[Any]) -> None:
        """Drop tensors that none of `operators` reads or writes, and number the others anew."""
        used = {int(i) for op in operators for i in (*op.inputs, *op.outputs)} | {self.first, self.last}
        indices = [index for index in range(len(self.tensors)) if index in used]
        number = {index: at for at, index in enumerate(indices)} | {-1: -1}
        self.tensors = [self.tensors[index] for index in indices]
        for operator in operators:
            operator.inputs = np.array([number[int(i)] for i in operator.inputs], np.int32)
            operator.outputs = np.array([number[int(i)] for i in operator.outputs], np.int32)
        self.first, self.last = number[self.first], number[self.last]

    def _buffer(self, part: Any, index: int) -> int:
        data = part.buffers[index].data
        if index == 0 or data is None or not len(data):
            return 0
        self.buffers.append(part.buffers[index])
        return len(self.buffers) - 1

    def _code(self, code: Any) -> int:
        for index, known in enumerate(self.codes):
            if (known.builtinCode, known.version, known.customCode) == (
                code.builtinCode,
                code.version,
                code.customCode,
            ):
                return index
        self.codes.append(code)
        return len(self.codes) - 1


def _constant_of_sum(part: Any, add: int) -> int | None:
    """Which input of a model's last operator, a sum, is a constant of the output's shape; its content is dropped."""
    graph = part.subgraphs[0]
    last = graph.operators[-1]
    if part.operatorCodes[last.opcodeIndex].builtinCode != add:
        return None
    shape = list(graph.tensors[int(last.outputs[0])].shape)
    for place, index in enumerate(last.inputs):
        tensor = graph.tensors[int(index)]
        if part.buffers[tensor.buffer].data is not None and list(tensor.shape) == shape:
            tensor.buffer = 0
            return place
    return None


def _folded(merged: _Merged, reshape: int) -> list[Any]:
    """The operators, with each reshape of a reshape taking what the first one took, and what is then unused left out."""
    makers = {
        int(op.outputs[0]): op
        for op in merged.operators
        if merged.codes[op.opcodeIndex].builtinCode == reshape
    }
    for operator in makers.values():
        before = makers.get(int(operator.inputs[0]))
        if before is not None:
            operator.inputs[0] = before.inputs[0]
    used = {int(i) for op in merged.operators for i in op.inputs} | {merged.last}
    return [op for op in merged.operators if any(int(out) in used for out in op.outputs)]


def _packed(model: Any) -> bytes:
    flatbuffers = require("flatbuffers", "tflite")
    size = sum(len(b.data) for b in model.buffers if b.data is not None)
    builder = flatbuffers.Builder(size + (1 << 20))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
