"""The user's cache: what was made or measured before is kept by all that it depends on."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasvit_edge import files

_ROOMS = ("data_sets", "model", "export", "train")  # whose code decides what is kept here


def root() -> Path:
    """The user's cache folder."""
    from platformdirs import user_cache_path

    return user_cache_path("nasvit-edge")


def key_of(supernet: str, parts: Mapping[str, Any]) -> str:
    """A hash of weights by their content, of our code, and of what else something depends on."""
    whole = {**parts, "weights": _weights(supernet), "code": _code()}
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()[:32]


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


def _weights(supernet: str) -> list[str | None]:
    """Of a file its hash, and which weights of it are meant; of shipped weights and generic ones their name, the
    former's content is in `_code`."""
    path, key = files.file_and_key(supernet)
    return [files.sha256(Path(path)) if Path(path).is_file() else path, key]


def _code() -> str:
    """Of our own sources: a changed lowering must not be served from the cache."""
    package = Path(__file__).resolve().parent
    sources = sorted(p for room in _ROOMS for p in (package / room).glob("*.py"))
    sources += [
        *sorted((package / "data" / "weights").glob("*")),
        *sorted(package.glob("*ops.py")),
        package / "preparation.py",
    ]
    sources += sorted((package / "data" / "recipes").glob("*.toml"))
    return hashlib.sha256("".join(files.sha256(p) for p in sources).encode()).hexdigest()
