"""Latency tables, and predictions from them."""

from nasvit_edge.latency.composition import Composition, Prediction, fit_composition
from nasvit_edge.latency.context import Context
from nasvit_edge.latency.file import SCHEMA
from nasvit_edge.latency.names import PRECISIONS, check_choice, table_name
from nasvit_edge.latency.table import LatencyTable, load_table

__all__ = [
    "PRECISIONS",
    "SCHEMA",
    "Composition",
    "Context",
    "LatencyTable",
    "Prediction",
    "check_choice",
    "fit_composition",
    "load_table",
    "table_name",
]
