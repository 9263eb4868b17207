"""Every error a user can cause.

NasvitEdgeError            one clear line for the user; the CLI prints it and exits with `exit_code`
├── SpaceError             a search space or a subnet config that is not valid
├── TableError             a latency table that is missing, damaged or does not cover an op
├── CheckpointError        weights that cannot be read or do not fit the space
├── DataError              images or labels that cannot be read
├── RecipeError            a training recipe that is not valid
├── TrainingError          a run that diverged or cannot go on (exit code 1)
├── DeviceError            a device that is unknown or not reachable
├── BudgetError            no subnet meets the budget (exit code 1)
├── ExportError            an artifact that cannot be written
├── VerifyError            an artifact that does not compute what it should (exit code 1)
├── MeasurementError       a measurement that is not valid (exit code 3)
└── MissingExtraError      an optional dependency that is not installed
"""

from __future__ import annotations

import importlib
from types import ModuleType


class NasvitEdgeError(Exception):
    """What happened, with which value; and, where that is said apart, what is possible or what to run next.

    Attributes:
        what, todo: the two; `str` joins them by a semicolon. `todo` is empty where `what` says all.
    """

    exit_code = 2

    def __init__(self, what: str, todo: str = "") -> None:
        super().__init__(f"{what}; {todo}" if todo else what)
        self.what, self.todo = what, todo


class SpaceError(NasvitEdgeError):
    """A search space or a subnet config that is not valid."""


class TableError(NasvitEdgeError):
    """A latency table that is missing, damaged or does not cover an op."""


class CheckpointError(NasvitEdgeError):
    """Weights that cannot be read or do not fit the space."""


class DataError(NasvitEdgeError):
    """Images or labels that cannot be read."""


class RecipeError(NasvitEdgeError):
    """A training recipe that is not valid."""


class TrainingError(NasvitEdgeError):
    """A training run that diverged, or that cannot go on."""

    exit_code = 1


class DeviceError(NasvitEdgeError):
    """A device that is unknown or not reachable; where its name is given apart, the text begins with it."""

    def __init__(self, what: str, todo: str = "", *, device: str = "") -> None:
        super().__init__(what, todo)
        if device:
            self.args = (f"device {device!r}: {self}",)


class BudgetError(NasvitEdgeError):
    """No subnet meets the budget."""

    exit_code = 1


class ExportError(NasvitEdgeError):
    """An artifact that cannot be written."""


class VerifyError(NasvitEdgeError):
    """An artifact that does not compute what it should."""

    exit_code = 1


class MeasurementError(NasvitEdgeError):
    """A measurement that is not valid."""

    exit_code = 3


class MissingExtraError(NasvitEdgeError):
    """An optional dependency that is not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except Exception as error:  # versions that do not match fail in any way: torchvision with a RuntimeError
        top = module.split(".")[0]
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == top:
            raise MissingExtraError(
                f"{top} is not installed", f"run: pip install 'nasvit-edge[{extra}]'"
            ) from None
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise MissingExtraError(
            f"{top} is installed but does not load ({reason})",
            f"run: pip install --force-reinstall 'nasvit-edge[{extra}]'",
        ) from error
