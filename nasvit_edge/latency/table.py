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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nasvit_edge import files
from nasvit_edge.errors import NasvitEdgeError, TableError
from nasvit_edge.hints import command
from nasvit_edge.latency.composition import Composition, Prediction
from nasvit_edge.latency.context import PLAIN, SPLIT, Context, Parts
from nasvit_edge.latency.estimate import Estimate, estimate, features
from nasvit_edge.latency.names import PRECISIONS
from nasvit_edge.latency.selection import KEYS, Selected, Wanted, heading, table_for
from nasvit_edge.ops import all_ops, lower, op_keys, ops_digest
from nasvit_edge.space import SearchSpace, SubnetConfig, families, known_space, load_space, space_names

SCHEMA = 2
WIDER = 2.0  # the 90 % error of an estimate is about twice its mean error


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """The ops of one space on one device, runtime, thread count and precision.

    Attributes:
        ops_ms: op key -> measured (or imported) median latency in ms.
        estimates: op key -> estimate, for ops without a measurement.
        call_ms: what calling an empty model takes; part of every op's latency, once in a subnet's.
        context: what ops cost inside a network.
        composition: None where no whole subnets were measured; then the ops are simply added.
        raw: the file, provenance included.
    """

    path: Path
    space: SearchSpace
    ops_ms: Mapping[str, float]
    call_ms: float
    composition: Composition | None
    raw: dict[str, Any]
    context: Context = PLAIN
    estimates: Mapping[str, Estimate] = field(default_factory=dict)

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
        what = "" if self.raw.get("provenance") == "imported" else f"measure it: {self.profiling()}, or "
        raise TableError(
            f"table {self.path.name!r} has no entry for op {key!r}; {what}estimate it with --interpolate"
        )

    def profiling(self, **more: Any) -> str:
        """The command that measures this table again; `more` are further options."""
        told = {key: self.raw.get(key) for key in KEYS}
        device = self.raw.get("target") or self.raw["device"]
        name = self.raw["device"] if device != self.raw["device"] else None
        return command("profile", device=device, **told, space=self.space.given, name=name, **more)

    def interpolated(self) -> LatencyTable:
        """This table with estimates for every op of the space that has no entry.

        Raises:
            TableError: a kind of op with fewer than four entries; names it.
        """
        missing = [op for op in all_ops(self.space) if op.key() not in self.ops_ms]
        measured = {
            features(op): self.ops_ms[op.key()] for op in all_ops(self.space) if op.key() in self.ops_ms
        }
        made = estimate(measured, [features(op) for op in missing])
        found = {op.key(): e for op, e in zip(missing, made, strict=True) if e is not None}
        lost = next((op for op in missing if op.key() not in found and op.key() not in self.estimates), None)
        if lost is not None:
            raise TableError(
                f"table {self.path.name!r} has too few entries of the kind of op {lost.key()!r} to estimate it"
            )
        return replace(self, estimates={**found, **self.estimates})

    def _parts(self, config: SubnetConfig) -> tuple[Parts, float, float]:
        """Parts, the share of time that was measured, and the mean error of the whole by estimates."""
        times: dict[str, float] = {}
        estimated = wrong = weights = 0.0
        blocks = 0
        ops = lower(self.space, config)
        for op in ops:
            key = op.key()
            ms = self.op_ms(key)
            kind = key.split("/", 1)[0]
            times[kind] = times.get(kind, 0.0) + ms
            weights += op.weights()
            blocks += kind == SPLIT
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
    given = {"runtime": runtime, "threads": threads, "precision": precision}
    if is_file_name(device):
        table = _read(Path(device), None if space is None else load_space(space))
        refuse_other(table, Wanted.of(None, **given))
    else:
        wanted, of = Wanted.of(str(device), **given), load_space(space or "nasvit")
        table = selected_table(table_for(wanted, of, HOST if wanted.device == "host" else None), of)
    return table.interpolated() if interpolate else table


def is_file_name(text: str | Path) -> bool:
    """Whether a table is named by its file, not by its device."""
    return str(text).endswith(".json") or re.search(r"[/\\]", str(text)) is not None


def selected_table(found: Selected, space: SearchSpace) -> LatencyTable:
    """The table of a selected file; TableError also where it is not what its name says."""
    table = _read(found.path, space)
    told = heading(found.path)
    other = next((key for key in ("device", *KEYS) if told and table.raw[key] != told[key]), None)
    if other is not None:
        raise TableError(
            f"latency table {str(found.path)!r} is called as one of {other} {told[other]}, but holds measurements of "
            f"{other} {table.raw[other]}; give it the name of what it holds, or name it: --table {found.path}"
        )
    return table


def refuse_other(table: LatencyTable, wanted: Wanted) -> None:
    """TableError where a table that was named by its file is not what else was asked for."""
    for key, value in {"device": wanted.device, **wanted.given()}.items():
        if value is not None and table.raw[key] != value:
            raise TableError(
                f"table {table.path.name!r} is of {key} {table.raw[key]}, and --{key} {value} contradicts it: leave out one of the two"
            )


def _again(path: Path, space: SearchSpace | None) -> str:
    """The command that measures the table of a file's name again."""
    told = heading(path)
    known = told.get("space") in space_names()
    own = space.given if space is not None else told.get("space") if known else "SPACE.toml"
    return command("profile", **told | {"space": own})


def _read(path: Path, space: SearchSpace | None) -> LatencyTable:
    raw = files.read_json(path, "latency table")
    if raw.get("schema") != SCHEMA:
        raise TableError(
            f"latency table {str(path)!r} has schema {raw.get('schema')!r}; this version reads schema {SCHEMA}: measure it again: {_again(path, space)}"
        )
    try:
        return parsed(path, raw, space)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise TableError(
            f"latency table {str(path)!r} is damaged ({type(error).__name__}: {error}); measure it again: {_again(path, space)}"
        ) from None


def parsed(path: Path, raw: dict[str, Any], space: SearchSpace | None) -> LatencyTable:
    """A table from the content of its file."""
    for key in ("device", "runtime", "precision", "space"):  # they stand in names of files and in commands
        _name(raw[key], key)
    _name(raw.get("target", "host"), "target")
    if raw["precision"] not in PRECISIONS:
        raise ValueError(f"'precision' is {raw['precision']!r}")
    if type(raw["threads"]) is not int or raw["threads"] < 1:
        raise ValueError(f"'threads' is {raw['threads']!r}")
    space = space or known_space(raw["space"])
    if raw["space"] not in families(space.name):
        raise TableError(f"latency table {str(path)!r} is of space {raw['space']!r}, not {space.name!r}")
    if not raw["ops"]:
        raise ValueError("no ops")
    if raw["space"] == space.name:
        refuse_namesake(path, raw, space)
    ops_ms = {key: _positive(entry["median_ms"], key) for key, entry in raw["ops"].items()}
    call_ms = files.number(raw["call_ms"], "call_ms")
    guesses = {
        key: Estimate(_positive(e["median_ms"], key), files.number(e["error"], "error"))
        for key, e in raw.get("estimates", {}).items()
    }
    return LatencyTable(
        path,
        space,
        ops_ms,
        call_ms,
        _composition(raw.get("composition")),
        raw,
        _context(raw.get("context")),
        guesses,
    )


def refuse_namesake(path: Path, raw: dict[str, Any], space: SearchSpace) -> None:
    """TableError where a table is of other ops than this space's, though both spaces are called alike.

    A table without a digest, of an earlier version, is known by ops that the space does not have.
    """
    wanted, told = ops_digest(space), raw.get("ops_digest")
    if told is None and op_keys(space) >= set(raw["ops"]):
        return
    if told != wanted:
        raise TableError(
            f"latency table {str(path)!r} is of another space that is called {space.name!r}, too ({told or 'older'}, and this one has {wanted}); "
            "give one of the two a name of its own (name = ... in its TOML), or name another folder or table"
        )


def refuse_overwriting(path: Path, space: SearchSpace) -> None:
    """TableError where the file that would be written is the table of another space of that name; a damaged one is none."""
    try:
        raw = files.read_json(path, "latency table") if path.exists() else {}
        sound = isinstance(raw.get("ops"), dict) and raw.get("schema") == SCHEMA
    except NasvitEdgeError:
        sound = False
    if sound:
        refuse_namesake(path, raw, space)


def _composition(values: dict[str, Any] | None) -> Composition | None:
    if values is None:
        return None
    return Composition(*(files.number(values[key], key) for key in Composition.__slots__))


def _context(values: dict[str, Any] | None) -> Context:
    if values is None:
        return PLAIN
    factors = {str(kind): files.number(factor, kind) for kind, factor in values["factors"].items()}
    return Context(
        factors,
        files.number(values["fits"], "fits"),
        files.number(values["spill_ms"], "spill_ms"),
        files.number(values.get("block_ms", 0.0), "block_ms"),
    )


def _name(value: Any, what: str) -> None:
    if not files.is_name(value):
        raise ValueError(f"{what!r} is {str(value)[:64]!r}, which is no name")


def _positive(value: Any, what: str) -> float:
    if files.number(value, what) <= 0:
        raise ValueError(f"{what!r} is {value!r}")
    return float(value)
