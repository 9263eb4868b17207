"""How image folders are laid out: splits, class folders, images; and what is meant where they are laid out otherwise."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from nasvit_edge.data_sets.names import SPLITS, normal, shown, some
from nasvit_edge.data_sets.walking import Walk
from nasvit_edge.errors import DataError

_SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}
_MEANT = "what is meant is train/CLASS/IMAGE, and val/CLASS/IMAGE and test/CLASS/IMAGE if there are any"


def split_folder(data: str, split: str) -> Path | None:
    """The folder of `train`, `validation` or `test` images; None where `data` has none for it.

    A folder of classes without splits is one of training images, and of test images. Where there are no test images,
    those of validation stand in.

    Raises:
        DataError: no such folder, two of them for one split, or one without class folders.
    """
    root = _existing(data)
    named = _named_splits(root)
    if not any(class_names(folder) for folders in named.values() for folder in folders):
        return None if split == "validation" else root
    split_folders = named[split] or (named["validation"] if split == "test" else [])
    _require_one(data, split, split_folders)
    if split_folders and not class_names(split_folders[0]):
        raise DataError(
            f"images {data!r}: its folder {split_folders[0].name!r} has no class folders, so its images have no labels; "
            f"{_MEANT}; or move it away"
        )
    return split_folders[0] if split_folders else None


def unlabelled_folder(data: str) -> Path:
    """The folder whose images have no need of labels: of `train`, with or without classes, or `data` itself."""
    root = _existing(data)
    folders = _named_splits(root)["train"]
    _require_one(data, "train", folders)
    if not folders or class_names(folders[0]):
        return folders[0] if folders else root
    all_splits = all(name.casefold() in _SPLIT_OF for name in class_names(root))  # else `train` is a class
    return folders[0] if all_splits else root


def name_of(data: str, folder: Path) -> str:
    """`photos` for its own images, `photos train` for those of its folder `train`."""
    root = Path(data).resolve()
    return shown(root.name if folder.resolve() == root else f"{root.name} {folder.name}")


def class_names(folder: Path) -> tuple[str, ...]:
    """The class folders in their order; what is in them is not looked at."""
    return tuple(Walk(os.fsencode(folder)).classes())


def require_classes(folder: Path, classes: Sequence[str], images: int) -> None:
    """DataError where a folder has no class folders, or splits that are called otherwise; `images` lie beside them."""
    what = f"images {str(folder)!r}"
    if not classes:
        has = f"its {images} images lie in no class folders" if images else "there is no folder in it"
        raise DataError(f"{what}: {has}; give a folder with one folder per class")
    kinds = set(map(_looks_like, classes))
    flat = len(classes) == 1 and classes[0].casefold() in _SPLIT_OF and not class_names(folder / classes[0])
    if None not in kinds and (len(kinds) > 1 or flat):
        raise DataError(f"{what}: its folders ({some(classes)}) look like splits, not classes; {_MEANT}")


def remark(
    folder: Path, classes: Mapping[str, Sequence[bytes]], images: Mapping[str, Sequence[bytes]]
) -> str:
    """What is to be said of folders inside those of the classes; empty where images lie directly in some class.

    Raises:
        DataError: one folder too many above the classes, or splits inside them.
    """
    inside = _inside(classes, images)
    names = sorted(set[str]().union(*inside.values()))
    are_splits = all(name.casefold() in _SPLIT_OF for name in names)
    if names and len(classes) == 1:
        ((name, paths),) = classes.items()
        raise DataError(
            f"images {str(folder)!r}: its only folder {shown(name)!r} has no images of its own but the folders {some(names)}: "
            f"one folder too many; if these are the {'splits' if are_splits else 'classes'}, give {os.fsdecode(paths[0])!r} or move them up"
        )
    if names and are_splits:
        raise DataError(f"images {str(folder)!r}: its class folders hold splits ({some(names)}); {_MEANT}")
    if len(names) > 1 and all(set(names) == inner for inner in inside.values()):
        return f"each class folder holds the folders {some(names)}, whose images are of the class above them"
    return ""


def _inside(
    classes: Mapping[str, Sequence[bytes]], images: Mapping[str, Sequence[bytes]]
) -> dict[str, set[str]]:
    """Class -> the folders in it that hold its images; nothing where images lie directly in some class."""
    inner_names: dict[str, set[str]] = {}
    for name, paths in images.items():
        starts = tuple(os.path.join(path, b"") for path in classes[name])  # noqa: PTH118 - of bytes
        for path in paths:
            start = next(start for start in starts if path.startswith(start))
            first, separator, _ = path[len(start) :].partition(os.fsencode(os.sep))
            if not separator:
                return {}
            inner_names.setdefault(name, set()).add(normal(first))
    return inner_names


def _existing(data: str) -> Path:
    if not os.path.isdir(data):  # noqa: PTH112 - a path may hold anything
        raise DataError(
            f"images {data!r}: no such folder; give 'bundled', 'fashion-mnist', 'cifar10', 'cifar100' or a folder with one folder per class"
        )
    return Path(data)


def _named_splits(root: Path) -> dict[str, list[Path]]:
    """Split -> the folders that are called so."""
    folders: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for name, paths in Walk(os.fsencode(root)).classes().items():
        split = _SPLIT_OF.get(name.casefold())
        if split is not None:
            folders[split] += [Path(os.fsdecode(path)) for path in paths]
    return folders


def _require_one(data: str, split: str, folders: Sequence[Path]) -> None:
    if len(folders) > 1:
        names = " and ".join(repr(path.name) for path in folders)
        raise DataError(
            f"images {data!r}: {names} are both folders of {split} images; keep one, or rename one"
        )


def _looks_like(name: str) -> str | None:
    """The split that a folder seems to be meant as: `train2017`, `images_val`, `Testing Set`."""
    words = re.split(r"[\W\d_]+", name.casefold())
    return next((_SPLIT_OF[word] for word in words if word in _SPLIT_OF), None)
