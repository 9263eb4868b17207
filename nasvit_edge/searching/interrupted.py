"""The state of a search on disk, so that a search that was killed goes on where it was, to the same result."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nasvit_edge import files, records
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.searching.evaluation import Values
from nasvit_edge.searching.evolution import Effort, SearchState
from nasvit_edge.searching.limits import SavedLimit
from nasvit_edge.searching.saved import Setting
from nasvit_edge.searching.search import Problem

SCHEMA = 1
_SECONDS = 1.0  # between two writes: a search of a second writes nothing


def identity(problem: Problem, setting: Setting, seed: int, effort: Effort) -> str:
    """A hash of all that decides how a search goes."""
    parts = {
        "setting": records.content(setting),
        "limits": [records.content(SavedLimit.of(limit)) for limit in problem.limits],
        "genes": [choices.tolist() for choices in problem.evaluator.genes.allowed],
        "effort": asdict(effort),
        "seed": seed,
        "with_size": problem.with_size,
        "numpy": np.__version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


class Keeper:
    """Writes the state of one search now and then; deletes it when the search is done."""

    def __init__(self, path: Path | None, key: str) -> None:
        self.path, self.key, self.last = path, key, time.monotonic()

    def load(self) -> SearchState | None:
        """The state of the same search, interrupted; None where there is none, or the file is damaged."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            raw = files.read_json(self.path, "interrupted search", SCHEMA)
            whole = raw["digest"] == _digest(raw["state"])
            return _state(raw["state"]) if whole and raw["search"] == self.key else None
        except (NasvitEdgeError, KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError):
            return None

    def save(self, state: SearchState) -> None:
        """Write the state, where the last time is a while ago."""
        if self.path is None or time.monotonic() - self.last < _SECONDS:
            return
        described = _described(state)
        content = {"search": self.key, "state": described, "digest": _digest(described)}
        files.write_json(self.path, {"schema": SCHEMA, **content})
        self.last = time.monotonic()

    def done(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _digest(described: Any) -> str:
    """Of a state as JSON: a file that was changed is not continued."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _described(state: SearchState) -> dict[str, object]:
    return {
        "rng": state.rng.bit_generator.state,
        "rows": state.rows.tolist(),
        "values": _numbers(state.values),
        "kept": state.kept.tolist(),
        "kept_values": _numbers(state.kept_values),
        "generation": state.generation,
        "evaluated": state.evaluated,
    }


def _numbers(values: Values) -> dict[str, object]:
    """JSON has no nan: the missing upper ends of intervals become null."""
    columns = {name: getattr(values, name) for name in Values.__slots__}
    listed: dict[str, Any] = {n: np.where(np.isnan(v), None, v.astype(object)) for n, v in columns.items()}
    return {name: values.tolist() for name, values in listed.items()}


def _state(raw: dict[str, Any]) -> SearchState:
    rng = np.random.default_rng()
    rng.bit_generator.state = raw["rng"]
    rows = np.array(raw["rows"], np.int8)
    kept = np.array(raw["kept"], np.int8).reshape(-1, rows.shape[1])
    tables = np.array(raw["values"]["latency_ms"]).shape[1]
    values, kept_values = (_values(raw[name], tables) for name in ("values", "kept_values"))
    if len(values.accuracy) != len(rows) or len(kept_values.accuracy) != len(kept):
        raise ValueError("values of other rows")
    return SearchState(rng, rows, values, kept, kept_values, int(raw["generation"]), int(raw["evaluated"]))


def _values(raw: dict[str, object], tables: int) -> Values:
    columns = [np.array(raw[name], np.float64) for name in Values.__slots__]
    columns[:2] = [array.reshape(-1, tables) for array in columns[:2]]
    return Values(*columns)
