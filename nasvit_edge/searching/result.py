"""Result files: what a search found, and all it takes to export it or to repeat the search."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasvit_edge import files
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.ops import lower, macs
from nasvit_edge.searching.evolution import Candidate, SearchResult
from nasvit_edge.space import SearchSpace, SubnetConfig, load_space

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a search was made with, as the user gave it."""

    space: str
    supernet: str | None
    calibration: str | None  # the images that batch norm was calibrated on
    accuracy_source: str
    accuracy_uncertainty: float
    device: str
    runtime: str
    threads: int
    precision: str
    table: str
    table_sha256: str


def describe(space: SearchSpace, candidate: Candidate) -> dict[str, Any]:
    """One subnet as JSON: config, latency with interval, accuracy, MACs, parameters."""
    return {
        "config": candidate.config.to_dict(),
        "latency_ms": candidate.latency_ms,
        "low_ms": candidate.prediction.low_ms,
        "high_ms": candidate.prediction.high_ms,
        "coverage": candidate.prediction.coverage,
        "accuracy": candidate.accuracy,
        "macs": macs(space, candidate.config),
        "parameters": parameters(space, candidate.config),
    }


def parameters(space: SearchSpace, config: SubnetConfig) -> int:
    """The parameters of the standalone subnet, unfolded."""
    from nasvit_edge.model.subnet import parameter_count

    return sum(parameter_count(op) for op in lower(space, config))


def to_json(space: SearchSpace, result: SearchResult, setting: Setting) -> dict[str, Any]:
    """The content of a result file."""
    return {
        "schema": SCHEMA,
        "kind": "search result",
        "tool_version": importlib.metadata.version("nasvit-edge"),
        "setting": {name: getattr(setting, name) for name in Setting.__slots__},
        "budget_ms": result.latency_ms,
        "seed": result.seed,
        "evaluated": result.evaluated,
        "status": "predicted",
        "best": describe(space, result.best),
        "front": [describe(space, candidate) for candidate in result.front],
    }


@dataclass(frozen=True, slots=True)
class SavedResult:
    """A result file read back: enough to export its winner."""

    setting: Setting
    space: SearchSpace
    config: SubnetConfig
    latency_ms: float
    accuracy: float
    raw: dict[str, Any]


def read_result(path: Path) -> SavedResult:
    """Read and check a result file; NasvitEdgeError says what is wrong with it."""
    raw = files.read_json(path, "result", SCHEMA)
    try:
        setting = _setting(raw["setting"])
        space = load_space(setting.space)
        config = space.config_from(raw["best"]["config"])
        latency_ms, accuracy = float(raw["best"]["latency_ms"]), float(raw["best"]["accuracy"])
    except NasvitEdgeError as error:
        raise NasvitEdgeError(f"result {str(path)!r}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise NasvitEdgeError(
            f"result {str(path)!r} is damaged ({type(error).__name__}: {error}); run the search again"
        ) from None
    return SavedResult(setting, space, config, latency_ms, accuracy, raw)


_KINDS: dict[str, tuple[type, ...]] = {
    "supernet": (str, type(None)),
    "calibration": (str, type(None)),
    "accuracy_uncertainty": (float, int),
    "threads": (int,),
}


def _setting(values: dict[str, Any]) -> Setting:
    for name in Setting.__slots__:
        if not isinstance(values[name], _KINDS.get(name, (str,))):
            raise ValueError(f"setting {name!r} is {values[name]!r}")
    return Setting(**values)
