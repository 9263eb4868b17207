"""What `nasvit-edge adopt` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.requests import options


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A network of others and photographs; or, `fixed`, the network alone.

    Attributes:
        labels, classes: of a fixed one; the classes of an elastic one are those of the photographs.
    """

    network: Annotated[
        str,
        typer.Argument(
            metavar="NET",
            help="timm:NAME, torchvision:NAME, or efficientnet-lite0 to -lite2 (extra photos); with --fixed any of timm, or your own "
            "function as module:function, which is run.",
        ),
    ]
    data: Annotated[
        str | None,
        typer.Option(
            help="Photographs, a folder for each class; or cifar10, ... With --fixed only for the names of the classes."
        ),
    ] = None
    fixed: Annotated[
        bool, typer.Option("--fixed", help="Take NET as it is: a space of one network, not trained.")
    ] = False
    labels: Annotated[
        Path | None, typer.Option(help="With --fixed: a file with the name of a class a line, in order.")
    ] = None
    classes: Annotated[
        int | None,
        typer.Option(min=1, show_default="of names, weights or NET", help="With --fixed: how many."),
    ] = None
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
    ] = 0.35
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

    @property
    def photographs(self) -> str:
        """What an elastic network is trained on; NasvitEdgeError where that was left out."""
        if self.data is None:
            raise NasvitEdgeError(
                "adopt makes a network elastic on photographs: add --data PHOTOS (or --fixed, which takes it as it is)"
            )
        return self.data
