"""ONNX: networks that others wrote, as torch's own exporter writes what it traces.

Blocks of ours are written by `onnx_graph`, which knows what they compute and nothing else.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from nasvit_edge.errors import ExportError, require
from nasvit_edge.export.formats import Conversion
from nasvit_edge.export.onnx_graph import IR_VERSION, OPSET
from nasvit_edge.export.quiet import quiet

if TYPE_CHECKING:
    from torch import nn

GRAPH = "network"  # the name of such a graph
_WEIGHTED = {"Conv": 1, "Gemm": 1, "MatMul": 1}  # op -> which input is the weight, where that is a constant
_MOST = 127


def is_traced(module: nn.Module) -> bool:
    """Whether a module holds a network that others wrote."""
    from nasvit_edge.model.networks import NetworkBlock

    return any(isinstance(child, NetworkBlock) for child in module.modules())


def traced(module: nn.Module, shape: tuple[int, ...], recipe: Conversion) -> bytes:
    """An ONNX model `image` -> `logits` (float32) of a module for inputs of `shape`; of int8 the model that is to be quantised.

    Raises:
        ExportError: torch's exporter cannot write it, or not with an open batch axis.
    """
    onnx = require("onnx", "onnx")
    proto = onnx.load_from_string(_written(module, shape, recipe))
    _name_constants(proto)
    if recipe.precision == "fp16":
        with quiet():
            half = require("onnxruntime.transformers.float16", "onnx")
            proto = half.convert_float_to_float16(proto, keep_io_types=True)
            models = require("onnxruntime.transformers.onnx_model", "onnx")
            models.OnnxModel(proto).topological_sort()
    elif recipe.precision == "w8":
        _hold_in_8_bits(onnx, proto)
    _tidy(proto)
    onnx.checker.check_model(proto)
    model: bytes = proto.SerializeToString(deterministic=True)
    if recipe.dynamic_batch:
        _check_batch(model, shape)
    return model


def _written(module: nn.Module, shape: tuple[int, ...], recipe: Conversion) -> bytes:
    import torch

    axes = {"image": {0: "batch"}, "logits": {0: "batch"}} if recipe.dynamic_batch else None
    buffer = io.BytesIO()
    try:
        with quiet(), torch.no_grad():
            torch.onnx.export(
                module.eval(),
                (torch.zeros(shape),),
                buffer,  # type: ignore[arg-type]
                input_names=["image"],
                output_names=["logits"],
                opset_version=OPSET,
                dynamic_axes=axes,
                dynamo=False,  # the other exporter takes a package more, and writes opset 18 and later only
            )
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ExportError(f"torch cannot write this network as ONNX: {reason}") from error
    return buffer.getvalue()


def _tidy(proto: Any) -> None:
    """What says where it was written goes; versions and names are as in our other files."""
    proto.producer_name, proto.producer_version, proto.ir_version = "nasvit-edge", "", IR_VERSION
    proto.graph.name, proto.doc_string = GRAPH, ""
    del proto.metadata_props[:]
    for node in proto.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]


def _name_constants(proto: Any) -> None:
    """Constants among the nodes become initializers, as our other files have them."""
    nodes = []
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constant = proto.graph.initializer.add()
            constant.CopyFrom(node.attribute[0].t)
            constant.name = node.output[0]
        else:
            nodes.append(node)
    set_nodes(proto, nodes)


def set_nodes(proto: Any, nodes: list[Any]) -> None:
    """With these nodes, and the constants that they take."""
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    used = {name for node in copies for name in node.input}
    kept = [constant for constant in proto.graph.initializer if constant.name in used]
    del proto.graph.node[:], proto.graph.initializer[:]
    proto.graph.node.extend(copies)
    proto.graph.initializer.extend(kept)


def weights(proto: Any) -> Iterator[tuple[Any, int, Any]]:
    """Nodes of layers, which input their weight is, and its initializer."""
    constants = {constant.name: constant for constant in proto.graph.initializer}
    for node in proto.graph.node:
        place = _WEIGHTED.get(node.op_type)
        if place is not None and node.input[place] in constants:
            yield node, place, constants[node.input[place]]


def _hold_in_8_bits(onnx: Any, proto: Any) -> None:
    """Weights as 8-bit integers with a scale per output channel, which a node before the layer multiplies."""
    helper, arrays = onnx.helper, onnx.numpy_helper
    added, held = [], {}
    for node, place, constant in weights(proto):
        axis = output_axis(node)
        if constant.name not in held:
            array = arrays.to_array(constant)
            others = tuple(a for a in range(array.ndim) if a != axis)
            scale = (np.abs(array).max(others).clip(1e-12) / _MOST).astype(np.float32)
            steps = np.rint(array / np.expand_dims(scale, others)).astype(np.int8)
            names = [f"{constant.name}.{part}" for part in ("int8", "scale", "float")]
            proto.graph.initializer.extend(map(arrays.from_array, (steps, scale), names[:2]))
            added.append(helper.make_node("DequantizeLinear", names[:2], names[2:], name=names[2], axis=axis))
            held[constant.name] = names[2]
        node.input[place] = held[constant.name]
    set_nodes(proto, [*added, *proto.graph.node])


def output_axis(node: Any) -> int:
    """Of a layer's weight."""
    if node.op_type == "Conv":
        return 0
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if transposed else 1


def _check_batch(model: bytes, shape: tuple[int, ...]) -> None:
    """ExportError where two images are not what each of them is."""
    ort = require("onnxruntime", "onnx")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    images = np.random.default_rng(0).normal(size=(2, *shape[1:])).astype(np.float32)
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        together = session.run(None, {"image": images})[0]
        alone = [session.run(None, {"image": image[None]})[0] for image in images]
    except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions have no common public base
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ExportError(
            f"this network has no open batch axis ({reason}): give a number with --batch"
        ) from None
    expected = np.concatenate(alone)
    if together.shape != expected.shape or np.abs(together - expected).max() > 1e-3 * expected.std():
        raise ExportError("this network has no open batch axis: give a number with --batch")
