"""What `nasvit-edge train` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nasvit_edge.requests import options


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A space, a recipe and images, and how the run is carried out."""

    space: Annotated[
        str | None,
        typer.Option(
            show_default="the recipe's, or nano", help="nasvit, alphanet, nano, ..., or a TOML file."
        ),
    ] = None
    data: options.TrainingImages = "fashion-mnist"
    out: options.Out = Path("runs/nano")
    recipe: Annotated[
        str | None,
        typer.Option(
            show_default="nano up to 64 pixels, else nasvit",
            help="nasvit, alphanet, bignas, deit, levit, single, ..., or a TOML file.",
        ),
    ] = None
    values: options.RecipeValues = None
    epochs: options.Epochs = None
    batch_size: options.BatchSize = None
    teacher: Annotated[
        str | None, typer.Option(help="What the largest learns from: timm:NAME, torchvision:NAME or a file.")
    ] = None
    trust_teacher: options.TrustTeacher = False
    name: Annotated[
        str,
        typer.Option(
            show_default="the space's; with other classes nano-8c", help="What to call the trained space."
        ),
    ] = ""
    config: Annotated[
        Path | None,
        typer.Option(help="Train this subnet alone, from the start: the JSON of config.to_dict()."),
    ] = None
    fork: Annotated[
        Path | None,
        typer.Option(
            help="Go on from this run's newest checkpoint; its recipe and space where none is given."
        ),
    ] = None
    supernet: Annotated[
        str | None, typer.Option(help="Start from these weights: a file, or shipped ones by name.")
    ] = None
    threads: options.TrainingThreads = 2
    workers: options.LoadingWorkers = 1
    stall_minutes: options.StallMinutes = 5.0
    seed: options.TrainingSeed = 0
    bf16: Annotated[bool, typer.Option("--bf16", help="Passes under bfloat16 autocast.")] = False
    sync_bn: Annotated[bool, typer.Option("--sync-bn", help="Batch statistics over all processes.")] = False
    conflicts: Annotated[
        bool, typer.Option("--conflicts", help="Log how the gradients of subnets and largest agree.")
    ] = False
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log for TensorBoard too.")] = False
    validate_every: options.ValidateEvery = 1
    checkpoint_minutes: options.CheckpointMinutes = 5.0
    keep: Annotated[int, typer.Option(min=1, help="Checkpoints to keep.")] = 2
    resume: options.Resume = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print MACs, memory and an estimated time; train nothing.")
    ] = False
