"""The journal of a profile: a line per finished measurement, on disk before the next one starts.

A kill at any moment loses at most the measurement that was running: a half-written last line is
dropped when the journal is opened again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from nasvit_edge import files
from nasvit_edge.appending import AppendLog
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.records import RecordError, content, parse
from nasvit_edge.transport.answers import Measurement


class Entry(Measurement, frozen=True, kw_only=True):
    """A measurement that is finished.

    Attributes:
        graph: hash of what was measured.
        reading: the reading of the canaries before it; of a canary its own.
    """

    visit: int
    reading: int
    graph: str = ""

    @classmethod
    def of(cls, measured: Measurement, *, visit: int, reading: int, graph: str) -> Entry:
        """The entry of a measurement."""
        return cls(**asdict(measured), visit=visit, reading=reading, graph=graph)


class Journal:
    """`entries` are the finished measurements.

    `done` holds their (id, visit) pairs: what need not be measured again.
    """

    def __init__(self, path: Path, setup: Mapping[str, object]) -> None:
        self.path, self.setup = path, json.loads(json.dumps(setup))  # as it is read again: tuples are lists
        self.entries: list[Entry] = []
        self._open()
        self.done = {(entry.id, entry.visit) for entry in self.entries}

    def add(self, entry: Entry) -> None:
        """Append one measurement and wait until it is on disk."""
        self._append(json.dumps(content(entry)) + "\n")
        self.entries.append(entry)
        self.done.add((entry.id, entry.visit))

    def remove(self) -> None:
        """The table is written: the journal has served."""
        self.path.unlink(missing_ok=True)

    def _open(self) -> None:
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            lines = [b""]
        except OSError as error:
            raise NasvitEdgeError(f"journal {str(self.path)!r}: {error.strerror}") from None
        complete = [_object(line) for line in lines[:-1]]
        if complete and complete[0] == {"setup": self.setup}:
            self.entries = [entry for entry in map(_entry, complete[1:]) if entry is not None]
        elif complete:  # measured another way: kept aside, not mixed in
            with contextlib.suppress(OSError):
                self.path.replace(self.path.with_suffix(".old"))
        lines_now = [{"setup": self.setup}, *map(content, self.entries)]
        files.write_text(self.path, "".join(json.dumps(value) + "\n" for value in lines_now))

    def _append(self, text: str) -> None:
        try:
            with AppendLog(self.path) as log:
                log.add(text.encode(), sync=True)
        except OSError as error:
            raise NasvitEdgeError(
                f"cannot write {str(self.path)!r}: {error.strerror}; finished ops are kept, run the same command again"
            ) from None


def _object(line: bytes) -> dict[str, object] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _entry(value: Any) -> Entry | None:
    """An entry; None for a damaged line."""
    try:
        return parse(Entry, value, "journal")
    except RecordError:
        return None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path` as a lock, so that two profiles cannot write one table."""
    name = path.name.removesuffix(".lock").lstrip(".")
    with files.locked(
        path, NasvitEdgeError(f"another nasvit-edge profile is writing {name!r} right now", "wait for it")
    ):
        yield
