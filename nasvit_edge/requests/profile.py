"""What `nasvit-edge profile` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nasvit_edge.requests import options

_Text = str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A table for each device and runtime, how it is measured, and what is measured afterwards."""

    device: Annotated[
        list[str] | None,
        typer.Option(
            envvar="NASVIT_EDGE_DEVICE",
            help="A device of `devices list`, or a device.toml; repeat it to measure several beside each other.",
        ),
    ] = None
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="Of the device's (its first unless given); repeatable, or: all. A table each."),
    ] = None
    space: options.Space = "nasvit"
    threads: Annotated[int | None, typer.Option(min=1, max=256, help="Threads of the runtime.")] = None
    precision: Annotated[
        _Text,
        typer.Option(
            help="Numbers of the model: fp32, fp16, int8, dynamic (linear layers in int8, TFLite) or w8 (8-bit weights only)."
        ),
    ] = None
    protocol: Annotated[str, typer.Option(help="quick, default or thorough.")] = "default"
    sample: Annotated[
        _Text, typer.Option(help="Measure a part (20%) and estimate the rest, until --sample-error.")
    ] = None
    sample_error: Annotated[
        _Text, typer.Option(show_default="5%", help="The error of estimates to reach, with --sample.")
    ] = None
    validate: Annotated[
        int | None, typer.Option(min=4, max=10_000, help="Then measure whole subnets against predictions.")
    ] = None
    sustained: Annotated[
        _Text, typer.Option(help="Then run a subnet so long (10m) without a pause: what the device keeps up.")
    ] = None
    address: Annotated[
        _Text, typer.Option(help="Of an ssh device: user@host, or a Host of ~/.ssh/config.")
    ] = None
    serial: options.Serial = None
    lock_clocks: options.LockClocks = False
    tls: Annotated[
        bool, typer.Option("--tls", help="Serve phones by HTTPS, with a certificate of its own.")
    ] = False
    interface: options.Interface = None
    port: Annotated[int, typer.Option(min=0, max=65535, help="To serve phones on; 0: a free one.")] = 0
    wait: options.Wait = "10m"
    web_runtime: Annotated[
        Path | None, typer.Option(help="A folder with onnxruntime-web, instead of fetching it.")
    ] = None
    offline: Annotated[
        Path | None, typer.Option(help="Write a bundle for a device without a network, and stop.")
    ] = None
    results: Annotated[Path | None, typer.Option(help="What such a device measured.")] = None
    again: Annotated[
        bool, typer.Option("--again", help="Measure all of it, also where a table has what still holds.")
    ] = False
    name: Annotated[_Text, typer.Option(help="Call the device this in the table: pixel-8.")] = None
    seed: options.Seed = 0
    out: Annotated[Path, typer.Option(help="The folder of the table.")] = Path("latency_tables")
