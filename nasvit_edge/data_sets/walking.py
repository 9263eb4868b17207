"""Walking through folders of images: what in them is data, and how much of what else was left out."""

from __future__ import annotations

import functools
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from nasvit_edge.data_sets.decoding import HEIF, pillow
from nasvit_edge.data_sets.names import normal, ordered, shown
from nasvit_edge.errors import DataError

# What systems leave behind, in lower case; what begins with a dot does not count either
_LEFTOVERS = {"@eadir", "__macosx", "#recycle", "@recycle", "$recycle.bin", "#snapshot", "lost+found"}
_LEFTOVERS |= {"system volume information", "thumbs.db", "desktop.ini"}
_SMALL_COPIES = {"thumbs", "thumbnails"}  # beside classes such a folder may be one
# Kinds that Pillow recognises but does not decode, or only by running another program (Ghostscript)
_NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
BESIDE, _AGAIN = "images beside the class folders", "links to folders seen before"
_BROKEN, _SPECIAL = "broken links", "pipes and the like"
_MOST_KINDS = 8  # that are listed
LeftOut: TypeAlias = "Counter[str]"
_Entry: TypeAlias = "os.DirEntry[bytes]"


@functools.cache
def endings() -> frozenset[str]:
    """Of the files that can be read, in lower case, each with its dot."""
    image_module = pillow()
    kinds = image_module.registered_extensions().items()  # loads every plugin
    return frozenset(e.lower() for e, kind in kinds if kind in image_module.OPEN and kind not in _NOT_DECODED)


def is_leftover(name: str, *, beside_classes: bool = False) -> bool:
    """Whether a file or folder is no data: hidden, or made by a system for itself."""
    known = name.lower() in _LEFTOVERS or (name.lower() in _SMALL_COPIES and not beside_classes)
    return name.startswith(".") or known


def called(name: str) -> str:
    """What files like this one are called where it is said that they are left out: by their endings."""
    if is_leftover(name):
        return "._*" if name.startswith("._") else ".*" if name.startswith(".") else shown(name)
    return shown(os.path.splitext(name)[1].lower()) or "files without an ending"  # noqa: PTH122


@dataclass(slots=True)
class Walk:
    """A walk through a folder; each of the folders below it is entered once, real ones before links to them.

    Folders above it are not entered, whatever links to them.

    Attributes:
        left_out: what was met and is no data: a file's ending, a folder's name, or one of the kinds above -> how many.
        same: a class -> the one that its folder was entered for before.
    """

    root: bytes
    left_out: LeftOut = field(default_factory=Counter)
    same: dict[str, str] = field(default_factory=dict)
    _entered: dict[object, str] = field(
        default_factory=dict
    )  # identity of a folder -> class; "" above classes

    def __post_init__(self) -> None:
        folder = os.path.realpath(self.root)
        while folder != (above := os.path.dirname(folder)):  # noqa: PTH120 - of bytes
            folder = above
            self._entered[_identity(folder)] = ""

    def classes(self) -> dict[str, list[bytes]]:
        """Class -> its folders, in the classes' order; several where more than one way to spell its name is there."""
        self._entered[_identity(self.root)] = ""
        by_name: dict[str, list[bytes]] = {}
        for entry in self._entries(self.root, beside_classes=True):
            if _is_folder(entry) and _identity(entry.path) not in self._entered:
                by_name.setdefault(normal(entry.name), []).append(entry.path)
            elif _is_folder(entry):
                self.left_out[_AGAIN] += 1
            elif self._is_image(entry):
                self.left_out[BESIDE] += 1
        return {name: by_name[name] for name in ordered(by_name)}

    def images(self, classes: Mapping[str, Iterable[bytes]]) -> dict[str, list[bytes]]:
        """Class -> the image files in its folders and below them, sorted."""
        by_class: dict[str, list[bytes]] = {name: [] for name in classes}
        tops = dict.fromkeys((name, folder) for name, folders in classes.items() for folder in folders)
        real = deque(top for top in tops if not os.path.islink(top[1]))  # noqa: PTH114 - of bytes
        links = deque(top for top in tops if os.path.islink(top[1]))  # noqa: PTH114
        while real or links:
            name, folder = real.popleft() if real else links.popleft()
            if not self._enter(name, folder, (name, folder) in tops):
                continue
            for entry in self._entries(folder):
                if _is_folder(entry):
                    (links if entry.is_symlink() else real).append((name, entry.path))
                elif self._is_image(entry):
                    by_class[name].append(entry.path)
        return {name: sorted(paths) for name, paths in by_class.items()}

    def _enter(self, name: str, folder: bytes, is_class: bool) -> bool:
        """Whether a folder was not entered before; now it is."""
        identity = _identity(folder)
        if identity not in self._entered:
            self._entered[identity] = name
            return True
        self.left_out[_AGAIN] += 1
        if is_class and self._entered[identity] != name:
            self.same[name] = self._entered[identity]
        return False

    def _entries(self, folder: bytes, *, beside_classes: bool = False) -> Iterator[_Entry]:
        """What may be data; the rest is counted."""
        for entry in _scanned(folder):
            name = normal(entry.name)
            if is_leftover(name, beside_classes=beside_classes):
                self.left_out[called(name)] += 1
            else:
                yield entry

    def _is_image(self, entry: _Entry) -> bool:
        """Whether a file can be read as an image, by its ending; others are counted."""
        if not _is_file(entry):
            self.left_out[_BROKEN if entry.is_symlink() else _SPECIAL] += 1
            return False
        name = normal(entry.name)
        readable = os.path.splitext(name)[1].lower() in endings()  # noqa: PTH122 - a million of them
        if not readable:
            self.left_out[called(name)] += 1
        return readable


def told(left_out: LeftOut) -> str:
    """What was left out, as `.heic 10, .txt 1`, and what would read it; empty where nothing was."""
    listed = [f"{kind} {count}" for kind, count in (+left_out).most_common()]
    if len(listed) > _MOST_KINDS:
        listed[_MOST_KINDS - 1 :] = [f"{len(listed) - _MOST_KINDS + 1} other kinds"]
    text = ", ".join(listed)
    if any(left_out[ending] for ending in HEIF):
        text += " (HEIF takes: pip install 'nasvit-edge[heif]')"
    return text


def _scanned(folder: bytes) -> list[_Entry]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"images {os.fsdecode(folder)!r}: {reason}") from None


def _identity(folder: bytes) -> object:
    """Of a folder, whatever path leads to it."""
    try:
        stat = os.stat(folder)  # noqa: PTH116 - of bytes
    except OSError:
        return folder
    return (stat.st_dev, stat.st_ino) if stat.st_ino else os.path.realpath(folder)


def _is_folder(entry: _Entry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: _Entry) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False
