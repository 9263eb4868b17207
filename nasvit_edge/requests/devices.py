"""What `nasvit-edge devices` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nasvit_edge.requests import options

_Text = str | None
Name = Annotated[str, typer.Argument(help="A device of `devices list`, or the path of a device.toml.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceShown:
    """A device."""

    name: Name


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCheck:
    """A device, and how it is reached."""

    name: Name
    address: options.Address = None
    serial: Annotated[_Text, typer.Option(help="Of an Android device.")] = None
    wait: Annotated[str, typer.Option(help="For a phone that has to open the page.")] = "2m"
    interface: options.Interface = None
    tls: Annotated[bool, typer.Option("--tls", help="Serve phones by HTTPS.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ops:
    """A device and a model that it runs."""

    name: Name
    artifact: Annotated[Path, typer.Argument(help="A model file that the device's runtime reads.")]
    runtime: Annotated[_Text, typer.Option(help="Of the device's (its first unless given).")] = None
    threads: Annotated[int | None, typer.Option(min=1, max=256)] = None
    serial: Annotated[_Text, typer.Option(help="Of an Android device.")] = None
