"""Latency tables: what each op took on a device, and what a whole subnet will take.

A subnet's latency is composed from its ops:

    op_ms  = max(0, median_ms - call_ms)                      call_ms: what calling an empty model takes
    sum_ms = what `Context` makes of the ops' times           context.py
    ms     = scale * sum_ms + per_op_ms * count + offset_ms   composition.py

all of it fitted on whole subnets measured beside the ops. An op without an entry is never zero: it is an
error, or an estimate that the prediction reports.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace as changed

from nasvit_edge.errors import NasvitEdgeError, TableError
from nasvit_edge.hints import SPACE, command
from nasvit_edge.latency.composition import Composition, Prediction
from nasvit_edge.latency.context import PLAIN, SPLIT, Context, Parts
from nasvit_edge.latency.estimate import Estimate, estimate, features
from nasvit_edge.latency.file import TableFile
from nasvit_edge.latency.selection import KEYS, Selected, Wanted, heading, table_for
from nasvit_edge.latency.setting import TableSetting, setting_of
from nasvit_edge.ops import all_ops, lower, op_keys, ops_digest
from nasvit_edge.records import RecordError, read
from nasvit_edge.space import SearchSpace, SubnetConfig, families, known_space, load_space, space_names

WIDER = 2.0  # the 90 % error of an estimate is about twice its mean error


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """The ops of one space on one device, runtime, thread count and precision.

    Attributes:
        file: what its file holds, provenance included.
        ops_ms: op key -> measured (or imported) median latency in ms.
        estimates: op key -> estimate, for ops without a measurement.
    """

    path: Path
    space: SearchSpace
    file: TableFile
    ops_ms: Mapping[str, float]
    estimates: Mapping[str, Estimate]

    @classmethod
    def of(cls, path: Path, space: SearchSpace, file: TableFile) -> LatencyTable:
        """The table that a file holds."""
        ops_ms = {key: entry.median_ms for key, entry in file.ops.items()}
        estimates = {key: Estimate(guess.median_ms, guess.error) for key, guess in file.estimates.items()}
        return cls(path, space, file, ops_ms, estimates)

    def holding(self, **changes: Any) -> LatencyTable:
        """This table with changes in its file."""
        return LatencyTable.of(self.path, self.space, changed(self.file, **changes))

    def slowed(self, factor: float) -> LatencyTable:
        """This table for a machine on which everything takes `factor` times as long; without a composition itself."""
        known = self.composition
        if known is None:
            return self
        scale, per_op, offset = (factor * ms for ms in (known.scale, known.per_op_ms, known.offset_ms))
        return self.holding(composition=replace(known, scale=scale, per_op_ms=per_op, offset_ms=offset))

    @property
    def setting(self) -> TableSetting:
        """What its predictions hold for."""
        return setting_of(self.file)

    @property
    def call_ms(self) -> float:
        """What calling an empty model takes; part of every op's latency, once in a subnet's."""
        return self.file.call_ms

    @property
    def context(self) -> Context:
        """What ops cost inside a network."""
        return self.file.context or PLAIN

    @property
    def composition(self) -> Composition | None:
        """None where no whole subnets were measured; then the ops are simply added."""
        return self.file.composition

    def predict(self, config: SubnetConfig) -> Prediction:
        """The latency of a subnet; TableError for an op without an entry or an estimate."""
        parts, coverage, error = self._parts(config)
        sum_ms = self.context.sum_ms(parts)
        if self.composition is None:
            return Prediction(float(rounded_ms(sum_ms + self.call_ms)), None, None, coverage)
        ms = float(rounded_ms(self.composition.predict(sum_ms, parts.count).ms))
        wider = (1 + self.composition.error) * (1 + WIDER * error)
        return Prediction(ms, ms / wider, ms * wider, round(coverage, 4))

    def parts(self, config: SubnetConfig) -> Parts:
        """Time by kind of op, number of ops and weights of a subnet."""
        return self._parts(config)[0]

    def op_ms(self, key: str) -> float:
        """An op's latency without its call."""
        if key in self.ops_ms:
            return max(0.0, self.ops_ms[key] - self.call_ms)
        if key in self.estimates:
            return max(0.0, self.estimates[key].ms - self.call_ms)
        what = "" if self.file.provenance == "imported" else f"measure it: {self.profiling()}, or "
        raise TableError(
            f"table {self.path.name!r} has no entry for op {key!r}; {what}estimate it with --interpolate"
        )

    def profiling(self, **more: Any) -> str:
        """The command that measures this table again; `more` are further options."""
        fields = {key: getattr(self.file, key) for key in KEYS}
        device = self.file.target or self.file.device
        name = self.file.device if device != self.file.device else None
        return command("profile", device=device, **fields, space=self.space.given, name=name, **more)

    def interpolated(self) -> LatencyTable:
        """This table with estimates for every op of the space that has no entry.

        Raises:
            TableError: a kind of op with fewer than four entries; names it.
        """
        missing = [op for op in all_ops(self.space) if op.key() not in self.ops_ms]
        measured = {
            features(op): self.ops_ms[op.key()] for op in all_ops(self.space) if op.key() in self.ops_ms
        }
        values = estimate(measured, [features(op) for op in missing])
        estimates = {op.key(): e for op, e in zip(missing, values, strict=True) if e is not None}
        lost = next(
            (op for op in missing if op.key() not in estimates and op.key() not in self.estimates), None
        )
        if lost is not None:
            raise TableError(
                f"table {self.path.name!r} has too few entries of the kind of op {lost.key()!r} to estimate it"
            )
        return replace(self, estimates={**estimates, **self.estimates})

    def _parts(self, config: SubnetConfig) -> tuple[Parts, float, float]:
        """Parts, the share of time that was measured, and the mean error of the whole by estimates."""
        times: dict[str, float] = {}
        estimated = wrong = weights = 0.0
        blocks = 0
        ops = lower(self.space, config)
        for op in ops:
            key = op.key()
            ms = self.op_ms(key)
            times[op.kind] = times.get(op.kind, 0.0) + ms
            weights += op.weights()
            blocks += op.kind == SPLIT
            if key not in self.ops_ms:
                estimated += ms
                wrong += ms * self.estimates[key].error
        total = sum(times.values()) or 1.0
        return Parts(times, len(ops), weights / 1e6, blocks), 1 - estimated / total, wrong / total


def rounded_ms(ms: Any) -> Any:
    """To a picosecond: the same sum added up in another order is the same prediction."""
    return np.round(ms, 9)


HOST = {
    "runtime": "onnxruntime",
    "threads": 1,
    "precision": "fp32",
}  # what `host` has unless a command says otherwise


def load_table(
    device: str | Path = "host",
    *,
    runtime: str | None = None,
    threads: int | None = None,
    precision: str | None = None,
    space: str | Path | SearchSpace | None = None,
    interpolate: bool = False,
) -> LatencyTable:
    """A latency table, by device (and runtime, threads, precision, space: by default `nasvit`) or by path.

    `device` may name runtime, threads and precision as well: `host:litert:2t:int8`. What is given is met or refused; what is
    left out is `HOST`'s for `host`, and of other devices that of the only table there is. With `interpolate`, ops without
    an entry are estimated from those that have one.

    For a path, `space` is needed only where the table is of a space that is not shipped (its TOML).

    Raises:
        TableError: there is none, or several; or the file is damaged, of another space, or not what was given.
    """
    options = {"runtime": runtime, "threads": threads, "precision": precision}
    if is_file_name(device):
        table = _read(Path(device), None if space is None else load_space(space))
        refuse_other(table, Wanted.of(None, **options))
    else:
        wanted, of = Wanted.of(str(device), **options), load_space(space or "nasvit")
        table = selected_table(table_for(wanted, of, HOST if wanted.device == "host" else None), of)
    return table.interpolated() if interpolate else table


def is_file_name(text: str | Path) -> bool:
    """Whether a table is named by its file, not by its device."""
    return str(text).endswith(".json") or re.search(r"[/\\]", str(text)) is not None


def selected_table(selected: Selected, space: SearchSpace) -> LatencyTable:
    """The table of a selected file; TableError also where it is not what its name says."""
    table = _read(selected.path, space)
    fields = heading(selected.path)
    other = next(
        (key for key in ("device", *KEYS) if fields and getattr(table.file, key) != fields[key]), None
    )
    if other is not None:
        raise TableError(
            f"latency table {str(selected.path)!r} is called as one of {other} {fields[other]}, but holds measurements of "
            f"{other} {getattr(table.file, other)}; give it the name of what it holds, or name it: --table {selected.path}"
        )
    return table


def refuse_other(table: LatencyTable, wanted: Wanted) -> None:
    """TableError where a table that was named by its file is not what else was asked for."""
    for key, value in {"device": wanted.device, **wanted.given()}.items():
        if value is not None and getattr(table.file, key) != value:
            raise TableError(
                f"table {table.path.name!r} is of {key} {getattr(table.file, key)}, and --{key} {value} contradicts it: leave out one of the two"
            )


def _again(path: Path, space: SearchSpace | None) -> str:
    """The command that measures the table of a file's name again."""
    fields = heading(path)
    known = fields.get("space") in space_names()
    space_name = space.given if space is not None else fields.get("space") if known else SPACE
    return command("profile", **fields | {"space": space_name})


def _read(path: Path, space: SearchSpace | None) -> LatencyTable:
    try:
        file = read(TableFile, path, "latency table")
    except RecordError as error:
        raise TableError(f"{error}; measure it again: {_again(path, space)}") from None
    return parsed(path, file, space)


def parsed(path: Path, file: TableFile, space: SearchSpace | None) -> LatencyTable:
    """The table that a file holds, of this space; by default of the shipped one of its space's name."""
    space = space or known_space(file.space)
    if file.space not in families(space.name):
        raise TableError(f"latency table {str(path)!r} is of space {file.space!r}, not {space.name!r}")
    if file.space == space.name:
        refuse_namesake(path, file, space)
    return LatencyTable.of(path, space, file)


def refuse_namesake(path: Path, file: TableFile, space: SearchSpace) -> None:
    """TableError where a table is of other ops than this space's, though both spaces are called alike.

    A table without a digest, of an earlier version, is known by ops that the space does not have.
    """
    wanted, digest = ops_digest(space), file.ops_digest
    if digest is None and op_keys(space) >= set(file.ops):
        return
    if digest != wanted:
        raise TableError(
            f"latency table {str(path)!r} is of another space that is called {space.name!r}, too ({digest or 'older'}, and this one has {wanted}); "
            "give one of the two a name of its own (name = ... in its TOML), or name another folder or table"
        )


def refuse_overwriting(path: Path, space: SearchSpace) -> None:
    """TableError where the file that would be written is the table of another space of that name; a damaged one is none."""
    try:
        file = read(TableFile, path, "latency table")
    except NasvitEdgeError:
        return
    refuse_namesake(path, file, space)
