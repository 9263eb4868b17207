"""Result files of `nasvit-edge benchmark`: all samples of all rounds, and what they were measured on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from nasvit_edge import files, records
from nasvit_edge.benchmark.plan import Facts, Text
from nasvit_edge.benchmark.session import MOST_ROUNDS, Round
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.hints import MODEL, command
from nasvit_edge.records import Amount, Figure, Record, RecordError, Whole

SCHEMA: Literal[1] = 1
KIND: Literal["benchmark"] = "benchmark"
_MOST_ARTIFACTS = 1000


class ResultError(NasvitEdgeError):
    """A file that is no result of `nasvit-edge benchmark`."""


class BenchmarkRun(Record, frozen=True, kw_only=True, omit_defaults=False):
    """When and of what a run was."""

    uuid: Text
    utc: Text
    tool_version: Text
    git_sha: str | None = None
    git_dirty: bool | None = None
    ci_url: str | None = None


class Measurer(Record, frozen=True, kw_only=True, omit_defaults=False):
    """The device that measured; `about` is its fingerprint, `busy_cores` what other work took before."""

    name: Text
    about: dict[str, Any]
    conditions: dict[str, Any] | None = None
    busy_cores: Figure | None = None


class SavedProtocol(Record, frozen=True, kw_only=True, omit_defaults=False):
    """How it was measured."""

    rounds: Annotated[int, Meta(ge=1, le=MOST_ROUNDS)]
    threads: Annotated[int, Meta(ge=1, le=256)]
    order: str | None = None
    runs: Whole | None = None
    seconds: Amount | None = None
    most_seconds: Amount | None = None
    precision: Amount | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    cores: tuple[Whole, ...] | None = None


class MeasuredArtifact(Facts, frozen=True, kw_only=True):
    """An artifact of a result.

    Attributes:
        name: the file's, with as many folders as tell files apart.
        baseline: the place in the list of what it is compared with, or null.
        runtime: which runs it.
        rounds: a list: `round`, `position` in the session, `samples_us` (all), `turns` (how many of them each turn gave), `inner` (calls
            a sample), `runtime_version`, `load_ms`, `first_ms`, `warm_load_ms`, `memory_bytes`, `cpu_share`, `waited_share`, `flags`,
            `before` and `after` (clocks, temperature).
    """

    name: Text
    baseline: Whole | None
    runtime: Text
    rounds: Annotated[tuple[Round, ...], Meta(max_length=2 * MOST_ROUNDS)]

    @property
    def runtime_version(self) -> str:
        """Empty where nothing was measured."""
        return self.rounds[0].runtime_version if self.rounds else ""


class BenchmarkFile(Record, frozen=True, kw_only=True, omit_defaults=False):
    """A result file.

    Attributes:
        schema, kind: `1`, `"benchmark"`.
        run: `uuid`, `utc`, `tool_version`, `git_sha`, `git_dirty`, `ci_url`.
        device: `name`; `about`: board, SoC, architecture, cores, system, ...; `conditions`: power mode, clocks, battery, ...;
            `busy_cores`: kept by other work at the start.
        protocol: `rounds`, `order` (`"ABBA"`), `runs`, `seconds`, `most_seconds`, `precision`, `threads`, `seed`, `cores`.
        aa: whether each artifact was measured against itself.
        complete, stopped: `false` and why, where it ended early.
        artifacts: a list, below.
    """

    schema: Literal[1]
    kind: Literal["benchmark"]
    run: BenchmarkRun
    device: Measurer
    protocol: SavedProtocol
    aa: bool
    complete: bool
    stopped: str | None = None
    artifacts: Annotated[tuple[MeasuredArtifact, ...], Meta(min_length=1, max_length=_MOST_ARTIFACTS)]

    def __post_init__(self) -> None:
        for place, artifact in enumerate(self.artifacts):
            if artifact.baseline is not None and artifact.baseline >= len(self.artifacts):
                raise ValueError(
                    f"key 'artifacts[{place}].baseline' is {artifact.baseline}; it has no artifact of that place"
                )


@dataclass(frozen=True, slots=True)
class Result:
    """A result, from its file."""

    path: Path
    device: str
    aa: bool
    stopped: str | None
    artifacts: tuple[MeasuredArtifact, ...]
    run: BenchmarkRun
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
        return _result(path, records.parse(BenchmarkFile, raw, where))
    except RecordError as error:
        raise ResultError(str(error)) from None


def _result(path: Path, file: BenchmarkFile) -> Result:
    device = file.device
    stopped = None if file.complete else file.stopped or "for an unknown reason"
    return Result(path, device.name, file.aa, stopped, file.artifacts, file.run, device, file.protocol)
