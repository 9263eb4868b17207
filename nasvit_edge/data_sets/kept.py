"""Decoded images of a folder, kept in the user's cache: the second run starts at once.

A file holds the SHA-256 of what follows, then the bytes. It is found by what the image files hold and how they are
prepared; one that is damaged is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from nasvit_edge import cache, digests, files
from nasvit_edge.data_sets.sets import Paths
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.preparation import Preparation

_VERSION = "2"  # of the decoding
_DIGEST = 32
_MOST_BYTES = 6_000_000_000
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def folder() -> Path:
    """Where they are kept."""
    return cache.root() / "images"


def key(paths: Paths, preparation: Preparation) -> str:
    """A name for what these files hold now, prepared like this."""
    import PIL

    how = json.dumps([_VERSION, PIL.__version__, preparation.bytes_alone], sort_keys=True)
    return digests.of_set(paths.tolist(), how.encode())[:32]


def load(name: str, shape: tuple[int, ...]) -> Pixels | None:
    """What is kept under a name; None where nothing whole is."""
    try:
        content = np.fromfile(folder() / name, np.uint8)
    except OSError:
        return None
    digest, pixels = content[:_DIGEST], content[_DIGEST:]
    if pixels.size != math.prod(shape) or hashlib.sha256(pixels.data).digest() != digest.tobytes():
        return None
    return pixels.reshape(shape)


def save(name: str, pixels: Pixels) -> None:
    """Keep pixels; a cache that cannot be written to is no error."""
    digest = hashlib.sha256(pixels.data).digest()
    with contextlib.suppress(NasvitEdgeError, OSError):
        files.write_bytes(folder() / name, b"".join((digest, pixels.data)))
        _forget_oldest()


def _forget_oldest() -> None:
    """What was made of folders that have changed since is of no use; the newest files stay."""
    newest_first = sorted(folder().iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    total = 0
    for path in newest_first:
        total += path.stat().st_size
        if total > _MOST_BYTES:
            path.unlink(missing_ok=True)
