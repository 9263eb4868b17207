"""Models on the far side: named by their content, so that none travels twice; one by one where its disk is small."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from nasvit_edge import files
from nasvit_edge.errors import DeviceError
from nasvit_edge.listening import Listener
from nasvit_edge.records import content
from nasvit_edge.transport.answers import Failure, Full, Message
from nasvit_edge.transport.ssh_link import SshLink
from nasvit_edge.transport.wire import DropRequest, PutRequest
from nasvit_edge.units import show_bytes

_PART = 1 << 20
_PART_S = 120.0  # for a part, over a slow network
_LOSSES = 3  # of the connection or the folder, at one model
_SPARE = 1 << 20  # bytes that stay free


class RemoteFiles:
    """The models of a profile in the runner's folder."""

    def __init__(self, link: SshLink) -> None:
        self.link, self.starts, self.there = link, 0, set[str]()
        self.names: dict[Path, tuple[float, str]] = {}
        self.one_by_one = False

    def bring(self, models: Sequence[Path], listener: Listener) -> None:
        """Put models there; where they do not fit all, they travel one by one when they are measured.

        Raises:
            DeviceError: the device is away, or its disk is full.
        """
        self._look()
        missing = {self.name(path): path for path in models if self.name(path) not in self.there}
        needed = sum(path.stat().st_size for path in missing.values())
        free = self.link.started.free_bytes if self.link.started else 0
        if missing and needed + _SPARE > free:
            if not self.one_by_one:
                self.link.note(
                    f"{self.link.device.name} has {show_bytes(free)} free and the models need "
                    f"{show_bytes(needed)}: each travels when it is measured"
                )
            self.one_by_one = True
            return
        for index, path in enumerate(missing.values()):
            self.push(path)
            listener.progress(index + 1, len(missing), f"sending models to {self.link.device.name}")

    def push(self, path: Path) -> str:
        """Put one model there unless it is there; its path on the device."""
        name = self.name(path)
        for attempt in range(_LOSSES):
            if self.has(path):
                break
            self._make_room()
            whole, starts = files.read_bytes(path, "model"), self.link.starts
            answers = (self.link.ask(request, _PART_S) for request in _parts(name, whole))
            problem = next((answer for answer in answers if isinstance(answer, Failure)), None)
            if problem is None:
                self._look()
                self.there.add(name)
            elif (
                self.link.starts == starts or attempt == _LOSSES - 1
            ):  # else its folder may be another one now
                raise self.error(problem)
        return f"{self.link.folder}/{name}"

    def has(self, path: Path) -> bool:
        """Whether a model is there, as far as is known since the runner was started last."""
        self._look()
        return self.name(path) in self.there

    def _make_room(self) -> None:
        """Where the disk is small, what was measured goes before the next one comes."""
        if self.one_by_one and self.there:
            answer = self.link.ask(
                content(DropRequest(id="drop", ask="drop", names=tuple(sorted(self.there)))), _PART_S
            )
            if not isinstance(answer, Failure):
                self.there.clear()

    def name(self, path: Path) -> str:
        """A model's name there: the hash of its content."""
        changed = path.stat().st_mtime
        if self.names.get(path, (None, ""))[0] != changed:
            content = files.read_bytes(path, "model")
            self.names[path] = (changed, hashlib.sha256(content).hexdigest() + path.suffix)
        return self.names[path][1]

    def _look(self) -> None:
        """What is there, after each start of the runner."""
        if self.starts != self.link.starts:
            self.starts = self.link.starts
            self.there = set(self.link.started.files if self.link.started else ())

    def error(self, failure: Failure) -> DeviceError:
        """What to say of a file that could not be written."""
        name, folder = self.link.device.name, self.link.folder
        if isinstance(failure, Full):
            return DeviceError(
                f"its disk is full, there is no space left in {folder!r}",
                "free some there, or give another `folder` in device.toml",
                device=name,
            )
        return DeviceError(f"a model could not be sent to {folder!r}: {failure.error}", device=name)


def _parts(name: str, whole: bytes) -> Iterator[Message]:
    """The requests that write a file."""
    for offset in range(0, max(1, len(whole)), _PART):
        data = base64.b64encode(whole[offset : offset + _PART]).decode()
        part = PutRequest(
            id="put", ask="put", name=name, offset=offset, data=data, last=offset + _PART >= len(whole)
        )
        yield content(part)
