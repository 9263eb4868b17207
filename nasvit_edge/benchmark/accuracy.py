"""What an artifact gets right of labelled images: which of them, or of scenes how much of each class."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from nasvit_edge.benchmark.fields import count, text
from nasvit_edge.benchmark.statistics import compare_overlaps
from nasvit_edge.data_sets.confusion import mean_iou
from nasvit_edge.paired import Interval, compare_hits

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

    def to_dict(self) -> dict[str, Any]:
        """As JSON: a bit an image, in base64."""
        packed = base64.b64encode(np.packbits(self.hits).tobytes()).decode()
        return {"data": self.data, "images": len(self.hits), "top1": self.value, "hits": packed}


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

    def to_dict(self) -> dict[str, Any]:
        """As JSON: the counts as little-endian 32-bit integers, in base64."""
        scenes, _, classes = self.counts.shape
        packed = base64.b64encode(self.counts.astype("<i4").tobytes()).decode()
        own = {"images": scenes, "classes": classes, "mean_iou": self.value, "overlaps": packed}
        return {"data": self.data} | own


Accuracy: TypeAlias = Hits | Overlaps


def read_accuracy(value: Any) -> Accuracy:
    """What `to_dict` gave.

    Raises:
        ValueError, KeyError: it is something else.
    """
    if not isinstance(value, dict):
        raise ValueError(f"accuracy {str(value)[:40]!r} is no object")
    data, images = text(value["data"]), count(value["images"], 1, _MOST)
    return _overlaps(data, images, value) if "overlaps" in value else _hits(data, images, value)


def _hits(data: str, images: int, value: dict[str, Any]) -> Hits:
    packed = np.frombuffer(_bytes(value["hits"], "hits"), np.uint8)
    if len(packed) != (images + 7) // 8:
        raise ValueError(f"hits are of {8 * len(packed)} images, not of {images}")
    return Hits(data, np.unpackbits(packed)[:images].astype(bool))


def _overlaps(data: str, images: int, value: dict[str, Any]) -> Overlaps:
    classes, packed = count(value["classes"], 1, _MOST), _bytes(value["overlaps"], "overlaps")
    if len(packed) != 4 * images * 2 * classes:
        raise ValueError(f"overlaps are not of {images} scenes and {classes} classes")
    counts = np.frombuffer(packed, "<i4").reshape(images, 2, classes).astype(np.int64)
    if (counts < 0).any() or (counts[:, 0] > counts[:, 1]).any() or not counts.any():
        raise ValueError("overlaps are no counts of pixels")
    return Overlaps(data, counts)


def _bytes(value: Any, what: str) -> bytes:
    try:
        return base64.b64decode(text(value), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{what}: {error}") from None
