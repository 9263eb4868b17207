"""Whether the latencies of a table that was made elsewhere are in the unit that they were read in, by how fast its ops would run."""

from __future__ import annotations

import math
import statistics
from typing import Literal

from nasvit_edge.errors import TableError
from nasvit_edge.latency.file import TableFile
from nasvit_edge.ops import all_ops
from nasvit_edge.space import SearchSpace

Unit = Literal["s", "ms", "us", "ns"]
MS: dict[Unit, float] = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}  # milliseconds in one
SLOWEST, FASTEST = 1e6, 1e12  # MACs a second and thread; no runtime is outside
# Where ops of real tables are: 0.2 to 200 GMAC/s a thread in the shipped ones, 1.4 to 5.7 on a Pixel 1. Outside by their median a unit is likely wrong.
_USUAL_SLOWEST, _USUAL_FASTEST, _TYPICAL = 5e7, 2e11, 5e9


def refuse_impossible(file: TableFile, space: SearchSpace, unit: Unit, hint: str) -> None:
    """TableError where an op would run faster or slower than anything does, if the figures were in `unit`.

    Args:
        hint: the command that says the unit; it ends where that belongs.
    """
    rates = _rates(file, space)
    key = next((key for key, rate in rates.items() if not SLOWEST <= rate <= FASTEST), None)
    if key is None:
        return
    raise TableError(
        f"op {key!r} of the table would run at {_text(rates[key])} a thread, which nothing does ({_text(SLOWEST)} to {_text(FASTEST)}), "
        f"so its latencies are not in {unit}",
        f"say what they are in, {' or '.join(MS)}: {hint} {_likely(rates, unit)}",
    )


def doubt(file: TableFile, space: SearchSpace, unit: Unit) -> str:
    """A line where ops would run at a speed that is possible, but not usual; empty where it is usual."""
    rates = _rates(file, space)
    median = statistics.median(rates.values()) if rates else _TYPICAL
    if _USUAL_SLOWEST <= median <= _USUAL_FASTEST:
        return ""
    return f"a typical op would run at {_text(median)} a thread, which is not usual: if the latencies are in {_likely(rates, unit)} and not in {unit}, say so by --unit"


def _rates(file: TableFile, space: SearchSpace) -> dict[str, float]:
    """Op key -> MACs a second and thread, of ops that have MACs."""
    ops = {op.key(): op.macs() for op in all_ops(space)}
    return {
        key: ops[key] / (entry.median_ms / 1e3) / file.threads
        for key, entry in file.ops.items()
        if ops.get(key)
    }


def _likely(rates: dict[str, float], unit: Unit) -> Unit:
    """The unit in which half of the ops would be nearest to a usual speed."""
    median = statistics.median(rates.values())
    return min(MS, key=lambda other: abs(math.log(median * MS[unit] / MS[other] / _TYPICAL)))


def _text(rate: float) -> str:
    """MACs a second as `3.8 GMAC/s`."""
    power = min(5, max(0, int(math.log10(rate) // 3))) if rate >= 1 else 0
    return f"{rate / 1000**power:.3g} {('', 'k', 'M', 'G', 'T', 'P')[power]}MAC/s"
