"""Two tables beside each other: does one factor explain the difference, and do they rank alike?"""

from __future__ import annotations

import math

import numpy as np
from msgspec.structs import asdict

from nasvit_edge.errors import TableError
from nasvit_edge.latency.file import TableFile
from nasvit_edge.latency.table import LatencyTable
from nasvit_edge.ops import kind_of
from nasvit_edge.records import Record

_NEAR = 0.05  # ops this close to the common factor count as explained by it
_EXPLAINED = (
    0.9  # share of such ops from which one factor is the explanation, if each kind's median is near too
)


class Ratios(Record, frozen=True, kw_only=True):
    """Ratios of `ops`: the median, 10 and 90 %, and Kendall's tau."""

    ops: int
    ratio: float
    low: float
    high: float
    tau: float | None


class TableComparison(Ratios, frozen=True, kw_only=True):
    """Ratios of all ops, and what else tells two tables apart.

    Attributes:
        kinds: ratios by kind of op.
        difference: the median of |ratio - 1|.
        explained: the share of ops within 5 % of the median ratio.
        one_factor: whether that explains the difference.
        differs: how they were measured, a line each.
    """

    kinds: dict[str, Ratios]
    difference: float
    explained: float
    one_factor: bool
    only_first: int
    only_second: int
    differs: tuple[str, ...]


def compare(first: LatencyTable, second: LatencyTable) -> TableComparison:
    """Ratios `second / first` of the ops that both tables measured.

    Raises:
        TableError: they have no op in common.
    """
    common = sorted(set(first.ops_ms) & set(second.ops_ms))
    if not common:
        raise TableError(f"tables {first.path.name!r} and {second.path.name!r} have no op in common")
    kinds: dict[str, list[str]] = {}
    for key in common:
        kinds.setdefault(kind_of(key), []).append(key)
    logs = np.array([math.log(second.ops_ms[key] / first.ops_ms[key]) for key in common])
    explained = float((np.abs(logs - np.median(logs)) <= math.log1p(_NEAR)).mean())
    all_of, by_kind = _ratios(first, second, common), {k: _ratios(first, second, v) for k, v in kinds.items()}
    alike = all(abs(math.log(part.ratio / all_of.ratio)) <= math.log1p(_NEAR) for part in by_kind.values())
    return TableComparison(
        **asdict(all_of),
        kinds=by_kind,
        difference=round(float(np.median(np.abs(np.expm1(logs)))), 4),
        explained=round(explained, 4),
        one_factor=explained >= _EXPLAINED and alike,
        only_first=len(first.ops_ms) - len(common),
        only_second=len(second.ops_ms) - len(common),
        differs=tuple(_provenance(first.file, second.file)),
    )


def _ratios(first: LatencyTable, second: LatencyTable, keys: list[str]) -> Ratios:
    from scipy.stats import kendalltau

    a, b = ([table.ops_ms[key] for key in keys] for table in (first, second))
    low, middle, high = np.quantile(np.array(b) / np.array(a), [0.1, 0.5, 0.9])
    tau = float(kendalltau(a, b)[0]) if len(keys) > 1 else 1.0
    return Ratios(
        ops=len(keys),
        ratio=round(float(middle), 4),
        low=round(float(low), 4),
        high=round(float(high), 4),
        tau=None if math.isnan(tau) else round(tau, 4),
    )


def _provenance(first: TableFile, second: TableFile) -> list[str]:
    """What was different when they were measured, a line each."""
    flat = [_flat(file) for file in (first, second)]
    return [
        f"{key}: {flat[0].get(key)!r} and {flat[1].get(key)!r}"
        for key in sorted(set(flat[0]) | set(flat[1]))
        if flat[0].get(key) != flat[1].get(key)
    ]


def _flat(file: TableFile) -> dict[str, object]:
    keys = (
        "device",
        "runtime",
        "runtime_version",
        "threads",
        "precision",
        "space",
        "date",
        "tool_version",
        "code",
    )
    protocol = file.protocol.get("name") if isinstance(file.protocol, dict) else file.protocol
    return {key: getattr(file, key) for key in keys} | {"protocol": protocol} | (file.fingerprint or {})
