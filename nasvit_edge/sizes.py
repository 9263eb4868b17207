"""How large ops are: parameters, the activations that are alive at once, the bytes of an exported file.

`parameters` is exact. The other two are computed, not measured: `activations` supposes a runtime that works
op by op, frees what is not read again and computes activation functions in place; `file_bytes` counts
constants and the graph around them.
"""

from __future__ import annotations

from nasvit_edge.ops import Classifier, Head, MBConv, Op, Stem, TransformerBlock, lower
from nasvit_edge.space import SearchSpace, SubnetConfig

WEIGHT_BYTES = {"fp32": 4, "fp16": 2, "int8": 1, "w8": 1}
ACTIVATION_BYTES = {"fp32": 4, "fp16": 2, "int8": 1, "w8": 4}


def parameters(op: Op) -> int:
    """The parameters of the standalone op, unfolded: those of `build(op)`."""
    match op:
        case Stem():
            return op.weights() + 2 * op.channels
        case MBConv():
            hidden = op.expanded if op.expands else op.in_channels
            gate = op.squeezed + hidden if op.squeezed else 0
            norms = 2 * ((hidden if op.expands else 0) + hidden + op.channels)
            return op.weights() + norms + gate
        case TransformerBlock():
            c, v, h = op.channels, op.value_channels, op.heads
            linear = 2 * (c * c + c) + (c * v + v) + 9 * v + (v * c + c) + 4 * (c * c + c)
            positions = (2 * op.height - 1) * (2 * op.width - 1) * h
            return linear + positions + 2 * (h * h + h) + 3 * 2 * c + 2 * c
        case Head():
            return op.weights() + 2 * op.expanded
        case Classifier():
            return op.weights() + op.classes


def activations(op: Op) -> int:
    """The most values that are alive at once inside the op, its input and its output among them."""
    match op:
        case MBConv():
            inputs, outputs = op.height * op.width, op.out_shape()[1] * op.out_shape()[2]
            hidden = op.expanded if op.expands else op.in_channels
            kept = op.in_channels * inputs  # for the shortcut
            wide = hidden * (inputs + outputs) if op.expands else hidden * outputs
            return kept + max(wide, (hidden + op.channels) * outputs)
        case TransformerBlock():
            tokens, c, v = op.height * op.width, op.channels, op.value_channels
            scores = op.heads * tokens**2
            return c * tokens + max(2 * c * tokens + v * tokens + scores, v * tokens + 2 * scores)
        case Head():
            return (op.in_channels + op.expanded) * op.height * op.width
        case Stem():
            channels, height, width = op.out_shape()
            return 3 * op.height * op.width + channels * height * width
        case Classifier():
            return op.features + op.classes


def file_bytes(op: Op, precision: str) -> int:
    """The op's share of an exported file."""
    return WEIGHT_BYTES[precision] * op.weights()


def config_parameters(space: SearchSpace, config: SubnetConfig) -> int:
    """The parameters of the standalone subnet, unfolded."""
    return sum(parameters(op) for op in lower(space, config))
