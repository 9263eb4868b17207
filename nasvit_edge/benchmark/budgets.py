"""Budgets: absolute limits as TOML, judged by the pessimistic end of the interval.

schema = 1
[[budget]]
device = "jetson*"              # filters, all optional: device, artifact, format, runtime, precision
latency_p50 = "20ms"            # a breach is an error
latency_p90 = { max = "25ms", level = "warn" }
size = "12MB"
memory = "64MB"
top1_drop = "1%"                # points below the baseline of the same run; of segmenters mean_iou_drop
fallback_ops = 0
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from nasvit_edge import records
from nasvit_edge.benchmark.metrics import METRICS
from nasvit_edge.benchmark.statistics import Interval
from nasvit_edge.benchmark.verdicts import JudgedMetric
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.records import Strict
from nasvit_edge.units import latency_ms, share, size_bytes

FILTERS = ("device", "artifact", "format", "runtime", "precision")
_READ: dict[str, Callable[[Any], float]] = {
    "latency_p50": latency_ms,
    "latency_p90": latency_ms,
    "size": size_bytes,
    "memory": size_bytes,
    "top1_drop": share,
    "mean_iou_drop": share,
    "fallback_ops": float,
}
DROPS = {
    "top1_drop": "top1",
    "mean_iou_drop": "mean_iou",
}  # limits on how far an accuracy is below the baseline's
_Level = Literal["error", "warn"]
_Pattern = Annotated[str, Meta(description="a name is expected, * and ? are possible")]
_Latency = Annotated[
    str, Meta(description='a text with a unit is expected, as "20ms", or { max = ..., level = ... }')
]
_Size = Annotated[
    str, Meta(description='a text with a unit is expected, as "12MB", or { max = ..., level = ... }')
]
_Drop = Annotated[
    str, Meta(description='a text with a unit is expected, as "1%", or { max = ..., level = ... }')
]
_Ops = Annotated[int, Meta(ge=0, le=2**53, description="a count is expected, or { max = ..., level = ... }")]


class Cap(Strict, frozen=True, kw_only=True):
    """A limit with what a breach is."""

    max: Annotated[str, Meta(description='a text with a unit is expected, as "20ms", "12MB", "1%"')]
    level: _Level = "error"


class CountCap(Strict, frozen=True, kw_only=True):
    """The same of a count."""

    max: _Ops
    level: _Level = "error"


class BudgetEntry(Strict, frozen=True, kw_only=True):
    """A table [[budget]]: filters and limits, all optional; `{ max = ..., level = "warn" }` is shown, but never a failure.

    Attributes:
        device, artifact, format, runtime, precision: which artifacts it is about; `*` and `?` are possible, none of them: all.
        latency_p50, latency_p90: with a unit: `us`, `ms`, `s`.
        size, memory: `kB`, `MB`, `GB`, or `KiB`, `MiB`, `GiB`.
        top1_drop: points below the baseline of the same run; needs `--data` and `--baseline`.
        mean_iou_drop: the same of a segmenter, on scenes.
        fallback_ops: ops that the runtime's delegate or parser would not take.
    """

    device: _Pattern | None = None
    artifact: _Pattern | None = None
    format: _Pattern | None = None
    runtime: _Pattern | None = None
    precision: _Pattern | None = None
    latency_p50: _Latency | Cap | None = None
    latency_p90: _Latency | Cap | None = None
    size: _Size | Cap | None = None
    memory: _Size | Cap | None = None
    top1_drop: _Drop | Cap | None = None
    mean_iou_drop: _Drop | Cap | None = None
    fallback_ops: _Ops | CountCap | None = None


class BudgetFile(Strict, frozen=True, kw_only=True):
    """A file of budgets."""

    schema: Literal[1]
    budget: tuple[BudgetEntry, ...]


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on one metric of the artifacts that `filters` (key -> pattern with * and ?) match."""

    metric: str
    limit: float
    level: str
    filters: tuple[tuple[str, str], ...]

    @property
    def measured(self) -> str:
        """The metric that is judged."""
        return DROPS.get(self.metric, self.metric)

    def meets(self, cell: JudgedMetric) -> bool:
        """Whether it is about this artifact, device and metric."""
        values = {
            "device": cell.device,
            "artifact": cell.artifact.name,
            "format": cell.artifact.format,
            "runtime": cell.artifact.runtime,
            "precision": cell.artifact.precision,
        }
        return self.measured == cell.metric.name and all(
            fnmatch.fnmatchcase(values[key], pattern) for key, pattern in self.filters
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """A budget on one cell.

    Attributes:
        status: `within`; `exceeded`; `too close`: the interval reaches beyond the limit; `unknown`: it was not measured.
    """

    budget: Budget
    device: str
    artifact: str
    value: Interval | None
    status: str
    reason: str = ""
    runtime: str = ""

    @property
    def fails(self) -> bool:
        """Whether this ends in exit code 1."""
        return self.budget.level == "error" and self.status in ("exceeded", "too close")

    @property
    def unjudged(self) -> bool:
        """Whether this ends in exit code 3."""
        return self.budget.level == "error" and self.status == "unknown"

    def to_dict(self) -> dict[str, object]:
        """As JSON."""
        value = self.value
        return {
            "device": self.device,
            "artifact": self.artifact,
            "runtime": self.runtime,
            "metric": self.budget.metric,
            "limit": self.budget.limit,
            "level": self.budget.level,
            "value": None if value is None else [value.value, value.low, min(value.high, 1e300)],
            "status": self.status,
            "reason": self.reason,
        }


def read_budgets(path: Path) -> list[Budget]:
    """The budgets of a TOML file.

    Raises:
        NasvitEdgeError: an unknown key, a limit without a unit, a level that does not exist.
    """
    file = records.read(BudgetFile, path, "budgets")
    return [
        budget
        for number, entry in enumerate(file.budget, 1)
        for budget in _budgets(entry, f"budgets {str(path)!r}, budget {number}")
    ]


def _budgets(entry: BudgetEntry, where: str) -> list[Budget]:
    filters = tuple((key, pattern) for key in FILTERS if (pattern := getattr(entry, key)) is not None)
    caps = {metric: value for metric in _READ if (value := getattr(entry, metric)) is not None}
    if not caps:
        raise NasvitEdgeError(f"{where} has no limit; there are {', '.join(_READ)}")
    return [_budget(metric, value, filters, where) for metric, value in caps.items()]


def _budget(metric: str, cap: Any, filters: tuple[tuple[str, str], ...], where: str) -> Budget:
    value, level = (cap.max, cap.level) if isinstance(cap, Cap | CountCap) else (cap, "error")
    try:
        return Budget(metric, _READ[metric](value), level, filters)
    except NasvitEdgeError as error:
        raise NasvitEdgeError(f"{where}: {metric}: {error}") from None


def check_budgets(budgets: Sequence[Budget], cells: Sequence[JudgedMetric]) -> list[Outcome]:
    """Each budget on each artifact that it is about; a budget that is about none is an error of its own.

    Raises:
        NasvitEdgeError: a budget whose filters match no artifact: it would never be judged.
    """
    artifacts = {(cell.device, cell.artifact.name, cell.artifact.runtime): cell for cell in cells}
    outcomes = []
    for budget in budgets:
        about = [cell for cell in artifacts.values() if _about(budget, cell)]
        if not about:
            conditions = ", ".join(f"{key} = {pattern!r}" for key, pattern in budget.filters)
            raise NasvitEdgeError(
                f"the budget on {budget.metric} ({conditions}) is about no artifact of these results"
            )
        for one in about:
            key = (one.device, one.artifact.name, one.artifact.runtime)
            judged = [
                c for c in cells if (c.device, c.artifact.name, c.artifact.runtime) == key and budget.meets(c)
            ]
            outcomes.append(_outcome(budget, one, judged[0] if judged else None))
    return outcomes


def _about(budget: Budget, cell: JudgedMetric) -> bool:
    return budget.meets(replace(cell, metric=METRICS[budget.measured]))


def _outcome(budget: Budget, about: JudgedMetric, cell: JudgedMetric | None) -> Outcome:
    outcome = partial(Outcome, budget, about.device, about.artifact.name, runtime=about.artifact.runtime)
    if cell is None:
        return outcome(None, "unknown", f"{budget.metric} was not measured")
    value = _value(budget, cell)
    if cell.verdict == "invalid":
        return outcome(value, "unknown", cell.reason)
    if value is None:
        return outcome(None, "unknown", "there is no baseline in this run, or no images")
    if value.high <= budget.limit:
        return outcome(value, "within")
    if value.low > budget.limit:
        return outcome(value, "exceeded")
    return outcome(value, "too close", "the interval reaches beyond the limit; more rounds would tell")


def _value(budget: Budget, cell: JudgedMetric) -> Interval | None:
    """What is limited: of an accuracy how far it is below the baseline."""
    if budget.metric not in DROPS:
        return cell.value
    change = cell.change
    return None if change is None else Interval(0 - change.value, 0 - change.high, 0 - change.low)
