"""What the `tables` and `predict` commands do."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nasvit_edge import files
from nasvit_edge.errors import NasvitEdgeError, TableError
from nasvit_edge.flows.answering import Asked, answering, trusted, validity
from nasvit_edge.hints import command
from nasvit_edge.latency import LatencyTable, load_table, nn_meter, table_name
from nasvit_edge.latency.selection import found_tables
from nasvit_edge.latency.table import refuse_overwriting
from nasvit_edge.ops import lower
from nasvit_edge.profile.refit import refitted
from nasvit_edge.profile.trust import concerns
from nasvit_edge.records import Record, content, write
from nasvit_edge.searching.result import read_result
from nasvit_edge.space import SearchSpace, SubnetConfig, load_space

IMPORTERS = ("nn-meter",)
Note = Callable[[str], None]


class Listed(Record, frozen=True, kw_only=True):
    """A table; `ops` counts what was measured, `mape` is the mean error of its validation."""

    path: str
    device: str
    runtime: str
    threads: int
    precision: str
    space: str
    provenance: str | None
    date: str | None
    ops: int
    mape: float | None


class Unreadable(Record, frozen=True, kw_only=True):
    """A table that cannot be read, and why."""

    path: str
    error: str


def listed() -> list[Listed | Unreadable]:
    """Every table that is found, the own ones first."""
    return [_row(path) for path in found_tables()]


def _row(path: Path) -> Listed | Unreadable:
    try:
        file = load_table(path).file
    except NasvitEdgeError as error:
        return Unreadable(path=str(path), error=str(error))
    keys = ("device", "runtime", "threads", "precision", "space", "provenance", "date")
    mape = None if file.validation is None else file.validation.mape
    return Listed(path=str(path), ops=len(file.ops), mape=mape, **{key: getattr(file, key) for key in keys})


def found(name: str, space: str | None) -> LatencyTable:
    """A table by path, by the stem of its file, or by device (`host:litert`) and space."""
    stems = {path.stem: path for path in reversed(found_tables())}  # the own ones win
    if name in stems:
        return load_table(stems[name], space=space)
    return load_table(name, space=space)


def shown(table: LatencyTable) -> dict[str, Any]:
    """What a table says of itself, and what speaks against it here."""
    told = {k: v for k, v in content(table.file).items() if k not in ("ops", "estimates", "subnets")}
    if table.file.validation is not None:
        del told["validation"]["subnets"]
    flags = Counter(flag for entry in table.file.ops.values() for flag in entry.flags)
    ends = [table.space.smallest(), table.space.largest()]
    return told | {
        "path": str(table.path),
        "measured": len(table.ops_ms),
        "estimated": len(table.estimates),
        "flags": dict(flags),
        "concerns": [c.text for c in concerns(table, ends)],
        "validity": validity(table),
    }


def import_table(kind: str, file: Path, device: str, space: SearchSpace, out: Path) -> dict[str, Any]:
    """Convert a published table into `out/DEVICE-...json`; returns the report, with its path."""
    if kind not in IMPORTERS:
        raise TableError(f"unknown kind of table {kind!r}; there is {', '.join(IMPORTERS)}")
    if not files.is_name(device) or device == "host":
        raise TableError(f"device {device!r} cannot name an imported table; give a short name like pixel-1")
    made, report = nn_meter.imported(nn_meter.read(file), space, device)
    path = files.writable_folder(out) / table_name(device, "litert", 1, "fp32", space.name)
    refuse_overwriting(path, space)
    write(path, made)
    return report | {"path": str(path), "device": device, "space": space.name}


def searching(path: Path, space: str) -> str:
    """The command that searches an imported table for what lies between the latencies of its ends."""
    table = load_table(path, space=space).interpolated()
    ends = [table.predict(config).ms for config in (table.space.smallest(), table.space.largest())]
    latency = f"{sum(ends) / 2:.3g}ms"
    return command("search", device=table.file.device, space=space, latency=latency, interpolate=True)


def refit(tables: Sequence[LatencyTable]) -> list[dict[str, Any]]:
    """Fit the composition of tables anew on their own subnets; nothing is written unless all can be fitted."""
    made = [refitted(table) for table in tables]
    for table in made:
        write(table.path, table.file)
    return [_change(*pair) for pair in zip(tables, made, strict=True)]


def _change(before: LatencyTable, after: LatencyTable) -> dict[str, Any]:
    pair = (before.file, after.file)
    return {
        "table": after.path.name,
        "errors": [None if file.composition is None else file.composition.error for file in pair],
        "mapes": [None if file.validation is None else file.validation.mape for file in pair],
    }


def subnet_of(text: Path, space: str | None) -> tuple[SearchSpace, SubnetConfig]:
    """A subnet from a result file, or from the JSON of a config with its space.

    Raises:
        NasvitEdgeError: a result file of another space than the one that was given.
    """
    raw = files.read_json(text, "subnet")
    if raw.get("kind") == "search result":
        saved = read_result(text)
        if space is not None and load_space(space) != saved.space:
            raise NasvitEdgeError(
                f"{str(text)!r} holds its own space, {saved.space.name!r}, which is not --space {space}: leave that out"
            )
        return saved.space, saved.config
    loaded = load_space(space or "nasvit")
    return loaded, loaded.config_from(raw)


def holds_space(subnet: Path) -> bool:
    """Whether a file says which space its subnet is of, as results do."""
    return files.read_json(subnet, "subnet").get("kind") == "search result"


def predict(subnet: Path, asked: Asked, space: str | None, note: Note) -> dict[str, Any]:
    """The latency of a subnet with its interval, and where the numbers come from."""
    loaded, config = subnet_of(subnet, space)
    answer = answering(asked, loaded, note)
    table = trusted(answer.table, note, [config], by_file=asked.table is not None)
    made = table.predict(config)
    return {
        "ms": made.ms,
        "low_ms": made.low_ms,
        "high_ms": made.high_ms,
        "coverage": made.coverage,
        "table": table.path.name,
        **{key: getattr(table.file, key) for key in ("device", "runtime", "threads", "precision")},
        "filled": dict(answer.filled) | ({} if space or holds_space(subnet) else {"space": loaded.name}),
        "config": json.loads(json.dumps(config.to_dict())),
        "ops": [
            {
                "name": op.name,
                "key": op.key(),
                "ms": table.op_ms(op.key()),
                "measured": op.key() in table.ops_ms,
            }
            for op in lower(loaded, config)
        ],
    }
