"""What an artifact gets right of labelled images: which of them, or of scenes how much of each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias

import numpy as np
from msgspec import Meta

from nasvit_edge.benchmark.statistics import compare_overlaps
from nasvit_edge.data_sets.confusion import mean_iou
from nasvit_edge.paired import Interval, compare_hits
from nasvit_edge.records import Record, Share

_MOST = 1 << 30  # images, classes
_Change: TypeAlias = tuple[Interval, float, float]


@dataclass(frozen=True, slots=True)
class Hits:
    """Which of the labelled images a classifier got right."""

    metric: ClassVar[str] = "top1"
    data: str
    hits: np.ndarray[Any, np.dtype[np.bool_]]

    def __len__(self) -> int:
        return len(self.hits)

    @property
    def value(self) -> float:
        """The share of images."""
        return float(self.hits.mean())

    def change(self, base: Accuracy | None, alpha: float) -> _Change | None:
        """`compare_hits` with the base; None where it was not judged on the same images."""
        if not isinstance(base, Hits) or base.data != self.data or len(base) != len(self):
            return None
        return compare_hits(base.hits, self.hits, alpha)

    def saved(self) -> SavedAccuracy:
        """As a file has it."""
        packed = np.packbits(self.hits).tobytes()
        return SavedAccuracy(data=self.data, images=len(self), top1=self.value, hits=packed)


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Of each scene and class the pixels that a segmenter got right, and those of the union with its mask: (N, 2, C)."""

    metric: ClassVar[str] = "mean_iou"
    data: str
    counts: np.ndarray[Any, np.dtype[np.int64]]

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def value(self) -> float:
        """The mean IoU of all scenes."""
        return float(mean_iou(self.counts.sum(0)))

    def change(self, base: Accuracy | None, alpha: float) -> _Change | None:
        """`compare_overlaps` with the base; None where it was not judged on the same scenes."""
        if not isinstance(base, Overlaps) or base.data != self.data or base.counts.shape != self.counts.shape:
            return None
        return compare_overlaps(base.counts, self.counts, alpha)

    def saved(self) -> SavedAccuracy:
        """As a file has it."""
        scenes, _, classes = self.counts.shape
        packed = self.counts.astype("<i4").tobytes()
        fields = {"classes": classes, "mean_iou": self.value, "overlaps": packed}
        return SavedAccuracy(data=self.data, images=scenes, **fields)


Accuracy: TypeAlias = Hits | Overlaps


class SavedAccuracy(Record, frozen=True, kw_only=True):
    """An accuracy as a file has it.

    Attributes:
        hits: a bit an image.
        overlaps: counts of pixels, (scenes, 2, classes), as little-endian 32-bit integers.
    """

    data: Annotated[str, Meta(min_length=1)]
    images: Annotated[int, Meta(ge=1, le=_MOST)]
    top1: Share | None = None
    hits: bytes | None = None
    classes: Annotated[int, Meta(ge=1, le=_MOST)] | None = None
    mean_iou: Share | None = None
    overlaps: bytes | None = None

    def __post_init__(self) -> None:
        self.opened()

    def opened(self) -> Accuracy:
        """What was saved; ValueError where it is not of so many images."""
        if self.overlaps is not None:
            return Overlaps(self.data, self._counts(self.overlaps))
        if self.hits is None or len(self.hits) != (self.images + 7) // 8:
            raise ValueError(f"key 'hits' is not of {self.images} images")
        return Hits(self.data, np.unpackbits(np.frombuffer(self.hits, np.uint8))[: self.images].astype(bool))

    def _counts(self, packed: bytes) -> np.ndarray[Any, np.dtype[np.int64]]:
        if self.classes is None or len(packed) != 4 * self.images * 2 * self.classes:
            raise ValueError(f"key 'overlaps' is not of {self.images} scenes and {self.classes} classes")
        counts = np.frombuffer(packed, "<i4").reshape(self.images, 2, self.classes).astype(np.int64)
        if (counts < 0).any() or (counts[:, 0] > counts[:, 1]).any() or not counts.any():
            raise ValueError("key 'overlaps' is no counts of pixels")
        return counts
