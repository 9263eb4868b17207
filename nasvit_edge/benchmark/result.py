"""Result files of `nasvit-edge benchmark`: all samples of all rounds, and what they were measured on.

schema, kind        1, "benchmark"
run                 uuid, utc, tool_version, git_sha, git_dirty, ci_url
device              name, about (its fingerprint), conditions, busy_cores
protocol            rounds, order, runs, seconds, most_seconds, precision, threads, seed, cores
aa                  whether both sides are the same artifact
complete, stopped   false and why, where it ended early
artifacts           name, baseline (a place in this list or null), runtime, runtime_version, sha256, bytes, format,
                    precision, ..., rounds: samples_us, load_ms, first_ms, warm_load_ms, memory_bytes, flags, before, after
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasvit_edge import files
from nasvit_edge.benchmark.accuracy import Accuracy, read_accuracy
from nasvit_edge.benchmark.fields import count, share, text
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.records import content
from nasvit_edge.transport.answers import FLAGS, Failure, is_positive, measurement

SCHEMA = 1
KIND = "benchmark"
_DEVICE = ("board", "soc", "architecture", "cores")
_MOST_ROUNDS, _MOST_ARTIFACTS = 1000, 1000
_LEAST = 1e-9  # of a figure in ms, us or bytes


class ResultError(NasvitEdgeError):
    """A file that is no result of `nasvit-edge benchmark`."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An artifact of a result.

    Attributes:
        rounds: as the runner answered, with `round`, `position` and `flags`.
        predicted_ms: value, low and high end, of the device's latency table; None without one.
        fallback_ops: how many ops the runtime's delegate or parser would not take; None where nobody can tell.
        int8_macs: the share of them that is in int8; None of a file that claims no 8 bits, or was measured by an older version.
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


@dataclass(frozen=True, slots=True)
class Result:
    """A result file.

    Attributes:
        key: what has to be equal for figures of two runs to be of one device.
        raw: the whole content.
    """

    path: Path
    device: str
    key: tuple[str, ...]
    aa: bool
    stopped: str | None
    artifacts: tuple[Measured, ...]
    raw: dict[str, Any]

    @property
    def threads(self) -> int:
        """Of the runtime."""
        return int(self.raw["protocol"]["threads"])

    @property
    def rounds(self) -> int:
        """How many were asked for."""
        return int(self.raw["protocol"]["rounds"])


def read_result(path: Path) -> Result:
    """A result file, every field that is used checked.

    Raises:
        ResultError: it is another file, damaged, or of another schema.
    """
    raw = files.read_json(path, "benchmark result")
    if raw.get("kind") != KIND:
        raise ResultError(
            f"{str(path)!r} is no benchmark result (its kind is {str(raw.get('kind'))[:40]!r}); "
            "run: nasvit-edge benchmark ARTIFACT --out FILE"
        )
    if raw.get("schema") != SCHEMA:
        raise ResultError(
            f"benchmark result {str(path)!r} has schema {str(raw.get('schema'))[:20]!r}, this version reads {SCHEMA}; "
            "measure again with nasvit-edge benchmark"
        )
    try:
        return _result(path, raw)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        reason = f"{type(error).__name__} {error}"[:160]
        raise ResultError(f"benchmark result {str(path)!r} is damaged: {reason}") from None


def _result(path: Path, raw: dict[str, Any]) -> Result:
    run, device, protocol = raw["run"], raw["device"], raw["protocol"]
    if not all(isinstance(part, dict) for part in (run, device, protocol)):
        raise ValueError("'run', 'device' or 'protocol' is no object")
    _texts(run, ("uuid", "utc", "tool_version"))
    _texts(device, ("name",))
    count(protocol["rounds"], 1, _MOST_ROUNDS)
    count(protocol["threads"], 1, 256)
    if not isinstance(device["about"], dict) or not isinstance(raw["aa"], bool):
        raise ValueError("'about' or 'aa' is of another kind")
    if not isinstance(raw["artifacts"], list) or not 0 < len(raw["artifacts"]) <= _MOST_ARTIFACTS:
        raise ValueError("'artifacts' is no list of artifacts")
    stopped = None if raw["complete"] is True else text(raw.get("stopped") or "for an unknown reason")
    artifacts = tuple(_measured(entry, len(raw["artifacts"])) for entry in raw["artifacts"])
    about = tuple(str(device["about"].get(key)) for key in _DEVICE)
    return Result(path, device["name"], (device["name"], *about), raw["aa"], stopped, artifacts, raw)


def _measured(entry: Any, artifacts: int) -> Measured:
    if not isinstance(entry, dict):
        raise ValueError(f"{str(entry)[:40]!r} is no artifact")
    _texts(entry, ("name", "runtime", "sha256", "format", "precision"))
    baseline = entry["baseline"]
    if baseline is not None:
        count(baseline, 0, artifacts - 1)
    rounds = entry["rounds"]
    if not isinstance(rounds, list) or len(rounds) > 2 * _MOST_ROUNDS:
        raise ValueError("'rounds' is no list of rounds")
    kept = tuple(_round(round_) for round_ in rounds)
    predicted = entry.get("predicted_ms")
    fallback, macs = entry.get("fallback_ops"), entry.get("macs")
    return Measured(
        name=entry["name"],
        baseline=baseline,
        runtime=entry["runtime"],
        runtime_version=kept[0]["runtime_version"] if kept else "",
        sha256=entry["sha256"],
        bytes=count(entry["bytes"], 1, 1 << 50),
        format=entry["format"],
        precision=entry["precision"],
        rounds=kept,
        accuracy=None if entry.get("accuracy") is None else read_accuracy(entry["accuracy"]),
        predicted_ms=None if predicted is None else _three(predicted),
        fallback_ops=None if fallback is None else count(fallback, 0, 1 << 30),
        macs=None if macs is None else count(macs, 1, 1 << 60),
        int8_macs=None if entry.get("int8_macs") is None else share(entry["int8_macs"]),
    )


def _round(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise ValueError(f"{str(entry)[:40]!r} is no round")
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


def _three(value: Any) -> tuple[float, float, float]:
    if not isinstance(value, list) or len(value) != 3 or not all(map(is_positive, value)):
        raise ValueError("'predicted_ms' is no value with an interval")
    return (float(value[0]), float(value[1]), float(value[2]))


def _texts(table: dict[str, Any], keys: tuple[str, ...]) -> None:
    for key in keys:
        text(table[key])
