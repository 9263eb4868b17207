"""Which images train, calibrate, validate and test.

Search and training see the same slices. Validation never trains, and no test image is seen before the winners are
judged, except where a folder has only `train` and `val`: there `val` is both, as is usual with ImageNet.
"""

from __future__ import annotations

from collections.abc import Sized
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np

from nasvit_edge.data_sets import folders
from nasvit_edge.data_sets.cifar import CIFAR, cifar
from nasvit_edge.data_sets.fashion import (
    BUNDLED,
    FASHION_LABELS,
    FASHION_MNIST,
    bundled_as_stored,
    fashion_mnist,
    fashion_mnist_splits,
)
from nasvit_edge.data_sets.scenes import SceneSet, load_scenes
from nasvit_edge.data_sets.sets import FileSet, Images, ImageSet
from nasvit_edge.errors import DataError
from nasvit_edge.preparation import Preparation
from nasvit_edge.space import SearchSpace

HELD_SHARE, HELD_MOST = 0.05, 10_000  # of the training images, where no validation images come with them
CALIBRATION_MOST = 4096  # 64 batches of 64
CALIBRATION_SCENES = 512  # 64 batches of 8
_SPLITS = ("train", "validation")
_FOLDERS = ("train", "validation", "test")
Labelled: TypeAlias = ImageSet | FileSet | SceneSet
_Set = TypeVar("_Set", ImageSet, FileSet, SceneSet, Labelled)
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


def training_splits(data: str, space: SearchSpace) -> tuple[Labelled, Labelled]:
    """(train, validation) of `fashion-mnist`, `cifar10`, `cifar100` or a folder; scenes for a dense space.

    Validation images are those of a folder `val`; where there is none, 5 % of the training images (at most 10,000, a
    fixed choice, from every class alike) are held out.

    Raises:
        DataError: classes that are not the space's, an image that cannot be read, an empty class folder.
    """
    if space.is_dense:
        return load_scenes(data, "train", space), load_scenes(data, "validation", space)
    rule = space.preparation()
    if data == FASHION_MNIST:
        _require_classes(data, FASHION_LABELS, space)
        train, _, validation = fashion_mnist_splits()
        return train.fitted(rule), validation.fitted(rule)
    if data in CIFAR:
        in_memory, held = _cifar_splits(data, space)
        return in_memory.fitted(rule), held.fitted(rule)
    if data == BUNDLED:
        raise DataError(f"no train images are bundled; give {FASHION_MNIST!r} or a folder with --data")
    listed = _listings(data, space)
    return folders.read(listed[0], rule), folders.read(listed[1], rule)


def load_images(
    data: str, split: str, space: SearchSpace, preparation: Preparation | None = None
) -> Labelled:
    """Images, of a dense space scenes, by the name a user gives: `bundled`, `fashion-mnist`, `cifar10`, `cifar100`, or a folder.

    `split` is `train`, `validation` or `test`: the slices of `training_splits`, and the test images (of a folder of
    classes alone: all). `preparation` is the space's own for its image size if not given.
    """
    if space.is_dense:
        return load_scenes(data, split, space)
    rule = preparation or space.preparation()
    if data == BUNDLED:
        _require_classes(data, FASHION_LABELS, space)
        return bundled_as_stored(split).fitted(rule)
    if data in (FASHION_MNIST, *CIFAR):
        return _known(data, split, space).fitted(rule)
    return _of_folder(data, split, space, rule)


def _known(data: str, split: str, space: SearchSpace) -> ImageSet:
    """A slice of a data set that has a name, as it is stored."""
    if split == "test":
        images, names = (
            cifar(data, train=False) if data in CIFAR else (fashion_mnist(train=False), FASHION_LABELS)
        )
        _require_classes(data, names, space)
        return images
    if data in CIFAR:
        return _cifar_splits(data, space)[_SPLITS.index(split)]
    _require_classes(data, FASHION_LABELS, space)
    train, _, validation = fashion_mnist_splits()
    return (train, validation)[_SPLITS.index(split)]


def _of_folder(data: str, split: str, space: SearchSpace, preparation: Preparation) -> Images:
    """Only the files of this slice are decoded."""
    if split == "test":
        folder = _folder(data, "test")
        found = folders.listing(folder, _name(data, folder))
        _require_classes(data, found.classes, space)
        trained = folders.split_folder(data, "train")
        if trained is not None:
            _require_same_classes(data, folder, found.classes, folders.class_names(trained))
        return folders.read(found, preparation)
    return folders.read(_listings(data, space)[_SPLITS.index(split)], preparation)


def calibration_images(
    data: str, space: SearchSpace, most: int = CALIBRATION_MOST, *, whole: bool = False
) -> Labelled:
    """The images that subnets are calibrated on, everywhere: a fixed choice of those that train, at most `most`.

    Labels are of no use here and mean nothing: a folder without classes, with others or with empty ones will do.
    `whole`: as files, for a pipeline that crops from the whole image.
    """
    if space.is_dense:
        return chosen(load_scenes(data, "train", space), min(most, CALIBRATION_SCENES))
    if data == BUNDLED:
        _require_classes(data, FASHION_LABELS, space)
        return chosen(bundled_as_stored("calibration"), most).fitted(space.preparation())
    if data in (FASHION_MNIST, *CIFAR):
        return chosen(_known(data, "train", space), most).fitted(space.preparation())
    files = _training_files(data, space)
    order = _order(len(files))[:most]
    name = files.name if len(order) == len(files) else _part_name(files.name, len(order))
    return folders.read(files.take(name, order), space.preparation(), whole=whole)


def chosen(train: _Set, most: int = CALIBRATION_MOST) -> _Set:
    """A fixed choice of training images or scenes."""
    import torch

    if len(train) <= most:
        return train
    name = _part_name(train.name, most)
    return train.take(name, torch.from_numpy(_order(len(train))[:most]))


def _training_files(data: str, space: SearchSpace) -> folders.Listing:
    """What trains, where the folder has the classes of the space; any images otherwise."""
    try:
        return _listings(data, space)[0]
    except DataError:
        return folders.unlabelled(data)


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


def _order(count: int) -> _Places:
    return np.random.default_rng(1).permutation(count)


def _part_name(train: str, count: int) -> str:
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
