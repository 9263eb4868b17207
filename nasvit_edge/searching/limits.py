"""What a subnet must keep to: upper limits on latency and sizes, a lower one on accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, cast, get_args

import numpy as np
from msgspec import Meta

from nasvit_edge.records import Figure, Record
from nasvit_edge.searching.evaluation import Floats, Values
from nasvit_edge.units import show_bytes, show_count, show_ms

Kind = Literal["latency", "high", "macs", "parameters", "bytes", "peak", "accuracy", "loss"]
TIMES: tuple[Kind, ...] = ("latency", "high")


class Quantity(NamedTuple):
    """What is limited.

    Attributes:
        kind: `latency`, or `high` (the upper end of its interval), in ms; `macs`, `parameters`, `bytes` (of the exported file), `peak`
            (bytes of activations); or, fractions, `accuracy` and `loss` (of it, by precisions below fp32).
        table: of a latency, the number of the table.
    """

    kind: Kind
    table: int = 0

    @property
    def is_time(self) -> bool:
        """Whether it is a latency."""
        return self.kind in TIMES

    def of(self, values: Values) -> Floats:
        """(n,): of a population."""
        if self.kind == "latency":
            return values.latency_ms[:, self.table]
        if self.kind == "high":
            return values.high_ms[:, self.table]
        return getattr(values, self.kind)

    def show(self, value: float) -> str:
        """A value with its unit."""
        if self.kind == "accuracy":
            return f"{value:.2%}"
        if self.kind == "loss":
            return f"{100 * value:.3g} points"
        if self.is_time:
            return show_ms(value)
        return show_bytes(value) if self.kind in ("bytes", "peak") else show_count(value)


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: `factor` times the quantity is at most `bound` (of an accuracy: at least).

    Attributes:
        name: what the user calls it: `--latency host`, `--max-size`.
        factor: from a median to another quantile.
    """

    quantity: Quantity
    bound: float
    name: str
    factor: float = 1.0

    @staticmethod
    def latency(ms: float, table: int = 0, *, name: str = "latency", factor: float = 1.0) -> Limit:
        """At most so many ms on a table's device."""
        return Limit(Quantity("latency", table), ms, name, factor)

    @staticmethod
    def of(kind: Kind, bound: float, name: str = "") -> Limit:
        """Of a size, or an accuracy."""
        return Limit(Quantity(kind), bound, name or kind)

    def value(self, values: Values) -> Floats:
        """(n,): what is limited, for a population."""
        return self.factor * self.quantity.of(values)

    def excess(self, values: Values) -> Floats:
        """(n,): by which share of the bound it is missed, 0 where it is kept."""
        value = self.value(values)
        over = self.bound - value if self.quantity.kind == "accuracy" else value - self.bound
        return np.maximum(0.0, over) / max(self.bound, 1e-300)

    def show(self, value: float) -> str:
        """A value with its unit."""
        return self.quantity.show(value)


class SavedLimit(Record, frozen=True, kw_only=True, omit_defaults=False):
    """A limit as files have it: `latency 0` is the latency of the first table."""

    quantity: Annotated[
        str,
        Meta(
            pattern=r"^((latency|high) [0-9]{1,3}|macs|parameters|bytes|peak|accuracy|loss)$(?!\n)",
            description="possible are latency I, high I, macs, parameters, bytes, peak, accuracy, loss",
        ),
    ]
    bound: Figure
    name: str
    factor: Figure = 1.0

    @staticmethod
    def of(limit: Limit) -> SavedLimit:
        """For a file."""
        kind, table = limit.quantity
        text = f"{kind} {table}" if limit.quantity.is_time else kind
        return SavedLimit(quantity=text, bound=limit.bound, name=limit.name, factor=limit.factor)

    def limit(self) -> Limit:
        """As searches take it."""
        kind, _, table = self.quantity.partition(" ")
        assert kind in get_args(Kind)
        return Limit(Quantity(cast(Kind, kind), int(table or 0)), self.bound, self.name, self.factor)


def violation(values: Values, limits: Sequence[Limit]) -> Floats:
    """(n,): the sum of all excesses; 0 for subnets that keep to every limit."""
    total = np.zeros(len(values.accuracy))
    for limit in limits:
        total += limit.excess(values)
    return total
