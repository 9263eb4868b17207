"""ONNX: a folded module to a graph, node by node, and running it with ONNX Runtime.

The graph is written from the module's own trace, so it holds just what the module computes, under the
module's names, and takes milliseconds to write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasvit_edge import files
from nasvit_edge.errors import VerifyError, require
from nasvit_edge.export import onnx_reading, onnx_traced
from nasvit_edge.export.formats import Conversion
from nasvit_edge.export.onnx_external import external_files
from nasvit_edge.export.onnx_graph import Graph
from nasvit_edge.export.onnx_quantised import quantised
from nasvit_edge.export.parity import in_batches
from nasvit_edge.latency.names import MIXED

if TYPE_CHECKING:
    from torch import nn

SUFFIX = ".onnx"
RUNTIME = "onnxruntime"
_Array = np.ndarray[Any, np.dtype[np.float32]]


def convert(
    module: nn.Module, shape: tuple[int, ...], recipe: Conversion | None = None, runtime: str = "onnxruntime"
) -> bytes:
    """An ONNX model (opset 17, IR version 8) of a folded module for inputs of `shape` (B, ...): `image` -> `logits`, both float32.

    Where the recipe's output is `labels`, that is the output: int32 (B, H, W).

    fp16 keeps constants and arithmetic in half precision (norms accumulate in single); w8 holds weights as
    8-bit integers with a scale per output channel; int8 quantises convolutions and linear layers with their
    inputs (QDQ, ranges from `recipe.calibration`; as `runtime` takes them: `onnxruntime` or `tensorrt`). The bytes depend on
    module and recipe alone: no time stamps, paths or stack traces.
    """
    onnx = require("onnx", "onnx")
    import torch
    from torch.fx.passes.shape_prop import ShapeProp

    recipe = recipe or Conversion()
    if onnx_traced.is_traced(module):
        network = onnx_traced.traced(module, shape, recipe)
        return at_precision(network, shape[0], recipe, runtime)
    traced = torch.fx.symbolic_trace(module)
    with torch.no_grad():
        ShapeProp(traced).propagate(torch.zeros(shape))
    graph = Graph(onnx, traced, recipe, runtime)
    for node in traced.graph.nodes:
        graph.add(node)
    return at_precision(graph.finish(shape), shape[0], recipe, runtime)


def at_precision(model: bytes, batch: int, recipe: Conversion, runtime: str = "onnxruntime") -> bytes:
    """A model for `batch` images as its graph was written; where the recipe is int8, or mixed, with what that rounds."""
    if recipe.precision not in ("int8", MIXED):
        return model
    exact = [name for name, precision in recipe.mixed.items() if precision == "fp32"]
    return quantised(model, batch, replace(recipe, kept=(*recipe.kept, *exact)), runtime)


device_model = convert
layers, placements = onnx_reading.layers, onnx_reading.placements


def write_metadata(model: bytes, metadata: Mapping[str, str]) -> bytes:
    """The model with `metadata` as its properties, read back by `session.get_modelmeta()`."""
    onnx = require("onnx", "onnx")
    proto = onnx.load_from_string(model)
    onnx.helper.set_model_props(proto, dict(sorted(metadata.items())))
    return proto.SerializeToString(deterministic=True)


def read_metadata(path: Path) -> dict[str, str]:
    """The properties of a model file."""
    onnx = require("onnx", "onnx")
    try:
        proto = onnx.load_from_string(files.read_bytes(path, "artifact"))
    except Exception as error:  # noqa: BLE001 - protobuf's own error classes differ by version
        raise VerifyError(
            f"artifact {str(path)!r} is damaged or no ONNX model: {_first_line(error)}"
        ) from None
    outside = external_files(proto)
    if outside:
        raise VerifyError(
            f"artifact {str(path)!r} keeps numbers in other files ({outside[0][:80]!r}), which no export does; "
            "its paths are not followed: put all into one file"
        )
    return {entry.key: entry.value for entry in proto.metadata_props}


def runner(path: Path, threads: int = 1, *, optimise: bool = True) -> Callable[[_Array], _Array]:
    """A function from images (B, 3, H, W) to logits (B, classes), or what else the model gives, by ONNX Runtime on the CPU.

    Without `optimise` every node runs as it is written.
    """
    return _runner(files.read_bytes(path, "artifact"), path, _options(threads, optimise=optimise))


def plain_runner(path: Path, threads: int = 1) -> Callable[[_Array], _Array]:
    """As `runner`, of what the model holds without its rounding: nearly the same on every processor."""
    from nasvit_edge.export.onnx_plain import plain

    try:
        model = plain(files.read_bytes(path, "artifact"))
    except Exception as error:  # noqa: BLE001 - a damaged graph can break any step in any way
        raise VerifyError(f"artifact {str(path)!r} is damaged: {_first_line(error)}") from None
    return _runner(model, path, _options(threads, optimise=False))


def saturates(path: Path, images: _Array) -> bool:
    """Whether sums of 8-bit products saturate on this processor (x86 without VNNI), so that images get other outputs."""
    exact = _options(1)
    exact.add_session_config_entry(EXACT_SUMS, "1")
    content = files.read_bytes(path, "artifact")
    as_it_is, exactly = (_runner(content, path, options)(images) for options in (_options(1), exact))
    return not np.array_equal(as_it_is, exactly)


EXACT_SUMS = "session.x64quantprecision"  # ONNX Runtime's session option


def _options(threads: int, *, optimise: bool = True) -> Any:
    ort = require("onnxruntime", "onnx")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _runner(content: bytes, path: Path, options: Any) -> Callable[[_Array], _Array]:
    ort = require("onnxruntime", "onnx")
    try:
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions have no common public base
        raise VerifyError(f"artifact {str(path)!r} does not load: {_first_line(error)}") from None
    image = session.get_inputs()[0]
    batch = image.shape[0] if isinstance(image.shape[0], int) else 1

    def call(images: _Array) -> _Array:
        try:
            logits: _Array = session.run(None, {image.name: images})[0]
        except Exception as error:  # noqa: BLE001 - as above
            raise VerifyError(f"artifact {str(path)!r} does not run: {_first_line(error)}") from None
        return logits

    return in_batches(call, batch)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
