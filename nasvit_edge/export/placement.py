"""Where an artifact's ops can run: what a target's delegate or parser would not take, by layer, before a device is at hand.

Sources: LiteRT's GPU delegate (`export/tflite/gpu_ops.txt`; at most four axes); Core ML's limit of five axes a tensor; NVIDIA's own parser and LiteRT's XNNPACK delegate are asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasvit_edge import files
from nasvit_edge.errors import MissingExtraError, NasvitEdgeError, VerifyError, require
from nasvit_edge.export import mil, tensorrt
from nasvit_edge.export.formats import format_of
from nasvit_edge.export.quiet import quiet

GPU_AXES, CORE_ML_AXES = 4, 5


@dataclass(frozen=True, slots=True)
class Outside:
    """A layer that a target would not take, and why."""

    layer: str
    op: str
    why: str


@dataclass(frozen=True, slots=True)
class Placement:
    """What one target makes of an artifact; `asked` says whether its own code was asked or a list was read."""

    target: str
    ops: int
    outside: tuple[Outside, ...]
    asked: bool
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        rows = [{"layer": o.layer, "op": o.op, "why": o.why} for o in self.outside]
        return {
            "target": self.target,
            "ops": self.ops,
            "asked": self.asked,
            "note": self.note,
            "outside": rows,
        }


def placements(path: Path) -> list[Placement]:
    """What each target of the artifact's format would make of it."""
    name = format_of(path.suffix).name
    if name == "tflite":
        return [_xnnpack(path), _gpu_delegate(path)]
    if name == "coreml":
        return [_core_ml(path)]
    return [_tensorrt_parser(path / tensorrt.MODEL if name == "tensorrt" else path)]


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
        found = []
        for index in range(graph.OperatorsLength()):
            op = graph.Operators(index)
            code = model.OperatorCodes(op.OpcodeIndex())
            kind = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            tensors = [graph.Tensors(op.Outputs(i)) for i in range(op.OutputsLength())]
            axes = max(t.ShapeLength() for t in tensors)
            found.append(_TfliteOp(kind, short_name(tensors[0].Name().decode()), axes))
    except Exception as error:  # noqa: BLE001 - a damaged flatbuffer can fail anywhere
        raise VerifyError(f"artifact {str(path)!r} is damaged: {type(error).__name__}") from None
    return found


def short_name(name: str) -> str:
    """The part of a converted tensor's name that says which layer it is."""
    parts = [part.rsplit(".", 1)[-1] for part in name.split(";")[0].split("/")]
    return "/".join(parts[2:]) or name[:40] or "output"


def _xnnpack(path: Path) -> Placement:
    interpreters = require("ai_edge_litert.interpreter", "tflite")
    ops = tflite_ops(path)
    try:
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
    return Placement("LiteRT XNNPACK (CPU, asked here)", len(ops), outside, True, note)


def gpu_ops() -> frozenset[str]:
    """The ops that LiteRT's GPU delegate takes."""
    lines = (files.shipped("export") / "tflite" / "gpu_ops.txt").read_text().splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


def _gpu_delegate(path: Path) -> Placement:
    ops, known = tflite_ops(path), gpu_ops()
    outside = []
    for op in ops:
        if op.name not in known:
            outside.append(Outside(op.layer, op.name, "not in the GPU delegate's list"))
        elif op.axes > GPU_AXES:
            outside.append(Outside(op.layer, op.name, f"{op.axes} axes; the delegate has {GPU_AXES}"))
    return Placement("LiteRT GPU delegate", len(ops), tuple(outside), False)


def _core_ml(path: Path) -> Placement:
    program = mil.Program(path)
    outside = tuple(_too_many_axes(program))
    kinds = Counter(program.operations())
    note = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(6))
    return Placement("Core ML (CPU, GPU, Neural Engine)", sum(kinds.values()), outside, False, note)


def _too_many_axes(program: mil.Program) -> Iterator[Outside]:
    for op in program.block.operations:
        for out in op.outputs:
            axes = out.type.tensorType.rank
            if axes > CORE_ML_AXES:
                yield Outside(out.name, op.type, f"{axes} axes; Core ML has {CORE_ML_AXES}")


def _tensorrt_parser(path: Path) -> Placement:
    onnx = require("onnx", "onnx")
    content = files.read_bytes(path, "artifact")
    try:
        nodes = list(onnx.load_from_string(content).graph.node)
    except Exception as error:  # noqa: BLE001 - protobuf's own error classes differ by version
        raise VerifyError(f"artifact {str(path)!r} is damaged: {type(error).__name__}") from None
    target = "NVIDIA's ONNX parser"
    try:
        refused = tensorrt.refused_nodes(content)
    except MissingExtraError as error:
        return Placement(target, len(nodes), (), False, f"not asked: {error}")
    outside = tuple(Outside(node, op, why) for node, op, why in refused)
    return Placement(f"{target} (asked here)", len(nodes), outside, True)


def environment() -> list[dict[str, str]]:
    """What is installed for each extra, and whether it loads: extra, package, version or what to run."""
    import importlib.metadata

    modules = (
        ("", "torch", "torch"),
        ("onnx", "onnx", "onnx"),
        ("onnx", "onnxruntime", "onnxruntime"),
        ("tflite", "litert_torch", "litert-torch"),
        ("tflite", "ai_edge_litert.interpreter", "ai-edge-litert"),
        ("tflite", "ai_edge_quantizer", "ai-edge-quantizer"),
        ("coreml", "coremltools", "coremltools"),
        ("tensorrt", "tensorrt_rtx", "tensorrt-rtx"),
        ("train", "torchvision", "torchvision"),
    )
    found = []
    for extra, module, package in modules:
        try:
            with quiet():
                require(module, extra or "all")
            state = importlib.metadata.version(package)
        except NasvitEdgeError as error:
            state = str(error)
        found.append({"extra": extra or "-", "package": package, "state": state})
    return found
