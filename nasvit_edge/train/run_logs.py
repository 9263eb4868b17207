"""Reading what a run logs: accuracies by epoch, and losses."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nasvit_edge import records
from nasvit_edge.errors import DataError, NasvitEdgeError
from nasvit_edge.records import Count, Figure, Record, Share, Whole
from nasvit_edge.train.conflict_file import About

_LONGEST = 1 << 20  # bytes of a log that are read in one line at most


class Accuracy(Record, frozen=True, kw_only=True):
    """A row of `validation.csv`."""

    step: Count
    epoch: Whole
    subnet: str
    accuracy: Share


class Losses(Record, frozen=True, kw_only=True):
    """What is read of a row of `log.csv`."""

    step: Count
    loss: Figure
    distilled: Figure


class CurvePoint(NamedTuple):
    """A value at a time of training."""

    epoch: float
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """What a run wrote while it trained; `about` is of its recipe.json."""

    name: str
    about: About
    accuracies: dict[str, list[CurvePoint]]  # by subnet: smallest, largest
    losses: dict[str, list[CurvePoint]]  # by whose: largest, others; means of many steps


def read_logs(run: Path, bins: int = 200) -> Logs:
    """Of a run's folder; losses are means of at most `bins` parts.

    Raises:
        NasvitEdgeError: it is no folder of a run, or a row is damaged; a last line without its end is left out.
    """
    about = run / "recipe.json"
    if not about.exists():
        raise DataError(f"{str(run)!r} is no folder of a run: it has no recipe.json")
    record = records.read(About, about, "recipe")
    each = record.steps_per_epoch or 1
    accuracies: dict[str, list[CurvePoint]] = {}
    for row in _rows(Accuracy, run / "validation.csv"):
        accuracies.setdefault(row.subnet, []).append(CurvePoint(row.step / each, row.accuracy))
    rows = list(_rows(Losses, run / "log.csv"))
    losses = {"largest": _means([(r.step / each, r.loss) for r in rows], bins)}
    if any(row.distilled for row in rows):
        losses["others"] = _means([(r.step / each, r.distilled) for r in rows], bins)
    return Logs(name=run.resolve().name, about=record, accuracies=accuracies, losses=losses)


def _rows(kind: type[records.T], path: Path) -> Iterator[records.T]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise NasvitEdgeError(f"log {str(path)!r}: {error}") from None
    whole = text[: text.rfind("\n") + 1].splitlines()
    if any(len(line) > _LONGEST for line in whole):
        raise DataError(
            f"log {str(path)!r} is no log of a run: it has a line of over {_LONGEST:,} characters"
        )
    for number, row in enumerate(csv.DictReader(whole), 2):
        content = {key: _plain(value) for key, value in row.items() if key is not None}
        yield records.parse(kind, content, f"log {str(path)!r}: line {number}")


def _plain(cell: object) -> object:
    """A number where it is one."""
    text = str(cell)
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _means(points: Sequence[tuple[float, float]], bins: int) -> list[CurvePoint]:
    """The means of runs of neighbours, at most `bins` of them."""
    size = -(-len(points) // bins) if points else 1
    parts = [points[i : i + size] for i in range(0, len(points), size)]
    return [CurvePoint(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]
