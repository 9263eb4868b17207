"""`nasvit-edge finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nasvit_edge.cli import options
from nasvit_edge.cli.output import note, print_json, print_table, progress
from nasvit_edge.hints import command


@options.with_weights_key
def finetune(
    result: Annotated[Path | None, typer.Argument(help="A result file of `search`.")] = None,
    data: options.TrainingImages = "fashion-mnist",
    labels_in_order: options.LabelsInOrder = False,
    out: options.Out = Path("runs/tuned"),
    space: Annotated[str | None, typer.Option(help="With --config: the search space.")] = None,
    supernet: options.Supernet = None,
    config: Annotated[
        Path | None, typer.Option(help="An explicit subnet: the JSON of config.to_dict().")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            show_default="finetune; finetune-int8 with --quantise",
            help="A recipe that trains one subnet, or a TOML file.",
        ),
    ] = None,
    values: options.RecipeValues = None,
    epochs: options.Epochs = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            min=1e-8, max=100.0, show_default="the recipe's", help="As --set optimizer.learning_rate."
        ),
    ] = None,
    batch_size: options.BatchSize = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            show_default="labels; itself with --quantise",
            help="What it learns from: labels; itself (its answers before, in floating point); "
            "timm:NAME, torchvision:NAME, an ONNX file, a supernet's weights or run folder.",
        ),
    ] = None,
    trust_teacher: options.TrustTeacher = False,
    freeze_below: Annotated[
        str, typer.Option(help="Keep the weights before this stage (mb4, or classifier: all but that one).")
    ] = "",
    quantise: Annotated[
        str, typer.Option(help="int8: train in 8-bit arithmetic, so that the int8 export loses less.")
    ] = "",
    seed: options.TrainingSeed = 0,
    threads: options.TrainingThreads = 2,
    workers: options.LoadingWorkers = 1,
    stall_minutes: options.StallMinutes = 5.0,
    checkpoint_minutes: options.CheckpointMinutes = 1.0,
    validate_every: options.ValidateEvery = 1,
    resume: options.Resume = False,
    as_json: options.Json = False,
) -> None:
    """Example:  nasvit-edge finetune search.json --data photos --epochs 5 --out runs/tuned

    Train one searched subnet, or an explicit one (--space S --supernet W --config FILE.json), on: also on other
    classes, which gives it a new classifier. Writes what every other command takes: OUT/result.json (from a result
    file), or OUT/space.toml, OUT/supernet.safetensors and OUT/config.json.
    """
    from nasvit_edge.flows import finetune as flow

    changes = options.recipe_changes(
        values, run_epochs=epochs, optimizer_learning_rate=learning_rate, run_batch_size=batch_size
    )
    request = flow.Request(
        data=data,
        out=out,
        result=result,
        space=space,
        supernet=supernet,
        config=config,
        recipe=recipe,
        values=tuple(changes),
        teacher=teacher,
        trust_teacher=trust_teacher,
        freeze_below=freeze_below,
        quantise=quantise,
        seed=seed,
        threads=threads,
        workers=workers,
        stalled_s=60 * stall_minutes,
        checkpoint_s=60 * checkpoint_minutes,
        validate_every=validate_every,
        resume=resume,
        in_order=labels_in_order,
    )
    with progress("fine-tuning") as show:
        found = flow.finetune(request, on_progress=show, note=note)
    if not found:  # under torchrun the first process tells for all
        return
    if as_json:
        print_json(found)
        return
    print_table(["about", "before", "after"], _rows(found))
    note(f"measured on {found['validation']}, which was not trained on")
    note(f"wrote {found['supernet']}; next: {_next(found, quantise)}")


def _rows(found: dict[str, Any]) -> list[list[str]]:
    names = {"fp32": "validation accuracy", "int8": "in 8-bit arithmetic, as training rounds"}
    return [
        [names[key], f"{found['before'][key]:.2%}", f"{found['after'][key]:.2%}"] for key in found["before"]
    ]


def _next(found: dict[str, Any], quantise: str) -> str:
    """The command that ships it."""
    if found["result"] is not None:
        return command("export", found["result"], precision=quantise)
    what = {key: found[key] for key in ("space", "supernet", "config")}
    return command("export", **what, calibrate=found["data"], precision=quantise)
