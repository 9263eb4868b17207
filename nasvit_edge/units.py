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


def seconds(text: str) -> float:
    """`"10m"` -> 600.0, `"90s"` -> 90.0, `"1h"` -> 3600.0; the unit is required, a day is the most."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(s|m|min|h)\s*", text)
    value = float(match.group(1)) * {"s": 1, "m": 60, "min": 60, "h": 3600}[match.group(2)] if match else 0
    if not 0 < value <= 86_400:
        raise NasvitEdgeError(
            f"duration {text!r} is not a number with a unit (s, m or h) up to 24h; for example: 10m"
        )
    return float(value)


def share(text: str) -> float:
    """`"20%"` -> 0.2; more than 0 and at most 100 %."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*%\s*", text)
    if match is None or not 0 < float(match.group(1)) <= 100:
        raise NasvitEdgeError(f"share {text!r} is not a percentage above 0% and up to 100%; for example: 20%")
    return float(match.group(1)) / 100


def count(text: str, what: str = "count") -> float:
    """`"500M"` -> 5e8, `"1.2G"`, `"300k"`, `"12000"`: MACs or parameters."""
    return _scaled(text, what, {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}, "500M")


def size_bytes(text: str, what: str = "size") -> float:
    """`"20MB"` -> 2e7, `"20MiB"`, `"800kB"`; the unit is required."""
    units = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
    return _scaled(text, what, units, "20MB")


def _scaled(text: str, what: str, units: dict[str, float], example: str) -> float:
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-zA-Z]*)\s*", text)
    if match is None or match.group(2).lower() not in units:
        raise NasvitEdgeError(
            f"{what} {text!r} is not a number with one of the units {', '.join(u or 'none' for u in units)}; for example: {example}"
        )
    value = float(match.group(1)) * units[match.group(2).lower()]
    if not 0 < value < 1e15:
        raise NasvitEdgeError(f"{what} {text!r} is out of range; for example: {example}")
    return value


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


def show_bytes(value: float) -> str:
    """1234567 -> '1.23 MB'."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"


def show_seconds(seconds: float) -> str:
    """A duration: 45 s, 12 min, 3 h 20 min, 12 days 4 h."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if minutes < 2:
        return f"{seconds:.0f} s"
    if minutes < 120:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} days {hours % 24} h"
