"""What a subnet must keep to: upper limits on latency and sizes, a lower one on accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta

from nasvit_edge.records import Figure, Record
from nasvit_edge.searching.evaluation import Floats, Values
from nasvit_edge.units import show_bytes, show_count, show_ms

_Quantity = Annotated[
    str,
    Meta(
        pattern=r"^((latency|high) [0-9]{1,3}|macs|parameters|bytes|peak|accuracy)$(?!\n)",
        description="possible are latency I, high I, macs, parameters, bytes, peak, accuracy",
    ),
]


class Limit(Record, frozen=True, kw_only=True, omit_defaults=False):
    """One limit: `factor` times the quantity is at most `bound` (for `accuracy`: at least).

    Attributes:
        quantity: `latency I` or `high I` (the upper end of the interval) of the table number I, in ms; `macs`,
            `parameters`, `bytes` (of the exported file), `peak` (bytes of activations); or `accuracy`, a fraction.
        name: what the user calls it: `--latency host`, `--max-size`.
        factor: from a median to another quantile.
    """

    quantity: _Quantity
    bound: Figure
    name: str
    factor: Figure = 1.0

    def value(self, values: Values) -> Floats:
        """(n,): what is limited, for a population."""
        return self.factor * quantity(values, self.quantity)

    def excess(self, values: Values) -> Floats:
        """(n,): by which share of the bound it is missed, 0 where it is kept."""
        value = self.value(values)
        over = self.bound - value if self.quantity == "accuracy" else value - self.bound
        found: Floats = np.maximum(0.0, over) / max(self.bound, 1e-300)
        return found

    def show(self, value: float) -> str:
        """A value with its unit."""
        if self.quantity == "accuracy":
            return f"{value:.2%}"
        if self.quantity.split()[0] in ("latency", "high"):
            return show_ms(value)
        return show_bytes(value) if self.quantity in ("bytes", "peak") else show_count(value)


def quantity(values: Values, name: str) -> Floats:
    """(n,): one quantity of a population."""
    kind, *table = name.split()
    if kind == "latency":
        return values.latency_ms[:, int(table[0])]
    if kind == "high":
        return values.high_ms[:, int(table[0])]
    found: Floats = getattr(values, kind)
    return found


def violation(values: Values, limits: Sequence[Limit]) -> Floats:
    """(n,): the sum of all excesses; 0 for subnets that keep to every limit."""
    found = np.zeros(len(values.accuracy))
    for limit in limits:
        found += limit.excess(values)
    return found
