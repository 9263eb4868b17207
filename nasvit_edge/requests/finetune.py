"""What `nasvit-edge finetune` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nasvit_edge.requests import options


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Either `result` (with `supernet` where it names none), or `space`, `supernet` and `config`; and how it is trained on."""

    result: options.Result = None
    data: options.TrainingImages = "fashion-mnist"
    labels_in_order: options.LabelsInOrder = False
    out: options.Out = Path("runs/tuned")
    space: options.SpaceOfConfig = None
    supernet: options.Supernet = None
    config: options.Config = None
    recipe: Annotated[
        str | None,
        typer.Option(
            show_default="finetune; finetune-int8 with --quantise",
            help="A recipe that trains one subnet, or a TOML file.",
        ),
    ] = None
    values: options.RecipeValues = None
    epochs: options.Epochs = None
    learning_rate: Annotated[
        float | None,
        typer.Option(
            min=1e-8, max=100.0, show_default="the recipe's", help="As --set optimizer.learning_rate."
        ),
    ] = None
    batch_size: options.BatchSize = None
    teacher: Annotated[
        str | None,
        typer.Option(
            show_default="labels; itself with --quantise",
            help="What it learns from: labels; itself (its answers before, in floating point); "
            "timm:NAME, torchvision:NAME, an ONNX file, a supernet's weights or run folder.",
        ),
    ] = None
    trust_teacher: options.TrustTeacher = False
    freeze_below: Annotated[
        str, typer.Option(help="Keep the weights before this stage (mb4, or classifier: all but that one).")
    ] = ""
    quantise: Annotated[
        str, typer.Option(help="int8: train in 8-bit arithmetic, so that the int8 export loses less.")
    ] = ""
    seed: options.TrainingSeed = 0
    threads: options.TrainingThreads = 2
    workers: options.LoadingWorkers = 1
    stall_minutes: options.StallMinutes = 5.0
    checkpoint_minutes: options.CheckpointMinutes = 1.0
    validate_every: options.ValidateEvery = 1
    resume: options.Resume = False
