"""Files that only grow: what is added is there whole or not at all, whoever is killed and whatever is full."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_BINARY = getattr(os, "O_BINARY", 0)  # of Windows, which else turns \n into \r\n


class AppendLog:
    """A file that is open for appending, and made where it is missing.

    Args:
        keep: so many bytes of what is there stay; None: all.

    Raises:
        OSError: it cannot be written to, or is not a regular file; of every method.
    """

    def __init__(self, path: Path, keep: int | None = None) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT  # read, too: a pipe is not waited for
        self._descriptor = os.open(path, flags | _BINARY, 0o666)  # which no child inherits (PEP 446)
        self.closed = False
        try:
            status = os.fstat(self._descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError("it is not a regular file")
            self._size = status.st_size if keep is None else keep
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            self.close()
            raise

    def add(self, content: bytes, *, sync: bool = False) -> None:
        """All of `content` at the end; where it does not fit, the file is as before. `sync`: wait until it is on disk."""
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(self._descriptor, left) :]
            if sync:
                os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(content)

    def cut(self, size: int) -> None:
        """Leave out what is beyond `size` bytes."""
        os.ftruncate(self._descriptor, size)
        self._size = size

    def close(self) -> None:
        """Twice is once."""
        if not self.closed:
            self.closed = True
            os.close(self._descriptor)

    def __enter__(self) -> AppendLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
