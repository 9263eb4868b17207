"""Accuracies for a predictor: subnets measured on images, as many as are asked for or as minutes allow."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from nasvit_edge import files, records
from nasvit_edge.choosing.accuracy import AccuracyChoice, measured_accuracy
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.listening import Listener
from nasvit_edge.searching import fitting
from nasvit_edge.searching.accuracy import predictor_of
from nasvit_edge.searching.images import ImageAccuracy
from nasvit_edge.space import SearchSpace, SubnetConfig

_AT_ONCE = 8  # subnets measured between two signs of life
_MOST = 1000  # that are drawn where minutes say how many are measured


def fitted(
    choice: AccuracyChoice,
    space: SearchSpace,
    out: Path,
    *,
    samples: int = 0,
    minutes: float = 0.0,
    seed: int,
    listener: Listener,
) -> fitting.FittedFile:
    """Measure so many subnets, or for so many minutes (at least as many as a fit takes), and write their predictor.

    Raises:
        NasvitEdgeError: no weights or images; accuracies that nothing can be fitted to.
    """
    supernet = choice.supernet
    if supernet is None or choice.data is None:
        raise NasvitEdgeError("fitting a predictor takes weights and images: add --supernet W --data D")
    if minutes and int(os.environ.get("WORLD_SIZE", "1")) > 1:  # clocks would stop each process elsewhere
        raise NasvitEdgeError("--minutes is for one process; under torchrun use: accuracy fit --samples N")
    source = measured_accuracy(choice, space, listener)
    configs = fitting.drawn(space, samples or _MOST, seed)
    started, accuracies = time.monotonic(), list[float]()
    while len(accuracies) < len(configs):
        elapsed = time.monotonic() - started
        if not samples and len(accuracies) >= fitting.FEWEST and elapsed > 60 * minutes:
            break
        accuracies += source.many(configs[len(accuracies) : len(accuracies) + _AT_ONCE])
        listener.progress(
            *_progress(len(accuracies), samples and len(configs), elapsed, minutes), _best(accuracies)
        )
    file = _file(space, source, supernet, configs[: len(accuracies)], accuracies)
    predictor_of(out.stem, file, space)
    if source.writes:
        records.write(out, structs.replace(file, seed=seed))
    return structs.replace(file, seed=seed)


def _progress(count: int, total: int, elapsed_s: float, minutes: float) -> tuple[int, int]:
    """Subnets of all that are asked for, or seconds of the minutes."""
    if total:
        return count, total
    whole = max(1, round(60 * minutes))
    return min(round(elapsed_s), whole), whole


def _best(accuracies: list[float]) -> str:
    return f"{len(accuracies)} subnets, best {max(accuracies):.2%}"


def _file(
    space: SearchSpace,
    source: ImageAccuracy,
    supernet: str,
    configs: list[SubnetConfig],
    accuracies: list[float],
) -> fitting.FittedFile:
    images = f"{len(source.validation)} images of {source.validation.name}"
    origin = f"{len(configs)} subnets of {Path(supernet).name} measured on {images}"
    weights = source.supernet.source.get("sha256")  # of generic ones none
    return structs.replace(
        fitting.fit(space, configs, accuracies, origin),
        weights_sha256=None if weights is None else str(weights),
        weights_key=files.file_and_key(supernet)[1],
    )


def within_minutes(
    choice: AccuracyChoice,
    space: SearchSpace,
    minutes: float,
    out: Path,
    *,
    seed: int,
    listener: Listener,
) -> AccuracyChoice:
    """The choice with a predictor that is fitted in so many minutes, and written to `out`.

    Raises:
        NasvitEdgeError: as `fitted`.
    """
    file = fitted(choice, space, out, minutes=minutes, seed=seed, listener=listener)
    listener.note(f"{out}: {file.source}, good to {100 * file.validation.rmse:.1f} points")
    return replace(choice, accuracy=str(out))
