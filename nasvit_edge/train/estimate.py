"""What a run will take, before it starts: MACs, memory, time and disk (`nasvit-edge train --dry-run`).

MACs, parameters and the sizes of what is kept are counted. Seconds and peak memory are measured, in a process of their
own, by real steps on random images; where a whole step would take too long, by smaller batches, and scaled.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
from pathlib import Path

import psutil
import torch
from msgspec.structs import asdict

from nasvit_edge import ops
from nasvit_edge.errors import DataError
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.records import Record
from nasvit_edge.space import SearchSpace, SubnetConfig
from nasvit_edge.train import pixels
from nasvit_edge.train.recipe import Recipe
from nasvit_edge.train.step import sandwich
from nasvit_edge.train.trial import QUICK, bearable, measure, scaled
from nasvit_edge.units import show_bytes, show_count, show_seconds

_SAMPLES = 200  # random subnets for the mean


class _Counted(Record, frozen=True, kw_only=True):
    """What is counted: MACs of a training image, `part` the images of a backward pass."""

    parameters: int
    smallest_macs: int
    mean_macs: int
    largest_macs: int
    subnets_a_step: int
    step_macs: int
    part: int


class Needed(_Counted, frozen=True, kw_only=True):
    """What a run will take. Loading of images, a teacher and validation are not in it.

    Attributes:
        measured_batch: below `part` seconds and memory were scaled.
        peak_bytes: of the memory; `*_bytes` up to the activations' are its parts.
        memory_bytes, free_bytes: what the machine has, and its disk.
        busy: others compute too, so seconds are too long.
    """

    images: int
    images_a_step: int
    threads: int
    processes: int
    measured_batch: int
    step_s: float
    steps: int
    run_s: float
    images_per_s: float
    peak_bytes: int
    program_bytes: int
    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    average_bytes: int
    activations_bytes: int
    checkpoint_bytes: int
    disk_bytes: int
    busy: bool
    memory_bytes: int
    free_bytes: int


class DryRun(Needed, frozen=True, kw_only=True):
    """What a run will take, and of what; `masks` says what is in them, `shown` is all as text for people."""

    space: str
    data: str
    recipe: str
    masks: tuple[str, ...]
    shown: list[list[str]]


def estimate(
    space: SearchSpace,
    recipe: Recipe,
    images: int,
    *,
    threads: int,
    bf16: bool = False,
    processes: int = 1,
    keep: int = 2,
    out: Path = Path(),
    device: str = "cpu",
    quick: bool = False,
) -> Needed:
    """The estimate of a run.

    Args:
        images: of the training set.
        threads: of a process.
        processes: that train together; each is assumed to be as fast as this one alone.
        keep: checkpoints that are kept in `out`.
        quick: from as little as can be measured, in seconds, however large the space.

    Raises:
        TrainingError: the steps do not fit into memory.
        DataError: the images are fewer than a step takes.
    """
    run, per_step = recipe.run, recipe.run.batch_size * processes
    if images < per_step:
        raise DataError(
            f"{images} images are fewer than the {per_step} of one step; use a smaller --batch-size"
        )
    counted = _counted(space, recipe)
    part = run.batch_size // run.parts
    few = QUICK if quick else bearable(part, counted.step_macs / run.batch_size)
    batch = min(part, few)
    measured = measure(space, recipe, batch, threads, bf16, device, quick=quick)
    before_bytes = measured[-1].before_bytes
    seconds, peak = scaled(measured, part, before_bytes + _kept(counted.parameters, recipe))
    step_s, steps = seconds * run.parts, run.epochs * (images // per_step)
    memory = _memory(counted.parameters, recipe, before_bytes, peak)
    return Needed(
        **asdict(counted),
        images=images,
        images_a_step=per_step,
        threads=threads,
        processes=processes,
        measured_batch=batch,
        step_s=step_s,
        steps=steps,
        run_s=steps * step_s,
        images_per_s=per_step / step_s,
        **memory,
        disk_bytes=memory["checkpoint_bytes"] * (keep + 1) + memory["weights_bytes"],
        busy=psutil.getloadavg()[0] > 1 + (os.cpu_count() or 1),
        memory_bytes=_memory_of(device),
        free_bytes=shutil.disk_usage(_existing(out)).free,
    )


def shown(needed: Needed) -> list[list[str]]:
    """The estimate as rows of what and value."""
    whole = needed.measured_batch == needed.part
    how = "measured" if whole else f"scaled from batches of {needed.measured_batch}"
    busy = "; this machine is busy with other work, alone it will be faster" if needed.busy else ""
    short = ": NOT ENOUGH" if needed.disk_bytes > needed.free_bytes else ""
    has = show_bytes(needed.memory_bytes)
    narrow = f" of {has}" + (": NOT ENOUGH" if needed.peak_bytes > needed.memory_bytes else "")
    macs = [show_count(count) for count in (needed.smallest_macs, needed.mean_macs, needed.largest_macs)]
    parts = [(name, getattr(needed, f"{name}_bytes")) for name in _KEPT]
    sizes = [f"{name} {show_bytes(count)}" for name, count in parts if count]
    return [
        ["parameters", show_count(needed.parameters)],
        ["MACs a subnet", f"smallest {macs[0]}, mean {macs[1]}, largest {macs[2]}"],
        ["subnets a step", str(needed.subnets_a_step)],
        ["MACs a step", f"{show_count(needed.step_macs)} forward and backward (counted as 3 forward)"],
        ["memory", f"peak {show_bytes(needed.peak_bytes)} ({how}){narrow}: {', '.join(sizes)}"],
        ["a step", f"{needed.step_s:.3g} s, {needed.images_per_s:.3g} images/s ({how})"],
        ["the run", f"{needed.steps} steps, about {show_seconds(needed.run_s)} (estimate{busy})"],
        ["not counted", "loading of images where it is slower than the step, a teacher, validation"],
        ["disk", f"{show_bytes(needed.disk_bytes)} of {show_bytes(needed.free_bytes)} free{short}"],
    ]


_KEPT = ("program", "weights", "gradients", "optimizer", "average", "activations")  # program: torch itself


def _counted(space: SearchSpace, recipe: Recipe) -> _Counted:
    with torch.device("meta"):
        parameters = sum(p.numel() for p in Supernet(space, recipe.subnets.scaling).parameters())
    rng = random.Random(0)
    smallest, largest = (_macs(space, config, recipe) for config in (space.smallest(), space.largest()))
    mean = statistics.fmean(_macs(space, space.sample(rng), recipe) for _ in range(_SAMPLES))
    rule = recipe.subnets
    subnets = largest if recipe.single else largest + rule.smallest * smallest + rule.random * mean
    return _Counted(
        parameters=parameters,
        smallest_macs=smallest,
        mean_macs=round(mean),
        largest_macs=largest,
        subnets_a_step=len(sandwich(space, rule, rng, single=recipe.single)),
        step_macs=round(3 * subnets * recipe.run.batch_size),
        part=recipe.run.batch_size // recipe.run.parts,
    )


def _kept(parameters: int, recipe: Recipe) -> int:
    """Bytes of a step whatever its images are: weights, gradients, the optimizer's moments, the average."""
    moments, average = 2 if recipe.optimizer.kind == "adamw" else 1, 1 if recipe.run.ema else 0
    return 4 * parameters * (1 + 3 + moments + average)


def _macs(space: SearchSpace, config: SubnetConfig, recipe: Recipe) -> int:
    """Of one training image: of scenes a crop, and of that the share that the subnet's resolution is of the largest."""
    if not space.is_dense:
        return ops.macs(space, config)
    share = config.resolution / max(space.resolutions)
    size = pixels.size_of(*recipe.scenes.size(space), share)
    return sum(op.macs() for op in ops.lower(space, config, size))


def _memory(parameters: int, recipe: Recipe, before: int, peak: int) -> dict[str, int]:
    """Where the memory goes; activations are what the peak has beside what can be counted."""
    weights = 4 * parameters
    gradients = weights * (
        3 if recipe.run.parts == 1 else 5
    )  # largest's, the others', merged; sums over parts
    optimizer = weights * (2 if recipe.optimizer.kind == "adamw" else 1)
    average = weights if recipe.run.ema else 0
    peak += gradients - 3 * weights
    return {
        "peak_bytes": peak,
        "program_bytes": before,
        "weights_bytes": weights,
        "gradients_bytes": gradients,
        "optimizer_bytes": optimizer,
        "average_bytes": average,
        "activations_bytes": max(0, peak - before - weights - gradients - optimizer - average),
        "checkpoint_bytes": weights + optimizer + average,
    }


def _memory_of(device: str) -> int:
    """Bytes that the GPU, or this machine, has."""
    if device.startswith("cuda"):
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total)


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
