"""Result files: what a search found, and all it takes to export it or to repeat the search."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nasvit_edge import files
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.searching.search import Candidate, SearchResult
from nasvit_edge.space import SearchSpace, SubnetConfig, load_space

SCHEMA = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a search was made with, as the user gave it. Device to table are those of the first table."""

    space: str
    supernet: str | None
    calibration: str | None  # the images that batch norm is calibrated on
    accuracy_source: str
    accuracy_uncertainty: float
    accuracy: str | None  # the predictor, by name or path; None where accuracy is measured
    accuracy_sha256: str | None  # of the predictor's file
    device: str
    runtime: str
    threads: int
    precision: str
    table: str
    table_sha256: str
    interpolate: bool  # ops without an entry are estimated
    tables: Sequence[Mapping[str, str]]  # every table: `name`, `path`, `sha256`
    labels_in_order: bool = False  # of class folders whose names do not say which label they are


def describe(candidate: Candidate) -> dict[str, Any]:
    """One subnet as JSON: config, latency with interval, accuracy, sizes."""
    return {
        "config": candidate.config.to_dict(),
        "latency_ms": candidate.latency_ms,
        "low_ms": candidate.prediction.low_ms,
        "high_ms": candidate.prediction.high_ms,
        "coverage": candidate.prediction.coverage,
        "latencies_ms": list(candidate.latencies_ms),
        "accuracy": candidate.accuracy,
        "macs": candidate.macs,
        "parameters": candidate.parameters,
        "bytes": candidate.bytes,
        "peak_bytes": candidate.peak_bytes,
    }


def to_json(result: SearchResult, setting: Setting) -> dict[str, Any]:
    """The content of a result file, what is derived from it aside."""
    return {
        "schema": SCHEMA,
        "kind": "search result",
        "tool_version": importlib.metadata.version("nasvit-edge"),
        "setting": asdict(setting),
        "budget_ms": result.latency_ms,
        "limits": [limit.to_dict() for limit in result.limits],
        "seed": result.seed,
        "method": result.method,
        "evaluated": result.evaluated,
        "gap": None if result.gap is None else asdict(result.gap),
        "status": "predicted",
        "best": describe(result.best),
        "front": [describe(candidate) for candidate in result.front],
        "beyond": [describe(candidate) for candidate in result.beyond],
    }


@dataclass(frozen=True, slots=True)
class SavedResult:
    """A result file read back: enough to export its winner, or to explain it.

    Attributes:
        genes: gene name -> choices, where a search was kept to some.
    """

    setting: Setting
    space: SearchSpace
    config: SubnetConfig
    latency_ms: float
    accuracy: float
    genes: Mapping[str, Sequence[int]]
    raw: dict[str, Any]


def read_result(path: Path) -> SavedResult:
    """Read and check a result file; NasvitEdgeError says what is wrong with it."""
    raw = files.read_json(path, "result", SCHEMA)
    try:
        setting = _setting(raw["setting"])
        space = load_space(setting.space)
        config = space.config_from(raw["best"]["config"])
        latency_ms, accuracy = (files.number(raw["best"][key], key) for key in ("latency_ms", "accuracy"))
        kept = _kept(raw.get("genes", {}))
    except NasvitEdgeError as error:
        raise NasvitEdgeError(f"result {str(path)!r}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise NasvitEdgeError(
            f"result {str(path)!r} is damaged ({type(error).__name__}: {error}); run the search again"
        ) from None
    return SavedResult(setting, space, config, latency_ms, accuracy, kept, raw)


_KINDS: dict[str, tuple[type, ...]] = {
    "supernet": (str, type(None)),
    "calibration": (str, type(None)),
    "accuracy_uncertainty": (float, int),
    "accuracy": (str, type(None)),
    "accuracy_sha256": (str, type(None)),
    "interpolate": (bool,),
    "threads": (int,),
    "tables": (list,),
    "labels_in_order": (bool,),
}


def _kept(values: Any) -> dict[str, list[int]]:
    for name, choices in values.items():
        if not isinstance(choices, list) or not all(type(choice) is int for choice in choices):
            raise ValueError(f"genes {name!r} is {choices!r}")
    return dict(values)


def _setting(values: dict[str, Any]) -> Setting:
    values = {"labels_in_order": False, **values}  # which older files do not say
    for name in Setting.__slots__:
        if not isinstance(values[name], _KINDS.get(name, (str,))):
            raise ValueError(f"setting {name!r} is {values[name]!r}")
    for table in values["tables"]:
        if not all(isinstance(table[key], str) for key in ("name", "path", "sha256")):
            raise ValueError(f"setting 'tables' has {table!r}")
    return Setting(**values)
