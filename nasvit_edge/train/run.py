"""A whole training run: data, training, and how good the two ends of the space have become."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nasvit_edge import data_sets, files
from nasvit_edge.model.checkpoint import resolve_weights
from nasvit_edge.model.evaluate import subnet_accuracy
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.space import SearchSpace, load_space
from nasvit_edge.train.loop import Progress, TrainSettings, train


def run(
    space_name: str,
    data: str,
    settings: TrainSettings,
    out: Path,
    *,
    threads: int,
    weights: str | None,
    resume: bool,
    on_progress: Callable[[int, int, str], None],
) -> dict[str, Any]:
    """Train, write the weights, and measure smallest and largest subnet on validation images."""
    torch.set_num_threads(threads)
    space = load_space(space_name)
    files.writable_folder(out)
    images, calibration, validation = data_sets.training_splits(data, space)

    def show(progress: Progress) -> None:
        detail = f"loss {progress.loss:.3f}, subnets {progress.distilled:.3f}"
        on_progress(progress.step, progress.steps, detail)

    initial = resolve_weights(weights) if weights else None
    supernet = train(space, images, settings, out, initial=initial, resume=resume, on_step=show)
    return {"out": str(out), "accuracy": _ends(space, supernet, calibration, validation)}


def _ends(
    space: SearchSpace, supernet: Supernet, calibration: data_sets.ImageSet, validation: data_sets.ImageSet
) -> dict[str, float]:
    ends = {"smallest": space.smallest(), "largest": space.largest()}
    return {name: subnet_accuracy(supernet, c, calibration, validation) for name, c in ends.items()}
