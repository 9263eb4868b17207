"""The message `BenchmarkResult` that `benchmark_model --result_file_path` writes.

Source: `tflite/tools/benchmark/proto/benchmark_result.proto` of google-ai-edge/LiteRT (proto2): latency_metrics = 2
{avg_ms 1, min_ms 2, max_ms 3, stddev_ms 4, median_ms 5, p5_ms 6, p95_ms 7, init_ms 8, ...}, misc_metrics = 4 {num_runs 2}.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from nasvit_edge.errors import MeasurementError

_LATENCY, _MISC = 2, 4
_AVG, _MIN, _MAX, _MEDIAN, _P95 = 1, 2, 3, 5, 7
_RUNS = 2
_LONGEST = 1 << 16  # bytes; a real one has about a hundred
_SIZES = {5: ("<f", 4), 1: ("<d", 8)}  # wire type -> how a fixed number is stored


@dataclass(frozen=True, slots=True)
class ToolResult:
    """Latencies in us; `num_runs` is 0 where the file does not say."""

    avg_us: float
    median_us: float | None
    p95_us: float | None
    num_runs: int

    @classmethod
    def parse(cls, data: bytes) -> ToolResult:
        """MeasurementError where the bytes are no such message or its figures cannot be."""
        try:
            parts = dict(_fields(data))
            latency = dict(_fields(_bytes(parts.get(_LATENCY))))
            misc = dict(_fields(_bytes(parts.get(_MISC, b""))))
        except (IndexError, struct.error, ValueError):
            raise MeasurementError(
                f"benchmark_model's result file is no result: {data[:24].hex(' ')!r}"
            ) from None
        ms = {key: value for key, value in latency.items() if isinstance(value, float)}
        ordered = [ms[key] for key in (_MIN, _MEDIAN, _P95, _MAX) if key in ms]
        good = all(math.isfinite(value) and value >= 0 for value in ms.values()) and ms.get(_AVG, 0) > 0
        if not good or ordered != sorted(ordered):
            raise MeasurementError(f"benchmark_model's result file holds impossible latencies: {ms}")
        runs = misc.get(_RUNS, 0)
        return cls(
            ms[_AVG] * 1e3,
            ms[_MEDIAN] * 1e3 if _MEDIAN in ms else None,
            ms[_P95] * 1e3 if _P95 in ms else None,
            runs if isinstance(runs, int) else 0,
        )


def _bytes(value: int | float | bytes | None) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError(value)
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Number and value of each field, as protocol buffers put them."""
    if len(data) > _LONGEST:
        raise ValueError(len(data))
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
        elif kind in _SIZES:
            form, size = _SIZES[kind]
            yield number, struct.unpack_from(form, data, at)[0]
            at += size
        elif kind == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError(size)
            yield number, data[at : at + size]
            at += size
        else:
            raise ValueError(kind)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError(at)
