"""The files of a folder as people have it: with leftovers of their systems, links that lead around, names of any bytes."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from nasvit_edge.data_sets.names import normal, shown
from nasvit_edge.data_sets.walking import called, endings, is_leftover
from nasvit_edge.errors import DataError

IMAGES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".tif", ".tiff", ".webp")  # that messages list
_MOST_FOLDERS = 1_000_000  # links that lead around could make endlessly many of a few


def image_endings() -> tuple[str, ...]:
    """Of the files that can be read, in lower case; the usual ones first."""
    return (*IMAGES, *sorted(endings().difference(IMAGES)))


def walk(folder: Path, left_out: Counter[str]) -> Iterator[str]:
    """The paths of all files below a folder, in a fixed order; what is left out is counted by kind.

    Links are followed, but to a folder that they lie in.

    Raises:
        DataError: a folder that cannot be read.
    """
    todo, entered = [(str(folder), _parents(folder))], 0
    while todo:
        where, above = todo.pop()
        inside, entered = [], entered + 1
        if entered > _MOST_FOLDERS:
            raise DataError(f"folder {str(folder)!r} has more than {_MOST_FOLDERS} folders in it")
        for entry in _entries(where):
            kind = "leftovers" if is_leftover(entry.name) else _kind(entry)
            if kind == "folder":
                identity = _identity(entry.path)
                if identity in above:
                    left_out["links to a folder around them"] += 1
                else:
                    inside.append((entry.path, above | {identity}))
            elif kind == "file":
                yield entry.path
            else:
                left_out[called(entry.name) if kind == "leftovers" else kind] += 1
        todo += reversed(inside)


def child(folder: Path, names: Collection[str], holding: str = "") -> Path | None:
    """The folder in `folder` that has one of the names, in any case, and (where one is asked for) holds a folder `holding`.

    Raises:
        DataError: several of them.
    """
    try:
        named = [Path(entry.path) for entry in _entries(str(folder)) if normal(entry.name).lower() in names]
    except DataError:
        return None
    folders = [path for path in named if path.is_dir() and (not holding or child(path, (holding,)))]
    if len(folders) > 1:
        listed = " and ".join(repr(path.name) for path in folders)
        raise DataError(f"folder {str(folder)!r} holds {listed}, which mean the same; keep or rename one")
    return folders[0] if folders else None


def holds(folder: Path) -> str:
    """What is in a folder, for people: `it holds 'a', 'b'`."""
    names = [repr(shown(entry.name)) for entry in _entries(str(folder))]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"it holds {', '.join(names[:5])}{more}" if names else "it is empty"


def _entries(where: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(where) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (OSError, ValueError) as error:
        raise _unreadable(where, error) from None


def _kind(entry: os.DirEntry[str]) -> str:
    """`file` also where a link leads nowhere: who opens it says so."""
    with contextlib.suppress(OSError):
        if entry.is_dir():
            return "folder"
        if not entry.is_file():
            entry.stat()
            return "pipes and the like"
    return "file"


def _identity(path: str | Path) -> tuple[int, int]:
    try:
        status = Path(path).stat()
    except (OSError, ValueError) as error:
        raise _unreadable(str(path), error) from None
    return status.st_dev, status.st_ino


def _parents(folder: Path) -> frozenset[tuple[int, int]]:
    """The folder and those that it lies in."""
    _identity(folder)  # an error names it as it was given
    whole = folder.resolve()
    return frozenset(map(_identity, (whole, *whole.parents)))


def _unreadable(folder: str, error: Exception) -> DataError:
    return DataError(f"folder {folder!r}: {getattr(error, 'strerror', None) or error}")
