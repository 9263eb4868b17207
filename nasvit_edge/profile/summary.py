"""From a journal of samples to the numbers of a latency table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nasvit_edge.latency.composition import Composition
from nasvit_edge.latency.context import PLAIN, Context, Parts, fit_context
from nasvit_edge.latency.file import Canaries, OpEntry, State
from nasvit_edge.latency.samples import pack
from nasvit_edge.latency.table import LatencyTable
from nasvit_edge.profile import canary
from nasvit_edge.profile.journal import Entry
from nasvit_edge.profile.protocol import Protocol
from nasvit_edge.space import SubnetConfig
from nasvit_edge.transport.answers import Measurement

_SHARE = 0.9  # of a core that a measurement should have had
_WAITED = 0.1  # of the time that no thread of it should have waited for a core
_FITTED = 3  # subnets that a composition is fitted on, at least
_CLOCK = 0.9  # of the clock before that should be left after


def summaries(entries: Sequence[Entry], protocol: Protocol) -> dict[str, OpEntry]:
    """Item id -> its entry of the table, from the measurements made while the canaries were steady."""
    factors = canary.factors(entries)
    grouped: dict[str, list[Entry]] = {}
    for entry in entries:
        if not entry.id.startswith(canary.PREFIX):
            grouped.setdefault(entry.id, []).append(entry)
    by_name = {}
    for name, measured in grouped.items():
        steady = [e for e in measured if not canary.drifted(e, factors, protocol.drift)]
        flags = set() if steady else {"drift"}
        by_name[name] = _summary(steady or measured, flags, protocol)
    return by_name


def _summary(entries: list[Entry], flags: set[str], protocol: Protocol) -> OpEntry:
    """Median of the visits' medians; p90 and MAD over all samples; in ms."""
    visits = [np.array(entry.samples_us, np.float64) / 1e3 for entry in entries]
    samples = np.concatenate(visits)
    median = float(np.median([np.median(visit) for visit in visits]))
    flags |= {flag for entry in entries for flag in flags_of(entry)}
    if _width(samples) > 2 * protocol.precision:
        flags.add("unsteady")
    energy = [entry.energy_mj for entry in entries if entry.energy_mj is not None]
    return OpEntry(
        median_ms=digits(median),
        p90_ms=digits(max(median, float(np.quantile(samples, 0.9)))),
        mad_ms=digits(float(np.median(np.abs(samples - median)))),
        runs=sum(len(e.samples_us) * (e.inner or 1) for e in entries),
        visits=len(entries),
        graph=entries[-1].graph,
        flags=tuple(sorted(flags)),
        samples=tuple(pack(entry.samples_us) for entry in entries),
        state=both(entries[0].before, entries[-1].after),
        energy_mj=digits(float(np.median(energy))) if energy else None,
    )


def both(before: State | None, after: State | None) -> tuple[State, State] | None:
    """The states around a measurement, where the device told both."""
    silent = State()
    return None if before in (None, silent) or after in (None, silent) else (before, after)


def flags_of(entry: Measurement) -> Iterable[str]:
    """What a measurement says against itself: see `transport.answers.FLAGS`."""
    if (entry.cpu_share or 1.0) < _SHARE or (entry.waited_share or 0.0) > _WAITED:
        yield "preempted"
    yield from entry.flags
    if any(after < _CLOCK * before for before, after in _clocks(entry.before, entry.after)):
        yield "throttled"


def _clocks(before: State | None, after: State | None) -> list[tuple[float, float]]:
    """The clocks before and after of each core that the measurement ran on; where these are not told, the highest ones."""
    if before is None or after is None or not before.clocks_mhz or not after.clocks_mhz:
        return []
    alike = before.cores is not None and before.cores == after.cores
    if alike and len(before.clocks_mhz) == len(after.clocks_mhz):
        return list(zip(before.clocks_mhz, after.clocks_mhz, strict=True))
    return [(max(before.clocks_mhz), max(after.clocks_mhz))]


def _width(samples: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """The relative width of the median's 95 % interval, by order statistics."""
    ordered, count = np.sort(samples), len(samples)
    reach = 0.98 * count**0.5
    low, high = int(max(0, count / 2 - reach)), int(min(count - 1, np.ceil(count / 2 + reach)))
    return float((ordered[high] - ordered[low]) / ordered[count // 2])


def canary_report(entries: Sequence[Entry], protocol: Protocol) -> Canaries:
    """What the canaries said: readings, the largest deviation, and how many measurements were set aside."""
    factors = canary.factors(entries)
    apart = [e for e in entries if not e.id.startswith(canary.PREFIX)]
    return Canaries(
        models=tuple(sorted({e.id for e in entries if e.id.startswith(canary.PREFIX)})),
        threshold=protocol.drift,
        readings=tuple(round(factor, 4) for factor in factors.values()),
        largest=round(max((abs(f - 1) for f in factors.values()), default=0.0), 4),
        set_aside=sum(canary.drifted(e, factors, protocol.drift) for e in apart),
        measured=len(apart),
    )


def composed(
    table: LatencyTable, subnets: Sequence[tuple[SubnetConfig, float]]
) -> tuple[Context, Composition]:
    """Context and composition of a table from whole subnets and their latencies in ms.

    A space of one or two subnets has nothing to fit: one factor for all, and an interval as of a fit without a subnet to spare.
    A network that is taken as it is, is its only op: the interval is as wide as its runs spread.
    """
    parts: list[Parts] = [table.parts(config) for config, _ in subnets]
    measured = [ms for _, ms in subnets]
    if len(subnets) < _FITTED:
        factor = np.median([ms / PLAIN.sum_ms(part) for part, ms in zip(parts, measured, strict=True)])
        return PLAIN, Composition(float(factor), 0.0, 0.0, _spread(table, abs(float(factor) - 1)))
    return fit_context(parts, measured)


def _spread(table: LatencyTable, apart: float) -> float:
    """How far a space of one's latency may be off: as its p90 is from its median, or its two measurements from each other."""
    if table.space.network is None:
        return 1.0
    (entry,) = table.file.ops.values()
    return max((entry.p90_ms or entry.median_ms) / entry.median_ms - 1, apart)


def digits(ms: float) -> float:
    """Five digits: more is noise, and makes tables large."""
    return float(f"{ms:.5g}")
