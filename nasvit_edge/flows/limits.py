"""Limits as a user types them: `--latency 20ms`, `--latency host:litert:int8=5ms`, `--max-size 20MB`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nasvit_edge import units
from nasvit_edge.errors import NasvitEdgeError, TableError
from nasvit_edge.latency import LatencyTable
from nasvit_edge.latency.composition import COVERAGE
from nasvit_edge.profile.sustained import steady_factor
from nasvit_edge.searching.limits import Kind, Limit, Quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The options of `search` that limit something, as text."""

    latency: Sequence[str] = ()
    latency_p90: Sequence[str] = ()
    max_size: str | None = None
    max_params: str | None = None
    max_macs: str | None = None
    max_memory: str | None = None
    min_accuracy: str | None = None
    confidence: str | None = None
    steady: bool = False

    def check(self) -> None:
        """NasvitEdgeError for text that is no value, or where nothing is limited."""
        for text in (*self.latency, *self.latency_p90):
            units.latency_ms(_split(text)[1])
        list(_sizes(self))
        if self.confidence is not None and units.share(self.confidence) != COVERAGE:
            raise NasvitEdgeError(
                f"confidence {self.confidence!r}: tables keep the {COVERAGE:.0%} interval of their predictions; give --confidence {COVERAGE:.0%}"
            )
        if self.steady and not (self.latency or self.latency_p90):
            raise NasvitEdgeError("--steady is for latencies; give --latency as well")
        if self.confidence is not None and not (self.latency or self.latency_p90):
            raise NasvitEdgeError("--confidence is for latencies; give --latency as well")
        if not (self.latency or self.latency_p90 or any(_sizes(self)) or self.min_accuracy):
            raise NasvitEdgeError(
                "nothing is limited; give a budget: --latency 20ms (or --max-size, --min-accuracy, ...)"
            )

    def devices(self, default: str | None) -> list[str | None]:
        """The devices (or full names of tables) that latencies are limited on, in order; `default` for those without a name."""
        named = [_split(text)[0] or default for text in (*self.latency, *self.latency_p90)]
        return list(dict.fromkeys(named)) or [default]


def limits(
    wanted: Wanted, tables: Sequence[LatencyTable], devices: Sequence[str | None], default: str | None
) -> tuple[Limit, ...]:
    """The limits, for the tables of `wanted.devices(default)`."""
    found: list[Limit] = []
    for option, texts in (("--latency", wanted.latency), ("--latency-p90", wanted.latency_p90)):
        for text in texts:
            device, bound = _split(text)
            at = devices.index(device or default)
            name = f"{option} {device}" if device else option
            tail = tail_factor(tables[at]) if option == "--latency-p90" else 1.0
            tail *= steady_factor(tables[at]) if wanted.steady else 1.0
            found.append(
                _latency(tables[at], at, units.latency_ms(bound), name, tail, wanted.confidence is not None)
            )
    found += _sizes(wanted)
    if wanted.min_accuracy is not None:
        found.append(Limit.of("accuracy", units.share(wanted.min_accuracy), "--min-accuracy"))
    return tuple(found)


def tail_factor(table: LatencyTable) -> float:
    """What the 90 % quantile of a run is of its median: the median over the whole subnets measured for the table.

    Raises:
        TableError: the table holds no whole subnets with a p90.
    """
    found = [entry.p90_ms / entry.median_ms for entry in table.file.subnets if entry.p90_ms is not None]
    if len(found) < 3:
        raise TableError(
            f"table {table.path.name!r} does not say how runs spread, so --latency-p90 cannot be predicted; use --latency"
        )
    return max(1.0, statistics.median(found))


def _latency(table: LatencyTable, at: int, bound: float, name: str, tail: float, sure: bool) -> Limit:
    if not sure:
        return Limit.latency(bound, at, name=name, factor=tail)
    if table.composition is None:
        raise TableError(
            f"table {table.path.name!r} knows no interval, so --confidence cannot be kept; use it without, or measure the device"
        )
    if table.estimates:
        return Limit(Quantity("high", at), bound, name, tail)
    return Limit.latency(bound, at, name=name, factor=tail * (1 + table.composition.error))


def _sizes(wanted: Wanted) -> list[Limit]:
    sizes: tuple[tuple[str | None, Kind, str, Callable[[str, str], float]], ...] = (
        (wanted.max_size, "bytes", "--max-size", units.size_bytes),
        (wanted.max_params, "parameters", "--max-params", units.count),
        (wanted.max_macs, "macs", "--max-macs", units.count),
        (wanted.max_memory, "peak", "--max-memory", units.size_bytes),
    )
    found = []
    for text, kind, option, read in sizes:
        if text is not None:
            found.append(Limit.of(kind, read(text, option), option))
    if wanted.min_accuracy is not None:
        units.share(wanted.min_accuracy)
    return found


def _split(text: str) -> tuple[str | None, str]:
    """`host:litert=5ms` -> device and budget; the device is None where none is named."""
    device, sign, bound = text.rpartition("=")
    if sign and not device:
        raise NasvitEdgeError(f"latency {text!r} names no device before '='; for example: host:litert=5ms")
    return device or None, bound


def choices(texts: Sequence[str], option: str) -> dict[str, list[int]]:
    """`["mb4.depth=3,4"]` -> {"mb4.depth": [3, 4]}."""
    found: dict[str, list[int]] = {}
    for text in texts:
        name, _, listed = text.partition("=")
        try:
            found.setdefault(name.strip(), []).extend(int(value) for value in listed.split(","))
        except ValueError:
            raise NasvitEdgeError(
                f"{option} {text!r} is not a gene and its choices; for example: mb4.depth=3,4"
            ) from None
    return found
