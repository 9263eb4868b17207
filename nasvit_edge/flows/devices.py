"""What the `devices` command shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nasvit_edge.device import Device, device_names, load_device
from nasvit_edge.errors import DeviceError, NasvitEdgeError
from nasvit_edge.hints import RESULT, command
from nasvit_edge.latency.selection import found_tables, heading
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.profile.protocol import load_protocol
from nasvit_edge.records import Record
from nasvit_edge.transport.connect import check
from nasvit_edge.transport.outputs.delegation import OpTime
from nasvit_edge.transport.ways import Step, Ways, failed


class DeviceRow(Record, frozen=True, kw_only=True):
    """A device; `tables` counts those that are found for it."""

    name: str
    transport: str
    runtimes: tuple[str, ...]
    tables: int
    about: str


class UnreadableDevice(Record, frozen=True, kw_only=True):
    """A device whose file cannot be read, and why."""

    name: str
    error: str


def listed() -> list[DeviceRow | UnreadableDevice]:
    """Every device that is known by name."""
    return [_row(name) for name in device_names()]


def _row(name: str) -> DeviceRow | UnreadableDevice:
    try:
        device = load_device(name)
    except NasvitEdgeError as error:
        return UnreadableDevice(name=name, error=str(error))
    tables = sum(heading(path).get("device") == device.name for path in found_tables())
    return DeviceRow(
        name=name,
        transport=device.transport,
        runtimes=device.runtimes,
        tables=tables,
        about=device.about,
    )


def shown(device: Device) -> dict[str, object]:
    """What the device's file says; environment variables stay names."""
    names = [name for name in Device.__struct_encode_fields__ if name != "schema"]
    fields = {name: getattr(device, name) for name in names}
    return {key: _plain(value) for key, value in fields.items() if value not in ("", (), 0)}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value if isinstance(value, int | str) else str(value)


def checked(device: Device, ways: Ways, listener: Listener = SILENT) -> Iterator[Step]:
    """The steps of reaching a device; one that raises is the last, and not good."""
    try:
        yield from check(device, ways, listener)
    except NasvitEdgeError as error:
        yield failed("reach", error)


def op_times(
    device: Device, artifact: Path, runtime: str | None, threads: int | None, listener: Listener
) -> list[OpTime]:
    """The ops of a model file in the order they run, with their times on an Android device.

    Raises:
        DeviceError: a device whose runner has no op profile, or that is not reached.
        MeasurementError: the model does not run there.
    """
    if device.transport != "adb":
        raise DeviceError(f"device {device.name!r} has no op profile; devices over adb have: android")
    runtime = runtime or device.runtimes[0]
    if runtime not in device.runtimes:
        raise DeviceError(
            f"device {device.name!r} has no runtime {runtime!r}; it has {', '.join(device.runtimes)}"
        )
    if not artifact.is_file():
        raise DeviceError(
            f"model {str(artifact)!r} is no file; export one: "
            + command("export", RESULT, format="tflite", out=artifact)
        )
    from nasvit_edge.transport.adb import adb_runner

    count = threads or device.threads
    with adb_runner(device.with_secrets(), Ways(), listener) as runner:
        runner.bring([artifact], SILENT)
        cores = device.cores or runner.cores(count)
        job = load_protocol("default").job(
            id=artifact.name, model=str(artifact), runtime=runtime, threads=count, cores=cores, seed=0
        )
        return list(runner.op_profile(job))
