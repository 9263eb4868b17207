"""Result files of `nasvit-edge benchmark`: all samples of all rounds, and what they were measured on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta
from msgspec.structs import asdict

from nasvit_edge import files, records
from nasvit_edge.benchmark.accuracy import Accuracy, read_accuracy
from nasvit_edge.benchmark.fields import count
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.hints import MODEL, command
from nasvit_edge.records import Amount, Figure, Positive, Record, RecordError, Share, Whole, content
from nasvit_edge.transport.answers import FLAGS, Failure, measurement

SCHEMA = 1
KIND = "benchmark"
_DEVICE = ("board", "soc", "architecture", "cores")
_MOST_ROUNDS, _MOST_ARTIFACTS = 1000, 1000
_LEAST = 1e-9  # of a figure in ms, us or bytes
_Text = Annotated[str, Meta(min_length=1, max_length=1 << 24, description="a text that is not empty")]


class ResultError(NasvitEdgeError):
    """A file that is no result of `nasvit-edge benchmark`."""


class Run(Record, frozen=True, kw_only=True, omit_defaults=False):
    """When and of what a run was."""

    uuid: _Text
    utc: _Text
    tool_version: _Text
    git_sha: str | None = None
    git_dirty: bool | None = None
    ci_url: str | None = None


class Measurer(Record, frozen=True, kw_only=True):
    """The device that measured; `about` is its fingerprint, `busy_cores` what other work took before."""

    name: _Text
    about: dict[str, Any]
    conditions: dict[str, Any] | None = None
    busy_cores: Figure | None = None


class SavedProtocol(Record, frozen=True, kw_only=True):
    """How it was measured."""

    rounds: Annotated[int, Meta(ge=1, le=_MOST_ROUNDS)]
    threads: Annotated[int, Meta(ge=1, le=256)]
    order: str | None = None
    runs: Whole | None = None
    seconds: Amount | None = None
    most_seconds: Amount | None = None
    precision: Amount | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    cores: tuple[Whole, ...] | None = None


class SavedArtifact(Record, frozen=True, kw_only=True):
    """An artifact of a file; see `Measured`.

    Attributes:
        rounds: samples_us, load_ms, first_ms, warm_load_ms, memory_bytes, flags, before, after.
    """

    name: _Text
    baseline: Whole | None
    runtime: _Text
    sha256: _Text
    bytes: Annotated[int, Meta(ge=1, le=1 << 50)]
    format: _Text
    precision: _Text
    rounds: Annotated[tuple[dict[str, Any], ...], Meta(max_length=2 * _MOST_ROUNDS)]
    accuracy: dict[str, Any] | None = None
    predicted_ms: tuple[Positive, Positive, Positive] | None = None
    fallback_ops: Annotated[int, Meta(ge=0, le=1 << 30)] | None = None
    macs: Annotated[int, Meta(ge=1, le=1 << 60)] | None = None
    int8_macs: Share | None = None
    path: str | None = None


class ResultFile(Record, frozen=True, kw_only=True):
    """A result file.

    Attributes:
        aa: whether both sides are the same artifact.
        complete, stopped: false and why, where it ended early.
    """

    schema: Literal[1]
    kind: Literal["benchmark"]
    run: Run
    device: Measurer
    protocol: SavedProtocol
    aa: bool
    complete: bool
    stopped: str | None = None
    artifacts: Annotated[tuple[SavedArtifact, ...], Meta(min_length=1, max_length=_MOST_ARTIFACTS)]


@dataclass(frozen=True, slots=True)
class Measured:
    """An artifact of a result.

    Attributes:
        rounds: as the runner answered, with `round`, `position` and `flags`.
        predicted_ms: value, low and high end, of the device's latency table; None without one.
        fallback_ops: how many ops the runtime's delegate or parser would not take; None where nobody can tell.
        int8_macs: the share of them that is in int8; None of a file that claims no 8 bits, or was measured by an older version.
        path: as it was given; None in older files.
    """

    name: str
    baseline: int | None
    runtime: str
    runtime_version: str
    sha256: str
    bytes: int
    format: str
    precision: str
    rounds: tuple[dict[str, Any], ...]
    accuracy: Accuracy | None
    predicted_ms: tuple[float, float, float] | None
    fallback_ops: int | None
    macs: int | None
    int8_macs: float | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """A result, from its file.

    Attributes:
        key: what has to be equal for figures of two runs to be of one device.
    """

    path: Path
    device: str
    key: tuple[str, ...]
    aa: bool
    stopped: str | None
    artifacts: tuple[Measured, ...]
    run: Run
    measurer: Measurer
    protocol: SavedProtocol

    @property
    def threads(self) -> int:
        """Of the runtime."""
        return self.protocol.threads

    @property
    def rounds(self) -> int:
        """How many were asked for."""
        return self.protocol.rounds


def read_result(path: Path) -> Result:
    """A result file, every field that is used checked.

    Raises:
        ResultError: it is another file, damaged, or of another schema.
    """
    raw = files.read_json(path, "benchmark result")
    if raw.get("kind") != KIND:
        raise ResultError(
            f"{str(path)!r} is no benchmark result (its kind is {str(raw.get('kind'))[:40]!r}); "
            "run: " + command("benchmark", MODEL, out="benchmark.json")
        )
    if raw.get("schema") != SCHEMA:
        raise ResultError(
            f"benchmark result {str(path)!r} has schema {str(raw.get('schema'))[:20]!r}, this version reads {SCHEMA}; "
            "measure again: " + command("benchmark", MODEL, out=path)
        )
    where = f"benchmark result {str(path)!r} is damaged"
    try:
        return _result(path, records.parse(ResultFile, raw, where))
    except RecordError as error:
        raise ResultError(str(error)) from None
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise ResultError(f"{where}: {type(error).__name__} {error}"[:1000]) from None


def _result(path: Path, file: ResultFile) -> Result:
    device = file.device
    stopped = None if file.complete else file.stopped or "for an unknown reason"
    artifacts = tuple(_measured(entry, len(file.artifacts)) for entry in file.artifacts)
    key = (device.name, *(str(device.about.get(key)) for key in _DEVICE))
    return Result(path, device.name, key, file.aa, stopped, artifacts, file.run, device, file.protocol)


def _measured(entry: SavedArtifact, artifacts: int) -> Measured:
    if entry.baseline is not None:
        count(entry.baseline, 0, artifacts - 1)
    kept = tuple(_round(round_) for round_ in entry.rounds)
    own = asdict(entry) | {
        "rounds": kept,
        "accuracy": None if entry.accuracy is None else read_accuracy(entry.accuracy),
    }
    return Measured(**own, runtime_version=kept[0]["runtime_version"] if kept else "")


def _round(entry: dict[str, Any]) -> dict[str, Any]:
    told = measurement(entry, "round")
    if isinstance(told, Failure):
        raise ValueError(told.error)
    found: dict[str, Any] = content(told)
    figures = [*found["samples_us"], *(value for value in found.values() if isinstance(value, float))]
    if min(figures) < _LEAST:
        raise ValueError(f"{min(figures)!r} is no latency")
    flags = entry["flags"]
    if not isinstance(flags, list) or any(flag not in FLAGS for flag in flags):
        raise ValueError(f"unknown flags {flags!r}")
    return found | {
        "round": count(entry["round"], 0, 2 * _MOST_ROUNDS),
        "position": count(entry["position"], 0, 1 << 30),
        "flags": flags,
    }
