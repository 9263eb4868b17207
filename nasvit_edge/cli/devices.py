"""`nasvit-edge devices`."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import asdict
from typing import Any

import typer

from nasvit_edge.cli.adapter import adapted
from nasvit_edge.cli.output import TERMINAL, note, print_json, print_table, waiting
from nasvit_edge.requests.devices import DeviceCheck, DeviceShown, Ops

devices = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Example:  nasvit-edge devices check jetson --address user@board\n\n"
    "Devices: list, show, or check step by step what of one is reached and found.",
)


def list_devices(as_json: bool) -> None:
    """Example:  nasvit-edge devices list

    The shipped devices and your own (a device.toml each in the folder that is named below the list).
    """
    from nasvit_edge.device import user_folder
    from nasvit_edge.flows.devices import DeviceRow, listed
    from nasvit_edge.records import content

    rows = listed()
    if as_json:
        print_json(content(rows))
        return
    good = [row for row in rows if isinstance(row, DeviceRow)]
    cells = [[r.name, r.transport, ", ".join(r.runtimes), str(r.tables), r.about] for r in good]
    print_table(["device", "transport", "runtimes", "tables", "about"], cells)
    for row in rows:
        if not isinstance(row, DeviceRow):
            note(row.error)
    note(f"your own: {user_folder()}/NAME.toml, or --device FILE.toml")


def show(request: DeviceShown, as_json: bool) -> None:
    """Example:  nasvit-edge devices show jetson

    What a device's file says.
    """
    from nasvit_edge.device import load_device
    from nasvit_edge.flows.devices import shown

    fields = shown(load_device(request.name))
    if as_json:
        print_json(fields)
        return
    print_table(["field", "value"], [[key, _text(value)] for key, value in fields.items()])


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def check(request: DeviceCheck, as_json: bool) -> None:
    """Example:  nasvit-edge devices check raspberry-pi --address pi@192.168.1.20

    Step by step what was reached and found (runtimes, free space, clocks, temperature), and what to do about
    what is missing. Exit code 1 where a step failed.
    """
    from nasvit_edge.device import load_device
    from nasvit_edge.flows.devices import checked
    from nasvit_edge.transport.ways import Ways
    from nasvit_edge.units import seconds

    device = load_device(request.name).at(request.address, request.serial)
    ways = Ways(wait_s=seconds(request.wait), interface=request.interface, tls=request.tls)
    spinner = (
        contextlib.nullcontext() if device.transport == "pull" else waiting(f"looking at {request.name}")
    )
    with spinner:  # which would overwrite a QR code
        steps = list(checked(device, ways, TERMINAL))
    if as_json:
        print_json([asdict(step) for step in steps])
    else:
        rows = [["ok" if s.good else "-", s.name, s.found, s.todo] for s in steps]
        print_table(["", "step", "found", "what to do"], rows)
    if not all(step.good for step in steps):
        sys.exit(1)


def ops(request: Ops, as_json: bool) -> None:
    """Example:  nasvit-edge devices ops android model.tflite

    What each op of a model takes on an Android device, by benchmark_model's own profiler.
    """
    from nasvit_edge.device import load_device
    from nasvit_edge.flows.devices import op_times

    device = load_device(request.name).at(None, request.serial)
    with waiting(f"profiling {request.artifact.name} on {request.name}"):
        rows = op_times(device, request.artifact, request.runtime, request.threads, TERMINAL)
    if as_json:
        print_json(rows)
        return
    columns = ["op", "kind", "ms", "share", "calls"]
    cells = [[r.name, r.kind, f"{r.avg_ms:.3f}", f"{r.share:.1%}", str(r.times)] for r in rows]
    print_table(columns, cells)


devices.command("list", short_help="Every device.")(adapted(list_devices))
devices.command("show", short_help="What a device's file says.")(adapted(show))
devices.command("ops", short_help="What each op of a model takes (Android).")(adapted(ops))
devices.command("check", short_help="Reach a device, step by step.")(adapted(check))
