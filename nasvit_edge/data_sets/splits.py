"""Which images train, calibrate, validate and test.

Search and training see the same slices. Validation never trains, and no test image is seen before the winners are
judged, except where a folder has only `train` and `val`: there `val` is both, as is usual with ImageNet.
"""

from __future__ import annotations

from collections.abc import Sized
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from nasvit_edge.data_sets import folders
from nasvit_edge.data_sets.cifar import CIFAR, cifar
from nasvit_edge.data_sets.fashion import (
    BUNDLED,
    FASHION_LABELS,
    FASHION_MNIST,
    bundled,
    fashion_mnist,
    fashion_mnist_splits,
)
from nasvit_edge.data_sets.scenes import SceneSet, load_scenes
from nasvit_edge.data_sets.sets import FileSet, Images, ImageSet
from nasvit_edge.errors import DataError
from nasvit_edge.space import SearchSpace

HELD_SHARE, HELD_MOST = 0.05, 10_000  # of the training images, where no validation images come with them
CALIBRATION_MOST = 4096  # 64 batches of 64
CALIBRATION_SCENES = 512  # 64 batches of 8
_SPLITS = ("train", "calibration", "validation")
_FOLDERS = ("train", "validation", "test")
Labelled: TypeAlias = ImageSet | FileSet | SceneSet
_Places = np.ndarray[Any, np.dtype[np.int64]]


def classes(data: str, space: SearchSpace | None = None) -> tuple[str, ...]:
    """The names of the classes, in the order of the labels; a folder's images are not decoded.

    Masks hold numbers: the names of a dense space's classes are its own.
    """
    if space is not None and space.is_dense:
        return tuple(space.label_names())
    if data in (BUNDLED, FASHION_MNIST):
        return FASHION_LABELS
    if data in CIFAR:
        return cifar(data, train=False)[1]
    return folders.listing(_folder(data, "train", "test")).classes


def check(data: str, space: SearchSpace) -> None:
    """What can be known without decoding all: classes, empty folders, and whether a sample of files opens.

    Raises:
        DataError: one line about the first thing that is wrong.
    """
    if space.is_dense:
        for split in ("train", "validation"):
            load_scenes(data, split, space)
        return
    names = classes(data)
    _require_classes(data, names, space)
    if data in (BUNDLED, FASHION_MNIST, *CIFAR):
        return
    for folder in dict.fromkeys(folders.split_folder(data, split) for split in _FOLDERS):
        if folder is not None:
            found = folders.listing(folder)
            _require_same_classes(data, folder, found.classes, names)
            folders.check_sample(found)


def training_splits(data: str, space: SearchSpace) -> tuple[Labelled, ImageSet | SceneSet, Labelled]:
    """(train, calibration, validation) of `fashion-mnist`, `cifar10`, `cifar100` or a folder; scenes for a dense space.

    Validation images are those of a folder `val`; where there is none, 5 % of the training images (at most 10,000, a
    fixed choice, from every class alike) are held out. Calibration images are training images.

    Raises:
        DataError: classes that are not the space's, an image that cannot be read, an empty class folder.
    """
    if space.is_dense:
        scenes = load_scenes(data, "train", space)
        return scenes, _calibration_scenes(scenes), load_scenes(data, "validation", space)
    if data == FASHION_MNIST:
        _require_classes(data, FASHION_LABELS, space)
        return fashion_mnist_splits()
    if data in CIFAR:
        in_memory, held = _cifar_splits(data, space)
        return in_memory, _calibration(in_memory), held
    if data == BUNDLED:
        raise DataError(f"no train images are bundled; give {FASHION_MNIST!r} or a folder with --data")
    size = max(space.resolutions)
    train, validation = (folders.read(part, size) for part in _listings(data, space))
    return train, _calibration(train), validation


def load_images(data: str, split: str, space: SearchSpace, size: int | None = None) -> Labelled:
    """Images, of a dense space scenes, by the name a user gives: `bundled`, `fashion-mnist`, `cifar10`, `cifar100`, or a folder.

    `split` is `train`, `calibration`, `validation` or `test`: the slices of `training_splits`, and the test images
    (of a folder of classes alone: all). `size` is that of a folder's images, the space's largest if not given.
    """
    if space.is_dense:
        if split == "calibration":
            return _calibration_scenes(load_scenes(data, "train", space))
        return load_scenes(data, split, space)
    if data == BUNDLED:
        _require_classes(data, FASHION_LABELS, space)
        return bundled(split)
    if data == FASHION_MNIST and split == "test":
        _require_classes(data, FASHION_LABELS, space)
        return fashion_mnist(train=False)
    if data in CIFAR and split == "test":
        images, names = cifar(data, train=False)
        _require_classes(data, names, space)
        return images
    if data in (FASHION_MNIST, *CIFAR):
        return training_splits(data, space)[_SPLITS.index(split)]
    return _of_folder(data, split, space, size or max(space.resolutions))


def _of_folder(data: str, split: str, space: SearchSpace, size: int) -> Images:
    """Only the files of this slice are decoded."""
    if split == "test":
        folder = _folder(data, "test")
        found = folders.listing(folder, _name(data, folder))
        _require_classes(data, found.classes, space)
        trained = folders.split_folder(data, "train")
        if trained is not None:
            _require_same_classes(data, folder, found.classes, folders.class_names(trained))
        return folders.read(found, size)
    train, validation = _listings(data, space)
    if split == "calibration":
        order = _calibration_order(len(train))
        return folders.read(train.take(_calibration_name(train.name, len(order)), order), size)
    return folders.read(train if split == "train" else validation, size)


def held_out(labels: _Places) -> _Places:
    """Which images are held out of training, (n,), in a fixed random order: as many of every class as its share."""
    rng = np.random.default_rng(0)
    share = min(HELD_SHARE, HELD_MOST / len(labels))
    starts = np.flatnonzero(np.diff(np.sort(labels))) + 1
    chosen = []
    for members in np.split(np.argsort(labels, kind="stable"), starts):  # one class each
        count = max(int(share * len(members)), min(1, len(members) - 1))
        chosen.append(rng.permutation(members)[:count])
    return rng.permutation(np.concatenate(chosen))[:HELD_MOST]


def _listings(data: str, space: SearchSpace) -> tuple[folders.Listing, folders.Listing]:
    """The files of (train, validation)."""
    trained = _folder(data, "train")
    found = folders.listing(trained, _name(data, trained))
    _require_classes(data, found.classes, space)
    own = folders.split_folder(data, "validation")
    if own is not None:
        validation = folders.listing(own, _name(data, own))
        _require_same_classes(data, own, validation.classes, found.classes)
        return found, validation
    rest, held = _split(data, found.labels)
    name = _name(data, trained)
    return found.take(f"{name} ({len(rest)} images)", rest), found.take(_held_name(name, held), held)


def _cifar_splits(data: str, space: SearchSpace) -> tuple[ImageSet, ImageSet]:
    import torch

    images, names = cifar(data, train=True)
    _require_classes(data, names, space)
    rest, held = map(torch.from_numpy, _split(data, images.labels.numpy()))
    return images.take(f"{data} train ({len(rest)} images)", rest), images.take(
        _held_name(f"{data} train", held), held
    )


def _split(data: str, labels: _Places) -> tuple[_Places, _Places]:
    """Which images are trained on, in order, and which are held out."""
    held = held_out(labels)
    if not len(held):
        raise DataError(
            f"images {data!r}: {len(labels)} are too few to hold some out for validation; give a folder 'val'"
        )
    return np.setdiff1d(np.arange(len(labels)), held), held


def _held_name(name: str, held: Sized) -> str:
    return f"{name}, held out ({len(held)} images)"


def _calibration(train: Images) -> ImageSet:
    """A fixed choice of training images, in memory."""
    import torch

    order = torch.from_numpy(_calibration_order(len(train)))
    part = train.take(_calibration_name(train.name, len(order)), order)
    return part.loaded() if isinstance(part, FileSet) else part


def _calibration_scenes(train: SceneSet) -> SceneSet:
    """A fixed choice of training scenes."""
    order = _calibration_order(len(train))[:CALIBRATION_SCENES]
    name = train.name if len(order) == len(train) else _calibration_name(train.name, len(order))
    return train.take(name, order)


def _calibration_order(count: int) -> _Places:
    return np.random.default_rng(1).permutation(count)[:CALIBRATION_MOST]


def _calibration_name(train: str, count: int) -> str:
    return f"{train}, {count} of them"


def _folder(data: str, *splits: str) -> Path:
    found = next((f for f in (folders.split_folder(data, split) for split in splits) if f is not None), None)
    if found is None:
        raise DataError(f"images {data!r}: there is no folder {splits[0]!r} in it")
    return found


def _name(data: str, folder: Path) -> str:
    """`photos` for its own images, `photos train` for those of its folder `train`."""
    root = Path(data).resolve()
    return root.name if folder.resolve() == root else f"{root.name} {folder.name}"


def _require_classes(data: str, names: tuple[str, ...], space: SearchSpace) -> None:
    if len(names) != space.classes:
        raise DataError(
            f"images {data!r} have {len(names)} classes; space {space.name!r} has {space.classes}"
        )


def _require_same_classes(data: str, folder: Path, found: tuple[str, ...], names: tuple[str, ...]) -> None:
    if found != names:
        other = ", ".join(sorted(set(found) ^ set(names))[:5])
        raise DataError(
            f"images {data!r}: folder {folder.name!r} has not the same class folders as the training images (different: {other})"
        )
