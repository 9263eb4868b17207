"""Result files: what a search found, and all it takes to export it or to repeat the search."""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nasvit_edge import files, seals
from nasvit_edge.data_sets import BUNDLED
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.searching.accuracy import predictor_names
from nasvit_edge.searching.search import Candidate, SearchResult
from nasvit_edge.space import SearchSpace, SubnetConfig, load_space, read_space, space_names

SCHEMA = 2
_OPTIONS = {"supernet": "--supernet", "calibration": "--calibrate", "accuracy": "--accuracy"}


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
    supernet_sha256: str | None = None  # of the weights' file; None where there is none
    calibration_sha256: str | None = None  # of the images that were calibrated on; None where none were
    filled: Mapping[str, Any] = field(
        default_factory=dict
    )  # what was left out, and what it was filled in with


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


def weights_digest(supernet: str | None) -> str | None:
    """The SHA-256 of a supernet's file, or of shipped weights; None of generic ones, and where there is no such file."""
    if supernet is None:
        return None
    shipped = {path.stem: path for path in files.data("weights").glob("*.safetensors")}
    path, _ = files.file_and_key(supernet)
    with contextlib.suppress(NasvitEdgeError):  # told where weights are needed
        return files.sha256(shipped.get(path, Path(path)))
    return None


def to_json(result: SearchResult, setting: Setting) -> dict[str, Any]:
    """The content of a result file, what is derived from it aside."""
    return {
        "schema": SCHEMA,
        "kind": "search result",
        "tool_version": importlib.metadata.version("nasvit-edge"),
        **sealed(setting),
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


def sealed(setting: Setting) -> dict[str, Any]:
    """A setting as a result file has it: with a seal that shows later that its paths were typed here."""
    return {"setting": asdict(setting), "seal": seals.seal(_typed(setting))}


def _typed(setting: Setting) -> dict[str, Any]:
    """What the user gave, and is used again as if it was given again."""
    return {name: getattr(setting, name) for name in ("space", *_OPTIONS, "labels_in_order")}


@dataclass(frozen=True, slots=True)
class SavedResult:
    """A result file read back: enough to export its winner, or to explain it.

    Attributes:
        setting: without paths where the file is not this user's own, or was changed: names of shipped things stay.
        genes: gene name -> choices, where a search was kept to some.
        elsewhere: name -> what the setting's field was then.
        is_own: whether it is this user's own, as it was written.
    """

    setting: Setting
    space: SearchSpace
    config: SubnetConfig
    latency_ms: float
    accuracy: float
    genes: Mapping[str, Sequence[int]]
    raw: dict[str, Any]
    elsewhere: Mapping[str, str]
    is_own: bool

    def refuse(self, path: Path, name: str, option: str = "") -> None:
        """NasvitEdgeError where the setting's `name` was left out because the file is from elsewhere."""
        if name in self.elsewhere:
            told = self.elsewhere[name]
            raise NasvitEdgeError(
                f"result {str(path)!r} was written elsewhere or changed, so the paths in it are not followed: "
                f"if you mean {told[:200]!r}, add {option or _OPTIONS[name]} {shlex.quote(told[:200])}"
            )


def read_result(path: Path) -> SavedResult:
    """Read and check a result file; NasvitEdgeError says what is wrong with it."""
    raw = files.read_json(path, "result", SCHEMA)
    try:
        setting = _setting(raw["setting"])
        is_own = seals.is_own(_typed(setting), raw.get("seal"))
        setting, elsewhere = (setting, {}) if is_own else _known(setting)
        space = _space(raw, setting.space, str(path), is_own=is_own)
        config = space.config_from(raw["best"]["config"])
        latency_ms, accuracy = (files.number(raw["best"][key], key) for key in ("latency_ms", "accuracy"))
        kept = _kept(raw.get("genes", {}))
    except NasvitEdgeError as error:
        raise NasvitEdgeError(f"result {str(path)!r}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise NasvitEdgeError(
            f"result {str(path)!r} is damaged ({type(error).__name__}: {error}); run the search again"
        ) from None
    return SavedResult(setting, space, config, latency_ms, accuracy, kept, raw, elsewhere, is_own)


def _known(setting: Setting) -> tuple[Setting, dict[str, str]]:
    """The setting with the names of shipped things alone, and what else was there."""
    weights = [path.stem for path in files.data("weights").glob("*.safetensors")]
    given = setting.supernet or ""
    known = {
        "supernet": given in weights or re.fullmatch(r"random(:\d+)?", given),
        "calibration": setting.calibration == BUNDLED,
        "accuracy": setting.accuracy in predictor_names(),
    }
    left = {name: getattr(setting, name) for name, is_known in known.items() if not is_known}
    elsewhere = {name: value for name, value in left.items() if value is not None}
    empty: dict[str, Any] = dict.fromkeys(elsewhere)
    return replace(setting, **empty), elsewhere


def _space(raw: dict[str, Any], named: str, where: str, *, is_own: bool) -> SearchSpace:
    """The space that is in the file; of an older file the one that it names."""
    if "space" in raw:
        return read_space(raw["space"], where)
    if not is_own and named not in space_names():
        raise NasvitEdgeError(
            f"its space {named[:200]!r} is not in it, and a path in a file is not followed; search again"
        )
    return load_space(named)


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
    "filled": (dict,),
    "supernet_sha256": (str, type(None)),
    "calibration_sha256": (str, type(None)),
}


def _kept(values: Any) -> dict[str, list[int]]:
    for name, choices in values.items():
        if not isinstance(choices, list) or not all(type(choice) is int for choice in choices):
            raise ValueError(f"genes {name!r} is {choices!r}")
    return dict(values)


def _setting(values: dict[str, Any]) -> Setting:
    values = {
        "labels_in_order": False,
        "filled": {},
        "supernet_sha256": None,
        "calibration_sha256": None,
        **values,
    }  # which older files do not say
    for name in Setting.__slots__:
        if not isinstance(values[name], _KINDS.get(name, (str,))):
            raise ValueError(f"setting {name!r} is {values[name]!r}")
    for table in values["tables"]:
        if not all(isinstance(table[key], str) for key in ("name", "path", "sha256")):
            raise ValueError(f"setting 'tables' has {table!r}")
    return Setting(**values)
