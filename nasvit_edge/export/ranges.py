"""Between which values the tensors of an ONNX model lie on calibration images, for their 256 steps.

Rare extremes cost all other values precision, so a range leaves out a ten-thousandth of what was seen. Images are streamed: what is
remembered of a tensor is its histogram, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nasvit_edge.errors import require

WITHIN = 0.9999  # the share of a tensor's values inside its range; others were not compared here
_BINS = 4096
_Array = np.ndarray[Any, np.dtype[Any]]
Range = tuple[float, float]


def ranges(
    model: Any, names: Sequence[str], batches: Iterable[_Array], within: float = WITHIN
) -> dict[str, Range]:
    """The range of each named float tensor of a model (`onnx.ModelProto`) over batches of its input `image`, each with zero inside.

    Half of what is left out is at each end. Batches are gone through twice: for the extremes, then for how often what is between them comes.
    """
    run = _observer(model, names)
    extremes = dict.fromkeys(names, (0.0, 0.0))
    for values in map(run, batches):
        for name, value in zip(names, values, strict=True):
            low, high = extremes[name]
            extremes[name] = min(low, float(value.min())), max(high, float(value.max()))
    counts = {name: np.zeros(_BINS, np.int64) for name in names}
    for values in map(run, batches):
        for name, value in zip(names, values, strict=True):
            counts[name] += np.histogram(value, _BINS, extremes[name])[0]
    return {name: _inner(counts[name], *extremes[name], (1 - within) / 2) for name in names}


def _observer(model: Any, names: Iterable[str]) -> Any:
    """A function from a batch to the values of the named tensors."""
    onnx, ort = require("onnx", "onnx"), require("onnxruntime", "onnx")
    observed = type(model).FromString(model.SerializeToString())
    given, wanted = {value.name for value in observed.graph.input}, list(names)
    outputs_before = {value.name for value in observed.graph.output}
    observed.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in wanted
        if name not in given | outputs_before
    )
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = ort.InferenceSession(observed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (image,) = (value.name for value in session.get_inputs())
    outputs = [name for name in wanted if name not in given]

    def run(batch: _Array) -> list[_Array]:
        values = session.run(outputs, {image: batch}) if outputs else []
        named = dict(zip(outputs, values, strict=True)) | {image: batch}
        return [named[name] for name in wanted]

    return run


def _inner(counts: _Array, low: float, high: float, outside: float) -> Range:
    """Where all but the share `outside` at either end lies: edges of bins, and zero."""
    edges = np.linspace(low, high, len(counts) + 1)
    below = np.cumsum(counts) / max(1, counts.sum())
    first = int(np.searchsorted(below, outside, "right"))
    last = min(int(np.searchsorted(below, 1 - outside, "left")), len(counts) - 1)
    return min(0.0, float(edges[first])), max(0.0, float(edges[last + 1]))
