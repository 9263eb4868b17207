"""A table of a search space's TOML, read key by key; every error names the key with its place."""

from __future__ import annotations

import re
from typing import Any

from nasvit_edge.errors import SpaceError


class TomlTable:
    """A TOML table that knows where it is and which keys were asked for."""

    def __init__(self, values: Any, where: str) -> None:
        if not isinstance(values, dict):
            raise SpaceError(f"{where.rstrip('.')!r} must be a table")
        self.values, self.where, self.left = values, where, set(values)

    def take(self, key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        self.left.discard(key)
        if key not in self.values:
            if default is not None:
                return default
            raise SpaceError(f"key '{self.where}{key}' is missing")
        value = self.values[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise SpaceError(f"key '{self.where}{key}' has the wrong type: {value!r}")
        return value

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        value: int = self.take(key, int, default)
        if not low <= value <= high:
            raise SpaceError(f"key '{self.where}{key}' is {value!r}; it must be {low} to {high}")
        return value

    def choices(self, key: str, low: int, high: int, multiple: int = 1) -> tuple[int, ...]:
        values = self.take(key, list)
        good = [type(v) is int and low <= v <= high and v % multiple == 0 for v in values]
        if not values or not all(good) or sorted(set(values)) != values:
            of = f" (multiples of {multiple})" if multiple > 1 else ""
            raise SpaceError(
                f"key '{self.where}{key}' is {values!r}; it must be a rising list of {low} to {high}{of}"
            )
        return tuple(values)

    def odd(self, key: str, high: int) -> int:
        value = self.integer(key, 1, high)
        if value % 2 == 0:
            raise SpaceError(f"key '{self.where}{key}' is {value!r}; kernels must be odd")
        return value

    def three(self, key: str, *, positive: bool) -> tuple[float, ...]:
        values = self.take(key, list)
        numbers = [isinstance(v, int | float) and not isinstance(v, bool) and -1e6 < v < 1e6 for v in values]
        if len(values) != 3 or not all(numbers) or (positive and min(values) <= 0):
            kind = "positive numbers" if positive else "numbers"
            raise SpaceError(f"key '{self.where}{key}' is {values!r}; it must be three {kind}")
        return tuple(float(v) for v in values)

    def name(self, key: str) -> str:
        name: str = self.take(key, str)
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
            raise SpaceError(f"key '{self.where}{key}' is {name!r}; use letters, digits, - and _")
        return name

    def table(self, key: str, default: dict[str, Any] | None = None) -> TomlTable:
        return TomlTable(self.take(key, dict, default), f"{self.where}{key}.")

    def done(self) -> None:
        if self.left:
            raise SpaceError(f"unknown key {self.where + min(self.left)!r}")
