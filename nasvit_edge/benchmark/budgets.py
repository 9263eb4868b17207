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
from typing import Any

from nasvit_edge import files
from nasvit_edge.benchmark.metrics import METRICS
from nasvit_edge.benchmark.statistics import Estimate
from nasvit_edge.benchmark.verdicts import Cell
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.units import latency_ms, share, size_bytes

SCHEMA = 1
FILTERS = ("device", "artifact", "format", "runtime", "precision")
LEVELS = ("error", "warn")
_READ: dict[str, Callable[[str], float]] = {
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

    def meets(self, cell: Cell) -> bool:
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
    value: Estimate | None
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

    def to_dict(self) -> dict[str, Any]:
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
    table = files.read_toml(path, "budgets")
    entries = table.get("budget")
    if set(table) != {"schema", "budget"} or table["schema"] != SCHEMA or not isinstance(entries, list):
        raise NasvitEdgeError(
            f"budgets {str(path)!r}: a file of budgets has schema = {SCHEMA} and tables [[budget]], and nothing else"
        )
    return [budget for number, entry in enumerate(entries, 1) for budget in _budgets(entry, number, path)]


def _budgets(entry: Any, number: int, path: Path) -> list[Budget]:
    where = f"budgets {str(path)!r}, budget {number}"
    if not isinstance(entry, dict):
        raise NasvitEdgeError(f"{where} is no table")
    for key in entry:
        if key not in FILTERS and key not in _READ:
            raise NasvitEdgeError(f"{where}: unknown key {key!r}; there are {', '.join((*FILTERS, *_READ))}")
    filters = tuple((key, entry[key]) for key in FILTERS if key in entry)
    for key, pattern in filters:
        if not isinstance(pattern, str):
            raise NasvitEdgeError(f"{where}: {key} is {pattern!r}; a name is expected, * and ? are possible")
    made = [_budget(metric, entry[metric], filters, where) for metric in _READ if metric in entry]
    if not made:
        raise NasvitEdgeError(f"{where} has no limit; there are {', '.join(_READ)}")
    return made


def _budget(metric: str, value: Any, filters: tuple[tuple[str, str], ...], where: str) -> Budget:
    level = "error"
    if isinstance(value, dict):
        unknown = set(value) - {"max", "level"}
        if unknown or "max" not in value:
            raise NasvitEdgeError(f"{where}: {metric} is {value!r}; possible is {{ max = ..., level = ... }}")
        level, value = value.get("level", "error"), value["max"]
    if level not in LEVELS:
        raise NasvitEdgeError(f"{where}: {metric} has level {level!r}; there are {', '.join(LEVELS)}")
    return Budget(metric, _limit(metric, value, where), level, filters)


def _limit(metric: str, value: Any, where: str) -> float:
    if metric == "fallback_ops":
        if type(value) is not int or value < 0:
            raise NasvitEdgeError(f"{where}: fallback_ops is {value!r}; a count is expected")
        return float(value)
    if not isinstance(value, str):
        example = dict.fromkeys(DROPS, '"1%"') | {"size": '"12MB"', "memory": '"64MB"'}
        told = example.get(metric, '"20ms"')
        raise NasvitEdgeError(f"{where}: {metric} is {value!r}; a text with a unit is expected, as {told}")
    try:
        return _READ[metric](value)
    except NasvitEdgeError as error:
        raise NasvitEdgeError(f"{where}: {metric}: {error}") from None


def check_budgets(budgets: Sequence[Budget], cells: Sequence[Cell]) -> list[Outcome]:
    """Each budget on each artifact that it is about; a budget that is about none is an error of its own.

    Raises:
        NasvitEdgeError: a budget whose filters match no artifact: it would never be judged.
    """
    artifacts = {(cell.device, cell.artifact.name, cell.artifact.runtime): cell for cell in cells}
    found = []
    for budget in budgets:
        about = [cell for cell in artifacts.values() if _about(budget, cell)]
        if not about:
            told = ", ".join(f"{key} = {pattern!r}" for key, pattern in budget.filters)
            raise NasvitEdgeError(
                f"the budget on {budget.metric} ({told}) is about no artifact of these results"
            )
        for one in about:
            key = (one.device, one.artifact.name, one.artifact.runtime)
            own = [
                c for c in cells if (c.device, c.artifact.name, c.artifact.runtime) == key and budget.meets(c)
            ]
            found.append(_outcome(budget, one, own[0] if own else None))
    return found


def _about(budget: Budget, cell: Cell) -> bool:
    return budget.meets(replace(cell, metric=METRICS[budget.measured]))


def _outcome(budget: Budget, about: Cell, cell: Cell | None) -> Outcome:
    made = partial(Outcome, budget, about.device, about.artifact.name, runtime=about.artifact.runtime)
    if cell is None:
        return made(None, "unknown", f"{budget.metric} was not measured")
    value = _value(budget, cell)
    if cell.verdict == "invalid":
        return made(value, "unknown", cell.reason)
    if value is None:
        return made(None, "unknown", "there is no baseline in this run, or no images")
    if value.high <= budget.limit:
        return made(value, "within")
    if value.low > budget.limit:
        return made(value, "exceeded")
    return made(value, "too close", "the interval reaches beyond the limit; more rounds would tell")


def _value(budget: Budget, cell: Cell) -> Estimate | None:
    """What is limited: of an accuracy how far it is below the baseline."""
    if budget.metric not in DROPS:
        return cell.value
    change = cell.change
    return None if change is None else Estimate(0 - change.value, 0 - change.high, 0 - change.low)
