"""Names of files and classes: one text whatever bytes spell it, their order, and how they are shown."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence

SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}  # as folders are called, in lower case


def normal(name: bytes | str) -> str:
    """A file's name as text in NFC: what a Mac and Linux spell differently is one name; bytes that are no UTF-8 are kept."""
    return unicodedata.normalize("NFC", os.fsdecode(name))


def shown(name: str) -> str:
    """A name that can be printed: bytes that are no UTF-8 as `\\xff`, control characters as `\\n`."""
    return "".join(char if char.isprintable() else _escaped(char) for char in name)


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # how Python keeps a byte that is no UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()


def some(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(shown, names[:most])) + more


def numeric(names: Iterable[str]) -> bool:
    """Whether all are numbers, like 0, 07 and 10."""
    return all(name.isascii() and name.isdigit() for name in names)


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Sorted; by value where all are numbers, so that 2 comes before 10."""
    listed = sorted(names)
    return tuple(sorted(listed, key=int) if numeric(listed) else listed)
