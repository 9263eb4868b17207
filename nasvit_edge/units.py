"""Text with units, as people type it on the command line, to plain floats and back."""

from __future__ import annotations

import math
import re

from nasvit_edge.errors import NasvitEdgeError

_MS = {"us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ms": 1.0, "s": 1e3}
_LONGEST_MS = 3_600_000.0  # an hour for one image is a slip of the keyboard
_SHORTEST_MS = 1e-6


def latency_ms(text: str) -> float:
    """`"20ms"` -> 20.0, `"800us"` -> 0.8, `"1.5s"` -> 1500.0; the unit is required."""
    match = re.fullmatch(r"\s*([+-]?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Zµμ]*)\s*", text)
    if match is None or match.group(2).lower() not in _MS:
        raise NasvitEdgeError(
            f"latency {text!r} is not a number with a unit (us, ms or s); for example: 20ms"
        )
    value = float(match.group(1)) * _MS[match.group(2).lower()]
    if not _SHORTEST_MS <= value <= _LONGEST_MS or not math.isfinite(value):
        raise NasvitEdgeError(
            f"latency {text!r} is out of range: give more than 1e-6ms and at most 3600s, like 20ms"
        )
    return value


def share(text: str) -> float:
    """`"20%"` -> 0.2; more than 0 and at most 100 %."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*%\s*", text)
    if match is None or not 0 < float(match.group(1)) <= 100:
        raise NasvitEdgeError(f"share {text!r} is not a percentage above 0% and up to 100%; for example: 20%")
    return float(match.group(1)) / 100


def show_ms(ms: float) -> str:
    """A latency with the digits that mean something: 0.0123 ms, 1.23 ms, 45.6 ms."""
    digits = 4 if ms < 0.1 else 3 if ms < 1 else 2 if ms < 10 else 1
    return f"{ms:.{digits}f} ms"


def show_count(count: float) -> str:
    """MACs or parameters: 189.8 M, 12.3 k."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f}"
