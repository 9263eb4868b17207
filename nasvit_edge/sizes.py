"""How large ops are: parameters, the activations that are alive at once, the bytes of an exported file.

`parameters` is exact. The others are computed, not measured: `activations` (of an op) and `peak` (of a subnet) suppose a
runtime that works op by op, frees what is not read again and computes activation functions in place; `file_bytes`
counts constants and the graph around them, by coefficients fitted to real files.
"""

from __future__ import annotations

import math

from nasvit_edge.ops import (
    IMAGE,
    Classifier,
    Head,
    Labels,
    Lateral,
    MBConv,
    Op,
    PixelClassifier,
    Stem,
    TransformerBlock,
    WholeNetwork,
    last_reads,
    lower,
)
from nasvit_edge.space import SearchSpace, SubnetConfig

# (format, precision) -> bytes for each of `contents`, fitted by benchmarks/fit_file_sizes.py on whole subnets of nasvit and nano.
_FILE_BYTES = {
    ("onnx", "fp32"): (
        4.01,
        4.041,
        0.0,
        12550.0,
        1670.0,
    ),  # of half the files: 0.997 to 1.003 of the other half
    ("onnx", "fp16"): (2.006, 2.02, 0.0, 8951.0, 1422.0),  # 0.998 to 1.002
    ("onnx", "int8"): (1.034, 4.052, 3.738, 37400.0, 8496.0),  # 0.994 to 1.010
    ("onnx", "w8"): (1.017, 4.034, 3.001, 14600.0, 2442.0),  # 0.993 to 1.008
    ("tflite", "fp32"): (4.011, 4.009, 4.205, 26390.0, 4564.0),  # 0.996 to 1.003
    ("tflite", "fp16"): (2.012, 4.009, 4.093, 29050.0, 5467.0),  # 0.993 to 1.005
    ("tflite", "int8"): (0.9943, 4.002, 28.66, 19950.0, 6619.0),  # 0.991 to 1.008
    ("tflite", "dynamic"): (
        1.654,
        3.83,
        0.0,
        53020.0,
        13380.0,
    ),  # 0.999 to 1.039: what of it is linear layers varies
    ("tflite", "w8"): (1.01, 4.005, 17.57, 27340.0, 5834.0),  # 0.988 to 1.004
    ("coreml", "fp32"): (4.006, 4.005, 5.316, 17310.0, 5186.0),  # 0.996 to 1.001
    ("coreml", "fp16"): (2.005, 2.009, 3.114, 21130.0, 5570.0),  # 0.994 to 1.005
    ("coreml", "w8"): (0.9963, 1.007, 8.29, 22970.0, 6506.0),  # 0.993 to 1.014
}
ACTIVATION_BYTES = {"fp32": 4, "fp16": 2, "int8": 1, "dynamic": 4, "w8": 4}


def parameters(op: Op) -> int:
    """The parameters of the standalone op, unfolded: those of `build(op)`."""
    match op:
        case Stem():
            return op.weights() + 2 * op.channels
        case MBConv():
            gate = op.squeezed + op.expanded if op.squeezed else 0
            norms = 2 * (op.expanded * (op.expands + op.has_depthwise) + op.channels)
            return op.weights() + norms + gate
        case TransformerBlock():
            c, v, h = op.channels, op.value_channels, op.heads
            biases = (2 * c + v) * op.biased + c + op.mlps * (op.inner + c)
            mixing = 2 * (h * h + h) * op.mixes
            norms, scales = (1 + op.mlps) * 2 * c, 2 * c * op.scaled
            positions = (2 * op.height - 1) * (2 * op.width - 1) * h
            return op.token_weights() + biases + positions + mixing + norms + scales
        case Head():
            return op.weights() + 2 * op.expanded + op.features * op.biased
        case Classifier() | PixelClassifier():
            return op.weights() + op.classes
        case Lateral():
            return op.weights() + 2 * op.channels
        case Labels():
            return 0
        case WholeNetwork():
            return op.spec.parameters


def activations(op: Op) -> int:
    """The most values that are alive at once inside the op, its input and its output among them."""
    match op:
        case MBConv():
            inputs, outputs = op.height * op.width, op.out_shape()[1] * op.out_shape()[2]
            incoming, wide = op.in_channels * inputs, op.expanded
            if not op.has_project:
                return incoming + op.channels * outputs
            shortcut = incoming if op.shortcut else 0
            # the input and what is made of it first, then what is made of that
            first = wide * (inputs if op.expands and not op.fused else outputs)
            second = wide * (inputs + outputs) if op.expands and not op.fused else 0
            return max(incoming + first, shortcut + max(second, (wide + op.channels) * outputs))
        case TransformerBlock():
            tokens, c, v = op.height * op.width, op.channels, op.value_channels
            scores = op.heads * tokens**2
            attention = max(2 * c * tokens + v * tokens + scores, v * tokens + 2 * scores)
            return c * tokens + max(attention, (c + op.inner) * tokens)
        case Head():
            return (op.in_channels + op.expanded) * op.height * op.width
        case Stem():
            channels, height, width = op.out_shape()
            return 3 * op.height * op.width + channels * height * width
        case Classifier():
            return op.features + op.classes
        case Lateral():
            return _lateral(op)
        case PixelClassifier():
            return (op.channels + op.classes) * op.height * op.width
        case Labels():
            pixels = op.out_height * op.out_width
            return max(op.classes * (op.height * op.width + pixels), (op.classes + 1) * pixels)
        case WholeNetwork():
            return op.spec.activations


def _lateral(op: Lateral) -> int:
    """With the sum so far beside it, which the finest level's, the one without a resize, begins."""
    cells, out = op.height * op.width, math.prod(op.out_shape())
    projected = (op.in_channels + op.channels) * cells
    if (op.height, op.width) == (op.out_height, op.out_width):
        return projected
    return max(projected + out, op.channels * cells + 2 * out)


def peak(space: SearchSpace, config: SubnetConfig) -> int:
    """The most values that are alive at once in a subnet, its ops run in the order of `lower`.

    The outputs of levels stay until their laterals have run.
    """
    ops = lower(space, config)
    alive: dict[str, int] = {IMAGE: 0}
    most = 0
    for op, done in zip(ops, last_reads(ops), strict=True):
        inputs = sum(alive[name] for name in op.inputs)  # counted among the op's activations
        most = max(most, activations(op) + sum(alive.values()) - inputs)
        alive[op.name] = math.prod(op.out_shape())
        for name in done:
            del alive[name]
    return most


def contents(op: Op) -> tuple[int, int, int, int, int]:
    """What an op's part of a file consists of: weights, position biases, channels, transformer blocks, other ops.

    Weights are quantised; position biases (spread out over all pairs of tokens) and what goes with each channel
    (biases, scales) may not be; the rest is graph.
    """
    if isinstance(op, TransformerBlock):
        positions = op.heads * (op.height * op.width) ** 2
        branches = op.channels * 4 + op.mlps * (op.channels + op.inner)
        channels = branches + 2 * op.value_channels
        return op.weights() - positions, positions, channels, 1, 0
    match op:
        case MBConv():
            channels = op.expanded * (op.expands + op.has_depthwise) + op.squeezed + op.channels
        case Head():
            channels = op.expanded + op.features
        case Classifier():
            channels = op.classes
        case Stem() | Lateral():
            channels = op.channels
        case PixelClassifier():
            channels = op.classes
        case Labels():
            channels = 0
        case WholeNetwork():
            channels = op.spec.parameters - op.spec.weights
    return op.weights(), 0, channels, 0, 1


def file_bytes(op: Op, form: str, precision: str) -> float:
    """The op's share of a file exported in a format; a TensorRT artifact is counted without its plan."""
    known = _FILE_BYTES.get((form, precision)) or _FILE_BYTES["onnx", precision]
    total = sum(each * count for each, count in zip(known, contents(op), strict=True))
    return total + known[1] * _resizing(op) if form == "onnx" else total


def _resizing(op: Op) -> int:
    """The entries of the two matrices by which an ONNX file resizes; no more quantised than position biases."""
    if not isinstance(op, Lateral | Labels) or (op.height, op.width) == (op.out_height, op.out_width):
        return 0
    return op.height * op.out_height + op.width * op.out_width


def config_parameters(space: SearchSpace, config: SubnetConfig) -> int:
    """The parameters of the standalone subnet, unfolded."""
    return sum(parameters(op) for op in lower(space, config))
