"""Points of a history for tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from nasvit_edge.benchmark.history import Point


def points(values: Sequence[float], **changes: Any) -> list[Point]:
    """A run an hour, each with an interval of 1 % either way."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        Point(
            **{
                "utc": (start + timedelta(hours=i)).isoformat(),
                "git_sha": f"{i:02x}" * 20,
                "uuid": f"run-{i}",
                "device": "board",
                "runtime": "onnxruntime",
                "runtime_version": "1.30.0",
                "threads": 1,
                "precision": "fp32",
                "artifact": "model.onnx",
                "metric": "latency_p50",
                "value": float(value),
                "low": 0.99 * float(value),
                "high": 1.01 * float(value),
                "sha256": "0" * 64,
                "board": "Board",
                "soc": "Chip",
                "architecture": "aarch64",
                "cores": 4,
            }
            | changes
        )
        for i, value in enumerate(values)
    ]
