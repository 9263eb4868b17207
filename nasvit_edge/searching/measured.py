"""Reading subnets with what was measured of them: the CSV of `evaluate --supernet W --out FILE`, or JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nasvit_edge import files
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.hints import DATA, WEIGHTS, command
from nasvit_edge.space import SearchSpace, SubnetConfig

_COLUMNS = ("config", "accuracy")
_FORM = "give the CSV that this makes: " + command(
    "evaluate", supernet=WEIGHTS, data=DATA, subnets="random:200", out="measured.csv"
)
_LONGEST = 1_000_000  # characters of a CSV cell


def read_measured(path: Path, space: SearchSpace) -> tuple[list[SubnetConfig], list[float]]:
    """Configs and fractions (top-1 or mean IoU): the rows of a CSV with the columns `config` (JSON) and `accuracy`,
    the report of `evaluate --json`, or a list of objects with these two keys.

    Raises:
        NasvitEdgeError: another file, or a row that is no subnet of the space or has no fraction; names the row.
    """
    content = files.read_bytes(path, "measured subnets")
    rows = _json(content, path) if path.suffix == ".json" else _csv(content, path)
    configs, accuracies = [], []
    for number, row in enumerate(rows, 1):
        where = f"measured subnets {str(path)!r}: row {number}"
        if not isinstance(row, dict) or not set(_COLUMNS) <= set(row):
            raise NasvitEdgeError(f"{where} has no 'config' and 'accuracy'; {_FORM}")
        configs.append(space.config_from(_value(row["config"], where), f"{where}: config"))
        accuracies.append(_fraction(row["accuracy"], where))
    return configs, accuracies


def _csv(content: bytes, path: Path) -> Iterator[dict[str, object]]:
    csv.field_size_limit(_LONGEST)
    try:
        yield from csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True)
    except (csv.Error, UnicodeDecodeError) as error:
        raise NasvitEdgeError(f"measured subnets {str(path)!r} is no CSV ({error}); {_FORM}") from None


def _json(content: bytes, path: Path) -> list[Any]:
    try:
        values = files.loads(content)
    except (ValueError, RecursionError) as error:
        raise NasvitEdgeError(f"measured subnets {str(path)!r} is not valid JSON: {error}") from None
    listed = values.get("subnets") if isinstance(values, dict) else values
    if not isinstance(listed, list):
        raise NasvitEdgeError(f"measured subnets {str(path)!r} holds no list of subnets; {_FORM}")
    return listed


def _value(config: Any, where: str) -> Any:
    """A config, of which a CSV holds the JSON."""
    if not isinstance(config, str):
        return config
    try:
        return files.loads(config.encode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise NasvitEdgeError(f"{where}: config {config[:60]!r} is not valid JSON: {error}") from None


def _fraction(value: Any, where: str) -> float:
    try:
        number = float(value) if isinstance(value, str) else files.number(value, "accuracy")
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 0 <= number <= 1:
        raise NasvitEdgeError(f"{where}: accuracy {str(value)[:60]!r} is no fraction from 0 to 1")
    return float(number)
