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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nasvit_edge import files
from nasvit_edge.errors import NasvitEdgeError, TableError
from nasvit_edge.latency.composition import Composition, Prediction
from nasvit_edge.latency.context import PLAIN, SPLIT, Context, Parts
from nasvit_edge.latency.estimate import Estimate, estimate, features
from nasvit_edge.ops import all_ops, lower
from nasvit_edge.space import SearchSpace, SubnetConfig, family, known_space, load_space

SCHEMA = 2
RUNTIMES = {  # runtime (and what of the device it uses) -> the format of the files that it reads
    "litert": "tflite",
    "litert-gpu": "tflite",
    "onnxruntime": "onnx",
    "onnxruntime-web": "onnx",
    "onnxruntime-webgpu": "onnx",
    "tensorrt": "tensorrt",
    "coreml": "coreml",  # all compute units
    "coreml-ne": "coreml",  # CPU and Neural Engine
    "coreml-gpu": "coreml",  # CPU and GPU
    "coreml-cpu": "coreml",
}
PRECISIONS = ("fp32", "fp16", "int8", "w8")
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
        again = f"nasvit-edge profile --device {self.raw['device']} --runtime {self.raw['runtime']} --space {self.space.name}"
        what = "" if self.raw.get("provenance") == "imported" else f"measure it: {again}, or "
        raise TableError(
            f"table {self.path.name!r} has no entry for op {key!r}; {what}estimate it with --interpolate"
        )

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


def table_name(device: str, runtime: str, threads: int, precision: str, space: str) -> str:
    """The file name of a table: `host-onnxruntime-1t-fp32-nano.json`."""
    return f"{device}-{runtime}-{threads}t-{precision}-{space}.json"


def table_path(
    device: str,
    *,
    runtime: str = "onnxruntime",
    threads: int = 1,
    precision: str = "fp32",
    space: str = "nasvit",
) -> Path:
    """The file of a table: in `./latency_tables`, else among the shipped ones."""
    check_choice("runtime", runtime, RUNTIMES)
    check_choice("precision", precision, PRECISIONS)
    name = table_name(device, runtime, threads, precision, space)
    of_family = table_name(device, runtime, threads, precision, family(space))
    for path in (folder / file for file in (name, of_family) for folder in _folders()):
        if path.is_file():
            return path
    spaces = (space, family(space))
    others = [path for path in found_tables() if any(_is_of(path, device, name) for name in spaces)]
    if device != "host" and len(others) == 1:  # a device that has but one table is named by its name alone
        return others[0]
    there_are = f"; of {device!r} there are {', '.join(p.stem for p in others)}" if others else ""
    raise TableError(
        f"no latency table {name!r} in ./latency_tables{there_are}; measure it: nasvit-edge profile "
        f"--device {device} --runtime {runtime} --threads {threads} --space {space}"
    )


def _is_of(path: Path, device: str, space: str) -> bool:
    """Whether a table's file name is one of a device's for a space."""
    rest = path.stem.removeprefix(f"{device}-").removesuffix(f"-{space}")
    return re.fullmatch(rf"({'|'.join(RUNTIMES)})-\d+t-({'|'.join(PRECISIONS)})", rest) is not None


def check_choice(what: str, value: str, choices: Iterable[str]) -> None:
    """Refuse a value that is not among `choices`."""
    if value not in choices:
        raise NasvitEdgeError(f"unknown {what} {value!r}; there are {', '.join(choices)}")


def load_table(
    device: str | Path = "host",
    *,
    runtime: str = "onnxruntime",
    threads: int = 1,
    precision: str = "fp32",
    space: str | Path | SearchSpace | None = None,
    interpolate: bool = False,
) -> LatencyTable:
    """A latency table, by device (and runtime, threads, precision, space: by default `nasvit`) or by path.

    `device` may name runtime, threads and precision as well: `host:litert:2t:int8`. With `interpolate`, ops
    without an entry are estimated from those that have one.

    For a path, `space` is needed only where the table is of a space that is not shipped (its TOML).

    Raises:
        TableError: there is none, or the file is damaged, or it is of another space.
    """
    text = str(device)
    if text.endswith(".json") or re.search(r"[/\\]", text):
        table = _read(Path(device), None if space is None else load_space(space))
    else:
        wanted = load_space(space or "nasvit")
        given: dict[str, Any] = {"runtime": runtime, "threads": threads, "precision": precision} | named(text)
        path = table_path(**given, space=wanted.name)
        table = _read(path, wanted)
    return table.interpolated() if interpolate else table


def named(text: str) -> dict[str, Any]:
    """`host:litert:2t:int8` -> device, and what else is named; TableError for a part that is nothing known."""
    device, *rest = text.split(":")
    found: dict[str, Any] = {"device": device}
    for part in rest:
        if part in RUNTIMES:
            found["runtime"] = part
        elif part in PRECISIONS:
            found["precision"] = part
        elif re.fullmatch(r"[1-9][0-9]{0,2}t", part):
            found["threads"] = int(part[:-1])
        else:
            raise TableError(
                f"table {text!r}: {part!r} is no runtime ({', '.join(RUNTIMES)}), threads (2t) or precision ({', '.join(PRECISIONS)})"
            )
    return found


def found_tables() -> list[Path]:
    """Every table in `./latency_tables` and among the shipped ones."""
    return list(dict.fromkeys(path for folder in _folders() for path in sorted(folder.glob("*.json"))))


def _folders() -> list[Path]:
    """Where tables are looked for; in a checkout both are one."""
    own, shipped = Path("latency_tables"), files.shipped("latency_tables")
    return [own] if own.resolve() == shipped.resolve() else [own, shipped]


def _read(path: Path, space: SearchSpace | None) -> LatencyTable:
    raw = files.read_json(path, "latency table")
    if raw.get("schema") != SCHEMA:
        raise TableError(
            f"latency table {str(path)!r} has schema {raw.get('schema')!r}; this version reads schema {SCHEMA}: measure it again with nasvit-edge profile"
        )
    try:
        return parsed(path, raw, space)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise TableError(
            f"latency table {str(path)!r} is damaged ({type(error).__name__}: {error}); measure it again: nasvit-edge profile"
        ) from None


def parsed(path: Path, raw: dict[str, Any], space: SearchSpace | None) -> LatencyTable:
    """A table from the content of its file."""
    for key in ("device", "runtime", "precision", "space"):  # they stand in names of files and in commands
        _name(raw[key], key)
    _name(raw.get("target", "host"), "target")
    if type(raw["threads"]) is not int or raw["threads"] < 1:
        raise ValueError(f"'threads' is {raw['threads']!r}")
    space = space or known_space(raw["space"])
    if raw["space"] not in (space.name, family(space.name)):
        raise TableError(f"latency table {str(path)!r} is of space {raw['space']!r}, not {space.name!r}")
    if not raw["ops"]:
        raise ValueError("no ops")
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
