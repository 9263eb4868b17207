"""Image folders: one folder of image files per class, maybe with `train`, `val` and `test` above them."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasvit_edge.data_sets import kept
from nasvit_edge.data_sets.decoding import check_header, decode
from nasvit_edge.data_sets.sets import FileSet, Images, ImageSet, Paths
from nasvit_edge.errors import DataError, require
from nasvit_edge.preparation import Preparation

MEMORY_BYTES = 2_000_000_000  # larger sets stay files
_SPLITS = {"train": ("train",), "validation": ("val", "validation"), "test": ("test", "val", "validation")}
_SAMPLE = 64  # files of a large set that are opened before training starts


@dataclass(frozen=True, slots=True)
class Listing:
    """Image files and the classes they are of, nothing decoded."""

    name: str
    classes: tuple[str, ...]  # sorted folder names
    paths: Paths  # (N,)
    labels: np.ndarray[Any, np.dtype[np.int64]]  # (N,)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, name: str, places: np.ndarray[Any, Any]) -> Listing:
        """A part of the files."""
        return Listing(name, self.classes, self.paths[places], self.labels[places])


def split_folder(data: str, split: str) -> Path | None:
    """The folder of `train`, `validation` or `test` images; None where `data` has none for it.

    A folder of classes without these names below it is one of training images, and of test images.
    """
    root = Path(data)
    if not root.is_dir():
        raise DataError(
            f"images {data!r}: no such folder; give 'bundled', 'fashion-mnist', 'cifar10', 'cifar100' or a folder with one folder per class"
        )
    if not any((root / name).is_dir() for names in _SPLITS.values() for name in names):
        return None if split == "validation" else root
    return next((root / name for name in _SPLITS[split] if (root / name).is_dir()), None)


def class_names(folder: Path) -> tuple[str, ...]:
    """The class folders, sorted; their files are not looked at."""
    try:
        return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))
    except OSError as error:
        raise DataError(f"images {str(folder)!r}: {error.strerror}") from None


def listing(folder: Path, name: str = "") -> Listing:
    """All image files of a folder of classes, in a fixed order; `name` stands in names, the folder's if not given.

    Raises:
        DataError: no class folders, or one without images.
    """
    datasets = require("torchvision.datasets", "train")
    try:
        found = datasets.ImageFolder(str(folder), allow_empty=True)
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"images {str(folder)!r}: {reason}; give a folder with one folder per class"
        ) from None
    labels = np.array([label for _, label in found.samples], np.int64)
    counts = np.bincount(labels, minlength=len(found.classes))
    if not counts.all():
        empty = found.classes[int(counts.argmin())]
        raise DataError(
            f"images {str(folder)!r}: class folder {empty!r} has no images; fill it or remove it (known kinds: {' '.join(datasets.folder.IMG_EXTENSIONS)})"
        )
    paths = np.array([os.fsencode(path) for path, _ in found.samples])
    name = f"{name or folder.resolve().name} ({len(labels)} images)"
    return Listing(name, tuple(found.classes), paths, labels)


def unlabelled(data: str) -> Listing:
    """All image files of a folder, or of its training part, at any depth; labels are 0."""
    root = split_folder(data, "train") or Path(data)
    datasets = require("torchvision.datasets", "train")
    endings = tuple(datasets.folder.IMG_EXTENSIONS)
    found = sorted(
        os.fsencode(path) for path in root.rglob("*") if path.suffix.lower() in endings and path.is_file()
    )
    if not found:
        raise DataError(f"images {data!r}: there are none in it (known kinds: {' '.join(endings)})")
    name = f"{root.resolve().name} ({len(found)} images)"
    return Listing(name, (), np.array(found), np.zeros(len(found), np.int64))


def read(files: Listing, preparation: Preparation, *, whole: bool = False) -> Images:
    """The images of a listing as `preparation` keeps them: in memory, or as files where they do not fit.

    `whole`: as files in any case, for a pipeline that crops from the whole image.

    Raises:
        DataError: an image that cannot be read; of a set that stays files, only a sample is opened.
    """
    import torch

    as_files = FileSet(files.name, files.paths, torch.from_numpy(files.labels), preparation)
    shape = (len(as_files), 3, *preparation.crop)
    if whole or math.prod(shape) > MEMORY_BYTES:
        check_sample(files)
        return as_files
    key = kept.key(files.paths, preparation)
    pixels = kept.load(key, shape)
    if pixels is None:
        pixels = as_files.loaded().pixels.numpy()
        kept.save(key, pixels)
    return ImageSet(files.name, torch.from_numpy(pixels), as_files.labels)


def check_sample(files: Listing) -> None:
    """Open a few files, spread over all of them, and decode the first: DataError names one that is no image."""
    places = np.linspace(0, len(files) - 1, min(_SAMPLE, len(files))).astype(int)
    decode(os.fsdecode(files.paths[0]))
    for path in files.paths[places]:
        check_header(os.fsdecode(path))
