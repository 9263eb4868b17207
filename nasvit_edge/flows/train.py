"""`train`: a whole run as it is asked for, or what it would take."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec.structs import asdict

from nasvit_edge import data_sets, files, systems
from nasvit_edge.errors import SpaceError, TrainingError
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.requests.train import Request
from nasvit_edge.train.recipe import changes_of, chosen

if TYPE_CHECKING:
    from nasvit_edge.train.estimate import DryRun
    from nasvit_edge.train.run import Trained
    from nasvit_edge.train.run import TrainingRequest as Run


def train(request: Request, *, listener: Listener = SILENT) -> Trained | None:
    """Train as `train.run.run` does."""
    asked = run_of(request)
    from nasvit_edge.train.run import run

    return run(asked, listener=listener)


def run_of(request: Request) -> Run:
    """The run that is asked for.

    Raises:
        NasvitEdgeError: a space, recipe or name that cannot be; without waiting for torch.
    """
    systems.require_command("train")
    changes = changes_of(request.values, run_epochs=request.epochs, run_batch_size=request.batch_size)
    if request.fork is not None and request.supernet is not None:
        raise TrainingError("--fork and --supernet both say which weights the run begins with: give one")
    alone = request.config is not None
    named = request.recipe or ("single" if alone else None)
    space, recipe = chosen(request.space, named, changes, request.fork)
    if alone and not recipe.single:
        recipe = recipe.with_values(["single=true"])
    if request.name and not files.is_name(request.name):  # it stands in names of files
        raise SpaceError(
            f"--name {request.name[:64]!r} cannot name a space; give letters, digits and dashes, like flowers-8c"
        )
    from nasvit_edge.train.loop import Settings
    from nasvit_edge.train.run import TrainingRequest as Run

    return Run(
        space=space,
        data=request.data,
        recipe=recipe,
        settings=Settings(
            out=request.out,
            seed=request.seed,
            threads=request.threads,
            workers=request.workers,
            bf16=request.bf16,
            sync_bn=request.sync_bn,
            checkpoint_s=60 * request.checkpoint_minutes,
            keep=request.keep,
            stalled_s=60 * request.stall_minutes,
        ),
        weights=request.supernet,
        teacher=request.teacher,
        trust_teacher=request.trust_teacher,
        name=request.name,
        config=request.config,
        fork=request.fork,
        resume=request.resume,
        conflicts=request.conflicts,
        tensorboard=request.tensorboard,
        validate_every=request.validate_every,
    )


def dry_run(request: Run, listener: Listener = SILENT) -> DryRun:
    """The estimate of what `nasvit-edge train` is asked for."""
    import torch

    from nasvit_edge.train import shrinking
    from nasvit_edge.train.estimate import DryRun, estimate, shown
    from nasvit_edge.train.run import masks_checked, space_of_run

    settings = request.settings
    space = space_of_run(request, listener)
    images, validation = data_sets.training_splits(request.data, space, listener=listener)
    masks = list(masks_checked(images, validation, space, listener))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    how = {"threads": settings.threads, "bf16": settings.bf16, "device": device}
    line = shrinking.told(images, space, request.recipe, how)
    if line:
        listener.note(line)
    needed = estimate(
        space,
        request.recipe,
        len(images),
        threads=settings.threads,
        bf16=settings.bf16,
        processes=int(os.environ.get("WORLD_SIZE", "1")),  # torchrun's
        keep=settings.keep,
        out=settings.out,
        device=device,
    )
    return DryRun(
        **asdict(needed),
        space=space.name,
        data=images.name,
        recipe=request.recipe.name,
        masks=tuple(masks),
        shown=shown(needed),
    )
