"""The slices of a folder of images: which files train, validate and test, and the labels that they have."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from nasvit_edge.data_sets import labels, layouts
from nasvit_edge.data_sets.folders import Listing, listing, require_images, unlabelled
from nasvit_edge.data_sets.names import numeric, some
from nasvit_edge.errors import DataError
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.space import SearchSpace

HELD_SHARE, HELD_MOST = 0.05, 10_000  # of the training images, where no validation images come with them
Places: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"


@dataclass(frozen=True, slots=True)
class Labelling:
    """How images get their labels, which are places among the space's.

    Attributes:
        in_order: class folders whose names do not say which label they are take the labels in order.
        listener: told of a folder's classes with their counts, of what was left out, and of labels without images.
    """

    space: SearchSpace
    in_order: bool = False
    listener: Listener = SILENT


def trained(data: str, wanted: Labelling, *, whole: bool = False) -> tuple[Listing, Listing]:
    """The files of (train, validation) of a folder.

    Args:
        whole: an empty class folder among the training images is an error.
    """
    folder = folder_of(data, "train")
    images = _told(data, folder, wanted)
    if whole:
        require_images(folder, images)
    validation_folder = layouts.split_folder(data, "validation")
    if validation_folder is not None:
        return _labelled(data, folder, images, wanted), judged(data, validation_folder, wanted)
    rest, held = split(data, images.labels)  # whatever the labels are called
    images, name = _labelled(data, folder, images, wanted), layouts.name_of(data, folder)
    validation = images.take(held_name(name, held), held)
    _tell_absent(validation, wanted)
    return images.take(f"{name} ({len(rest)} images)", rest), validation


def judged(data: str, folder: Path, wanted: Labelling) -> Listing:
    """The files of a folder whose images are judged on; classes may have none."""
    images = _labelled(data, folder, _told(data, folder, wanted), wanted)
    _tell_absent(images, wanted)
    return images


def training_files(data: str, listener: Listener = SILENT) -> Listing:
    """The files that train, their labels of no meaning; of a folder without classes all that are in it.

    Raises:
        DataError: no such folder, or no images in it.
    """
    try:
        folder = folder_of(data, "train")
        images, validation_folder = (
            listing(folder, layouts.name_of(data, folder)),
            layouts.split_folder(data, "validation"),
        )
        rest = np.arange(len(images)) if validation_folder is not None else split(data, images.labels)[0]
    except DataError:
        images = unlabelled(data)
        rest = np.arange(len(images))
    listener.note(images.told())
    if len(rest) == len(images):
        return images
    return images.take(f"{layouts.name_of(data, folder)} ({len(rest)} images)", rest)


def folder_of(data: str, *splits: str) -> Path:
    """The folder of the first of these splits that there is."""
    folder = next((f for f in (layouts.split_folder(data, split) for split in splits) if f is not None), None)
    if folder is None:
        raise DataError(f"images {data!r}: there is no folder {splits[0]!r} in it")
    return folder


def held_out(labels: Places) -> Places:
    """Which images are held out of training, (n,), in a fixed random order: as many of every class as its share."""
    rng = np.random.default_rng(0)
    share = min(HELD_SHARE, HELD_MOST / len(labels))
    starts = np.flatnonzero(np.diff(np.sort(labels))) + 1
    chosen = []
    for members in np.split(np.argsort(labels, kind="stable"), starts):  # one class each
        count = max(int(share * len(members)), min(1, len(members) - 1))
        chosen.append(rng.permutation(members)[:count])
    return rng.permutation(np.concatenate(chosen))[:HELD_MOST]


def split(data: str, labels: Places) -> tuple[Places, Places]:
    """Which images are trained on, in order, and which are held out."""
    held = held_out(labels)
    if not len(held):
        raise DataError(
            f"images {data!r}: {len(labels)} are too few to hold some out for validation; give a folder 'val'"
        )
    return np.setdiff1d(np.arange(len(labels)), held), held


def held_name(name: str, held: Sized) -> str:
    """What held-out images are called."""
    return f"{name}, held out ({len(held)} images)"


def _told(data: str, folder: Path, wanted: Labelling) -> Listing:
    """The files of a folder of classes."""
    images = listing(folder, layouts.name_of(data, folder))
    wanted.listener.note(images.told())
    return images


def _labelled(data: str, folder: Path, images: Listing, wanted: Labelling) -> Listing:
    """The same files, their labels being places among the space's."""
    present = images.present()
    match = _match(data, folder, present.classes, wanted)
    renamed = match.renamed(present.classes, wanted.space)
    if renamed:
        wanted.listener.note(
            f"class folders of {images.name} and the labels that they are taken for: {renamed}"
        )
    return present.labelled(wanted.space.label_names(), match.places)


def _match(data: str, folder: Path, classes: tuple[str, ...], wanted: Labelling) -> labels.Match:
    """Which labels the class folders with images are.

    Where words alone do not say it, all class folders of the training images do: numbers and order mean something only
    where none is missing.
    """
    match = labels.recognised(classes, wanted.space)
    if match and match.how in (labels.BY_NAME, labels.BY_ID) and not numeric(classes):
        return match
    all_of = layouts.split_folder(data, "train") or folder
    known = layouts.class_names(all_of)
    places = labels.named(classes, known)
    if places is None:
        foreign = some([name for name in classes if labels.named((name,), known) is None])
        raise DataError(
            f"images {data!r}: class folders of {folder.name!r} are none of those of {all_of.name!r}: {foreign}; rename or remove them"
        )
    whole = labels.matched(known, wanted.space, data, in_order=wanted.in_order)
    return labels.Match(tuple(whole.places[place] for place in places), whole.how)


def _tell_absent(images: Listing, wanted: Labelling) -> None:
    absent = [name for name, count in zip(images.classes, images.counts, strict=True) if not count]
    if absent:
        rest = len(images.classes) - len(absent)
        wanted.listener.note(
            f"{images.name}: no images of {some(absent)}; accuracy is over the other {rest} of {len(images.classes)} classes"
        )
