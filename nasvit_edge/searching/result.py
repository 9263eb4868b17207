"""Result files: what a search found, and all it takes to export it or to repeat the search."""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from nasvit_edge import files, records, seals
from nasvit_edge.data_sets import BUNDLED
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.records import RecordError
from nasvit_edge.searching.accuracy import predictor_names
from nasvit_edge.searching.limits import SavedLimit
from nasvit_edge.searching.saved import ResultFile, SavedCandidate, Setting
from nasvit_edge.searching.search import Candidate, SearchResult
from nasvit_edge.space import SearchSpace, SubnetConfig, load_space, read_space, space_names

_OPTIONS = {"supernet": "--supernet", "calibration": "--calibrate", "accuracy": "--accuracy"}


def describe(candidate: Candidate) -> SavedCandidate:
    """One subnet as a result file has it."""
    return SavedCandidate(
        config=candidate.config,
        latency_ms=candidate.latency_ms,
        low_ms=candidate.prediction.low_ms,
        high_ms=candidate.prediction.high_ms,
        coverage=candidate.prediction.coverage,
        latencies_ms=candidate.latencies_ms,
        accuracy=candidate.accuracy,
        macs=candidate.macs,
        parameters=candidate.parameters,
        bytes=candidate.bytes,
        peak_bytes=candidate.peak_bytes,
        precisions=dict(candidate.precisions),
        loss=candidate.loss,
    )


def weights_digest(supernet: str | None) -> str | None:
    """The SHA-256 of a supernet's file, or of shipped weights; None of generic ones, and where there is no such file."""
    if supernet is None:
        return None
    shipped = {path.stem: path for path in files.data("weights").glob("*.safetensors")}
    path, _ = files.file_and_key(supernet)
    with contextlib.suppress(NasvitEdgeError):  # told where weights are needed
        return files.sha256(shipped.get(path, Path(path)))
    return None


def file_of(result: SearchResult, setting: Setting) -> ResultFile:
    """A result file, what is derived from the result aside."""
    return ResultFile(
        schema=2,
        kind="search result",
        tool_version=importlib.metadata.version("nasvit-edge"),
        setting=setting,
        seal=sealed(setting),
        budget_ms=result.latency_ms,
        limits=tuple(map(SavedLimit.of, result.limits)),
        seed=result.seed,
        method=result.method,
        evaluated=result.evaluated,
        gap=result.gap,
        status="predicted",
        best=describe(result.best),
        front=tuple(map(describe, result.front)),
        beyond=tuple(map(describe, result.beyond)),
        genes={},
        same_macs=None,
        stages=(),
    )


def sealed(setting: Setting) -> str:
    """The seal of a setting, which shows later that its paths were typed here."""
    return seals.seal(_typed(setting))


def _typed(setting: Setting) -> dict[str, object]:
    """What the user gave, and is used again as if it was given again."""
    return {name: getattr(setting, name) for name in ("space", *_OPTIONS, "labels_in_order")}


@dataclass(frozen=True, slots=True)
class SavedResult:
    """A result file read back: enough to export its winner, or to explain it.

    Attributes:
        setting: without paths where the file is not this user's own, or was changed: names of shipped things stay.
        config: the winner's, of the space.
        elsewhere: name -> what the setting's field was then.
        is_own: whether it is this user's own, as it was written.
    """

    file: ResultFile
    setting: Setting
    space: SearchSpace
    config: SubnetConfig
    elsewhere: Mapping[str, str]
    is_own: bool

    @property
    def best(self) -> SavedCandidate:
        return self.file.best

    def refuse(self, path: Path, name: str, option: str = "") -> None:
        """NasvitEdgeError where the setting's `name` was left out because the file is from elsewhere."""
        if name in self.elsewhere:
            source = self.elsewhere[name]
            raise NasvitEdgeError(
                f"result {str(path)!r} was written elsewhere or changed, so the paths in it are not followed: "
                f"if you mean {source[:200]!r}, add {option or _OPTIONS[name]} {shlex.quote(source[:200])}"
            )


def read_result(path: Path) -> SavedResult:
    """Read and check a result file; NasvitEdgeError says what is wrong with it."""
    try:
        file = records.read(ResultFile, path, "result")
    except RecordError as error:
        raise RecordError(f"{error}; run the search again", error.key) from None
    try:
        is_own = seals.is_own(_typed(file.setting), file.seal)
        setting, elsewhere = (file.setting, {}) if is_own else _known(file.setting)
        space = _space(file, setting.space, str(path), is_own=is_own)
        config = space.config_from(file.best.config.to_dict())
    except NasvitEdgeError as error:
        raise NasvitEdgeError(f"result {str(path)!r}: {error}") from None
    return SavedResult(file, setting, space, config, elsewhere, is_own)


def _known(setting: Setting) -> tuple[Setting, dict[str, str]]:
    """The setting with the names of shipped things alone, and what else was there."""
    weights = [path.stem for path in files.data("weights").glob("*.safetensors")]
    supernet = setting.supernet or ""
    known = {
        "supernet": supernet in weights or re.fullmatch(r"random(:\d+)?", supernet),
        "calibration": setting.calibration == BUNDLED,
        "accuracy": setting.accuracy in predictor_names(),
    }
    left = {name: getattr(setting, name) for name, is_known in known.items() if not is_known}
    elsewhere = {name: value for name, value in left.items() if value is not None}
    empty: dict[str, object] = dict.fromkeys(elsewhere)
    return replace(setting, **empty), elsewhere


def _space(file: ResultFile, named: str, where: str, *, is_own: bool) -> SearchSpace:
    """The space that is in the file; of an older file the one that it names."""
    if file.space is not None:
        return read_space(file.space, where)
    if not is_own and named not in space_names():
        raise NasvitEdgeError(
            f"its space {named[:200]!r} is not in it, and a path in a file is not followed; search again"
        )
    return load_space(named)
