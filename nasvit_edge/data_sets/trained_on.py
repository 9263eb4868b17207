"""Which images trained weights: short digests of their content, which travel with the weights.

An image is known by the first 32 bits of a SHA-256: of its file, whatever it is called; of a set that has no files, of
its stored pixels (RGB, with their size), which a folder of the same pixels without loss has too. An image that trained nothing
has the digest of one of N that did with a chance of N / 2^32, 0.0014 % of 60,000; `Overlap.trained` tells more of them than that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta
from msgspec.structs import force_setattr

from nasvit_edge import digests, records
from nasvit_edge.data_sets.decoding import check_header, decode
from nasvit_edge.data_sets.scenes import Files, SceneSet
from nasvit_edge.data_sets.sets import FileSet, ImageSet, Marks, Paths, pixel_mark, pixel_marks
from nasvit_edge.errors import DataError
from nasvit_edge.records import Record, RecordError, Whole

Labelled = ImageSet | FileSet | SceneSet
Kind = Literal["files", "pixels"]
FILES: Kind = "files"
PIXELS: Kind = "pixels"
_BITS: Literal[32] = 32
_MOST = 1 << 26
_SURE = 1e-3  # chance of as many by accident, below which they are told
_TOGETHER = 128
_DAMAGED = "the digests of the images that trained it are damaged"


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """One set of images that trained.

    Attributes:
        name: of the set, for people.
        marks: the digests, sorted, each once.
        size: height and width of images that are known by their pixels; None of those known by files, or of several sizes.
    """

    name: str
    kind: Kind
    marks: Marks
    size: tuple[int, int] | None = None

    def holds(self, images: Labelled) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
        """Which images are of this set, (N,); None where the two cannot be compared."""
        marks = _marks(images, self.kind, self.size)
        return None if marks is None else np.isin(marks, self.marks)


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """All images that trained weights; `whole` is false where those before the last training are not known."""

    parts: tuple[TrainingSet, ...] = ()
    whole: bool = True

    def __len__(self) -> int:
        return sum(len(part.marks) for part in self.parts)

    def saved(self) -> SavedTrainedOn:
        """About two bytes a digest: as differences, packed."""
        sets = (
            SavedPart(
                name=part.name,
                kind=part.kind,
                size=part.size,
                images=len(part.marks),
                digests=_packed(part.marks),
            )
            for part in self.parts
        )
        return SavedTrainedOn(bits=_BITS, whole=self.whole, sets=tuple(sets))


class SavedPart(Record, frozen=True, kw_only=True, omit_defaults=False):
    """A `TrainingSet` as files have it."""

    name: str
    kind: Kind
    size: tuple[Whole, Whole] | None
    images: Annotated[int, Meta(ge=0, le=_MOST)]
    digests: str


class SavedTrainedOn(Record, frozen=True, kw_only=True, omit_defaults=False):
    """`TrainedOn` as files have it."""

    bits: Literal[32]
    whole: bool
    sets: tuple[SavedPart, ...]

    def opened(self, what: str) -> TrainedOn:
        """What was saved; DataError names `what` where digests are damaged."""
        try:
            parts = [TrainingSet(p.name, p.kind, _unpacked(p.digests, p.images), p.size) for p in self.sets]
        except (ValueError, binascii.Error, zlib.error) as error:
            raise DataError(f"{what}: {_DAMAGED} ({str(error)[:80]})") from None
        return TrainedOn(tuple(parts), self.whole)


def from_json(value: Any, what: str) -> TrainedOn:
    """What `saved` gave, as JSON is read; DataError names `what`."""
    try:
        return records.parse(SavedTrainedOn, value, f"{what}: {_DAMAGED}").opened(what)
    except RecordError as error:
        raise DataError(str(error)) from None


def trained_on(images: Labelled, before: TrainedOn | None) -> TrainedOn:
    """With these images too; `before` None: what trained the weights earlier is not known.

    Every file is read once, and remembered (`digests`).
    """
    kind = PIXELS if _paths(images) is None else FILES
    marks = _marks(images, kind, None)
    assert marks is not None
    size = images.stored_size if kind == PIXELS and isinstance(images, ImageSet) else None
    new = TrainingSet(images.name, kind, np.unique(marks), size)
    earlier = () if before is None else before.parts
    parts = (*(p for p in earlier if not _same(p, new)), new)
    return TrainedOn(parts, before is not None and before.whole)


def _same(one: TrainingSet, other: TrainingSet) -> bool:
    return one.kind == other.kind and np.array_equal(one.marks, other.marks)


class Overlap(Record, frozen=True, omit_defaults=False):
    """How many of `images` trained the weights.

    Attributes:
        trained: None where it is not known: the weights do not say it, or the images cannot be compared with theirs.
        of: how many images trained the weights, as far as that is known; None where it is not.
        sets: their names.
        by_chance: how many would look as if they did.
        whole: whether all that trained the weights is known, and could be compared.
        told: in a line.
    """

    images: int
    trained: int | None
    of: int | None
    sets: tuple[str, ...]
    by_chance: float
    whole: bool
    told: str = ""

    def __post_init__(self) -> None:
        force_setattr(self, "told", self._told())

    @property
    def some(self) -> bool:
        """Whether more of them trained the weights than look so by chance."""
        return bool(self.trained) and _chance(self.by_chance, self.trained or 0) < _SURE

    def _told(self) -> str:
        if self.trained is None:
            return "which images trained these weights is not known: if these did, this is no test accuracy"
        if self.some:
            return f"{self.trained} of {self.images} images trained these weights: this is no test accuracy"
        if not self.of:
            line = "no images trained these weights"
        else:
            chance = "" if not self.trained else f" (but for {self.trained} that look so by chance)"
            line = (
                f"none of the {self.images} images is among the {self.of} that trained these weights{chance}"
            )
        return line if self.whole else f"{line}; of those that trained them before, not all are known"


def overlap(known: TrainedOn | None, images: Labelled) -> Overlap:
    """How many of the images trained weights of which this is known."""
    if known is None or (not known.parts and not known.whole):
        return Overlap(len(images), None, None, (), 0.0, False)
    names = tuple(part.name for part in known.parts)
    masks = [part.holds(images) for part in known.parts]
    compared = [hits for hits in masks if hits is not None]
    if known.parts and not compared:
        return Overlap(len(images), None, len(known), names, 0.0, False)
    seen = np.logical_or.reduce(compared) if compared else np.zeros(len(images), bool)
    chance = len(images) * min(1.0, len(known) / 2**_BITS)
    whole = known.whole and len(compared) == len(masks)
    return Overlap(len(images), int(seen.sum()), len(known), names, chance, whole)


def _chance(mean: float, count: int) -> float:
    """Of `count` or more where `mean` are expected (Poisson)."""
    if mean <= 0:
        return 0.0
    below = sum(
        math.exp(i * math.log(mean) - mean - math.lgamma(i + 1))
        for i in range(min(count, int(mean) + 10_000))
    )
    return max(0.0, 1 - below)


# -- digests of a set -------------------------------------------------------------------------------------------------


def _paths(images: Labelled) -> Paths | None:
    """The files of a set, (N,); None of one that has none."""
    if isinstance(images, FileSet):
        return images.paths
    if isinstance(images, SceneSet):
        return images.source.images[images.places] if isinstance(images.source, Files) else None
    return images.paths


def _marks(images: Labelled, kind: str, size: tuple[int, int] | None) -> Marks | None:
    """The digest of each image, (N,); None where a set without files is asked for those of files."""
    paths = _paths(images)
    if kind == FILES:
        return None if paths is None else _of_files(paths)
    if paths is not None:
        return np.array(list(_of_pixels(paths, size)), np.uint32)
    if isinstance(images, ImageSet):
        return images.marks if images.marks is not None else pixel_marks(images.pixels.numpy())
    assert isinstance(images, SceneSet)
    return np.array([pixel_mark(images.pair(i)[0]) for i in range(len(images))], np.uint32)


def _of_files(paths: Paths) -> Marks:
    hashes = digests.of_files(paths.tolist())
    return np.frombuffer(b"".join(digest[:4] for digest in hashes), ">u4").astype(np.uint32)


def _of_pixels(paths: Paths, size: tuple[int, int] | None) -> Iterator[int]:
    """Of the images in files; one of another size than `size` is none of the set, and not decoded."""

    def mark(path: bytes) -> int:
        name = os.fsdecode(path)
        if size is not None and check_header(name) != size:
            return int.from_bytes(hashlib.sha256(b"another size\0" + path).digest()[:4])
        return pixel_mark(decode(name))

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), _TOGETHER):
            yield from pool.map(mark, paths[start : start + _TOGETHER].tolist())


# -- to text and back -------------------------------------------------------------------------------------------------


def _packed(marks: Marks) -> str:
    """Base64 of the differences, their lowest bytes first, compressed."""
    steps = np.diff(marks.astype(np.int64), prepend=0).astype("<u4")
    return base64.b64encode(zlib.compress(steps.view(np.uint8).reshape(-1, 4).T.tobytes(), 9)).decode()


def _unpacked(text: str, count: int) -> Marks:
    packed = base64.b64decode(text, validate=True)
    opened = zlib.decompressobj()
    content = opened.decompress(packed, 4 * count + 1)  # never more than is told
    if len(content) != 4 * count:
        raise ValueError(f"not {count} of them")
    steps = np.frombuffer(content, np.uint8).reshape(4, count).T.copy().view("<u4").ravel()
    marks = steps.astype(np.int64).cumsum()
    if count and (marks[-1] >= 1 << _BITS or (steps[1:] == 0).any()):
        raise ValueError("not in order")
    return marks.astype(np.uint32)
