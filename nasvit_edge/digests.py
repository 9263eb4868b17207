"""What files hold, as SHA-256: a file is known by its content, never by its name, size or time.

What was hashed is remembered in the user's cache for as long as a file's inode, size and both its times stay as they
were; the change time, which no program sets, tells of a content that was replaced with the other times put back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nasvit_edge import cache, code, files

_SETTLED_S = 2.0  # a file that changed just now may change again within its clock's tick
_TOGETHER = 1000
_Known = tuple[bytes, bytes, bytes]  # path, identity, digest


def of_files(paths: Sequence[bytes]) -> list[bytes]:
    """The SHA-256 of each file's content, in order; of one that cannot be read, of its path alone."""
    wanted = [os.path.abspath(path) for path in paths]  # noqa: PTH100 - of bytes
    digests: list[bytes] = []
    with contextlib.closing(_memory()) as memory, ThreadPoolExecutor() as pool:
        for start in range(0, len(wanted), _TOGETHER):
            part = wanted[start : start + _TOGETHER]
            known = _remembered(memory, part)
            new = [path for path in part if path not in known]
            read = dict(zip(new, pool.map(_read, new), strict=True))
            _remember(memory, [row for row, _ in read.values() if row is not None])
            digests += [known[path] if path in known else read[path][1] for path in part]
    return digests


def of_set(paths: Sequence[bytes], *more: bytes) -> str:
    """One digest of files' contents in order, and of what else belongs to them."""
    return hashlib.sha256(b"".join((*of_files(paths), *more))).hexdigest()


def key_of(supernet: str, parts: Mapping[str, Any]) -> str:
    """A hash of weights by their content, of our code, and of what else something kept depends on."""
    whole = {**parts, "weights": _weights(supernet), "code": code.room_digest()}
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _weights(supernet: str) -> list[str | None]:
    """Of a file its hash, and which weights of it are meant; of shipped weights and generic ones their name: the
    former's content is in the digest of our code."""
    path, key = files.file_and_key(supernet)
    return [files.sha256(Path(path)) if Path(path).is_file() else path, key]


def _read(path: bytes) -> tuple[_Known | None, bytes]:
    """What to remember of a file, and its digest."""
    try:
        identity, changed = _identity(path)
        with open(path, "rb") as stream:  # noqa: PTH123 - of bytes
            digest = hashlib.file_digest(stream, "sha256").digest()
    except OSError:  # told of when it is read
        return None, hashlib.sha256(b"unreadable\0" + path).digest()
    settled = time.time() - changed > _SETTLED_S
    return (path, identity, digest) if settled else None, digest


def _identity(path: bytes) -> tuple[bytes, float]:
    """What is another where the content may be, and when it last changed."""
    status = os.stat(path)  # noqa: PTH116 - of bytes
    numbers = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return b"%d %d %d %d %d" % numbers, status.st_ctime


# -- what was hashed before; a cache that cannot be used is no error -------------------------------------------------


def _memory() -> sqlite3.Connection:
    try:
        folder = cache.root() / "digests"
        folder.mkdir(parents=True, exist_ok=True)
        return _opened(str(folder / "files.sqlite"))
    except (OSError, sqlite3.Error):
        return _opened(":memory:")


def _opened(path: str) -> sqlite3.Connection:
    memory = sqlite3.connect(path, timeout=5)
    with memory:
        memory.execute(
            "create table if not exists files (path blob primary key, identity blob, digest blob) without rowid"
        )
    return memory


def _remembered(memory: sqlite3.Connection, paths: Sequence[bytes]) -> dict[bytes, bytes]:
    """Path -> digest of the files that are as they were when they were hashed."""
    digests: dict[bytes, bytes] = {}
    for path, identity, digest in _rows(memory, paths):
        with contextlib.suppress(OSError):
            if _identity(path)[0] == identity:
                digests[path] = digest
    return digests


def _rows(memory: sqlite3.Connection, paths: Sequence[bytes]) -> Iterator[_Known]:
    places = ",".join("?" * len(paths))
    with contextlib.suppress(sqlite3.Error):
        for row in memory.execute(f"select * from files where path in ({places})", paths):
            if all(isinstance(value, bytes) for value in row) and len(row[2]) == 32:
                yield row


def _remember(memory: sqlite3.Connection, rows: Sequence[_Known]) -> None:
    with contextlib.suppress(sqlite3.Error), memory:
        memory.executemany("insert or replace into files values (?, ?, ?)", rows)
