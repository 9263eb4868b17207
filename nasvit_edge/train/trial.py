"""A few real steps on random images, in a process of their own: how long they take, and how much memory."""

from __future__ import annotations

import contextlib
import re
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from msgspec.structs import replace

from nasvit_edge.data_sets import ImageSet, Labelled
from nasvit_edge.data_sets.scenes import in_memory
from nasvit_edge.errors import TrainingError
from nasvit_edge.processes import LostProcessError, Pool
from nasvit_edge.space import SearchSpace
from nasvit_edge.train.diagnosis import Watch
from nasvit_edge.train.initial import initialised
from nasvit_edge.train.loop import Settings, Trainer
from nasvit_edge.train.recipe import Recipe
from nasvit_edge.train.world import World

_MOST_MACS = 1.2e11  # of a measured step: about ten seconds on two cores
_STEPS = 4  # measured ones, after one that warms up
QUICK = 4  # images of a step that is measured in seconds
_LONGEST_S = 8.0  # no further step is started after this


@dataclass(frozen=True, slots=True)
class Trial:
    """What real steps took: seconds a step, and peak memory of the process before the first and after the last."""

    batch: int
    seconds: float
    before_bytes: int
    peak_bytes: int


def bearable(batch: int, macs_an_image: float) -> int:
    """The batch to measure: the recipe's, or one that is done in seconds."""
    return min(batch, max(4, int(_MOST_MACS / macs_an_image)))


def scaled(measured: Sequence[Trial], batch: int, fixed_bytes: int = 0) -> tuple[float, int]:
    """Seconds and peak memory for `batch` images, along the line through two batches, or through one and `fixed_bytes`."""
    first, last = measured[0], measured[-1]
    if last.batch == batch:
        return last.seconds, last.peak_bytes
    if first is last:
        first = Trial(0, 0.0, 0, min(fixed_bytes, last.peak_bytes))
    an_image = max(0.0, (last.peak_bytes - first.peak_bytes) / (last.batch - first.batch))
    return last.seconds * batch / last.batch, round(last.peak_bytes + an_image * (batch - last.batch))


def measure(
    space: SearchSpace,
    recipe: Recipe,
    batch: int,
    threads: int,
    bf16: bool,
    device: str,
    *,
    quick: bool = False,
) -> list[Trial]:
    """Of `batch`, and of half of it first where `batch` is not the recipe's; `quick`: it alone, by one step after one that warms up."""
    whole = batch == recipe.run.batch_size // recipe.run.parts
    batches = [batch] if whole or quick else [batch // 2, batch]
    pool = Pool(1, int, (), who="the process that measures a step")
    try:
        steps = 1 if quick else _STEPS
        (measured,) = pool.map(_steps, [(space, recipe, batches, threads, bf16, device, steps)])
    except (LostProcessError, MemoryError, torch.OutOfMemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise TrainingError(
            f"a step of {batch} images does not fit into memory ({reason}); use a smaller --batch-size "
            "or more parts: --set run.parts=4"
        ) from None
    finally:
        pool.close()
    return measured


def _steps(asked: tuple[SearchSpace, Recipe, Sequence[int], int, bool, str, int]) -> list[Trial]:
    """The trainer's own steps on random images, in this process."""
    space, recipe, batches, threads, bf16, device, steps = asked
    torch.set_num_threads(threads)
    before, measured = _resident("VmRSS", device), []
    for batch in batches:
        run = replace(recipe.run, batch_size=batch, parts=1)
        settings = Settings(out=Path(), threads=threads, workers=0, bf16=bf16)
        supernet, images = initialised(space, 0, recipe.subnets.scaling), _random(space, batch * (1 + steps))
        trainer = Trainer(
            supernet, images, replace(recipe, run=run), settings, World(device=torch.device(device))
        )
        seconds = _timed(trainer, steps)
        measured.append(Trial(batch, seconds, before, _resident("VmHWM", device)))
    return measured


def _timed(trainer: Trainer, steps: int) -> float:
    """Seconds a step, without making its images."""
    seconds: list[float] = []
    watch, began = Watch(trainer), time.perf_counter()
    for batches in list(trainer.loader.steps(0, 1 + steps)):
        if len(seconds) >= 2 and time.perf_counter() - began > _LONGEST_S:
            break
        started = time.perf_counter()
        trainer.advance(iter([batches]), watch)
        seconds.append(time.perf_counter() - started)
    trainer.close()
    return statistics.fmean(seconds[1:])


def _random(space: SearchSpace, count: int) -> Labelled:
    side, generator = space.image_size, torch.Generator().manual_seed(0)
    if space.is_dense:
        rng, (height, width) = np.random.default_rng(0), space.input_size(side)
        images = rng.integers(0, 256, (count, 3, height, width), np.uint8)
        return in_memory("random", list(zip(images, images[:, 0] % space.classes, strict=True)))
    pixels = torch.randint(256, (count, 3, side, side), dtype=torch.uint8, generator=generator)
    return ImageSet("random", pixels, torch.randint(space.classes, (count,), generator=generator))


def _resident(what: str, device: str) -> int:
    """Bytes of memory now (VmRSS) or at most so far (VmHWM): of the GPU, or of this process."""
    if device.startswith("cuda"):
        return torch.cuda.memory_allocated() if what == "VmRSS" else torch.cuda.max_memory_allocated()
    with contextlib.suppress(OSError):
        match = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
        return 1024 * int(match[1]) if match else 0
    return _resident_elsewhere(what)


def _resident_elsewhere(what: str) -> int:
    """As `_resident`, without /proc."""
    import psutil

    with contextlib.suppress(ImportError):
        import resource

        if what == "VmHWM":
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return most if sys.platform == "darwin" else 1024 * most
    info = psutil.Process().memory_info()
    return int(getattr(info, "peak_wset", info.rss) if what == "VmHWM" else info.rss)
