"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from nasvit_edge import files
from nasvit_edge.errors import CheckpointError, RecipeError, SpaceError

Space = Annotated[str, typer.Option(help="Search space: nasvit, alphanet, nano, or a path to a TOML file.")]
Device = Annotated[
    str,
    typer.Option(envvar="NASVIT_EDGE_DEVICE", help="The device; host:litert:2t:int8 names a table in full."),
]
TableDevice = Annotated[
    str | None,
    typer.Option(
        "--device",
        show_default="that of NASVIT_EDGE_DEVICE, or host",
        help="The device; host:litert:2t:int8 names a table in full.",
    ),
]
Threads = Annotated[int, typer.Option(min=1, max=256, help="Threads of the runtime.")]
Precision = Annotated[
    str, typer.Option(help="Numbers of the model: fp32, fp16, int8 or w8 (8-bit weights only).")
]
TableRuntime = Annotated[
    str | None, typer.Option("--runtime", show_default="the device's first", help="onnxruntime, litert, ...")
]
TableThreads = Annotated[
    int | None, typer.Option("--threads", show_default="the device's", min=1, max=256, help="Of the runtime.")
]
TablePrecision = Annotated[
    str | None, typer.Option("--precision", show_default="the device's", help="fp32, fp16, int8 or w8.")
]
TableFile = Annotated[
    Path | None, typer.Option("--table", help="A latency table file, instead of the device's.")
]
Interpolate = Annotated[
    bool, typer.Option("--interpolate", help="Estimate ops that the table does not have, and say so.")
]
Seed = Annotated[int, typer.Option(min=0, help="Same seed and table, same subnet.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]
Supernet = Annotated[
    str | None,
    typer.Option(help="Weights: a checkpoint file, the name of shipped weights (nano), or random[:SEED]."),
]
_WeightsKey = Annotated[
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


def with_weights_key(command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes --supernet, with --weights-key after it; the two reach it as one text, FILE::KEY."""

    @functools.wraps(command)
    def run(*args: Any, weights_key: str | None = None, **values: Any) -> None:
        if weights_key is not None:
            if values.get("supernet") is None:
                raise CheckpointError(
                    "--weights-key names weights of the file --supernet FILE: give that too"
                )
            values["supernet"] = f"{values['supernet']}::{weights_key}"
        command(*args, **values)

    signature = inspect.signature(command, eval_str=True)
    parameters = list(signature.parameters.values())
    at = 1 + list(signature.parameters).index("supernet")
    kind = parameters[at - 1].kind
    parameters.insert(at, inspect.Parameter("weights_key", kind, default=None, annotation=_WeightsKey))
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


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


def name_of_space(text: str) -> str:
    """Checked: it stands in names of files. SpaceError where it is none."""
    if text and not files.is_name(text):
        raise SpaceError(
            f"--name {text[:64]!r} cannot name a space; give letters, digits and dashes, like flowers-8c"
        )
    return text


def recipe_changes(values: list[str] | None, **given: float | None) -> list[str]:
    """`--set` texts, and those of options that stand for one: `run_epochs=3` is `run.epochs=3`."""
    own = [f"{key.replace('_', '.', 1)}={value!r}" for key, value in given.items() if value is not None]
    found: dict[str, str] = {}
    for text in (*(values or ()), *own):
        key = text.partition("=")[0].strip()
        if found.setdefault(key, text) != text:
            raise RecipeError(f"{found[key]!r} and {text!r} contradict each other: give {key} once")
    return list(found.values())


def help_example(example: str, text: str) -> str:
    """Help that starts with a worked example."""
    return f"{example}\n\n{text}"
