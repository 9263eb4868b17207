"""Which images train, calibrate, validate and test.

Search and training see the same slices. Validation never trains, and no test image is seen before the winners are
judged, except where a folder has only `train` and `val`: there `val` is both, as is usual with ImageNet.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np

from nasvit_edge.data_sets import folders, labels, layouts, scene_layouts, slices
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
from nasvit_edge.data_sets.sets import FileSet, ImageSet
from nasvit_edge.data_sets.slices import Labelling
from nasvit_edge.data_sets.trained_on import TrainedOn, overlap
from nasvit_edge.errors import DataError
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.preparation import Preparation
from nasvit_edge.space import SearchSpace

CALIBRATION_MOST = 4096  # 64 batches of 64
CALIBRATION_SCENES = 512  # 64 batches of 8
_SPLITS = ("train", "validation")
_FOLDERS = ("train", "validation", "test")
ALL = "; --split all judges on all of them"
JUDGED = ("test", "validation", "all")
_NAMED = (BUNDLED, FASHION_MNIST, *CIFAR)
Labelled: TypeAlias = ImageSet | FileSet | SceneSet
_Set = TypeVar("_Set", ImageSet, FileSet, SceneSet, Labelled)
_Places = np.ndarray[Any, np.dtype[np.int64]]


def classes(data: str, space: SearchSpace | None = None) -> tuple[str, ...]:
    """The names of the classes: of a folder those of its class folders, sorted (by value where all are numbers).

    A folder's images are not decoded. Masks hold numbers: the names of a dense space's classes are its own.
    """
    if space is not None and space.is_dense:
        return tuple(space.label_names())
    if data in (BUNDLED, FASHION_MNIST):
        return FASHION_LABELS
    if data in CIFAR:
        return cifar(data, train=False)[1]
    folder = slices.folder_of(data, "train", "test")
    images = folders.listing(folder)
    folders.require_images(folder, images)
    return images.classes


def check(data: str, space: SearchSpace, *, in_order: bool = False) -> None:
    """What can be known without decoding all: classes, empty folders, and whether a sample of files opens.

    Raises:
        DataError: one line about the first thing that is wrong.
    """
    if space.is_dense:
        for split in ("train", "validation"):
            load_scenes(data, split, space)
        return
    labels.matched(classes(data), space, data, in_order=in_order)
    if data in _NAMED:
        return
    for split in _FOLDERS:
        folder = layouts.split_folder(data, split)
        if folder is not None:
            folders.check_sample(slices.judged(data, folder, Labelling(space, in_order)))


def split_to_judge(
    data: str, space: SearchSpace, known: TrainedOn | None, asked: str = "test"
) -> tuple[str, str]:
    """Which slice of `load_images` weights are judged on, and what is to be said of that ("" for nothing).

    The test images, where there are some. A folder without is cut as for training, and judged on what is held out of
    it; one of classes alone is not cut where it is known that none of it trained the weights.

    Args:
        known: what trained the weights; None where that is not known.
        asked: `test`; `validation`; or `all` images of a folder without test images, whatever trained the weights.

    Raises:
        DataError: there is no such slice, or no such folder.
    """
    if asked not in JUDGED:
        raise DataError(f"--split is {asked!r}; it is {', '.join(JUDGED[:-1])} or {JUDGED[-1]}")
    if asked == "validation":
        return asked, ""
    cut = data not in _NAMED and _is_cut(data, space)
    if asked == "all" and not cut:
        raise DataError(
            f"images {data!r} have splits: --split all is for a folder of classes alone; use --split test"
        )
    if not cut:
        return asked, ""
    if space.is_dense:
        return "validation", _told_of_cut(data, "")
    alone = layouts.split_folder(data, "test")
    if asked == "all":
        if alone is None:
            raise DataError(
                f"images {data!r} are those of a folder 'train': --split all is for a folder of classes alone"
            )
        return "test", ""
    if alone is None:
        return "validation", _told_of_cut(data, "")
    files = folders.as_file_set(folders.listing(alone), space.preparation())
    shared = overlap(known, files)
    if (shared.whole and not shared.some) or not _is_spared(data, files, known):
        return "test", ""
    how_many = f"{shared.trained} of its {len(files)} images trained these weights"
    why = how_many if shared.some else "which images trained these weights is not known"
    return "validation", _told_of_cut(data, f" ({why}){ALL}")


def _is_spared(data: str, files: FileSet, known: TrainedOn | None) -> bool:
    """Whether what training holds out of a folder can be judged on: it is not empty, and did not train the weights elsewhere."""
    held = slices.held_out(files.labels.numpy())
    if not len(held):
        return False
    import torch

    return not overlap(known, files.take(data, torch.from_numpy(held))).some


def _is_cut(data: str, space: SearchSpace) -> bool:
    """Whether a folder has neither test nor validation images of its own."""
    if space.is_dense:
        layout = scene_layouts.layout(data, space)
        return layout.test is None and layout.validation is None
    test = layouts.split_folder(data, "test")
    return test is None or (test == Path(data) and layouts.split_folder(data, "validation") is None)


def _told_of_cut(data: str, more: str) -> str:
    return f"{data} has no test images of its own: judged on those that training holds out of it{more}"


def training_splits(
    data: str, space: SearchSpace, *, in_order: bool = False, listener: Listener = SILENT
) -> tuple[Labelled, Labelled]:
    """(train, validation) of `fashion-mnist`, `cifar10`, `cifar100` or a folder; scenes for a dense space.

    Validation images are those of a folder `val`; where there is none, 5 % of the training images (at most 10,000, a
    fixed choice, from every class alike) are held out. Labels, `in_order` and `note` are as in `Labelling`.

    Raises:
        DataError: classes that are not the space's, an image that cannot be read, an empty class folder.
    """
    if space.is_dense:
        return load_scenes(data, "train", space), load_scenes(data, "validation", space)
    rule, wanted = space.preparation(), Labelling(space, in_order, listener)
    if data == BUNDLED:
        raise DataError(f"no train images are bundled; give {FASHION_MNIST!r} or a folder with --data")
    if data in _NAMED:
        train, validation = (_known(data, split, wanted).fitted(rule) for split in _SPLITS)
        return train, validation
    listed = slices.trained(data, wanted, whole=True)
    return folders.read(listed[0], rule), folders.read(listed[1], rule)


def load_images(
    data: str,
    split: str,
    space: SearchSpace,
    preparation: Preparation | None = None,
    *,
    in_order: bool = False,
    listener: Listener = SILENT,
) -> Labelled:
    """Images, of a dense space scenes, by the name a user gives: `bundled`, `fashion-mnist`, `cifar10`, `cifar100`, or a folder.

    `split` is `train`, `validation` or `test`: the slices of `training_splits`, and the test images (of a folder of
    classes alone: all). `preparation` is the space's own for its image size if not given. Labels, `in_order` and `note`
    are as in `Labelling`; labels may have no images.
    """
    if space.is_dense:
        return load_scenes(data, split, space)
    rule, wanted = preparation or space.preparation(), Labelling(space, in_order, listener)
    if data in _NAMED:
        return _known(data, split, wanted).fitted(rule)
    return folders.read(_of_folder(data, split, wanted), rule)


def _known(data: str, split: str, wanted: Labelling) -> ImageSet:
    """A slice of a data set that has a name, as it is stored, its labels being places among the space's."""
    places = labels.matched(classes(data), wanted.space, data, in_order=wanted.in_order).places
    images = _stored(data, split)
    if places == tuple(range(len(places))):
        return images
    import torch

    return replace(images, labels=torch.tensor(places)[images.labels])


def _stored(data: str, split: str) -> ImageSet:
    """A slice of a data set that has a name; its labels are places among its own classes."""
    if data not in CIFAR:
        return _fashion(data, split)
    images, _ = cifar(data, train=split != "test")
    if split == "test":
        return images
    import torch

    rest, held = map(torch.from_numpy, slices.split(data, images.labels.numpy()))
    if split == "train":
        return images.take(f"{data} train ({len(rest)} images)", rest)
    return images.take(slices.held_name(f"{data} train", held), held)


def _fashion(data: str, split: str) -> ImageSet:
    if data == BUNDLED:
        return bundled_as_stored(split)
    if split == "test":
        return fashion_mnist(train=False)
    train, _, validation = fashion_mnist_splits()
    return train if split == "train" else validation


def _of_folder(data: str, split: str, wanted: Labelling) -> folders.Listing:
    """The files of this slice."""
    if split == "test":
        return slices.judged(data, slices.folder_of(data, "test"), wanted)
    return slices.trained(data, wanted)[_SPLITS.index(split)]


def calibration_images(
    data: str,
    space: SearchSpace,
    most: int = CALIBRATION_MOST,
    *,
    whole: bool = False,
    listener: Listener = SILENT,
) -> Labelled:
    """The images that subnets are calibrated on, everywhere: a fixed choice of those that train, at most `most`.

    Labels are of no use here and mean nothing: a folder without classes, with others or with empty ones will do.
    `whole`: as files, for a pipeline that crops from the whole image. `note` is told what is in a folder.
    """
    if space.is_dense:
        return chosen(load_scenes(data, "train", space), min(most, CALIBRATION_SCENES))
    if data in _NAMED:
        split = "calibration" if data == BUNDLED else "train"
        return chosen(_stored(data, split), most).fitted(space.preparation())
    files = slices.training_files(data, listener)
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


def _order(count: int) -> _Places:
    return np.random.default_rng(1).permutation(count)


def _part_name(train: str, count: int) -> str:
    return f"{train}, {count} of them"
