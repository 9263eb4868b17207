"""`nasvit-edge train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasvit_edge.cli import options
from nasvit_edge.cli.output import note, print_json, print_table, progress


def train(
    space: options.Space = "nano",
    data: Annotated[
        str, typer.Option(help="fashion-mnist, or a folder with one folder per class.")
    ] = "fashion-mnist",
    out: options.Out = Path("runs/nano"),
    epochs: Annotated[int, typer.Option(min=1)] = 15,
    batch_size: Annotated[int, typer.Option(min=2)] = 128,
    learning_rate: Annotated[float, typer.Option(min=1e-8, max=10.0)] = 2e-3,
    random_subnets: Annotated[
        int, typer.Option(min=0, help="Random subnets a step, beside the smallest.")
    ] = 2,
    threads: options.Threads = 2,
    seed: options.Seed = 0,
    label_smoothing: Annotated[float, typer.Option(min=0.0, max=0.9)] = 0.05,
    shift: Annotated[int, typer.Option(min=0, max=32, help="Pixels that images are moved at random.")] = 2,
    supernet: Annotated[
        str | None, typer.Option(help="Start from these weights: a file, or shipped ones by name.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    as_json: options.Json = False,
) -> None:
    """Example:  nasvit-edge train --space nano --data fashion-mnist --out runs/nano

    Train a supernet with the sandwich rule and in-place distillation. Ctrl-C keeps a checkpoint;
    --resume continues. Writes OUT/supernet.safetensors.
    """
    from nasvit_edge.train import TrainSettings, run

    settings = TrainSettings(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        random_subnets=random_subnets,
        label_smoothing=label_smoothing,
        shift=shift,
        seed=seed,
    )
    with progress("training") as show:
        report = run(
            space, data, settings, out, threads=threads, weights=supernet, resume=resume, on_progress=show
        )
    if as_json:
        print_json(report)
        return
    rows = [[name, f"{report['accuracy'][name]:.2%}"] for name in ("smallest", "largest")]
    print_table(["subnet", "validation accuracy"], rows)
    note(f"wrote {out / 'supernet.safetensors'}")
