"""What `nasvit-edge accuracy fit` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nasvit_edge.requests import options


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Weights and images to measure subnets with, those that are shipped where None; or a file of measured ones."""

    supernet: options.Supernet = None
    data: Annotated[
        str | None,
        typer.Option(help="Images to measure on: bundled, fashion-mnist, a folder; scenes (mean IoU)."),
    ] = None
    labels_in_order: options.LabelsInOrder = False
    space: options.Space = "nano"
    samples: Annotated[int | None, typer.Option(show_default="200", help="Subnets to measure.")] = None
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.1, max=10_000, help="In place of --samples: as many as are measured in this time."
        ),
    ] = None
    out: options.Out = Path("accuracy.json")
    measured: Annotated[
        Path | None,
        typer.Option(help="A CSV or JSON of subnets measured before, by evaluate --supernet W --out FILE."),
    ] = None
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="Processes that measure.")] = None
    seed: options.Seed = 0
