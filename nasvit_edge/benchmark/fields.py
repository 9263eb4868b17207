"""Fields of result files, checked as they are read."""

from __future__ import annotations

from typing import Any

_MOST = 1 << 24  # characters


def text(value: Any) -> str:
    """A text that is not empty; ValueError for anything else."""
    if not isinstance(value, str) or not value or len(value) > _MOST:
        raise ValueError(f"{str(value)[:40]!r} is no text")
    return value


def count(value: Any, low: int, high: int) -> int:
    """A whole number from `low` to `high`; ValueError for anything else."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{str(value)[:40]!r} is no count from {low} to {high}")
    return value
