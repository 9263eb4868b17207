"""`nasvit-edge train`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from nasvit_edge.cli import options
from nasvit_edge.cli.output import note, print_json, print_table, progress


@options.with_weights_key
def train(
    space: Annotated[
        str | None,
        typer.Option(
            show_default="the recipe's, or nano", help="nasvit, alphanet, nano, ..., or a TOML file."
        ),
    ] = None,
    data: options.TrainingImages = "fashion-mnist",
    out: options.Out = Path("runs/nano"),
    recipe: Annotated[
        str | None,
        typer.Option(
            show_default="nano up to 64 pixels, else nasvit",
            help="nasvit, alphanet, bignas, deit, levit, single, ..., or a TOML file.",
        ),
    ] = None,
    values: options.RecipeValues = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    teacher: Annotated[
        str | None, typer.Option(help="What the largest learns from: timm:NAME, torchvision:NAME or a file.")
    ] = None,
    trust_teacher: options.TrustTeacher = False,
    name: Annotated[
        str,
        typer.Option(
            show_default="the space's; with other classes nano-8c", help="What to call the trained space."
        ),
    ] = "",
    supernet: Annotated[
        str | None, typer.Option(help="Start from these weights: a file, or shipped ones by name.")
    ] = None,
    threads: options.TrainingThreads = 2,
    workers: options.LoadingWorkers = 1,
    stall_minutes: options.StallMinutes = 5.0,
    seed: options.TrainingSeed = 0,
    bf16: Annotated[bool, typer.Option("--bf16", help="Passes under bfloat16 autocast.")] = False,
    sync_bn: Annotated[bool, typer.Option("--sync-bn", help="Batch statistics over all processes.")] = False,
    conflicts: Annotated[
        bool, typer.Option("--conflicts", help="Log how the gradients of subnets and largest agree.")
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log for TensorBoard too.")] = False,
    validate_every: options.ValidateEvery = 1,
    checkpoint_minutes: options.CheckpointMinutes = 5.0,
    keep: Annotated[int, typer.Option(min=1, help="Checkpoints to keep.")] = 2,
    resume: options.Resume = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print MACs, memory and an estimated time; train nothing.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Example:  nasvit-edge train --space nano --data fashion-mnist --out runs/nano

    Train a supernet by a recipe. Ctrl-C and SIGTERM keep a checkpoint; --resume continues bit for bit.
    Writes OUT/supernet.safetensors and OUT/space.toml. Under torchrun, on several processes.
    """
    from nasvit_edge.train.recipe import chosen

    changes = options.recipe_changes(values, run_epochs=epochs, run_batch_size=batch_size)
    space, rule = chosen(space, recipe, changes)  # an error here needs no torch

    from nasvit_edge.train.loop import Settings
    from nasvit_edge.train.run import Request, run

    settings = Settings(
        out=out,
        seed=seed,
        threads=threads,
        workers=workers,
        bf16=bf16,
        sync_bn=sync_bn,
        checkpoint_s=60 * checkpoint_minutes,
        keep=keep,
        stalled_s=60 * stall_minutes,
    )
    request = Request(
        space=space,
        data=data,
        recipe=rule,
        settings=settings,
        weights=supernet,
        teacher=teacher,
        trust_teacher=trust_teacher,
        name=options.name_of_space(name),
        resume=resume,
        conflicts=conflicts,
        tensorboard=tensorboard,
        validate_every=validate_every,
    )
    if dry_run:
        _show_estimate(request, as_json)
        return
    with progress("training") as show:
        report = run(request, on_progress=show, note=note)
    if not report:
        return
    if as_json:
        print_json(report)
        return
    rows = [[name, f"{value:.2%}"] for name, value in report["accuracy"].items()]
    print_table(["subnet", "validation accuracy"], rows)
    note(f"wrote {out / 'supernet.safetensors'}; space: {out / 'space.toml'}")


def _show_estimate(request: Any, as_json: bool) -> None:
    from nasvit_edge.flows.train import dry_run

    if os.environ.get("RANK", "0") != "0":  # under torchrun the first process tells for all
        return
    with progress("looking at the data") as show:
        report = dry_run(request, show, note)
    for line in report["masks"]:
        note(line)
    if as_json:
        print_json(report)
        return
    print_table(["", "value"], [[name, value] for name, value in report["shown"]])
