"""A table's composition fitted anew on the whole subnets it already holds: nothing is measured.

For tables that an earlier version wrote: when the model that composes ops changes, their measurements stay.
"""

from __future__ import annotations

from typing import Any

from nasvit_edge.errors import NasvitEdgeError, TableError
from nasvit_edge.latency import LatencyTable
from nasvit_edge.latency.table import parsed
from nasvit_edge.profile.summary import composed
from nasvit_edge.profile.validate import report, row
from nasvit_edge.space import SubnetConfig


def refitted(table: LatencyTable) -> LatencyTable:
    """The table with `context` and `composition` of today's code, and a stored validation's predictions by them.

    Raises:
        TableError: the table holds no whole subnets, or damaged ones.
    """
    pairs = [(config, _ms(table, entry)) for entry, config in _entries(table, table.raw.get("subnets"))]
    if not pairs:
        raise TableError(
            f"table {table.path.name!r} holds no whole subnets to fit on; "
            f"measure it again: {table.profiling(again=True)}"
        )
    try:
        content = table.raw | composed(table, pairs)
    except NasvitEdgeError as error:
        raise TableError(f"table {table.path.name!r} cannot be fitted: {error}") from None
    made = parsed(table.path, content, table.space)
    validation = table.raw.get("validation")
    if isinstance(validation, dict):
        content["validation"] = validation | _validation(made, validation)
    return parsed(table.path, content, table.space)


def _validation(table: LatencyTable, validation: dict[str, Any]) -> dict[str, Any]:
    """The report of the same measurements against what `table` predicts."""
    rows = [
        row(config, table.predict(config), _passes(table, entry))
        for entry, config in _entries(table, validation.get("subnets"))
    ]
    return report(rows) | {"subnets": rows} if rows else {}


def _entries(table: LatencyTable, found: Any) -> list[tuple[dict[str, Any], SubnetConfig]]:
    entries = found if isinstance(found, list) else []
    if not all(isinstance(entry, dict) and isinstance(entry.get("config"), dict) for entry in entries):
        raise _damaged(table)
    return [(entry, table.space.config_from(entry["config"])) for entry in entries]


def _ms(table: LatencyTable, entry: dict[str, Any]) -> float:
    return _number(table, entry.get("median_ms"))


def _passes(table: LatencyTable, entry: dict[str, Any]) -> list[float]:
    passes = entry.get("measured_ms")
    if not isinstance(passes, list) or len(passes) < 2:
        raise _damaged(table)
    return [_number(table, value) for value in passes]


def _number(table: LatencyTable, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise _damaged(table)
    return float(value)


def _damaged(table: LatencyTable) -> TableError:
    return TableError(f"table {table.path.name!r} is damaged: its whole subnets have no config or latency")
