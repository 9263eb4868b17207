"""Where segmentation data sets keep their images and masks: CamVid and folders like it, Cityscapes, ADE20K."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nasvit_edge.data_sets.masks import IGNORE, MOST_CLASSES, Coding, plain
from nasvit_edge.errors import DataError
from nasvit_edge.space import SearchSpace

IMAGES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".tif", ".tiff", ".webp")
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
_ADE = "ADEChallengeData2016"


@dataclass(frozen=True, slots=True)
class Part:
    """A folder of images and the folder of their masks: files with the same path but for the ending."""

    name: str
    images: Path
    masks: Path
    coding: Coding
    image_endings: tuple[str, ...] = IMAGES
    mask_ending: str = ".png"


@dataclass(frozen=True, slots=True)
class Layout:
    """A data set's parts; None where it has none."""

    train: Part | None
    validation: Part | None
    test: Part | None
    without_test: str = "it has no test masks"  # why `test` is None


def layout(data: str, space: SearchSpace) -> Layout:
    """What is in a folder, recognised by the names of its folders.

    Raises:
        DataError: no such folder, none of the layouts, classes that are not as many as the space's.
    """
    root = Path(data)
    if not _is_folder(root):
        raise DataError(f"scenes {data!r}: no such folder; give the folder of images and masks with --data")
    root = root / _ADE if _is_folder(root / _ADE) else root
    if _is_folder(root / "leftImg8bit"):
        return _cityscapes(root, data, space)
    if _is_folder(root / "images" / "training"):
        return _ade20k(root, data, space)
    found = _plain(root, space)
    if not (found.train or found.validation or found.test):
        raise DataError(
            f"scenes {data!r}: there is no folder 'train/images' in it, with masks in 'train/masks' (like CamVid), nor 'leftImg8bit' (Cityscapes), nor 'images/training' (ADE20K)"
        )
    return found


def pairs(part: Part) -> list[tuple[str, str]]:
    """(image, mask) paths of a part, sorted.

    Raises:
        DataError: an image without a mask, a mask without an image, two images of one name, no images.
    """
    images, masks = _files(part.images, part.image_endings), _files(part.masks, (part.mask_ending,))
    if not images and not masks:
        raise DataError(
            f"scenes {str(part.images)!r}: there are no images (known kinds: {' '.join(part.image_endings)})"
        )
    for stem in sorted(images.keys() ^ masks.keys()):
        if stem in images:
            wanted = str(part.masks / f"{stem}{part.mask_ending}")
            raise DataError(f"image {images[stem]!r} has no mask {wanted!r}; add it or remove the image")
        wanted = str(part.images / f"{stem}{part.image_endings[0]}")
        raise DataError(f"mask {masks[stem]!r} has no image like {wanted!r}; add it or remove the mask")
    return [(images[stem], masks[stem]) for stem in sorted(images)]


def _files(folder: Path, endings: tuple[str, ...]) -> dict[str, str]:
    """Path without ending, relative to `folder` -> path, of all files below it with one of the endings."""
    found: dict[str, str] = {}
    for path in _walk(folder):
        ending = next((e for e in endings if path.lower().endswith(e.lower())), None)
        if ending is None or Path(path).name.startswith("."):
            continue
        stem = os.path.relpath(path, folder)[: -len(ending)]
        if stem in found:
            raise DataError(f"images {found[stem]!r} and {path!r} share a mask; remove or rename one")
        found[stem] = path
    return found


def _walk(folder: Path) -> Iterator[str]:
    def fail(error: OSError) -> None:
        raise DataError(f"scenes {str(folder)!r}: {error.strerror}")

    for where, _, names in os.walk(folder, onerror=fail, followlinks=True):
        yield from (os.path.join(where, name) for name in sorted(names))  # noqa: PTH118 - 40,000 of them


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or with a zero byte
        return False


def _plain(root: Path, space: SearchSpace) -> Layout:
    if space.classes > MOST_CLASSES:
        raise DataError(f"space {space.name!r} has {space.classes} classes; 8-bit masks hold {MOST_CLASSES}")
    coding = plain(space.classes)

    def part(*names: str) -> Part | None:
        for folder in (root / name for name in names):
            if _is_folder(folder / "images"):
                name = f"{root.resolve().name} {folder.name}"
                return Part(name, folder / "images", folder / "masks", coding)
        return None

    return Layout(part("train"), part("val", "validation"), part("test"))


def _cityscapes(root: Path, data: str, space: SearchSpace) -> Layout:
    _require_classes(data, "Cityscapes", _CITYSCAPES_CLASSES, space)
    by_id = dict.fromkeys(range(_CITYSCAPES_ALL), IGNORE) | {IGNORE: IGNORE}
    by_id |= {value: label for label, value in enumerate(_CITYSCAPES_IDS)}
    ids = Coding.of(by_id, 19, f"label ids of Cityscapes are 0 to {_CITYSCAPES_ALL - 1}")

    def part(name: str) -> Part | None:
        images, masks = root / "leftImg8bit" / name, root / "gtFine" / name
        if not _is_folder(images):
            return None
        trained = next((True for path in _walk(masks) if path.endswith("_gtFine_labelTrainIds.png")), False)
        kind, coding = ("labelTrainIds", plain(_CITYSCAPES_CLASSES)) if trained else ("labelIds", ids)
        ending = f"_gtFine_{kind}.png"
        return Part(f"cityscapes {name}", images, masks, coding, ("_leftImg8bit.png",), ending)

    return Layout(part("train"), part("val"), None, "Cityscapes' test masks are not public")


def _ade20k(root: Path, data: str, space: SearchSpace) -> Layout:
    _require_classes(data, "ADE20K", _ADE_CLASSES, space)
    ids = {0: IGNORE, IGNORE: IGNORE} | {value: value - 1 for value in range(1, _ADE_CLASSES + 1)}
    coding = Coding.of(ids, _ADE_CLASSES, f"values of ADE20K are 0 to {_ADE_CLASSES}")

    def part(name: str) -> Part | None:
        images = root / "images" / name
        masks = root / "annotations" / name
        return Part(f"ade20k {name}", images, masks, coding) if _is_folder(images) else None

    return Layout(part("training"), None, part("validation"))


def _require_classes(data: str, kind: str, classes: int, space: SearchSpace) -> None:
    if space.classes != classes:
        raise DataError(
            f"scenes {data!r} are {kind} with {classes} classes; space {space.name!r} has {space.classes}"
        )
