"""What trtexec prints and exports, of TensorRT 8 to 11.

A latency is the GPU's compute time: from the first kernel of an inference to its last one, by CUDA events.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nasvit_edge import host_code
from nasvit_edge.errors import MeasurementError
from nasvit_edge.transport.answers import is_positive

TOO_OLD = "its TensorRT is too old (7 or earlier): TensorRT 8 (JetPack 4.6) or newer is needed"
_OLDEST = 8
_NUMBER = r"([0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)"
_STATUS = re.compile(r"^&&&& (PASSED|FAILED) TensorRT\.trtexec \[TensorRT v(\d{4,6})\]", re.M)
_COMPUTE = re.compile(rf"GPU Compute Time: min = {_NUMBER} ms, .*?\bmedian = {_NUMBER} ms")
_UNSTABLE = re.compile(r"\* .*(?:unstable|throttl)", re.I)
_AGREE = 0.25  # the samples that travel are a part of those that trtexec's own median is of
_STEP_MS = 0.002


@dataclass(frozen=True, slots=True)
class TrtexecReport:
    """What a run said of itself: its version, the median of its GPU compute times, and whether they were unstable."""

    version: str
    median_ms: float
    unstable: bool


def version(text: str) -> str:
    """`10.3.0` from `v100300`, `8.5.2` from `v8502`; any other text as it is."""
    packed = re.fullmatch(r"v(\d{4,6})", text)
    if packed is None:
        return text
    number = int(packed[1])
    unit = 10000 if number >= 10000 else 1000
    return f"{number // unit}.{number % unit // 100}.{number % 100}"


def is_too_old(version: str) -> bool:
    """Whether a version that a device told is older than what is read here."""
    number = re.match(r"\d+", version)
    return number is not None and int(number[0]) < _OLDEST


def read_report(text: str) -> TrtexecReport:
    """The summary of a run.

    Raises:
        MeasurementError: it failed, or is not what any known version prints; with the lines.
    """
    if host_code.complaints().too_old(text):
        raise MeasurementError(host_code.complaints().TOO_OLD)
    statuses = _STATUS.findall(text)
    if not statuses or statuses[-1][0] != "PASSED":
        raise MeasurementError(f"trtexec did not pass: {host_code.complaints().complaint(text)}")
    times = _COMPUTE.findall(text)
    if len(times) != 1 or not 0 < float(times[0][1]) < 1e7:
        near = [line for line in text.splitlines() if "GPU Compute" in line or "ompute" in line]
        raise MeasurementError(f"trtexec printed no GPU compute time that is known: {_shown(near or [text])}")
    return TrtexecReport(
        version(f"v{statuses[-1][1]}"), float(times[0][1]), _UNSTABLE.search(text) is not None
    )


def read_times(times: Any) -> list[tuple[float, float]]:
    """(seconds since the first one, GPU compute time in us) of the samples of --exportTimes.

    Raises:
        MeasurementError: they are not what any known version exports; with the first that is not.
    """
    if not isinstance(times, list) or not times:
        raise MeasurementError(
            f"trtexec exported times in a format that is not known: {_shown([str(times)])}"
        )
    pairs = [_sample(entry) for entry in times]
    start = pairs[0][0]
    return [(at - start, us) for at, us in pairs]


def _sample(entry: Any) -> tuple[float, float]:
    """One sample: its start in seconds, and its computeMs, or the difference of its ends where that is not told."""
    if isinstance(entry, dict):
        values: list[Any] = [entry.get(key) for key in ("startComputeMs", "endComputeMs", "computeMs")]
        start, end, ms = values
        start_ms = float(start) if _is_time(start) else None
        if ms is None and start_ms is not None and _is_time(end):
            ms = float(end) - start_ms
        if is_positive(ms) and (start is None or start_ms is not None):
            return (start_ms or 0.0) / 1e3, round(float(ms) * 1e3, 3)
    raise MeasurementError(f"trtexec exported a time in a format that is not known: {_shown([str(entry)])}")


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12


def read_run(text: str, times: Any) -> tuple[TrtexecReport, list[float]]:
    """The summary and the latencies in us, which must be of the same run.

    Raises:
        MeasurementError: either is not known, or they say different things.
    """
    report, samples = read_report(text), [us for _, us in read_times(times)]
    median_ms = statistics.median(samples) / 1e3
    if abs(median_ms - report.median_ms) > max(_STEP_MS, _AGREE * report.median_ms):
        raise MeasurementError(
            f"trtexec's median is {report.median_ms:g} ms, that of the times it exported {median_ms:g} ms"
        )
    return report, samples


def windows(times: Any) -> list[list[float]]:
    """[seconds since the start, median in us] of each second of a sustained run."""
    groups: dict[int, list[float]] = {}
    for at, us in read_times(times):
        groups.setdefault(int(max(0.0, at)), []).append(us)
    return [[float(second + 1), statistics.median(group)] for second, group in sorted(groups.items())]


def _shown(lines: Sequence[str]) -> str:
    return repr(" | ".join(" ".join(line.split())[:160] for line in lines[:2]))
