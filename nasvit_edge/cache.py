"""The user's cache: what was made or measured before is kept by all that it depends on."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path


def root() -> Path:
    """The user's cache folder."""
    from platformdirs import user_cache_path

    return user_cache_path("nasvit-edge")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A folder of the cache."""

    folder: str
    entries: int
    bytes: int


def contents() -> list[Kept]:
    """What is kept."""
    caches = []
    for folder in sorted(p for p in root().glob("*") if p.is_dir()):
        sizes = [p.stat().st_size for p in folder.rglob("*") if p.is_file()]
        caches.append(Kept(folder=str(folder), entries=len(list(folder.iterdir())), bytes=sum(sizes)))
    return caches


def clear() -> int:
    """Delete everything kept; the number of bytes freed."""
    freed = sum(entry.bytes for entry in contents())
    shutil.rmtree(root(), ignore_errors=True)
    return freed
