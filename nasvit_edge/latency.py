"""Latency tables: what each op took on a device, and what a whole subnet will take.

A subnet's latency is composed from its ops:

    sum_ms = sum over ops of max(0, median_ms - call_ms)      call_ms: what calling an empty model takes
    ms     = scale * sum_ms + per_op_ms * count + offset_ms

with coefficients (none negative) fitted on whole subnets measured beside the ops. An op without an
entry is an error, never zero.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasvit_edge import files
from nasvit_edge.errors import NasvitEdgeError, TableError
from nasvit_edge.ops import lower
from nasvit_edge.space import SearchSpace, SubnetConfig, load_space

SCHEMA = 1
RUNTIMES = ("litert", "onnxruntime")
PRECISIONS = ("fp32",)
COVERAGE = 0.9  # of the interval of a prediction
_Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Prediction:
    """A latency with its 90 % interval (None where nothing is known of the error).

    `coverage` is the share of the ops' time that was measured (1.0: all of it).
    `Composition.predict` fills the fields with arrays.
    """

    ms: Any
    low_ms: Any
    high_ms: Any
    coverage: float = 1.0


@dataclass(frozen=True, slots=True)
class Composition:
    """ms = scale * sum_ms + per_op_ms * count + offset_ms; `error` is the relative half-width of the interval."""

    scale: float
    per_op_ms: float
    offset_ms: float
    error: float

    def predict(self, sum_ms: Any, op_count: Any) -> Prediction:
        """Arrays (or numbers) of sums and op counts to latencies with intervals, in ms."""
        ms = self.scale * np.asarray(sum_ms) + self.per_op_ms * np.asarray(op_count) + self.offset_ms
        return Prediction(ms, ms / (1 + self.error), ms * (1 + self.error))


def fit_composition(sum_ms: Any, op_count: Any, measured_ms: Any) -> Composition:
    """Fit a composition to whole models.

    Relative errors are minimised, with Huber weights against outliers and no negative coefficient. The
    interval is conformal: the 90 % quantile of the leave-one-out errors.

    Args:
        sum_ms, op_count, measured_ms: one number a model (n,), n >= 3.

    Raises:
        NasvitEdgeError: fewer than three models, or values that are not positive and finite.
    """
    arrays = [np.asarray(v, np.float64).ravel() for v in (sum_ms, op_count, measured_ms)]
    sums, counts, measured = arrays
    if len({len(a) for a in arrays}) != 1 or len(measured) < 3:
        raise NasvitEdgeError(
            f"a composition needs three equally long lists of at least 3, not {[len(a) for a in arrays]}"
        )
    if (
        not all(np.isfinite(a).all() for a in arrays)
        or measured.min() <= 0
        or sums.min() < 0
        or counts.min() < 0
    ):
        raise NasvitEdgeError("a composition needs finite sums and counts, and latencies above zero")
    design = np.stack([sums, counts, np.ones_like(sums)], 1) / measured[:, None]
    coefficients = _fit(design)
    left_out = [_left_out(design, i) for i in range(len(design))] if len(design) > 3 else [1.0]
    rank = min(len(left_out), math.ceil((len(left_out) + 1) * COVERAGE)) - 1
    scale, per_op, offset = (float(c) for c in coefficients)
    return Composition(scale, per_op, offset, float(np.sort(left_out)[rank]))


def _left_out(design: _Array, index: int) -> float:
    """The relative error at one model of the fit to all others."""
    kept = np.delete(design, index, 0)
    return float(abs(design[index] @ _fit(kept) - 1))


def _fit(design: _Array) -> _Array:
    """Non-negative coefficients c with design @ c near 1: Huber weights, a few rounds."""
    weights = np.ones(len(design))
    for _ in range(8):
        c = _non_negative(design * weights[:, None], weights)
        residuals = np.abs(design @ c - 1)
        spread = 1.5 * max(float(np.median(residuals)) * 1.4826, 1e-9)
        weights = np.sqrt(np.minimum(1, spread / np.maximum(residuals, 1e-12)))
    return c


def _non_negative(a: _Array, b: _Array) -> _Array:
    """Least squares with no negative coefficient: the best of all subsets of the three columns."""
    best, least = np.zeros(a.shape[1]), math.inf
    for count in range(1, a.shape[1] + 1):
        for columns in itertools.combinations(range(a.shape[1]), count):
            part = np.linalg.lstsq(a[:, columns], b, rcond=None)[0]
            loss = float(((a[:, columns] @ part - b) ** 2).sum())
            if part.min() >= 0 and loss < least - 1e-15:
                best, least = np.zeros(a.shape[1]), loss
                best[list(columns)] = part
    return best


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """The measured ops of one space on one device, runtime, thread count and precision.

    Attributes:
        ops_ms: op key -> median latency in ms.
        call_ms: what calling an empty model takes; part of every op's latency, once in a subnet's.
        composition: None where no whole subnets were measured; then the ops are simply added.
        raw: the file, provenance included.
    """

    path: Path
    space: SearchSpace
    ops_ms: Mapping[str, float]
    call_ms: float
    composition: Composition | None
    raw: dict[str, Any]

    def predict(self, config: SubnetConfig) -> Prediction:
        """The latency of a subnet; TableError for an op without an entry."""
        sum_ms, count = self.sums(config)
        if self.composition is None:
            return Prediction(sum_ms + self.call_ms, None, None)
        made = self.composition.predict(sum_ms, count)
        return Prediction(float(made.ms), float(made.low_ms), float(made.high_ms))

    def sums(self, config: SubnetConfig) -> tuple[float, int]:
        """(sum over the ops without their calls in ms, number of ops)."""
        ops = lower(self.space, config)
        return sum(self.op_ms(op.key()) for op in ops), len(ops)

    def op_ms(self, key: str) -> float:
        """An op's latency without its call."""
        if key not in self.ops_ms:
            raise TableError(
                f"table {self.path.name!r} has no entry for op {key!r}; measure it: nasvit-edge profile "
                f"--device {self.raw['device']} --runtime {self.raw['runtime']} --space {self.space.name}"
            )
        return max(0.0, self.ops_ms[key] - self.call_ms)


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
    for folder in (Path("latency_tables"), files.shipped("latency_tables")):
        if (folder / name).is_file():
            return folder / name
    raise TableError(
        f"no latency table {name!r} in ./latency_tables; measure it: nasvit-edge profile "
        f"--device {device} --runtime {runtime} --threads {threads} --space {space}"
    )


def check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not among `choices`."""
    if value not in choices:
        raise NasvitEdgeError(f"unknown {what} {value!r}; there are {', '.join(choices)}")


def load_table(
    device: str | Path = "host",
    *,
    runtime: str = "onnxruntime",
    threads: int = 1,
    precision: str = "fp32",
    space: str | Path | None = None,
) -> LatencyTable:
    """A latency table, by device (and runtime, threads, precision, space: by default `nasvit`) or by path.

    For a path, `space` is needed only where the table is of a space that is not shipped (its TOML).

    Raises:
        TableError: there is none, or the file is damaged, or it is of another space.
    """
    text = str(device)
    if text.endswith(".json") or re.search(r"[/\\]", text):
        return _read(Path(device), None if space is None else load_space(space))
    wanted = load_space(space or "nasvit")
    path = table_path(text, runtime=runtime, threads=threads, precision=precision, space=wanted.name)
    return _read(path, wanted)


def _read(path: Path, space: SearchSpace | None) -> LatencyTable:
    raw = files.read_json(path, "latency table", SCHEMA)
    try:
        return _checked(path, raw, space)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise TableError(
            f"latency table {str(path)!r} is damaged ({type(error).__name__}: {error}); measure it again: nasvit-edge profile"
        ) from None


def _checked(path: Path, raw: dict[str, Any], space: SearchSpace | None) -> LatencyTable:
    for key in ("device", "runtime", "precision", "space"):
        if not isinstance(raw[key], str):
            raise ValueError(f"{key!r} is {raw[key]!r}")
    space = space or load_space(raw["space"])
    if space.name != raw["space"]:
        raise TableError(f"latency table {str(path)!r} is of space {raw['space']!r}, not {space.name!r}")
    if not raw["ops"]:
        raise ValueError("no ops")
    ops_ms = {key: _positive(entry["median_ms"], key) for key, entry in raw["ops"].items()}
    call_ms = files.number(raw["call_ms"], "call_ms")
    return LatencyTable(path, space, ops_ms, call_ms, _composition(raw.get("composition")), raw)


def _composition(values: dict[str, Any] | None) -> Composition | None:
    if values is None:
        return None
    return Composition(*(files.number(values[key], key) for key in Composition.__slots__))


def _positive(value: Any, what: str) -> float:
    if files.number(value, what) <= 0:
        raise ValueError(f"{what!r} is {value!r}")
    return float(value)
