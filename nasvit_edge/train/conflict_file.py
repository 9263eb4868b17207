"""Reading `conflicts.csv`, which a conflict meter writes.

A cell is the cosine between the gradient of the largest subnet and that of the others; nan where one has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from nasvit_edge import records
from nasvit_edge.errors import DataError
from nasvit_edge.hints import DATA, command
from nasvit_edge.records import Count, Record
from nasvit_edge.train.conflicts import FILE, block, stride

Array = npt.NDArray[Any]

_ROW = re.compile(rb"\d{1,15}(?:,(?:-?\d{1,3}(?:\.\d{1,20})?(?:e-\d{1,3})?)?)+")
_PLACE = re.compile(r"[A-Za-z][\w-]*(?:\.[\w-]+)*", re.ASCII)
_LONGEST = 1 << 20  # bytes of a line


class RecipeName(Record, frozen=True, kw_only=True):
    """Of a run's recipe what a report tells."""

    name: str | None = None


class About(Record, frozen=True, kw_only=True):
    """Of the recipe.json of a run what a report needs."""

    space: str | None = None
    data: str | None = None
    recipe: RecipeName | None = None
    steps_per_epoch: Count | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflicts:
    """What the meter of a run wrote."""

    name: str
    places: tuple[str, ...]  # all, then blocks and layers in the order of the network
    steps: Array  # (n,) int64, rising
    cosines: Array  # (n, places) float32
    about: About

    @property
    def layers(self) -> list[int]:
        """The columns of single layers."""
        return [i for i, place in enumerate(self.places) if i and block(place) != place]

    @property
    def blocks(self) -> list[int]:
        """The columns of whole blocks."""
        return [i for i, place in enumerate(self.places) if i and block(place) == place]

    @property
    def weights(self) -> Array:
        """How many steps each row stands for, (n,): long runs are measured at every tenth step or fewer."""
        return np.array([stride(int(step)) for step in self.steps], float)

    def between(self, first: int, last: int) -> Conflicts:
        """The part from step `first` to step `last`, both included."""
        mask = (self.steps >= first) & (self.steps <= last)
        if not mask.any():
            raise DataError(
                f"run {self.name!r} measured no step from {first} to {last}; it has {self.steps[0]} to {self.steps[-1]}"
            )
        return replace(self, steps=self.steps[mask], cosines=self.cosines[mask])

    def epochs(self, first: int | None, last: int | None) -> Conflicts:
        """The part from epoch `first` to epoch `last`, counted from 0, both included."""
        if first is None and last is None:
            return self
        each = self.about.steps_per_epoch
        if each is None:
            raise DataError(
                f"run {self.name!r} has no recipe.json that says how long an epoch is; choose with --steps"
            )
        return self.between(
            (first or 0) * each + 1, int(self.steps[-1]) if last is None else (last + 1) * each
        )


def _training(run: Path) -> str:
    """The command that trains as the run did, with the meter; beside a run that is there."""
    space = run / "space.toml"
    out = run.with_name(f"{run.name}-conflicts") if space.exists() else run
    return command("train", space=space if space.exists() else None, data=DATA, conflicts=True, out=out)


def read_conflicts(run: Path) -> Conflicts:
    """The meter's file of a run's folder (or the file itself).

    Raises:
        DataError: there is none, or a line is damaged; a last line without its end is left out.
    """
    run = Path(run)
    path = run / FILE if run.is_dir() else run
    try:
        with path.open("rb") as stream:
            places, steps, cosines = _read(stream, str(path))
    except FileNotFoundError:
        raise DataError(f"run {str(run)!r} has no {FILE}; one that has: {_training(run)}") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise DataError(f"conflicts {str(path)!r}: {getattr(error, 'strerror', None) or error}") from None
    about = path.parent / "recipe.json"
    return Conflicts(
        name=run.resolve().name if run.is_dir() else path.stem,
        places=places,
        steps=steps,
        cosines=cosines,
        about=records.read(About, about, "recipe") if about.exists() else About(),
    )


def _read(stream: IO[bytes], path: str) -> tuple[tuple[str, ...], Array, Array]:
    head = stream.readline(_LONGEST).decode("ascii", "replace")
    places = head.rstrip("\n").split(",")[1:]
    if not head.startswith("step,all,") or not head.endswith("\n") or not all(map(_PLACE.fullmatch, places)):
        raise DataError(f"{path!r} is not the log of a conflict meter: it has no line 'step,all,<layers>'")
    if len(set(places)) != len(places):
        raise DataError(f"conflicts {path!r}: line 1 names a layer twice")
    steps: list[int] = []
    rows: list[Array] = []
    for number, line in enumerate(_lines(stream), 2):
        cells = line.split(b",")
        if not _ROW.fullmatch(line) or len(cells) != len(places) + 1:
            raise DataError(f"conflicts {path!r}: line {number} is damaged; remove it")
        row = np.array([cell or b"nan" for cell in cells[1:]], np.float32)
        if (np.abs(row) > 1).any() or (steps and int(cells[0]) <= steps[-1]):
            what = "holds no cosines" if (np.abs(row) > 1).any() else f"repeats step {int(cells[0])}"
            raise DataError(f"conflicts {path!r}: line {number} {what}; remove it")
        steps.append(int(cells[0]))
        rows.append(row)
    if not rows:
        raise DataError(f"conflicts {path!r} holds no steps yet; the first come some seconds after the start")
    return tuple(places), np.array(steps, np.int64), np.stack(rows)


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Whole lines; a killed run may leave a last one without its end."""
    while (line := stream.readline(_LONGEST)).endswith(b"\n"):
        yield line[:-1]
    if len(line) == _LONGEST:
        yield line
