"""What a segmenter calls the pixels of each class, in whole numbers, and the intersection over union of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nasvit_edge.data_sets.masks import IGNORE
from nasvit_edge.errors import DataError
from nasvit_edge.records import Record, Share

_Counts = np.ndarray[Any, np.dtype[np.int64]]
_TOGETHER = 1 << 24  # pixels that are counted at once


class Ious(Record, frozen=True, kw_only=True):
    """Figures for people; the IoU of a class that does not occur is None."""

    mean_iou: Share
    pixel_accuracy: Share
    ious: dict[str, Share | None]  # by the names of the classes


class Confusion:
    """Pixels by true and predicted class, added up exactly.

    Attributes:
        classes: how many there are, C.
        counts: (C, C) int64, a row a true class, a column a predicted one.
    """

    __slots__ = ("classes", "counts")

    def __init__(self, classes: int, counts: np.ndarray[Any, Any] | None = None) -> None:
        """Of no pixels, or with counts made elsewhere."""
        self.classes = classes
        self.counts: _Counts = np.zeros((classes, classes), np.int64)
        if counts is not None:
            self._start(np.asarray(counts))

    def _start(self, counts: np.ndarray[Any, Any]) -> None:
        whole = counts.dtype.kind in "iu"
        if not whole or counts.shape != self.counts.shape or (counts < 0).any():
            raise DataError(
                f"a confusion of {self.classes} classes takes whole counts ({self.classes}, {self.classes}), not {counts.dtype} {counts.shape}"
            )
        self.counts += counts.astype(np.int64)

    def add(self, labels: Any, truth: Any) -> None:
        """Count predicted classes against true ones: whole numbers of one shape; IGNORE in `truth` is left out.

        Raises:
            DataError: other shapes, a value that is no class. Nothing is counted then.
        """
        labels, truth = np.asarray(labels), np.asarray(truth)
        if labels.shape != truth.shape:
            raise DataError(f"labels have shape {labels.shape}, masks {truth.shape}; they must be the same")
        if labels.dtype.kind not in "iu" or truth.dtype.kind not in "iu":
            raise DataError(f"labels and masks are {labels.dtype} and {truth.dtype}, not whole numbers")
        labels, truth = labels.ravel(), truth.ravel()
        added = np.zeros_like(self.counts)
        for start in range(0, labels.size, _TOGETHER):
            added += self._counted(labels[start : start + _TOGETHER], truth[start : start + _TOGETHER])
        self.counts += added

    def _counted(self, labels: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> _Counts:
        known = truth != IGNORE
        true, predicted = self._classes(truth[known], "mask"), self._classes(labels[known], "prediction")
        flat = np.bincount(true * self.classes + predicted, minlength=self.classes**2)
        return flat.reshape(self.classes, self.classes)

    def _classes(self, values: np.ndarray[Any, Any], what: str) -> _Counts:
        if values.size and (values.min() < 0 or values.max() >= self.classes):
            wrong = int(values.min() if values.min() < 0 else values.max())
            raise DataError(f"a {what} holds the class {wrong}; classes are 0 to {self.classes - 1}")
        return values.astype(np.int64)

    def __add__(self, other: Confusion) -> Confusion:
        """The pixels of both."""
        if self.classes != other.classes:
            raise DataError(f"confusions of {self.classes} and {other.classes} classes cannot be added")
        return Confusion(self.classes, self.counts + other.counts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Confusion) and np.array_equal(self.counts, other.counts)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Confusion({self.classes} classes, {self.pixels} pixels)"

    @property
    def pixels(self) -> int:
        """How many were counted."""
        return int(self.counts.sum())

    @property
    def overlaps(self) -> _Counts:
        """Of each class the pixels that are right, TP, and those of the union, TP + FP + FN: (2, C)."""
        right = np.diag(self.counts)
        return np.stack([right, self.counts.sum(0) + self.counts.sum(1) - right])

    @property
    def ious(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Intersection over union, TP / (TP + FP + FN), of each class; nan where it is neither in masks nor predicted."""
        return _ious(self.overlaps)

    @property
    def mean_iou(self) -> float:
        """The mean over classes that occur in masks or predictions, a fraction; DataError where no pixel was counted."""
        self._require_pixels()
        return float(mean_iou(self.overlaps))

    @property
    def pixel_accuracy(self) -> float:
        """The share of labelled pixels that are called by their class; DataError where no pixel was counted."""
        self._require_pixels()
        return int(np.trace(self.counts)) / self.pixels

    def _require_pixels(self) -> None:
        if not self.pixels:
            raise DataError(
                f"no pixel of these masks has a class (all are {IGNORE}): nothing can be judged on them"
            )

    def figures(self, names: Sequence[str]) -> Ious:
        """By the names of the classes.

        Raises:
            DataError: no pixel was counted.
        """
        ious = {
            name: None if np.isnan(iou) else iou for name, iou in zip(names, self.ious.tolist(), strict=True)
        }
        return Ious(mean_iou=self.mean_iou, pixel_accuracy=self.pixel_accuracy, ious=ious)


def mean_iou(overlaps: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Of pixels right and in the union, (..., 2, C), the mean IoU (...) over the classes that have a union; nan without any."""
    ious, known = _ious(overlaps), (overlaps[..., 1, :] > 0).sum(-1)
    mean = np.full(known.shape, np.nan)
    np.divide(np.nansum(ious, -1), known, out=mean, where=known > 0)
    return mean


def _ious(overlaps: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    right, union = overlaps[..., 0, :], overlaps[..., 1, :]
    ious = np.full(union.shape, np.nan)
    np.divide(right, union, out=ious, where=union > 0)
    return ious
