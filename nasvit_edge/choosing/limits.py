"""Limits as a user types them: `--latency 20ms`, `--latency host:litert:int8=5ms`, `--max-size 20MB`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from nasvit_edge import units
from nasvit_edge.errors import NasvitEdgeError, TableError
from nasvit_edge.latency import LatencyTable
from nasvit_edge.latency.composition import COVERAGE
from nasvit_edge.profile.sustained import steady_factor
from nasvit_edge.requests.search import Request
from nasvit_edge.searching.limits import Kind, Limit, Quantity


def check(wanted: Request) -> None:
    """NasvitEdgeError for text that is no value, or where nothing is limited."""
    times = _times(wanted)
    for text in times:
        units.latency_ms(_split(text)[1])
    list(_sizes(wanted))
    if wanted.confidence is not None and units.share(wanted.confidence) != COVERAGE:
        raise NasvitEdgeError(
            f"confidence {wanted.confidence!r}: tables keep the {COVERAGE:.0%} interval of their predictions; give --confidence {COVERAGE:.0%}"
        )
    if wanted.steady and not times:
        raise NasvitEdgeError("--steady is for latencies; give --latency as well")
    if wanted.confidence is not None and not times:
        raise NasvitEdgeError("--confidence is for latencies; give --latency as well")
    if not (times or any(_sizes(wanted)) or wanted.min_accuracy):
        raise NasvitEdgeError(
            "nothing is limited; give a budget: --latency 20ms (or --max-size, --min-accuracy, ...)"
        )


def _times(wanted: Request) -> list[str]:
    return [*(wanted.latency or ()), *(wanted.latency_p90 or ())]


def devices(wanted: Request) -> list[str | None]:
    """The devices (or full names of tables) that latencies are limited on, in order; None is the usual one.

    Raises:
        NasvitEdgeError: --device and --table beside budgets that name others.
    """
    named = [_split(text)[0] or wanted.device for text in _times(wanted)]
    names = list(dict.fromkeys(named)) or [wanted.device]
    if wanted.table.table is not None and len(names) > 1:
        raise NasvitEdgeError("--table is for one device; name each device in --latency DEVICE=20ms instead")
    if wanted.device is not None and wanted.device not in names:
        raise NasvitEdgeError(
            f"--device {wanted.device} is of no budget, as each names a device of its own; leave it out, or give --latency 20ms for it"
        )
    return names


def limits(wanted: Request, tables: Sequence[LatencyTable]) -> tuple[Limit, ...]:
    """The limits, for the tables of `devices(wanted)`."""
    bounds: list[Limit] = []
    names = devices(wanted)
    for option, texts in (("--latency", wanted.latency), ("--latency-p90", wanted.latency_p90)):
        for text in texts or ():
            device, bound = _split(text)
            at = names.index(device or wanted.device)
            name = f"{option} {device}" if device else option
            tail = tail_factor(tables[at]) if option == "--latency-p90" else 1.0
            tail *= steady_factor(tables[at]) if wanted.steady else 1.0
            bounds.append(
                _latency(tables[at], at, units.latency_ms(bound), name, tail, wanted.confidence is not None)
            )
    bounds += _sizes(wanted)
    if wanted.min_accuracy is not None:
        bounds.append(Limit.of("accuracy", units.share(wanted.min_accuracy), "--min-accuracy"))
    return tuple(bounds)


def tail_factor(table: LatencyTable) -> float:
    """What the 90 % quantile of a run is of its median: the median over the whole subnets measured for the table.

    Raises:
        TableError: the table holds no whole subnets with a p90.
    """
    ratios = [entry.p90_ms / entry.median_ms for entry in table.file.subnets if entry.p90_ms is not None]
    if len(ratios) < 3:
        raise TableError(
            f"table {table.path.name!r} does not say how runs spread, so --latency-p90 cannot be predicted; use --latency"
        )
    return max(1.0, statistics.median(ratios))


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


def _sizes(wanted: Request) -> list[Limit]:
    sizes: tuple[tuple[str | None, Kind, str, Callable[[str, str], float]], ...] = (
        (wanted.max_size, "bytes", "--max-size", units.size_bytes),
        (wanted.max_params, "parameters", "--max-params", units.count),
        (wanted.max_macs, "macs", "--max-macs", units.count),
        (wanted.max_memory, "peak", "--max-memory", units.size_bytes),
    )
    bounds = []
    for text, kind, option, parse in sizes:
        if text is not None:
            bounds.append(Limit.of(kind, parse(text, option), option))
    if wanted.min_accuracy is not None:
        units.share(wanted.min_accuracy)
    return bounds


def _split(text: str) -> tuple[str | None, str]:
    """`host:litert=5ms` -> device and budget; the device is None where none is named."""
    device, sign, bound = text.rpartition("=")
    if sign and not device:
        raise NasvitEdgeError(f"latency {text!r} names no device before '='; for example: host:litert=5ms")
    return device or None, bound


def choices(texts: Sequence[str], option: str) -> dict[str, list[float]]:
    """`["mb4.depth=3,4"]` -> {"mb4.depth": [3, 4]}."""
    by_gene: dict[str, list[float]] = {}
    for text in texts:
        name, _, listed = text.partition("=")
        try:
            by_gene.setdefault(name.strip(), []).extend(map(_choice, listed.split(",")))
        except ValueError:
            raise NasvitEdgeError(
                f"{option} {text!r} is not a gene and its choices; for example: mb4.depth=3,4"
            ) from None
    return by_gene


def _choice(text: str) -> float:
    """A whole number, or a fraction, as an expansion may be."""
    return float(text) if "." in text else int(text)
