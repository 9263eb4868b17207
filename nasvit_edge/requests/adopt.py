"""What `nasvit-edge adopt` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nasvit_edge.requests import options


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A pretrained network and photographs."""

    network: Annotated[
        str,
        typer.Argument(
            metavar="NET", help="timm:NAME, torchvision:NAME, or efficientnet-lite0 to -lite2 (extra photos)."
        ),
    ]
    data: Annotated[str, typer.Option(help="Photographs, a folder for each class; or cifar10, ...")]
    out: options.Out = Path("runs/adopted")
    weights: Annotated[
        str,
        typer.Option(help="pretrained, random, or a file: a state dict or safetensors with NET's own names."),
    ] = "pretrained"
    minutes: Annotated[float, typer.Option(min=0.1, help="How long to train, unless --epochs says it.")] = (
        20.0
    )
    size: Annotated[
        int | None,
        typer.Option(
            min=32, max=1024, show_default="NET's, of small photos 96", help="Largest side of images."
        ),
    ] = None
    least_macs: Annotated[
        float,
        typer.Option(min=0.05, max=0.95, help="What the smallest subnet keeps of NET's MACs, at one size."),
    ] = 0.25
    name: Annotated[
        str, typer.Option(show_default="NET's, with the number of classes", help="What to call the space.")
    ] = ""
    recipe: Annotated[str, typer.Option(help="How it is trained: adopt, or a TOML file.")] = "adopt"
    values: options.RecipeValues = None
    epochs: options.Epochs = None
    batch_size: options.BatchSize = None
    threads: options.TrainingThreads = 2
    workers: options.LoadingWorkers = 1
    seed: options.TrainingSeed = 0
    resume: options.Resume = False
