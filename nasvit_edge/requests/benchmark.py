"""What `nasvit-edge benchmark` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nasvit_edge.requests import options

_Text = str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Model files, what they are compared with, and how they are timed."""

    artifacts: Annotated[list[Path], typer.Argument(help="Exported model files, or others of their formats.")]
    baseline: Annotated[
        list[Path] | None,
        typer.Option(help="What they are compared with, measured in turns: one for all, or one for each."),
    ] = None
    device: Annotated[
        str,
        typer.Option(
            envvar="NASVIT_EDGE_DEVICE", help="The device; host:litert:2t:int8 names a table in full."
        ),
    ] = "host"
    rounds: Annotated[
        int, typer.Option(min=1, max=1000, help="Fresh processes an artifact; 8 find 5 %, 12 more surely.")
    ] = 8
    runtime: Annotated[
        _Text, typer.Option(show_default="the device's first for the format", help="onnxruntime, litert, ...")
    ] = None
    threads: Annotated[
        int, typer.Option(min=0, max=256, show_default="the device's", help="Of the runtime.")
    ] = 0
    aa: Annotated[
        bool, typer.Option("--aa", help="Measure each artifact against itself: the device's noise floor.")
    ] = False
    data: Annotated[
        _Text,
        typer.Option(help="Labelled images for top-1: bundled, cifar10, a folder, ...; scenes for mean IoU."),
    ] = None
    labels_in_order: options.LabelsInOrder = False
    space: Annotated[
        list[str] | None,
        typer.Option(
            help="The TOML of a space of your own that an artifact is from, for --data and predictions; repeatable."
        ),
    ] = None
    no_canary: options.NoCanary = False
    seconds: Annotated[float, typer.Option(min=0.01, max=600, help="Of samples in a round, at least.")] = 0.5
    address: options.Address = None
    serial: options.Serial = None
    lock_clocks: options.LockClocks = False
    wait: options.Wait = "10m"
    seed: options.Seed = 0
    out: Annotated[Path, typer.Option(help="The result file.")] = Path("benchmark.json")
