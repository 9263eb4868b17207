"""How much of an exported file is in 8 bits: its share of multiply-accumulates, counted from the file itself.

Two shares, since attention's products have no weights and stay in floating point by design (docs/verification.md): of
all multiply-accumulates, which says how much of the file is int8; and of those in layers with weights, which says
whether the conversion to int8 succeeded, and is what a file is judged by.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasvit_edge.errors import NasvitEdgeError, VerifyError
from nasvit_edge.export.formats import load_format
from nasvit_edge.export.layers import Layer

PRECISIONS = ("int8", "w8")  # that claim something of 8 bits


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

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return self.shares() | {
            "layers": len(self.weighted),
            "int8_layers": len(self.weighted) - len(self.float_layers),
            "float_layers": [] if self.precision == "w8" else [layer.name for layer in self.float_layers],
        }


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


def told(path: Path, format_name: str, precision: str) -> dict[str, Any] | None:
    """As JSON, where a file is described and not judged; None where it cannot be read here."""
    try:
        found = arithmetic(path, format_name, precision)
    except NasvitEdgeError:
        return None
    return None if found is None else found.to_dict()


def shown(figures: dict[str, Any] | None, precision: str) -> str:
    """The share in a table: of w8 of the weights, since it computes in floating point."""
    if figures is None:
        return "-"
    if precision == "w8":
        return f"weights {figures['weights_8bit_macs']:.1%}"
    return f"{figures['int8_macs']:.1%}"


def line(figures: dict[str, Any] | None, precision: str) -> str:
    """The same in words; empty of a file that claims no 8 bits."""
    if figures is None:
        return ""
    if precision == "w8":
        return f"8-bit weights in layers of {figures['weights_8bit_macs']:.1%} of the MACs; computed in floating point"
    products = figures["int8_layer_macs"] - figures["int8_macs"] > 0.05
    more = "; attention's products, which have no weights, are in floating point" if products else ""
    return (
        f"{figures['int8_macs']:.1%} of the MACs are in int8: {figures['int8_layers']} of {figures['layers']} layers with weights "
        f"({figures['int8_layer_macs']:.1%} of theirs){more}"
    )


def _share(of: Iterable[Layer], chosen: Iterable[Layer]) -> float:
    whole = sum(layer.macs for layer in of)
    return sum(layer.macs for layer in chosen) / whole if whole else 0.0
