"""From a journal of samples to the numbers of a latency table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from nasvit_edge.latency.composition import Composition
from nasvit_edge.latency.context import PLAIN, Parts, fit_context
from nasvit_edge.latency.samples import pack
from nasvit_edge.latency.table import LatencyTable
from nasvit_edge.profile import canary
from nasvit_edge.profile.protocol import Protocol
from nasvit_edge.space import SubnetConfig

_SHARE = 0.9  # of a core that a measurement should have had
_FITTED = 3  # subnets that a composition is fitted on, at least
_CLOCK = 0.9  # of the clock before that should be left after


def summaries(entries: Sequence[dict[str, Any]], protocol: Protocol) -> dict[str, dict[str, Any]]:
    """Item id -> its entry of the table, from the measurements made while the canaries were steady."""
    factors = canary.factors(entries)
    grouped: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        if not entry["id"].startswith(canary.PREFIX):
            grouped.setdefault(entry["id"], []).append(entry)
    found = {}
    for name, measured in grouped.items():
        steady = [e for e in measured if not canary.drifted(e, factors, protocol.drift)]
        flags = set() if steady else {"drift"}
        found[name] = _summary(steady or measured, flags, protocol)
    return found


def _summary(entries: list[dict[str, Any]], flags: set[str], protocol: Protocol) -> dict[str, Any]:
    """Median of the visits' medians; p90 and MAD over all samples; in ms."""
    visits = [np.array(entry["samples_us"], np.float64) / 1e3 for entry in entries]
    samples = np.concatenate(visits)
    median = float(np.median([np.median(visit) for visit in visits]))
    flags |= {flag for entry in entries for flag in flags_of(entry)}
    if _width(samples) > 2 * protocol.precision:
        flags.add("unsteady")
    return (
        {
            "median_ms": digits(median),
            "p90_ms": digits(max(median, float(np.quantile(samples, 0.9)))),
            "mad_ms": digits(float(np.median(np.abs(samples - median)))),
            "runs": int(sum(len(e["samples_us"]) * e.get("inner", 1) for e in entries)),
            "visits": len(entries),
            "graph": entries[-1].get("graph", ""),
            "flags": sorted(flags),
            "samples": [pack(entry["samples_us"]) for entry in entries],
        }
        | _states(entries)
        | _energy(entries)
    )


def flags_of(entry: Mapping[str, Any]) -> Iterable[str]:
    """What a measurement says against itself: see `transport.job.FLAGS`."""
    if entry.get("cpu_share", 1.0) < _SHARE:
        yield "preempted"
    yield from entry.get("flags") or ()
    before = max((entry.get("before") or {}).get("clocks_mhz") or [0])
    after = max((entry.get("after") or {}).get("clocks_mhz") or [before])
    if after < _CLOCK * before:
        yield "throttled"


def _states(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Clocks and temperature before the first and after the last visit, where the device told them."""
    told = (entries[0].get("before"), entries[-1].get("after"))
    return {"state": list(told)} if all(told) else {}


def _energy(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Millijoule an inference, where the device reads its power."""
    told = [float(entry["energy_mj"]) for entry in entries if "energy_mj" in entry]
    return {"energy_mj": digits(float(np.median(told)))} if told else {}


def _width(samples: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """The relative width of the median's 95 % interval, by order statistics."""
    ordered, count = np.sort(samples), len(samples)
    reach = 0.98 * count**0.5
    low, high = int(max(0, count / 2 - reach)), int(min(count - 1, np.ceil(count / 2 + reach)))
    return float((ordered[high] - ordered[low]) / ordered[count // 2])


def canary_report(entries: Sequence[dict[str, Any]], protocol: Protocol) -> dict[str, Any]:
    """What the canaries said: readings, the largest deviation, and how many measurements were set aside."""
    factors = canary.factors(entries)
    apart = [e for e in entries if not e["id"].startswith(canary.PREFIX)]
    return {
        "models": sorted({e["id"] for e in entries if e["id"].startswith(canary.PREFIX)}),
        "threshold": protocol.drift,
        "readings": [round(factor, 4) for factor in factors.values()],
        "largest": round(max((abs(f - 1) for f in factors.values()), default=0.0), 4),
        "set_aside": sum(canary.drifted(e, factors, protocol.drift) for e in apart),
        "measured": len(apart),
    }


def composed(table: LatencyTable, subnets: Sequence[tuple[SubnetConfig, float]]) -> dict[str, Any]:
    """`context` and `composition` of a table from whole subnets and their latencies in ms.

    A space of one or two subnets has nothing to fit: one factor for all, and an interval as of a fit without a subnet to spare.
    """
    parts: list[Parts] = [table.parts(config) for config, _ in subnets]
    measured = [ms for _, ms in subnets]
    if len(subnets) < _FITTED:
        factor = np.median([ms / PLAIN.sum_ms(part) for part, ms in zip(parts, measured, strict=True)])
        return {"context": asdict(PLAIN), "composition": asdict(Composition(float(factor), 0.0, 0.0, 1.0))}
    context, composition = fit_context(parts, measured)
    return {"context": asdict(context), "composition": asdict(composition)}


def digits(ms: float) -> float:
    """Five digits: more is noise, and makes tables large."""
    return float(f"{ms:.5g}")
