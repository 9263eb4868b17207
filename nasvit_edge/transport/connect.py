"""From a device to a runner on it, and what `devices check` finds on the way."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

from nasvit_edge import systems
from nasvit_edge.device import Device
from nasvit_edge.errors import require
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.transport.job import Runner
from nasvit_edge.transport.ways import Step, Transport, Ways

_NEEDED = {"pull": ("h11", "devices")}  # a package, and the extra that brings it


def transport_of(device: Device) -> Transport:
    """How a device is reached, which is the module of that name; MissingExtraError where a package is missing."""
    systems.require_transport(device.transport, device.name)
    if device.transport in _NEEDED:
        require(*_NEEDED[device.transport])
    module = importlib.import_module(f"nasvit_edge.transport.{device.transport}")
    return module.TRANSPORT


def connect(device: Device, ways: Ways, listener: Listener) -> AbstractContextManager[Runner]:
    """A runner on the device; on leaving, it has ended there and what it left or set is undone.

    Raises:
        DeviceError: one line: what could not be reached, and what to do.
    """
    return transport_of(device).connect(device.with_secrets(), ways, listener)


def check(device: Device, ways: Ways, listener: Listener = SILENT) -> Iterator[Step]:
    """What is reached and found, step by step; ends after the first step that nothing can follow.

    `note` takes what a person has to do meanwhile: the address that a phone opens.
    """
    return transport_of(device).check(device.with_secrets(), ways, listener)
