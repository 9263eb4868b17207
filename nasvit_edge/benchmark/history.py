"""The history of benchmarks: a line of JSON a figure and run (`Point`), appended and never rewritten.

A history is one file that ends in .jsonl, or a folder with a file a device.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from nasvit_edge import files, records
from nasvit_edge.appending import AppendLog
from nasvit_edge.benchmark.metrics import METRICS
from nasvit_edge.benchmark.report import BenchmarkReport
from nasvit_edge.benchmark.result import Result
from nasvit_edge.benchmark.steps import find_steps
from nasvit_edge.benchmark.verdicts import JudgedMetric
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.machines import Machine
from nasvit_edge.records import Amount, RecordError, Strict

SCHEMA = 2
_WITHOUT_MACHINE = 1  # the schema of lines that do not say which machine measured
SUFFIX = ".jsonl"
_LOCK_S = 30.0  # appending takes a moment
_LATEST = 4_102_444_800  # the year 2100: a clock that says so is wrong
# half a pair of surrogates is no text
_Text = Annotated[
    str, Meta(pattern=r"^[^\ud800-\udfff]{1,4096}$(?!\n)", description="a text of 1 to 4096 characters")
]
_Version = Annotated[
    str, Meta(pattern=r"^[^\ud800-\udfff]{0,4096}$(?!\n)", description="a text of up to 4096 characters")
]
# of every line, by schema, as keys are sorted: what else has no end is no half line of ours
_BEGINNINGS = (b'{"architecture": ', b'{"artifact": "')


class Point(Strict, frozen=True, kw_only=True, omit_defaults=False):
    """A figure of an artifact in one run: a line of a history.

    Attributes:
        utc: when, as ISO 8601.
        value, low, high: in ms, bytes, ops or a fraction; the interval's ends are both None where it is unknown.
        sha256: of the artifact's file.
        board, soc, architecture, cores: of the machine that measured, as far as it told them.
    """

    schema: Literal[2] = 2
    utc: _Text
    git_sha: _Text | None
    uuid: _Text
    device: _Text
    runtime: _Text
    runtime_version: _Version
    threads: Annotated[int, Meta(ge=1, le=256)]
    precision: _Text
    artifact: _Text
    metric: str
    value: Amount
    low: Amount | None
    high: Amount | None
    sha256: _Text
    board: _Text | None = None
    soc: _Text | None = None
    architecture: _Text | None = None
    cores: Annotated[int, Meta(ge=1, lt=1 << 16)] | None = None

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"the interval has one end, {self.low} to {self.high}")
        if self.low is not None and self.high is not None and not self.low <= self.value <= self.high:
            raise ValueError(
                f"the value {self.value:g} is not between its ends, {self.low:g} and {self.high:g}"
            )
        if self.metric not in METRICS:
            raise ValueError(f"key 'metric' is {self.metric[:40]!r}; possible are {', '.join(METRICS)}")
        if not self._is_now():
            raise ValueError(f"key 'utc' is {self.utc[:40]!r}; a moment from 1970 to 2100 is expected")

    def _is_now(self) -> bool:
        try:
            return 0 <= self.moment < _LATEST
        except (ValueError, OverflowError):
            return False

    @property
    def moment(self) -> float:
        """`utc` in seconds, for sorting; without an offset it is taken as UTC."""
        when = datetime.fromisoformat(self.utc)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()

    @property
    def machine(self) -> Machine:
        """What measured."""
        return Machine(self.board, self.soc, self.architecture, self.cores)

    @property
    def setting(self) -> tuple[str, ...]:
        """(device, runtime, threads, precision, artifact, metric)."""
        return (self.device, self.runtime, str(self.threads), self.precision, self.artifact, self.metric)

    @property
    def key(self) -> tuple[str, ...]:
        """What is equal for all points of a series: its setting and, of what is measured there, the machine.

        A new version of the runtime stays in it, and is marked.
        """
        measured = METRICS[self.metric].of_round is not None
        return (*self.setting, *(self.machine.key if measured else ()))


def append(path: Path, report: BenchmarkReport) -> list[Path]:
    """Add the report's candidates to a history: every metric that was measured validly.

    Safe against a kill and against other processes: whole lines under a lock, and what a killed one left of a
    line is removed. What a run has in the history already is not added again.

    Returns: the files that were added to; empty where there is nothing new.

    Raises:
        NasvitEdgeError: the history is damaged or cannot be written.
    """
    added: dict[Path, list[Point]] = {}
    for point in _points(report):
        added.setdefault(_file(path, point.device), []).append(point)
    return [file for file, points in added.items() if _add(file, points)]


def read_history(path: Path) -> list[Point]:
    """The points of a history, in the order of its files and lines; a missing path is an empty history.

    A last line that was not finished is left out; of equal lines (two branches merged) one is kept.

    Raises:
        NasvitEdgeError: a damaged line, or one of a newer schema.
    """
    points: dict[Point, None] = {}
    for file in _files(path):
        points |= dict.fromkeys(_read(file, files.read_bytes(file, "history")))
    return list(points)


def series(points: Sequence[Point]) -> dict[tuple[str, ...], list[Point]]:
    """`Point.key` -> its points in order of time."""
    by_key: dict[tuple[str, ...], list[Point]] = {}
    for point in sorted(points, key=lambda point: point.moment):
        by_key.setdefault(point.key, []).append(point)
    return by_key


def steps(points: Sequence[Point]) -> list[int]:
    """The indices at which a new level starts, of one series in order of time."""
    return find_steps(points)


def _points(report: BenchmarkReport) -> list[Point]:
    return [_made(_run_of(report, cell), cell) for cell in report.cells if cell.verdict != "invalid"]


def _run_of(report: BenchmarkReport, cell: JudgedMetric) -> Result:
    """The result that a cell is of: by identity, as two runs may have artifacts of one name."""
    return next(r for r in report.results if any(artifact is cell.artifact for artifact in r.artifacts))


def _made(result: Result, cell: JudgedMetric) -> Point:
    run, artifact, value = result.run, cell.artifact, cell.value
    bounded = math.isfinite(value.low) and math.isfinite(value.high)  # else there were too few rounds
    about = {"utc": run.utc, "git_sha": run.git_sha, "uuid": run.uuid}
    setting = {"threads": result.threads, "device": result.device, "metric": cell.metric.name}
    same = ("runtime", "runtime_version", "precision", "sha256")
    figures = {
        "value": value.value,
        "low": value.low if bounded else None,
        "high": value.high if bounded else None,
    }
    machine = asdict(Machine.of(result.measurer.about))
    whole = {"schema": SCHEMA, "artifact": artifact.name} | about | setting | figures | machine
    where = f"benchmark result {str(result.path)!r} cannot be kept in a history"
    return _checked(whole | {name: getattr(artifact, name) for name in same}, where)


def _file(path: Path, device: str) -> Path:
    """Where the points of a device belong."""
    if path.suffix == SUFFIX:
        return path
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", device).strip(".-")[:80]
    if safe != device:  # other names could become the same one
        safe = f"{safe or 'device'}-{hashlib.sha256(device.encode()).hexdigest()[:8]}"
    return path / f"{safe}{SUFFIX}"


def _files(path: Path) -> list[Path]:
    try:
        if path.suffix == SUFFIX or not path.exists():
            return [path] if path.exists() else []
        if not path.is_dir():
            raise NasvitEdgeError(
                f"history {str(path)!r} is a file whose name does not end in {SUFFIX}; "
                f"give such a file, or a folder with a {SUFFIX} file a device"
            )
        return sorted(p for p in path.glob(f"*{SUFFIX}") if not p.name.startswith("."))
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise NasvitEdgeError(f"history {str(path)!r}: {error}") from None


def _add(file: Path, points: Sequence[Point]) -> bool:
    """Append what the file does not hold of these runs; whether there was any."""
    busy = NasvitEdgeError(
        f"cannot write history {str(file)!r}: another process has held it for {_LOCK_S:g} s"
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(file.parent / f".{file.name}.lock", busy, _LOCK_S):
            return _added(file, points)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise NasvitEdgeError(f"cannot write history {str(file)!r}: {reason}") from None


def _added(file: Path, points: Sequence[Point]) -> bool:
    with AppendLog(file) as log:
        content = file.read_bytes()
        known = {_identity(point) for point in _read(file, content)}
        lines = b"".join(_line(point) for point in points if _identity(point) not in known)
        if lines:
            end = content.rfind(b"\n") + 1
            if content[end:] and _half(content[end:]):
                log.cut(end)
            elif content[end:]:
                lines = b"\n" + lines
            log.add(lines, sync=True)
        return bool(lines)


def _identity(point: Point) -> tuple[object, ...]:
    """What is told once of a run, however often it is reported."""
    return (point.uuid, point.sha256, *point.setting)


def _line(point: Point) -> bytes:
    return json.dumps(records.content(point), sort_keys=True, allow_nan=False).encode() + b"\n"


def _read(file: Path, content: bytes) -> list[Point]:
    lines = content.split(b"\n")
    if lines[-1] and _half(lines[-1]):
        lines[-1] = b""
    return [_point(file, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _half(line: bytes) -> bool:
    """Whether a line without an end is the beginning of one of ours; a whole one only lacks its end."""
    start = line.rstrip(b"\0")  # a machine that lost power may leave zeros
    if not any(start.startswith(beginning) or beginning.startswith(start) for beginning in _BEGINNINGS):
        return False
    try:
        files.loads(line)
    except (ValueError, RecursionError):
        return True
    return False


def _point(file: Path, number: int, line: bytes) -> Point:
    where = f"history {str(file)!r}, line {number}"
    then = "delete the line, or bring the file back from a copy"
    try:
        entry = files.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise NasvitEdgeError(f"{where} is damaged ({str(error)[:120]}); {then}") from None
    schema = entry.get("schema") if isinstance(entry, dict) else None
    if type(schema) is int and schema > SCHEMA:
        raise NasvitEdgeError(f"{where} has schema {schema}, this version reads {SCHEMA}; update nasvit-edge")
    if type(schema) is int and schema == _WITHOUT_MACHINE:
        entry |= {"schema": SCHEMA}
    try:
        return _checked(entry, where)
    except RecordError as error:
        raise RecordError(f"{error}; the line is damaged: {then}", error.key) from None


def _checked(entry: Any, where: str) -> Point:
    """A point of a line, which says its schema."""
    if isinstance(entry, dict) and "schema" not in entry:
        raise RecordError(f"{where}: key 'schema' is missing", "schema")
    return records.parse(Point, entry, where)
