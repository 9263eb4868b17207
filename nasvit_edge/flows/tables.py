"""What the `tables` and `predict` commands do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nasvit_edge import files
from nasvit_edge.choosing.subnet import read_subnet
from nasvit_edge.choosing.table import answering, speed_today, trusted, validity
from nasvit_edge.device import load_device
from nasvit_edge.errors import NasvitEdgeError, TableError
from nasvit_edge.hints import command
from nasvit_edge.latency import LatencyTable, load_table, nn_meter, table_name, unit_check
from nasvit_edge.latency.file import Validation
from nasvit_edge.latency.selection import found_tables
from nasvit_edge.latency.setting import TableSetting, setting_of
from nasvit_edge.latency.speed import TodaysSpeed
from nasvit_edge.latency.table import refuse_overwriting
from nasvit_edge.listening import Listener
from nasvit_edge.ops import lower
from nasvit_edge.profile import schedule
from nasvit_edge.profile import validate as validation
from nasvit_edge.profile.models import Models
from nasvit_edge.profile.refit import refitted
from nasvit_edge.profile.trust import concerns
from nasvit_edge.records import Record, content, write
from nasvit_edge.requests.predict import Request
from nasvit_edge.requests.tables import Import, Validate
from nasvit_edge.space import SubnetConfig, load_space

IMPORTERS = ("nn-meter",)


class TableRow(Record, frozen=True, kw_only=True):
    """A table; `ops` counts what was measured, `mape` is the mean error of its validation."""

    path: str
    device: str
    runtime: str
    threads: int
    precision: str
    space: str
    provenance: str | None
    machine: str | None
    date: str | None
    ops: int
    mape: float | None


class UnreadableTable(Record, frozen=True, kw_only=True):
    """A table that cannot be read, and why."""

    path: str
    error: str


def listed() -> list[TableRow | UnreadableTable]:
    """Every table that is found, the own ones first."""
    return [_row(path) for path in found_tables()]


def _row(path: Path) -> TableRow | UnreadableTable:
    try:
        file = load_table(path).file
    except NasvitEdgeError as error:
        return UnreadableTable(path=str(path), error=str(error))
    keys = ("device", "runtime", "threads", "precision", "space", "provenance", "date")
    machine = setting_of(file).machine
    mape = None if file.validation is None else file.validation.mape
    facts = {key: getattr(file, key) for key in keys}
    return TableRow(path=str(path), machine=machine, ops=len(file.ops), mape=mape, **facts)


def found(name: str, space: str | None) -> LatencyTable:
    """A table by path, by the stem of its file, or by device (`host:litert`) and space."""
    stems = {path.stem: path for path in reversed(found_tables())}  # the own ones win
    if name in stems:
        return load_table(stems[name], space=space)
    return load_table(name, space=space)


def shown(table: LatencyTable) -> dict[str, Any]:
    """What a table says of itself, and what speaks against it here."""
    fields = {k: v for k, v in content(table.file).items() if k not in ("ops", "estimates", "subnets")}
    if table.file.validation is not None:
        del fields["validation"]["subnets"]
    flags = Counter(flag for entry in table.file.ops.values() for flag in entry.flags)
    ends = [table.space.smallest(), table.space.largest()]
    return fields | {
        "path": str(table.path),
        "measured": len(table.ops_ms),
        "estimated": len(table.estimates),
        "flags": dict(flags),
        "concerns": [c.text for c in concerns(table, ends)],
        "validity": validity(table),
    }


class ImportedTable(Record, frozen=True, kw_only=True):
    """What was imported; `missing`: keys of ops by their kind; `doubt`: why its unit may be another, or empty."""

    path: str
    device: str
    space: str
    entries: int
    missing: dict[str, tuple[str, ...]]
    approximated: tuple[str, ...]
    doubt: str


def import_table(request: Import) -> ImportedTable:
    """Convert a published table into `out/DEVICE-...json`.

    Raises:
        TableError: it is none, or its ops would run at a speed that nothing has and no unit was given.
    """
    space, kind, device = load_space(request.space), request.kind, request.device
    if kind not in IMPORTERS:
        raise TableError(f"unknown kind of table {kind!r}; there is {', '.join(IMPORTERS)}")
    if not files.is_name(device) or device == "host":
        raise TableError(f"device {device!r} cannot name an imported table; give a short name like pixel-1")
    unit = request.unit or "ms"
    table, missing = nn_meter.imported(nn_meter.read(request.file, unit), space, device)
    if request.unit is None:
        unit_check.refuse_impossible(table, space, unit, _with_unit(request))
    doubt = unit_check.doubt(table, space, unit) if request.unit is None else ""
    path = files.writable_folder(request.out) / table_name(device, "litert", 1, "fp32", space.name)
    refuse_overwriting(path, space)
    write(path, table)
    assert table.imported is not None
    return ImportedTable(
        path=str(path),
        device=device,
        space=space.name,
        entries=table.imported.entries,
        missing={name: tuple(keys) for name, keys in missing.items()},
        approximated=table.imported.approximated,
        doubt=doubt,
    )


def _with_unit(request: Import) -> str:
    """The command that imports the table in the unit that is to follow."""
    out = None if request.out == Path("latency_tables") else request.out
    again = command(
        "tables", "import", request.kind, request.file, device=request.device, space=request.space, out=out
    )
    return f"{again} --unit"


def searching(path: Path, space: str) -> str:
    """The command that searches an imported table for what lies between the latencies of its ends."""
    table = load_table(path, space=space).interpolated()
    ends = [table.predict(config).ms for config in (table.space.smallest(), table.space.largest())]
    latency = f"{sum(ends) / 2:.3g}ms"
    return command("search", device=table.file.device, space=space, latency=latency, interpolate=True)


def validate(request: Validate, listener: Listener) -> Validation:
    """Measure whole subnets, compare them with a table's predictions, and store that in the table."""
    table = found(request.table, request.space)
    device = None if request.device is None else load_device(request.device)
    models = Models(table.space, table.file.runtime, Path(), precision=table.file.precision)
    listener.plan(schedule.validation(models, request.subnets))
    result = validation.validate(table, request.subnets, request.seed, listener=listener, device=device)
    validation.store(table, result)
    return result


class Refitted(Record, frozen=True, kw_only=True):
    """A table before and after: the error of its composition, and that of its validation; None without one."""

    table: str
    errors: tuple[float | None, ...]
    mapes: tuple[float | None, ...]


def refit(tables: Sequence[LatencyTable]) -> list[Refitted]:
    """Fit the composition of tables anew on their own subnets; nothing is written unless all can be fitted."""
    after = [refitted(table) for table in tables]
    for table in after:
        write(table.path, table.file)
    return [_change(*pair) for pair in zip(tables, after, strict=True)]


def _change(before: LatencyTable, after: LatencyTable) -> Refitted:
    pair = (before.file, after.file)
    return Refitted(
        table=after.path.name,
        errors=tuple(None if file.composition is None else file.composition.error for file in pair),
        mapes=tuple(None if file.validation is None else file.validation.mape for file in pair),
    )


class PredictedOp(Record, frozen=True, kw_only=True):
    """An op with its time by the table; None where there is none."""

    name: str
    key: str
    ms: float | None
    measured: bool


class Predicted(Record, frozen=True, kw_only=True):
    """The latency of a subnet with its interval.

    Attributes:
        coverage: the share that was measured. filled: what was left out.
        today: how fast the table's machine is now, where it is this one; `today_ms`: the latency at that speed, where it differs.
    """

    ms: float
    low_ms: float | None
    high_ms: float | None
    coverage: float
    table: str
    device: str
    runtime: str
    threads: int
    precision: str
    setting: TableSetting
    today: TodaysSpeed | None
    today_ms: float | None
    filled: dict[str, str | int]
    config: SubnetConfig
    ops: tuple[PredictedOp, ...]


def predict(request: Request, listener: Listener) -> Predicted:
    """The latency of a subnet with its interval, and where the numbers come from."""
    space, config, filled = read_subnet(request.subnet, request.space)
    answer = answering(replace(request.table, device=request.device), space, listener)
    table = trusted(answer.table, listener, [config], by_file=request.table.table is not None)
    prediction, speed = table.predict(config), speed_today(table, request.table, listener)
    return Predicted(
        ms=prediction.ms,
        low_ms=prediction.low_ms,
        high_ms=prediction.high_ms,
        coverage=prediction.coverage,
        table=table.path.name,
        **{key: getattr(table.file, key) for key in ("device", "runtime", "threads", "precision")},
        setting=table.setting,
        today=speed,
        today_ms=prediction.ms * speed.factor if speed is not None and speed.differs else None,
        filled=filled | dict(answer.filled),
        config=config,
        ops=tuple(
            PredictedOp(
                name=op.name, key=op.key(), ms=table.op_ms(op.key()), measured=op.key() in table.ops_ms
            )
            for op in lower(space, config)
        ),
    )
