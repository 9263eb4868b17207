"""Devices: a folder each in `devices/`, described by its `device.toml`."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasvit_edge import files
from nasvit_edge.errors import DeviceError

_KEYS: dict[str, type] = {
    "schema": int,
    "name": str,
    "transport": str,
    "runtimes": list,
    "runner": str,
    "about": str,
}
_TRANSPORTS = ("local",)


@dataclass(frozen=True, slots=True)
class Device:
    """A target: how it is reached (`transport`), which runtimes it has, and the program that runs on it."""

    name: str
    transport: str
    runtimes: tuple[str, ...]
    runner: Path
    about: str


def device_names() -> list[str]:
    """The shipped devices."""
    return sorted(path.parent.name for path in files.shipped("devices").glob("*/device.toml"))


def load_device(name: str) -> Device:
    """A device by name; DeviceError lists what there is."""
    if name not in device_names():
        raise DeviceError(f"unknown device {name!r}; there are {', '.join(device_names())}")
    path = files.shipped("devices") / name / "device.toml"
    return parse_device(files.read_toml(path, "device"), path)


def parse_device(table: dict[str, Any], path: Path) -> Device:
    """Check a `device.toml`; DeviceError names file and key."""
    files.checked_table(table, path, "device", _KEYS)
    if table["transport"] not in _TRANSPORTS:
        raise DeviceError(
            f"device {str(path)!r}: key 'transport' is {table['transport']!r}; there is {', '.join(_TRANSPORTS)}"
        )
    if not all(isinstance(runtime, str) for runtime in table["runtimes"]):
        raise DeviceError(f"device {str(path)!r}: key 'runtimes' is {table['runtimes']!r}; it must be names")
    runner = path.parent / table["runner"]
    return Device(table["name"], table["transport"], tuple(table["runtimes"]), runner, table["about"])


def cpu_model() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "Model"))]
    return named[0] if named else platform.processor() or "unknown"
