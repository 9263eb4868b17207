"""Files of weights: what kind a file is, which tensors it holds, and which of them are a network's."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from nasvit_edge import files
from nasvit_edge.errors import CheckpointError
from nasvit_edge.model.finding import Location, StoredTensor, best, places, plain
from nasvit_edge.model.foreign import PLAIN, read_torch

TRAINED_ON = "trained_on"  # entry of safetensors' metadata, beside ours: too long to be read with it
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
    b"7z\xbc\xaf": "7z",
    b"(\xb5/\xfd": "zstd",
}
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_LONGEST_HEADER = 100_000_000  # bytes, in safetensors
_SHOWN = 10  # keys of a file


class MisfitError(CheckpointError):
    """A whole file with weights of another network."""


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """An open file.

    Attributes:
        tensors: by dotted name; read while it is open.
        metadata: ours; empty for foreign files.
        top: its top keys, and what stays closed of it.
        trained_on: what our files say of the images that trained the weights; empty where they say nothing.
    """

    path: Path
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, Any]
    top: Mapping[str, str]
    trained_on: str = ""

    def floats(self, name: str) -> Tensor:
        """A tensor whose numbers are weights; CheckpointError for whole numbers, and for fp8, whose scale is elsewhere."""
        tensor = self.tensors[name].read()
        if tensor.dtype not in _FLOATS:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(f"weights {str(self.path)!r}: key {name!r} holds {kind} numbers; {PLAIN}")
        return tensor

    def holds(self) -> str:
        """Its top keys, for an error."""
        counts = Counter(name.partition(".")[0] for name in self.tensors)
        by_start: dict[str, str] = {}
        for key, closed in self.top.items():
            start = key.partition(".")[0]
            tensors = f"{counts[start]} tensor{'s' if counts[start] > 1 else ''}" if counts[start] else ""
            by_start.setdefault(start, closed or tensors)
        named = {
            repr(key[:60]) if key else "": f"({about})" if about else "" for key, about in by_start.items()
        }
        parts = [f"{key} {about}".strip() for key, about in named.items()]
        more = f" and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
        return f"it holds {', '.join(parts[:_SHOWN]) or 'nothing'}{more}"


@dataclass(frozen=True, slots=True)
class Found:
    """Where the weights of a network stand, and what is to be told about the choice ("" for nothing)."""

    place: Location
    note: str


@contextlib.contextmanager
def weights_file(path: Path) -> Iterator[WeightsFile]:
    """A safetensors file or what `torch.save` wrote, open; nothing in it is executed.

    Raises:
        CheckpointError: it is something else (named where it can be told what), or damaged.
    """
    with open_weights(path) as stream:
        head = stream.read(512)
        stream.seek(0)
        if not head:
            raise CheckpointError(f"weights {str(path)!r}: the file is empty")
        known = head[8:9] == b"{" and int.from_bytes(head[:8], "little") < _LONGEST_HEADER
        if not known:
            _refuse_others(path, head)
        yield _safetensors(path) if known or path.suffix == ".safetensors" else _torch(path, stream)


def find(
    file: WeightsFile,
    wanted: Sequence[Mapping[str, str]],
    fits: Callable[[str, StoredTensor], bool],
    what: str,
    *,
    key: str | None = None,
    ignored: Callable[[str], bool] = lambda name: False,
    strict: bool = True,
) -> Found:
    """The weights of a network, whatever they are wrapped in; averaged ones where there are several.

    Args:
        wanted: for each way to name them: name in the file -> name in the network.
        fits: whether an entry has the shape of the network's of that name.
        what: the network, for errors.
        key: the part of the file to look in.
        ignored, strict: as `finding.places`.

    Raises:
        MisfitError: there are none.
        CheckpointError: nothing in the file is called `key`, or several parts fit and none is an average.
    """
    if not file.tensors:
        closed = "; save its state_dict() where it was made" if any(file.top.values()) else ""
        raise CheckpointError(f"weights {str(file.path)!r}: no tensors in it; {file.holds()}{closed}")
    locations = [p for names in wanted for p in places(file.tensors, names, ignored=ignored, strict=strict)]
    chosen: list[Location] = []
    if key is not None:
        locations = _under(file, locations, key)
        for nearest in ([p for p in locations if p.prefix == key], [p for p in locations if p.named(key)]):
            chosen = chosen or best(nearest, file.tensors, fits)
    chosen = chosen or best(locations, file.tensors, fits)
    chosen = chosen[:1] + [place for place in chosen[1:] if not _equal(file, place, chosen[0])]
    if len(chosen) > 1:
        listed = ", ".join(repr(place.prefix) for place in chosen)
        raise CheckpointError(
            f"weights {str(file.path)!r}: those under {listed} all fit {what}; choose one with --weights-key, "
            f"such as {chosen[0].prefix!r}"
        )
    if not chosen:
        raise MisfitError(f"weights {str(file.path)!r}: {_misfit(file, locations, what, key)}")
    return Found(chosen[0], _note(file, chosen[0], locations) if key is None else "")


def _under(file: WeightsFile, locations: list[Location], key: str) -> list[Location]:
    if key and not any(name == key or name.startswith(f"{key}.") for name in file.tensors):
        raise CheckpointError(f"weights {str(file.path)!r}: no tensors under {key!r}; {file.holds()}")
    return [place for place in locations if place.within(key)]


def _misfit(file: WeightsFile, locations: Sequence[Location], what: str, key: str | None) -> str:
    """Why nothing fits, by the place that comes nearest."""
    nearest = max(locations, key=lambda place: len(place.names), default=None)
    where = "" if key is None else f" under {key!r}"
    if nearest is None:
        return f"no weights of {what}{where}; {file.holds()}: --weights-key takes one"
    if nearest.twice is not None:
        return f"{nearest.twice[0]!r} and {nearest.twice[1]!r} would be the same key of {what}"
    if not nearest.missing:
        return f"unknown key {nearest.unknown[0]!r} for {what}"
    line = f"key {nearest.missing[0]!r} is missing for {what}"
    if len(nearest.missing) <= len(nearest.names):
        return line
    return f"{line}, like most others{where}; {file.holds()}: --weights-key takes one"


def _note(file: WeightsFile, place: Location, locations: Sequence[Location]) -> str:
    """What is taken, where that is not all there is."""
    others = [p for p in locations if p.whole and _numbers(file, p) != _numbers(file, place)]
    partial_ones = [p for p in locations if p.averaged and 0 < len(p.missing) < len(p.names)]
    if not plain(place.prefix) and not others and not partial_ones:
        return ""
    averaged = ", which are averaged" if place.averaged else ""
    line = f"weights: those under {place.prefix!r}{averaged}"
    if others:
        line += f"; --weights-key {others[0].prefix!r} takes others that fit"
    if partial_ones and not place.averaged:
        line += (
            f"; the averaged ones under {partial_ones[0].prefix!r} lack {len(partial_ones[0].missing)} keys"
        )
    return line


def _equal(file: WeightsFile, one: Location, two: Location) -> bool:
    """Whether two places hold the same numbers, as a copy would."""
    return all(
        torch.equal(file.tensors[name].read(), file.tensors[two.names[parameter]].read())
        for parameter, name in one.names.items()
    )


def _numbers(file: WeightsFile, place: Location) -> dict[str, object]:
    return {parameter: file.tensors[name].same for parameter, name in place.names.items()}


# -- kinds of files ---------------------------------------------------------------------------------


def open_weights(path: Path) -> IO[bytes]:
    """The bytes of a file; CheckpointError where it cannot be opened."""
    try:
        return Path(path).open("rb")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"weights {str(path)!r}: {getattr(error, 'strerror', None) or error}") from None


def _refuse_others(path: Path, head: bytes) -> None:
    """CheckpointError for what is known to be something else."""
    kind = files.text_kind(head)
    if kind is not None:
        raise CheckpointError(f"weights {str(path)!r}: this is {kind}, not a checkpoint; {_advice(kind)}")
    packed = next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)
    packed = "tar" if head[257:262] == b"ustar" else packed
    if packed is not None:
        raise CheckpointError(f"weights {str(path)!r}: this is packed by {packed}; unpack it first")


def _advice(kind: str) -> str:
    if kind == files.LFS:
        return "run `git lfs pull` where it was cloned"
    fetch = "fetch it again in a browser or with curl -o"
    return f"the download failed, {fetch}" if kind == files.PAGE else f"{fetch}, which keep its bytes"


def _torch(path: Path, stream: IO[bytes]) -> WeightsFile:
    try:
        tensors, top = read_torch(stream, str(path))
    except CheckpointError:
        raise
    except MemoryError:
        raise CheckpointError(f"weights {str(path)!r}: not enough memory to read it") from None
    except Exception as error:  # noqa: BLE001 - a damaged pickle can fail in any way; none is ours
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"weights {str(path)!r} is damaged or not a torch checkpoint ({reason[:160]}); fetch it again"
        ) from None
    return WeightsFile(path, tensors, {}, top)


def _safetensors(path: Path) -> WeightsFile:
    from safetensors import SafetensorError

    try:
        file = _opened(path)
        metadata = file.metadata() or {}
        tensors = {
            name: StoredTensor(
                "", tuple(file.get_slice(name).get_shape()), name, partial(_read, file, name, path)
            )
            for name in file.keys()  # noqa: SIM118
        }
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"weights {str(path)!r} is not a whole safetensors file: {error}") from None
    try:
        ours = json.loads(metadata.get("nasvit_edge", "{}"))
    except (ValueError, RecursionError):
        ours = {}
    ours, top = ours if isinstance(ours, dict) else {}, dict.fromkeys(tensors, "")
    return WeightsFile(path, tensors, ours, top, metadata.get(TRAINED_ON, ""))


def _opened(path: Path) -> Any:
    """A safetensors file, by a link to it where its path is no UTF-8, which the library does not take."""
    from safetensors import safe_open

    if not re.search("[\ud800-\udfff]", str(path)):  # how Python keeps bytes that are no UTF-8
        return safe_open(path, framework="pt")
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, "weights")
        link.symlink_to(path.absolute())
        return safe_open(link, framework="pt")


def _read(file: Any, name: str, path: Path) -> Tensor:
    try:
        return file.get_tensor(name)
    except Exception as error:  # noqa: BLE001 - of the library
        raise CheckpointError(f"weights {str(path)!r}: key {name!r} cannot be read: {error}") from None
