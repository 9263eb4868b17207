"""Image folders: one folder of image files per class, maybe with `train`, `val` and `test` above them."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from nasvit_edge.data_sets import kept, layouts
from nasvit_edge.data_sets.decoding import check_header, decode
from nasvit_edge.data_sets.names import shown, some
from nasvit_edge.data_sets.sets import FileSet, Images, ImageSet, Paths
from nasvit_edge.data_sets.walking import BESIDE, LeftOut, Walk, told
from nasvit_edge.errors import DataError
from nasvit_edge.preparation import Preparation

MEMORY_BYTES = 2_000_000_000  # larger sets stay files
_SAMPLE = 64  # files of a large set that are opened before training starts
_FEW = 12  # classes that are told with the count of each
Places: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"


@dataclass(frozen=True, slots=True)
class Listing:
    """Image files and the classes they are of, nothing decoded.

    Attributes:
        left_out: what lies between them and is no image that can be read, by kind.
    """

    name: str
    classes: tuple[str, ...]  # names of folders, in order; one may have no images
    paths: Paths  # (N,)
    labels: Places  # (N,) places in `classes`
    left_out: LeftOut = field(default_factory=Counter)
    remark: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def counts(self) -> Places:
        """Images of each class, (C,)."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def take(self, name: str, places: np.ndarray[Any, Any]) -> Listing:
        """A part of the files."""
        return replace(self, name=name, paths=self.paths[places], labels=self.labels[places])

    def labelled(self, classes: Sequence[str], places: Sequence[int] | Places) -> Listing:
        """The same files, the label of class i being `places[i]` of other `classes`."""
        return replace(self, classes=tuple(classes), labels=np.asarray(places, np.int64)[self.labels])

    def present(self) -> Listing:
        """The same files, without the classes that have none."""
        counts = self.counts
        classes = [name for name, count in zip(self.classes, counts, strict=True) if count]
        return self.labelled(classes, np.cumsum(counts > 0) - 1)

    def told(self) -> str:
        """Images, classes with their counts (of many the extremes), and what was left out, in one line."""
        kinds = (
            f"{self.name}, {len(self.classes)} classes{self._counted()}" if any(self.classes) else self.name
        )
        left = told(self.left_out)
        return "; ".join(part for part in (kinds, self.remark, left and f"left out: {left}") if part)

    def _counted(self) -> str:
        names, counts = [shown(name) for name in self.classes], self.counts
        if len(names) <= _FEW:
            return ": " + ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
        least, most = int(counts.argmin()), int(counts.argmax())
        return f" with {counts[least]} ({names[least]}) to {counts[most]} ({names[most]}) images"


def listing(folder: Path, name: str = "") -> Listing:
    """All image files of a folder of classes, in a fixed order; `name` stands in names, the folder's if not given.

    Classes are in the order of their names, by value where all are numbers. One of them may have no images.

    Raises:
        DataError: no class folders, no images, or folders that are laid out otherwise.
    """
    walk = Walk(os.fsencode(folder))
    classes = walk.classes()
    layouts.require_classes(folder, tuple(classes), walk.left_out[BESIDE])
    images = walk.images(classes)
    for other, first in walk.same.items():
        raise DataError(
            f"images {str(folder)!r}: class folders {shown(first)!r} and {shown(other)!r} are the same folder, by a link; remove one"
        )
    labels = np.repeat(np.arange(len(classes)), [len(paths) for paths in images.values()])
    if not len(labels):
        raise DataError(
            _without_images(folder, f"its class folders ({some(tuple(classes))}) have", walk.left_out)
        )
    note = layouts.remark(folder, classes, images)
    return Listing(
        _named(folder, name, len(labels)), tuple(classes), _paths(images), labels, walk.left_out, note
    )


def unlabelled(data: str) -> Listing:
    """All image files of a folder, those of its training split where it has one; the label of each is 0.

    They may lie in folders of any classes, of which some are empty, or in none.

    Raises:
        DataError: no such folder, or no images in it.
    """
    folder = layouts.unlabelled_folder(data)
    walk = Walk(os.fsencode(folder))
    images = walk.images({"": [walk.root]})
    count = len(images[""])
    if not count:
        raise DataError(_without_images(folder, "there are", walk.left_out))
    return Listing(
        _named(folder, layouts.name_of(data, folder), count),
        ("",),
        _paths(images),
        np.zeros(count, np.int64),
        walk.left_out,
    )


def require_images(folder: Path, files: Listing) -> None:
    """DataError names a class folder without images."""
    counts = files.counts
    if not counts.all():
        empty = shown(files.classes[int(counts.argmin())])
        raise DataError(_without_images(folder, f"class folder {empty!r} has", files.left_out))


def _without_images(folder: Path, what: str, left_out: LeftOut) -> str:
    left = f" (left out: {told(left_out)})" if +left_out else ""
    return f"images {str(folder)!r}: {what} no images that can be read; fill it or remove it{left}"


def _named(folder: Path, name: str, count: int) -> str:
    return f"{name or shown(folder.resolve().name)} ({count} images)"


def _paths(images: Mapping[str, Sequence[bytes]]) -> Paths:
    return np.array([path for paths in images.values() for path in paths])


def read(files: Listing, preparation: Preparation, *, whole: bool = False) -> Images:
    """The images of a listing as `preparation` keeps them: in memory, or as files where they do not fit.

    `whole`: as files in any case, for a pipeline that crops from the whole image.

    Raises:
        DataError: an image that cannot be read; of a set that stays files, only a sample is opened.
    """
    import torch

    as_files = as_file_set(files, preparation)
    shape = (len(as_files), 3, *preparation.crop)
    if whole or math.prod(shape) > MEMORY_BYTES:
        check_sample(files)
        return as_files
    key = kept.key(files.paths, preparation)
    pixels = kept.load(key, shape)
    if pixels is None:
        pixels = as_files.loaded().pixels.numpy()
        kept.save(key, pixels)
    return ImageSet(files.name, torch.from_numpy(pixels), as_files.labels, files.paths)


def as_file_set(files: Listing, preparation: Preparation) -> FileSet:
    """The images of a listing as files; nothing is opened."""
    import torch

    return FileSet(files.name, files.paths, torch.from_numpy(files.labels), preparation)


def check_sample(files: Listing) -> None:
    """Open a few files, spread over all of them, and decode the first: DataError names one that is no image."""
    places = np.linspace(0, len(files) - 1, min(_SAMPLE, len(files))).astype(int)
    decode(os.fsdecode(files.paths[0]))
    for path in files.paths[places]:
        check_header(os.fsdecode(path))
