"""What the `devices` command shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from nasvit_edge.device import Device, device_names, load_device
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.latency.table import found_tables
from nasvit_edge.transport.connect import Step, Ways, check


def listed() -> list[dict[str, Any]]:
    """Every device, or why its file cannot be read."""
    return [_row(name) for name in device_names()]


def _row(name: str) -> dict[str, Any]:
    try:
        device = load_device(name)
    except NasvitEdgeError as error:
        return {"name": name, "error": str(error)}
    tables = [path.stem for path in found_tables() if path.stem.startswith(f"{device.name}-")]
    return {
        "name": name,
        "transport": device.transport,
        "runtimes": list(device.runtimes),
        "tables": len(tables),
        "about": device.about,
    }


def shown(device: Device) -> dict[str, Any]:
    """What the device's file says; environment variables stay names."""
    found = {f.name: getattr(device, f.name) for f in fields(device)}
    return {key: _plain(value) for key, value in found.items() if value not in ("", (), 0)}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value if isinstance(value, int | str) else str(value)


def checked(device: Device, ways: Ways) -> Iterator[Step]:
    """The steps of reaching a device; one that raises is the last, and not good."""
    try:
        yield from check(device, ways)
    except NasvitEdgeError as error:
        yield Step("reach", False, str(error))
