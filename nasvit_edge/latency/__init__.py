"""Latency tables, and predictions from them."""

from nasvit_edge.latency.composition import Composition, Prediction, fit_composition
from nasvit_edge.latency.context import Context
from nasvit_edge.latency.table import (
    PRECISIONS,
    RUNTIMES,
    SCHEMA,
    LatencyTable,
    check_choice,
    load_table,
    table_name,
    table_path,
)

__all__ = [
    "PRECISIONS",
    "RUNTIMES",
    "SCHEMA",
    "Composition",
    "Context",
    "LatencyTable",
    "Prediction",
    "check_choice",
    "fit_composition",
    "load_table",
    "table_name",
    "table_path",
]
