"""Where segmentation data sets keep their images and masks: CamVid and folders like it, Cityscapes, ADE20K."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from nasvit_edge.data_sets.masks import ADE20K, CITYSCAPES_IDS, IGNORE, MOST_CLASSES, Coding, plain
from nasvit_edge.data_sets.names import SPLITS, normal, shown
from nasvit_edge.data_sets.scene_files import IMAGES, child, holds, image_endings, walk
from nasvit_edge.data_sets.walking import called, told
from nasvit_edge.errors import DataError
from nasvit_edge.space import SearchSpace

_CITYSCAPES_IDS = (
    7,
    8,
    11,
    12,
    13,
    17,
    *range(19, 29),
    31,
    32,
    33,
)  # of train ids 0 to 18; cityscapesscripts labels.py
_CITYSCAPES_ALL = 34
_CITYSCAPES_CLASSES, _ADE_CLASSES = 19, 150
_ADE, _CITYSCAPES = "ADEChallengeData2016", "leftImg8bit"
_CITYSCAPES_MASKS = tuple(
    f"_gtFine_{kind}"
    for kind in ("labelIds.png", "labelTrainIds.png", "instanceIds.png", "color.png", "polygons.json")
)


@dataclass(frozen=True, slots=True)
class FolderPair:
    """A folder of images and the folder of their masks: files with the same path but for the ending."""

    name: str
    images: Path
    masks: Path
    coding: Coding
    image_endings: tuple[str, ...] = field(default_factory=image_endings)
    mask_ending: str = ".png"
    others: tuple[str, ...] = ()  # endings of files that belong to the data set, but are not needed


@dataclass(frozen=True, slots=True)
class Layout:
    """A data set's parts; None where it has none."""

    train: FolderPair | None
    validation: FolderPair | None
    test: FolderPair | None
    without_test: str = "it has no test masks"  # why `test` is None


def layout(data: str, space: SearchSpace) -> Layout:
    """What is in a folder, recognised by the names of its folders.

    Raises:
        DataError: no such folder, none of the layouts, classes that are not as many as the space's.
    """
    root = Path(data)
    if not _is_folder(root):
        raise DataError(f"scenes {data!r}: no such folder; give the folder of images and masks with --data")
    root = child(root, (_ADE.lower(),)) or root
    cityscapes, images = child(root, (_CITYSCAPES.lower(),)), child(root, ("images",))
    if cityscapes is not None:
        return _cityscapes(root, cityscapes, data, space)
    if images is not None and (training := child(images, ("training",))) is not None:
        return _ade20k(root, images, training, data, space)
    plain_layout = _plain(root, space)
    if not (plain_layout.train or plain_layout.validation or plain_layout.test):
        raise DataError(
            f"scenes {data!r}: there is no folder 'train/images' in it, with masks in 'train/masks' (like CamVid), nor 'leftImg8bit' (Cityscapes), nor 'images/training' (ADE20K); {holds(root)}"
        )
    return plain_layout


def pairs(part: FolderPair) -> tuple[list[tuple[str, str]], str]:
    """(image, mask) paths of a part, sorted, and what was left out.

    Raises:
        DataError: an image without a mask, a mask without an image, two images of one name, no images.
    """
    left_out = Counter[str]()
    images = _files(part.images, part.image_endings, part.others, left_out)
    masks = _files(part.masks, (part.mask_ending,), part.others, left_out)
    if not images and not masks:
        kinds, besides = (
            " ".join(part.image_endings[: len(IMAGES)]),
            f"; left out: {told(left_out)}" if left_out else "",
        )
        raise DataError(f"scenes {str(part.images)!r}: there are no images (known kinds: {kinds}{besides})")
    for stem in sorted(images.keys() ^ masks.keys()):
        if stem in images:
            wanted = str(part.masks / f"{stem}{part.mask_ending}")
            raise DataError(f"image {images[stem]!r} has no mask {wanted!r}; add it or remove the image")
        wanted = str(part.images / f"{stem}{part.image_endings[0]}")
        raise DataError(f"mask {masks[stem]!r} has no image like {wanted!r}; add it or remove the mask")
    return [(images[stem], masks[stem]) for stem in sorted(images)], told(left_out)


def _files(
    folder: Path, endings: tuple[str, ...], others: tuple[str, ...], left_out: Counter[str]
) -> dict[str, str]:
    """Path without ending, relative to `folder` -> path, of all files below it with one of the endings."""
    by_stem: dict[str, str] = {}
    for path in walk(folder, left_out):
        ending = _ending(path, endings)
        if not ending:
            if not _ending(path, others):
                left_out[called(Path(path).name)] += 1
            continue
        stem = normal(os.path.relpath(path, folder)[: -len(ending)])
        if stem in by_stem:
            accents = (
                " (their accents are written in two ways)" if normal(by_stem[stem]) == normal(path) else ""
            )
            raise DataError(f"{by_stem[stem]!r} and {path!r} are one name{accents}; remove or rename one")
        by_stem[stem] = path
    return by_stem


def _ending(path: str, endings: tuple[str, ...]) -> str:
    """The one of the endings that a path has; empty where it has none."""
    name = path.lower()
    return next((ending for ending in endings if name.endswith(ending.lower())), "")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or with a zero byte
        return False


def _plain(root: Path, space: SearchSpace) -> Layout:
    coding = _plain_coding(space)

    def part(split: str) -> FolderPair | None:
        folder = child(root, SPLITS[split], "images")
        if folder is None:
            return None
        name = shown(f"{root.resolve().name} {folder.name}")
        images, masks = (child(folder, (kind,)) or folder / kind for kind in ("images", "masks"))
        return FolderPair(name, images, masks, coding)

    return Layout(part("train"), part("validation"), part("test"))


def _plain_coding(space: SearchSpace) -> Coding:
    if space.classes > MOST_CLASSES:
        raise DataError(f"space {space.name!r} has {space.classes} classes; 8-bit masks hold {MOST_CLASSES}")
    return plain(space.classes, space.mask_values)


def _cityscapes(root: Path, images: Path, data: str, space: SearchSpace) -> Layout:
    _require_classes(data, "Cityscapes", _CITYSCAPES_CLASSES, space)
    by_id = dict.fromkeys(range(_CITYSCAPES_ALL), IGNORE) | {IGNORE: IGNORE}
    by_id |= {value: label for label, value in enumerate(_CITYSCAPES_IDS)}
    meaning = f"label ids of Cityscapes are 0 to {_CITYSCAPES_ALL - 1}"
    ids = Coding.of(by_id, _CITYSCAPES_CLASSES, meaning, CITYSCAPES_IDS)
    meaning = "train ids of Cityscapes are 0 to 18, and 255; label ids are in files called *_labelIds.png"
    train_ids = replace(plain(_CITYSCAPES_CLASSES), meaning=meaning)
    whole = child(root, ("gtfine",)) or root / "gtFine"

    def part(split: str) -> FolderPair | None:
        folder = child(images, SPLITS[split])
        if folder is None:
            return None
        masks = child(whole, SPLITS[split]) or whole / folder.name
        trained = any(path.endswith("_gtFine_labelTrainIds.png") for path in walk(masks, Counter()))
        kind, coding = ("labelTrainIds", train_ids) if trained else ("labelIds", ids)
        coding = _plain_coding(space) if space.mask_values else coding
        ending = f"_gtFine_{kind}.png"
        name = f"cityscapes {shown(folder.name)}"
        return FolderPair(name, folder, masks, coding, ("_leftImg8bit.png",), ending, _CITYSCAPES_MASKS)

    return Layout(part("train"), part("validation"), None, "Cityscapes' test masks are not public")


def _ade20k(root: Path, images: Path, training: Path, data: str, space: SearchSpace) -> Layout:
    _require_classes(data, "ADE20K", _ADE_CLASSES, space)
    ids = {0: IGNORE, IGNORE: IGNORE} | {value: value - 1 for value in range(1, _ADE_CLASSES + 1)}
    coding = Coding.of(ids, _ADE_CLASSES, f"values of ADE20K are 0 to {_ADE_CLASSES}", ADE20K)
    coding = _plain_coding(space) if space.mask_values else coding
    masks = child(root, ("annotations",)) or root / "annotations"

    def part(folder: Path | None) -> FolderPair | None:
        if folder is None:
            return None
        inner = child(masks, (normal(folder.name).lower(),)) or masks / folder.name
        return FolderPair(f"ade20k {shown(folder.name)}", folder, inner, coding)

    return Layout(part(training), None, part(child(images, SPLITS["validation"])))


def _require_classes(data: str, kind: str, classes: int, space: SearchSpace) -> None:
    if space.classes != classes:
        raise DataError(
            f"scenes {data!r} are {kind} with {classes} classes; space {space.name!r} has {space.classes}"
        )
