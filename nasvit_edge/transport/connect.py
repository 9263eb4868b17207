"""From a device to a runner on it, and what `devices check` finds on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

from nasvit_edge.device import Device
from nasvit_edge.errors import require
from nasvit_edge.transport.job import Runner
from nasvit_edge.transport.ways import Note, Step, Ways


def connect(device: Device, ways: Ways, note: Note) -> AbstractContextManager[Runner]:
    """A runner on the device; on leaving, it has ended there and what it left or set is undone.

    Raises:
        DeviceError: one line: what could not be reached, and what to do.
    """
    device = device.with_secrets()
    if device.transport == "local":
        from nasvit_edge.transport.local import local_runner

        return local_runner(device.runner)
    if device.transport == "ssh":
        from nasvit_edge.transport.ssh import ssh_runner

        return ssh_runner(device, ways, note)
    if device.transport == "adb":
        from nasvit_edge.transport.adb import adb_runner

        return adb_runner(device, ways, note)
    require("h11", "devices")
    from nasvit_edge.transport.pull import pull_runner

    return pull_runner(device, ways, note)


def check(device: Device, ways: Ways, note: Note = lambda text: None) -> Iterator[Step]:
    """What is reached and found, step by step; ends after the first step that nothing can follow.

    `note` takes what a person has to do meanwhile: the address that a phone opens.
    """
    device = device.with_secrets()
    if device.transport == "local":
        from nasvit_edge.transport.local import check_local

        return check_local(device)
    if device.transport == "ssh":
        from nasvit_edge.transport.ssh import check_ssh

        return check_ssh(device, ways)
    if device.transport == "adb":
        from nasvit_edge.transport.adb import check_adb

        return check_adb(device, ways)
    require("h11", "devices")
    from nasvit_edge.transport.pull import check_pull

    return check_pull(device, ways, note)
