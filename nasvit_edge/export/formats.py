"""A format is a module of this package and a folder in `export/` with its `format.toml`."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from nasvit_edge import files
from nasvit_edge.errors import ExportError

_KEYS: dict[str, type] = {
    "schema": int,
    "name": str,
    "suffix": str,
    "runtime": str,
    "layout": str,
    "precisions": list,
    "tolerance": dict,
}


@dataclass(frozen=True, slots=True)
class Format:
    """What `format.toml` says; `tolerance` maps a precision to the largest relative error."""

    name: str
    suffix: str
    runtime: str
    layout: str
    precisions: tuple[str, ...]
    tolerance: dict[str, float]

    def module(self) -> ModuleType:
        """The code: `convert`, `write_metadata`, `read_metadata`, `runner`."""
        return importlib.import_module(f"nasvit_edge.export.{self.name}")


def format_names() -> list[str]:
    """The formats that can be written."""
    return sorted(path.parent.name for path in files.shipped("export").glob("*/format.toml"))


def load_format(name: str) -> Format:
    """A format by name; ExportError lists what there is."""
    if name not in format_names():
        raise ExportError(f"unknown format {name!r}; there are {', '.join(format_names())}")
    path = files.shipped("export") / name / "format.toml"
    table = files.read_table(path, "format", _KEYS)
    return _format(table)


def format_of(suffix: str) -> Format:
    """The format of an artifact by its file name's ending."""
    for name in format_names():
        if load_format(name).suffix == suffix:
            return load_format(name)
    endings = ", ".join(load_format(name).suffix for name in format_names())
    raise ExportError(f"no format writes files ending in {suffix!r}; there are {endings}")


def _format(table: dict[str, Any]) -> Format:
    return Format(
        name=table["name"],
        suffix=table["suffix"],
        runtime=table["runtime"],
        layout=table["layout"],
        precisions=tuple(table["precisions"]),
        tolerance={str(k): float(v) for k, v in table["tolerance"].items()},
    )
