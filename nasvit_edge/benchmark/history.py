"""The history of benchmarks: a line of JSON a figure and run, appended and never rewritten.

schema                              1, in each line
utc, git_sha, uuid                  of the run
device, runtime, runtime_version, threads, precision, artifact, sha256 (of the file)
metric, value, low, high            in ms, bytes, ops or a fraction; low and high are null where the interval is unknown

A history is one file that ends in .jsonl, or a folder with a file a device.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nasvit_edge import files
from nasvit_edge.benchmark.metrics import METRICS
from nasvit_edge.benchmark.report import Report
from nasvit_edge.benchmark.result import Result
from nasvit_edge.benchmark.steps import find_steps
from nasvit_edge.benchmark.verdicts import Cell
from nasvit_edge.errors import NasvitEdgeError

SCHEMA = 1
SUFFIX = ".jsonl"
_LOCK_S = 30.0  # appending takes a moment
_LATEST = 4_102_444_800  # the year 2100: a clock that says so is wrong
_BEGIN = b'{"artifact": "'  # of every line, as keys are sorted: what else has no end is no half line of ours


@dataclass(frozen=True, slots=True)
class Point:
    """A figure of an artifact in one run.

    Attributes:
        utc: when, as ISO 8601. low, high: the interval; both None where it is unknown.
        sha256: of the artifact's file.
    """

    utc: str
    git_sha: str | None
    uuid: str
    device: str
    runtime: str
    runtime_version: str
    threads: int
    precision: str
    artifact: str
    metric: str
    value: float
    low: float | None
    high: float | None
    sha256: str

    @property
    def moment(self) -> float:
        """`utc` in seconds, for sorting; without an offset it is taken as UTC."""
        when = datetime.fromisoformat(self.utc)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()

    @property
    def key(self) -> tuple[str, ...]:
        """What is equal for all points of a series; a new version of the runtime stays in it, and is marked."""
        return (self.device, self.runtime, str(self.threads), self.precision, self.artifact, self.metric)


_KEYS = {field.name for field in fields(Point)} | {"schema"}


def append(path: Path, report: Report) -> list[Path]:
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
    found: dict[Point, None] = {}
    for file in _files(path):
        found |= dict.fromkeys(_read(file, files.read_bytes(file, "history")))
    return list(found)


def series(points: Sequence[Point]) -> dict[tuple[str, ...], list[Point]]:
    """(device, runtime, threads, precision, artifact, metric) -> its points in order of time."""
    found: dict[tuple[str, ...], list[Point]] = {}
    for point in sorted(points, key=lambda point: point.moment):
        found.setdefault(point.key, []).append(point)
    return found


def steps(points: Sequence[Point]) -> list[int]:
    """The indices at which a new level starts, of one series in order of time."""
    return find_steps(points)


def _points(report: Report) -> list[Point]:
    return [_made(_run_of(report, cell), cell) for cell in report.cells if cell.verdict != "invalid"]


def _run_of(report: Report, cell: Cell) -> Result:
    """The result that a cell is of: by identity, as two runs may have artifacts of one name."""
    return next(r for r in report.results if any(own is cell.artifact for own in r.artifacts))


def _made(result: Result, cell: Cell) -> Point:
    run, artifact, value = result.raw["run"], cell.artifact, cell.value
    bounded = math.isfinite(value.low) and math.isfinite(value.high)  # else there were too few rounds
    about = {"utc": run["utc"], "git_sha": run.get("git_sha"), "uuid": run["uuid"]}
    setting = {"threads": result.threads, "device": result.device, "metric": cell.metric.name}
    same = ("runtime", "runtime_version", "precision", "sha256")
    figures = {
        "value": value.value,
        "low": value.low if bounded else None,
        "high": value.high if bounded else None,
    }
    whole = {"schema": SCHEMA, "artifact": artifact.name} | about | setting | figures
    try:
        return _checked(whole | {name: getattr(artifact, name) for name in same})
    except (TypeError, ValueError, OverflowError) as error:
        raise NasvitEdgeError(
            f"benchmark result {str(result.path)!r} cannot be kept in a history: {error}"
        ) from None


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
    with _opened(file) as descriptor:
        content = _content(descriptor)
        known = {_identity(point) for point in _read(file, content)}
        lines = b"".join(_line(point) for point in points if _identity(point) not in known)
        if not lines:
            return False
        end = content.rfind(b"\n") + 1
        whole = not content[end:] or not _half(content[end:])
        _write(
            descriptor, (b"\n" if content[end:] and whole else b"") + lines, len(content) if whole else end
        )
        return True


def _identity(point: Point) -> tuple[object, ...]:
    """What is told once of a run, however often it is reported."""
    return (point.uuid, point.sha256, *point.key)


def _line(point: Point) -> bytes:
    entry = {"schema": SCHEMA} | asdict(point)
    return json.dumps(entry, sort_keys=True, allow_nan=False).encode() + b"\n"


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[int]:
    """The file for appending, made where it is missing, while no other process appends to it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError("it is not a regular file")
            _lock(descriptor)
            yield descriptor
        finally:
            os.close(descriptor)  # and with it the lock
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise NasvitEdgeError(f"cannot write history {str(file)!r}: {reason}") from None


def _lock(descriptor: int) -> None:
    until = time.monotonic() + _LOCK_S
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise OSError(f"another process has held it for {_LOCK_S:g} s") from None
        time.sleep(0.05)


def _content(descriptor: int) -> bytes:
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        stream.seek(0)
        return stream.read()


def _write(descriptor: int, text: bytes, start: int) -> None:
    """All of `text` at `start`, where half a line may stand, or nothing."""
    os.ftruncate(descriptor, start)
    try:
        left = memoryview(text)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, start)
        raise


def _read(file: Path, content: bytes) -> list[Point]:
    lines = content.split(b"\n")
    if lines[-1] and _half(lines[-1]):
        lines[-1] = b""
    return [_point(file, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _half(line: bytes) -> bool:
    """Whether a line without an end is the beginning of one of ours; a whole one only lacks its end."""
    begun = line.rstrip(b"\0")  # a machine that lost power may leave zeros
    if not (begun.startswith(_BEGIN) or _BEGIN.startswith(begun)):
        return False
    try:
        files.loads(line)
    except (ValueError, RecursionError):
        return True
    return False


def _point(file: Path, number: int, line: bytes) -> Point:
    where = f"history {str(file)!r}, line {number}"
    try:
        entry = files.loads(line.decode())
        if not isinstance(entry, dict):
            raise ValueError("it is no JSON object")
        schema = entry.get("schema")
        if type(schema) is int and schema > SCHEMA:
            raise NasvitEdgeError(
                f"{where} has schema {schema}, this version reads {SCHEMA}; update nasvit-edge"
            )
        return _checked(entry)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise NasvitEdgeError(
            f"{where} is damaged ({str(error)[:120]}); delete the line, or bring the file back from a copy"
        ) from None


def _checked(entry: dict[str, Any]) -> Point:
    """A point of a line; TypeError, ValueError or OverflowError where it is none."""
    for key in sorted(_KEYS ^ entry.keys()):
        raise ValueError(f"key {key[:40]!r} is {'missing' if key in _KEYS else 'unknown'}")
    if type(entry["schema"]) is not int or entry["schema"] != SCHEMA:
        raise ValueError(f"schema is {str(entry['schema'])[:20]!r}")
    own = {key: value for key, value in entry.items() if key != "schema"}
    for key in ("utc", "uuid", "device", "runtime", "precision", "artifact", "sha256"):
        _text(own[key], key)
    _text(own["runtime_version"], "runtime_version", empty=True)
    if own["git_sha"] is not None:
        _text(own["git_sha"], "git_sha")
    if type(own["threads"]) is not int or not 1 <= own["threads"] <= 256:
        raise ValueError(f"threads is {str(own['threads'])[:20]!r}")
    if own["metric"] not in METRICS:
        raise ValueError(f"metric is {str(own['metric'])[:40]!r}; there are {', '.join(METRICS)}")
    point = Point(**own | _figures(own))
    if not 0 <= point.moment < _LATEST:
        raise ValueError(f"utc is {point.utc!r}")
    return point


def _figures(own: dict[str, Any]) -> dict[str, float | None]:
    value = files.number(own["value"], "value")
    if own["low"] is None and own["high"] is None:
        return {"value": value, "low": None, "high": None}
    low, high = files.number(own["low"], "low"), files.number(own["high"], "high")
    if not low <= value <= high:
        raise ValueError(f"the value {value:g} is not between its ends, {low:g} and {high:g}")
    return {"value": value, "low": low, "high": high}


def _text(value: Any, key: str, *, empty: bool = False) -> None:
    if not isinstance(value, str) or not (value or empty) or len(value) > 4096:
        raise ValueError(f"{key} is {str(value)[:40]!r}")
    value.encode()  # half a surrogate pair is no text: UnicodeEncodeError is a ValueError
