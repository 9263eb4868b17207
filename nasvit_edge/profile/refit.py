"""A table's composition fitted anew on the whole subnets it already holds: nothing is measured.

For tables that an earlier version wrote: when the model that composes ops changes, their measurements stay.
"""

from __future__ import annotations

from msgspec.structs import replace

from nasvit_edge.errors import NasvitEdgeError, TableError
from nasvit_edge.latency import LatencyTable
from nasvit_edge.latency.file import Validation
from nasvit_edge.profile.summary import composed
from nasvit_edge.profile.validate import report, row


def refitted(table: LatencyTable) -> LatencyTable:
    """The table with `context` and `composition` of today's code, and a stored validation's predictions by them.

    Raises:
        TableError: the table holds no whole subnets, or they cannot be fitted.
    """
    pairs = [(table.space.config_from(entry.config), entry.median_ms) for entry in table.file.subnets]
    if not pairs:
        raise TableError(
            f"table {table.path.name!r} holds no whole subnets to fit on; "
            f"measure it again: {table.profiling(again=True)}"
        )
    try:
        context, composition = composed(table, pairs)
    except NasvitEdgeError as error:
        raise TableError(f"table {table.path.name!r} cannot be fitted: {error}") from None
    updated, validation = table.holding(context=context, composition=composition), table.file.validation
    return updated if validation is None else updated.holding(validation=_validation(updated, validation))


def _validation(table: LatencyTable, validation: Validation) -> Validation:
    """The report of the same measurements against what `table` predicts."""
    pairs = [(table.space.config_from(entry.config), entry.measured_ms) for entry in validation.subnets]
    rows = [row(config, table.predict(config), passes) for config, passes in pairs]
    return replace(report(rows), date=validation.date, seed=validation.seed) if rows else validation
