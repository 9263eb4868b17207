"""How much of an exported file is in 8 bits: its share of multiply-accumulates, counted from the file itself.

Two shares, since attention's products have no weights and stay in floating point by design (docs/verification.md): of
all multiply-accumulates, which says how much of the file is int8; and of those in layers with weights, which says
whether the conversion to int8 succeeded, and is what a file is judged by.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nasvit_edge.errors import NasvitEdgeError, VerifyError
from nasvit_edge.export.formats import load_format
from nasvit_edge.export.layers import Layer
from nasvit_edge.records import Record, Share, Whole

PRECISIONS = ("int8", "dynamic", "w8", "mixed")  # that claim something of 8 bits


class Shares(Record, frozen=True, kw_only=True):
    """How much of a file is in 8 bits, as reports and sidecars have it: fractions of multiply-accumulates, and layers with weights."""

    int8_macs: Share
    int8_layer_macs: Share
    weights_8bit_macs: Share
    layers: Whole
    int8_layers: Whole
    float_layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """The layers of a file, and what of them is in 8 bits; shares are fractions of multiply-accumulates."""

    precision: str
    layers: tuple[Layer, ...]

    @property
    def weighted(self) -> list[Layer]:
        """Convolutions and linear layers."""
        return [layer for layer in self.layers if not layer.product]

    @property
    def int8_macs(self) -> float:
        """Of all: inputs, weights and outputs are 8-bit integers."""
        return _share(self.layers, [layer for layer in self.layers if layer.int8])

    @property
    def int8_layer_macs(self) -> float:
        """The same, of those in layers with weights."""
        return _share(self.weighted, [layer for layer in self.weighted if layer.int8])

    @property
    def weights_8bit_macs(self) -> float:
        """Of those in layers with weights: the weights are 8-bit integers."""
        return _share(self.weighted, [layer for layer in self.weighted if layer.weights_8bit])

    @property
    def float_layers(self) -> list[Layer]:
        """The layers with weights that are not int8."""
        return [layer for layer in self.weighted if not layer.int8]

    def shares(self) -> dict[str, float]:
        """The shares alone, as JSON."""
        names = ("int8_macs", "int8_layer_macs", "weights_8bit_macs")
        return {name: round(getattr(self, name), 4) for name in names}

    def record(self) -> Shares:
        """Shares and layers."""
        floats = () if self.precision == "w8" else tuple(layer.name for layer in self.float_layers)
        layers, int8 = len(self.weighted), len(self.weighted) - len(self.float_layers)
        return Shares(**self.shares(), layers=layers, int8_layers=int8, float_layers=floats)


def layers(path: Path, format_name: str) -> list[Layer]:
    """The layers of a file (or folder) of a format, in its order.

    Raises:
        VerifyError: it is damaged.
        MissingExtraError: what reads the format is not installed.
    """
    try:
        return load_format(format_name).module().layers(path)
    except NasvitEdgeError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged graph can break any step in any way
        raise VerifyError(f"artifact {str(path)!r} is damaged: {type(error).__name__}") from None


def arithmetic(path: Path, format_name: str, precision: str) -> Arithmetic | None:
    """Of a file that claims 8 bits; None of another.

    Raises:
        VerifyError: it is damaged.
        MissingExtraError: what reads the format is not installed.
    """
    if precision not in PRECISIONS:
        return None
    return Arithmetic(precision, tuple(layers(path, format_name)))


def told(path: Path, format_name: str, precision: str) -> Shares | None:
    """Where a file is described and not judged; None where it cannot be read here."""
    try:
        counts = arithmetic(path, format_name, precision)
    except NasvitEdgeError:
        return None
    return None if counts is None else counts.record()


def shown(figures: Shares | None, precision: str) -> str:
    """The share in a table: of w8 of the weights, since it computes in floating point."""
    if figures is None:
        return "-"
    if precision == "w8":
        return f"weights {figures.weights_8bit_macs:.1%}"
    return f"{figures.int8_macs:.1%}"


def line(figures: Shares | None, precision: str) -> str:
    """The same in words; empty of a file that claims no 8 bits."""
    if figures is None:
        return ""
    if precision == "w8":
        return f"8-bit weights in layers of {figures.weights_8bit_macs:.1%} of the MACs; computed in floating point"
    products = figures.int8_layer_macs - figures.int8_macs > 0.05
    more = "; attention's products, which have no weights, are in floating point" if products else ""
    return (
        f"{figures.int8_macs:.1%} of the MACs are in int8: {figures.int8_layers} of {figures.layers} layers with weights "
        f"({figures.int8_layer_macs:.1%} of theirs){more}"
    )


def _share(of: Iterable[Layer], chosen: Iterable[Layer]) -> float:
    whole = sum(layer.macs for layer in of)
    return sum(layer.macs for layer in chosen) / whole if whole else 0.0
