"""What latency tables are called, and the words in their names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from nasvit_edge.errors import NasvitEdgeError

Precision = Literal["fp32", "fp16", "int8", "dynamic", "w8"]
MIXED = "mixed"  # a precision a stage: of exports and results, not of tables
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def table_name(device: str, runtime: str, threads: int, precision: str, space: str) -> str:
    """The file name of a table: `host-onnxruntime-1t-fp32-nano.json`."""
    return f"{device}-{runtime}-{threads}t-{precision}-{space}.json"


def check_choice(what: str, value: str, choices: Iterable[str]) -> None:
    """Refuse a value that is not among `choices`."""
    if value not in choices:
        raise NasvitEdgeError(f"unknown {what} {value!r}; there are {', '.join(choices)}")
