"""Options that several requests share."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

Space = Annotated[str, typer.Option(help="Search space: nasvit, alphanet, nano, or a path to a TOML file.")]
TableDevice = Annotated[
    str | None,
    typer.Option(
        "--device",
        show_default="that of NASVIT_EDGE_DEVICE, or host",
        help="The device; host:litert:2t:int8 names a table in full.",
    ),
]
SpaceOfTable = Annotated[str | None, typer.Option("--space", help="The space, where the table needs it.")]
Result = Annotated[Path | None, typer.Argument(help="A result file of `search`.")]
SpaceOfConfig = Annotated[str | None, typer.Option("--space", help="With --config: the search space.")]
Config = Annotated[Path | None, typer.Option(help="An explicit subnet: the JSON of config.to_dict().")]
Seed = Annotated[int, typer.Option(min=0, help="Same seed and table, same subnet.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]
Supernet = Annotated[
    str | None,
    typer.Option(help="Weights: a checkpoint file, the name of shipped weights (nano), or random[:SEED]."),
]
WeightsKey = Annotated[
    str | None,
    typer.Option(
        "--weights-key",
        show_default="those that fit, averaged ones first",
        help="Which weights of the file, where it holds several: model_ema, state_dict.student, ...",
    ),
]
LabelsInOrder = Annotated[
    bool,
    typer.Option(
        "--labels-in-order",
        help="Class folders that are called otherwise than the labels take these in order.",
    ),
]
Out = Annotated[Path, typer.Option(help="Where to write.")]


def usual_device() -> str:
    """The device of a table where none is given."""
    return os.environ.get("NASVIT_EDGE_DEVICE") or "host"


NoCanary = Annotated[
    bool,
    typer.Option(
        "--no-canary", help="Do not time a few models first, which tells how fast this machine is today."
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChoice:
    """Which latency table answers; what is None is the device's own.

    Attributes:
        table: its file, instead of all the others.
        device: also `host:litert:2t:int8`, or the path of a device's TOML; each command says which of its options is meant.
        usual: the device where none is given.
    """

    runtime: Annotated[
        str | None, typer.Option(show_default="the device's first", help="onnxruntime, litert, ...")
    ] = None
    threads: Annotated[
        int | None, typer.Option(show_default="the device's", min=1, max=256, help="Of the runtime.")
    ] = None
    precision: Annotated[
        str | None,
        typer.Option(
            show_default="the device's", help="fp32, fp16, int8, dynamic or w8; search also: mixed."
        ),
    ] = None
    table: Annotated[Path | None, typer.Option(help="A latency table file, instead of the device's.")] = None
    interpolate: Annotated[
        bool, typer.Option("--interpolate", help="Estimate ops that the table does not have, and say so.")
    ] = False
    no_canary: NoCanary = False
    device: str | None = None
    usual: str = field(default_factory=usual_device)


# -- reaching a device ------------------------------------------------------------------------------

Address = Annotated[str | None, typer.Option(help="Of an ssh device: user@host.")]
Serial = Annotated[str | None, typer.Option(help="Of an Android device, as `adb devices` lists it.")]
LockClocks = Annotated[
    bool, typer.Option("--lock-clocks", help="Set fixed clocks meanwhile; restored afterwards.")
]
Wait = Annotated[str, typer.Option(help="For a device that is away.")]
Interface = Annotated[str | None, typer.Option(help="The address of this machine that phones reach.")]


# -- training ---------------------------------------------------------------------------------------

TrainingImages = Annotated[
    str,
    typer.Option(
        "--data",
        help="fashion-mnist, cifar10, cifar100, or a folder of images, a folder for each class; scenes with their masks.",
    ),
]
TrustTeacher = Annotated[
    bool,
    typer.Option(
        "--trust-teacher",
        help="Run a teacher that is a program: TorchScript and pickled models can do whatever you can.",
    ),
]
RecipeValues = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change the recipe: optimizer.learning_rate=2e-3; repeatable."),
]
Epochs = Annotated[int | None, typer.Option(min=1, show_default="the recipe's", help="As --set run.epochs.")]
BatchSize = Annotated[
    int | None,
    typer.Option(min=2, show_default="the recipe's", help="Images a step of each process: run.batch_size."),
]
TrainingThreads = Annotated[
    int, typer.Option("--threads", min=1, max=256, help="CPU threads of each process.")
]
TrainingSeed = Annotated[int, typer.Option("--seed", min=0, help="Same seed, recipe and data: same weights.")]
LoadingWorkers = Annotated[
    int, typer.Option("--workers", min=0, max=64, help="Processes that prepare images.")
]
StallMinutes = Annotated[
    float, typer.Option(min=0.1, help="Without a batch of images: then loading counts as stalled.")
]
CheckpointMinutes = Annotated[
    float, typer.Option(min=0.0, help="Between two checkpoints; 0: after every step.")
]
ValidateEvery = Annotated[
    int, typer.Option(min=0, help="Epochs between two measurements; 0: only at the end.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")]
