"""A layer of an exported file that multiplies: how often, and in what arithmetic."""

from __future__ import annotations

from dataclasses import dataclass


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
