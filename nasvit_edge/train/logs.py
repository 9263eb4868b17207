"""What a run tells on the way: CSV files that grow by whole rows, and TensorBoard.

`log.csv` has a row a step, `validation.csv` a row a subnet and evaluation. Rows are written a few seconds late, so a
killed process loses those; a run that goes on from a checkpoint first cuts the rows beyond it. No torch in here.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from nasvit_edge.appending import AppendLog
from nasvit_edge.errors import TrainingError, require

_FLUSH_S = 5.0
_VALIDATION = ("step", "epoch", "subnet", "accuracy")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """A row of `log.csv`."""

    step: int  # steps done, this one included
    epoch: int  # from 0
    loss: float  # of the largest subnet
    distilled: float  # the mean loss of the others
    learning_rate: float
    norm_largest: float  # of g_T over all parameters, before any clipping
    norm_subnets: float  # of g_S, likewise
    negative: float  # share of tensors with <g_S, g_T> < 0
    images_per_s: float
    waited: float  # share of the time that went into waiting for data


class RunLog:
    """The logs in a run's folder.

    Args:
        resume_step: steps done by the checkpoint that the run goes on from; rows beyond it are cut. 0: a new run.
        tensorboard: write `out/tensorboard` too.

    Raises:
        TrainingError: a file cannot be written, or one to go on with is none of ours.
        MissingExtraError: `tensorboard` without the package.
    """

    def __init__(self, out: Path, *, resume_step: int = 0, tensorboard: bool = False) -> None:
        self._writer = _writer(out / "tensorboard", resume_step) if tensorboard else None
        columns = [field.name for field in fields(StepRecord)]
        self._steps = Rows(out / "log.csv", columns, resume_step)
        self._validation = Rows(out / "validation.csv", _VALIDATION, resume_step)

    def step(self, record: StepRecord) -> None:
        """Add a row to `log.csv`."""
        self._steps.add(astuple(record))
        if self._writer is not None:
            for field in fields(record)[1:]:
                self._writer.add_scalar(f"train/{field.name}", getattr(record, field.name), record.step)

    def validation(self, step: int, epoch: int, accuracies: Mapping[str, float]) -> None:
        """Add a row for each subnet to `validation.csv` (accuracies are fractions), and write them at once."""
        for subnet, accuracy in accuracies.items():
            self._validation.add((step, epoch, subnet, accuracy))
            if self._writer is not None:
                self._writer.add_scalar(f"validation/{subnet}", accuracy, step)
        self.flush()

    def flush(self) -> None:
        """Write what is waiting; a checkpoint does this first."""
        self._steps.flush()
        self._validation.flush()

    def close(self) -> None:
        """Write what is waiting and close all files; twice is once."""
        try:
            self._steps.close()
            self._validation.close()
        finally:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Rows:
    """A CSV file whose first column is a rising step, and which only ever holds whole rows.

    Args:
        resume_step: rows of later steps are cut, and so is a row without its end; 0: the file starts anew.

    Raises:
        TrainingError: it cannot be written, or it holds other columns than `columns`.
    """

    def __init__(self, path: Path, columns: Sequence[str], resume_step: int = 0) -> None:
        self.path = path
        self._waiting = io.StringIO()
        self._csv = csv.writer(self._waiting, lineterminator="\n")
        self._csv.writerow(columns)
        try:
            length = _kept(path, self._waiting.getvalue().encode(), resume_step) if resume_step else 0
            self._log = AppendLog(path, length)
        except OSError as error:
            raise self._failure(error) from None
        if length:
            self._clear()
        self.flush()

    def add(self, values: Iterable[Any]) -> None:
        """A row; floats with six digits that count."""
        self._csv.writerow([_cell(value) for value in values])
        if time.monotonic() - self._flushed > _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait, all or none."""
        self._flushed = time.monotonic()
        waiting = self._waiting.getvalue().encode()
        self._clear()
        try:
            self._log.add(waiting)
        except OSError as error:
            raise self._failure(error) from None

    def close(self) -> None:
        """Write the rows that wait and close the file; twice is once."""
        if not self._log.closed:
            try:
                self.flush()
            finally:
                self._log.close()

    def _clear(self) -> None:
        self._waiting.seek(0)
        self._waiting.truncate()

    def _failure(self, error: OSError) -> TrainingError:
        reason = error.strerror or str(error)
        return TrainingError(
            f"cannot write {str(self.path)!r}: {reason}; once it can be, go on with --resume"
        )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return " ".join(str(value).split())  # a line break inside quotes would look like the end of a row


def _kept(path: Path, header: bytes, step: int) -> int:
    """The length of the file's part up to `step`, in bytes; 0 where there is nothing to go on with."""
    if not path.exists() or not path.stat().st_size:
        return 0
    with path.open("rb") as stream:
        line = stream.readline()
        if line != header and line.endswith(b"\n"):
            raise TrainingError(
                f"{str(path)!r} has other columns than this run writes; move it away and go on with --resume"
            )
        length = len(line) if line == header else 0
        for row in stream:
            if not row.endswith(b"\n") or _step(row) > step:
                break
            length += len(row)
    return length


def _step(row: bytes) -> int:
    """The step of a row; -1 for a damaged one, which stays where it is."""
    first = row.split(b",", 1)[0]
    return int(first) if first.isdigit() else -1


def _writer(folder: Path, resume_step: int) -> Any:
    require("tensorboard", "train")
    summary: Any = require("torch.utils.tensorboard", "train")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return summary.SummaryWriter(str(folder), purge_step=resume_step + 1, flush_secs=30)
    except OSError as error:
        raise TrainingError(f"cannot write to folder {str(folder)!r}: {error.strerror or error}") from None
