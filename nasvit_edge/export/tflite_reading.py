"""What a TFLite file holds: its ops and layers, and what LiteRT's delegates take of it.

Sources: LiteRT's GPU delegate (`export/tflite/gpu_ops.txt`; at most four axes); its XNNPACK delegate is asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasvit_edge import files
from nasvit_edge.errors import VerifyError, require
from nasvit_edge.export.layers import Layer
from nasvit_edge.export.placement import Outside, Placement
from nasvit_edge.export.quiet import muted

GPU_AXES = 4
_LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")


def layers(path: Path) -> list[Layer]:
    """Convolutions, linear layers and products, in the file's order."""
    return list(_layers(files.read_bytes(path, "artifact")))


def placements(path: Path) -> list[Placement]:
    """XNNPACK, which is asked, and the GPU delegate, by its list."""
    return [_xnnpack(path), _gpu_delegate(path)]


@dataclass(frozen=True, slots=True)
class _TfliteOp:
    name: str
    layer: str
    axes: int


def tflite_ops(path: Path) -> list[_TfliteOp]:
    """The ops of a TFLite file with the names of their outputs and their largest number of axes."""
    schema = require("ai_edge_litert.schema_py_generated", "tflite")
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
    content = files.read_bytes(path, "artifact")
    try:
        model = schema.Model.GetRootAs(content, 0)
        graph = model.Subgraphs(0)
        ops = []
        for index in range(graph.OperatorsLength()):
            op = graph.Operators(index)
            code = model.OperatorCodes(op.OpcodeIndex())
            kind = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            tensors = [graph.Tensors(op.Outputs(i)) for i in range(op.OutputsLength())]
            axes = max(t.ShapeLength() for t in tensors)
            ops.append(_TfliteOp(kind, short_name(tensors[0].Name().decode()), axes))
    except Exception as error:  # noqa: BLE001 - a damaged flatbuffer can fail anywhere
        raise VerifyError(f"artifact {str(path)!r} is damaged: {type(error).__name__}") from None
    return ops


def short_name(name: str) -> str:
    """The part of a converted tensor's name that says which layer it is."""
    parts = [part.rsplit(".", 1)[-1] for part in name.split(";")[0].split("/")]
    return "/".join(parts[2:]) or name[:40] or "output"


def _xnnpack(path: Path) -> Placement:
    interpreters = require("ai_edge_litert.interpreter", "tflite")
    ops = tflite_ops(path)
    try:
        with muted():
            interpreter = interpreters.Interpreter(
                model_content=files.read_bytes(path, "artifact"), num_threads=1
            )
            interpreter.allocate_tensors()
        details = interpreter._get_ops_details()
    except (ValueError, RuntimeError) as error:
        raise VerifyError(f"artifact {str(path)!r} does not load: {str(error)[:120]}") from None
    delegates = [d for d in details if d["op_name"] == "DELEGATE"]
    note = f"{len(delegates)} delegated part{'s' if len(delegates) != 1 else ''}"
    split = len(delegates) != 1
    outside = (Outside("several", "-", f"{note}: some ops stay on the interpreter"),) if split else ()
    return Placement("LiteRT XNNPACK (CPU, asked here)", len(ops), outside, True, note, ("litert",))


def gpu_ops() -> frozenset[str]:
    """The ops that LiteRT's GPU delegate takes."""
    lines = (files.shipped("export") / "tflite" / "gpu_ops.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


def _gpu_delegate(path: Path) -> Placement:
    ops, known = tflite_ops(path), gpu_ops()
    outside = []
    for op in ops:
        if op.name not in known:
            outside.append(Outside(op.layer, op.name, "not in the GPU delegate's list"))
        elif op.axes > GPU_AXES:
            outside.append(Outside(op.layer, op.name, f"{op.axes} axes; the delegate has {GPU_AXES}"))
    return Placement("LiteRT GPU delegate", len(ops), tuple(outside), False, "", ("litert-gpu",))


def _layers(content: bytes) -> Iterator[Layer]:
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
        if kind not in _LAYERS:
            continue
        left, right, out = (graph.tensors[int(index)] for index in (*op.inputs[:2], op.outputs[0]))
        stored = graph.tensors[held.get(int(op.inputs[1]), int(op.inputs[1]))]
        yield Layer(
            name=short_name(out.name.decode()),
            macs=_size(out.shape) * _depth(kind, left.shape, right.shape),
            product=kind == "BATCH_MATMUL",
            int8=right.type == schema.TensorType.INT8,  # what rounds a float input itself, too
            weights_8bit=stored.type == schema.TensorType.INT8,
        )


def _depth(kind: str, left: Any, right: Any) -> int:
    """How many products each output adds up."""
    if kind == "BATCH_MATMUL":
        return int(left[-1])
    return _size(right[1:3]) if kind == "DEPTHWISE_CONV_2D" else _size(right[1:])


def _size(shape: Any) -> int:
    return math.prod(int(side) for side in shape)
