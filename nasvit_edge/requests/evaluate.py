"""What `nasvit-edge evaluate` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nasvit_edge.preparation import PUBLISHED
from nasvit_edge.requests import options


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An artifact, or a supernet whose subnets are measured, and the images.

    Attributes:
        space: None: that of the run the weights are from (`space.toml` beside them), or the one they name.
    """

    artifact: Annotated[Path | None, typer.Argument(help="An exported model file.")] = None
    supernet: options.Supernet = None
    data: Annotated[
        str,
        typer.Option(
            help="Labelled images: bundled, fashion-mnist, cifar10, cifar100, or a folder with one folder per class; scenes with their masks."
        ),
    ] = "bundled"
    labels_in_order: options.LabelsInOrder = False
    subnets: Annotated[
        str | None,
        typer.Option(
            show_default="min,max,random:20",
            help="Of the supernet: min, max, random:N, or a JSON file (a list of configs, or a result file).",
        ),
    ] = None
    split: Annotated[
        str | None,
        typer.Option(
            show_default="test; of a supernet validation",
            help="The images judged on: test, validation, or all of a folder that has no splits.",
        ),
    ] = None
    calibration_images: Annotated[
        int | None,
        typer.Option(
            min=1, max=4096, show_default="4096", help="Training images that each subnet is calibrated on."
        ),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=256, show_default="a core each", help="Processes that measure subnets."),
    ] = None
    out: Annotated[Path | None, typer.Option(help="Also write the subnets as CSV.")] = None
    chain: Annotated[
        str,
        typer.Option(
            help="How images are prepared: published (as trained: by the space's image size) or deployed (straight to the subnet's resolution)."
        ),
    ] = PUBLISHED
    seed: Annotated[
        int | None, typer.Option(min=0, show_default="0", help="Of random:N; same seed, same subnets.")
    ] = None
    threads: Annotated[
        int | None, typer.Option(min=1, max=256, show_default="1", help="Of an exported file's runtime.")
    ] = None
    space: Annotated[
        str | None, typer.Option(help="The space of the supernet, or the TOML of a space of your own.")
    ] = None
