"""Reading a foreign torch checkpoint without executing anything in it.

Both forms that `torch.save` writes, the zip archive and the older run of pickles, are taken apart
here. `torch.load` is not used: without `weights_only` it runs TorchScript archives and calls what a
pickle names; with it, it refuses every file that holds an object it does not know.

Numbers are read after unpickling (`inert`), and only those that are asked for.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from typing import IO, Any

import torch
from torch import Tensor

from nasvit_edge.errors import CheckpointError
from nasvit_edge.model.finding import StoredTensor
from nasvit_edge.model.inert import DTYPES, UNREAD, Inert, InertUnpickler, StorageRef, TensorRef, load

PLAIN = "save plain floating point tensors (float32, float16, bfloat16) where they were made"
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_DIMENSIONS = 64  # the most that torch knows
_Numbers = Callable[[str], bytearray]
_LONGEST = 300  # characters of a name; a small file can describe any number of long ones, so
_MOST, _MOST_VALUES = 500_000, 5_000_000  # tensors and dictionaries, and values of any kind


def read_torch(stream: IO[bytes], where: str) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """What `torch.save` wrote: its tensors by dotted name, to be read while the stream is open, and its top keys.

    Returns:
        Name -> tensor, and top key -> what it is, if it is something that stays closed, else "".

    Raises:
        CheckpointError: two tensors of one name.
        Exception: of any kind, where the file is damaged.
    """
    zipped = stream.read(4) == b"PK\x03\x04"
    if zipped and not zipfile.is_zipfile(stream):
        raise ValueError("the file is cut short")
    state, numbers = _read_zip(stream) if zipped else _read_legacy(stream)
    numbers = lru_cache(maxsize=1)(numbers)  # many tensors can be parts of one storage
    tensors: dict[str, StoredTensor] = {}
    for holder, name, ref in _flat(state):
        if name in tensors:
            raise CheckpointError(f"weights {where!r}: two tensors are called {name!r}")
        tensors[name] = StoredTensor(
            holder, _shape(ref.size), _same(ref), partial(_read, ref, numbers, name, where)
        )
    top = {key: _closed(value) for key, value in _items(state)}
    return tensors, top or ({"": _closed(state)} if _closed(state) else {})


def _flat(state: Any) -> Iterator[tuple[str, str, TensorRef]]:
    """Holder, dotted name and description of each tensor in nested dictionaries and lists."""
    values, count, stack = 0, 0, [("", state, frozenset[int]())]
    while stack:
        holder, value, around = stack.pop()
        inner, around = [], around | {id(value)}
        for key, entry in _items(value):
            values += 1
            if values > _MOST_VALUES or count > _MOST:
                raise ValueError("it holds more entries than any checkpoint")
            if not isinstance(entry, TensorRef | Mapping | list | tuple):
                continue
            count += 1
            name = f"{holder}.{key}" if holder else key
            if len(name) > _LONGEST or id(entry) in around:
                continue
            if isinstance(entry, TensorRef):
                yield holder, name, entry
            else:
                inner.append((name, entry, around))
        stack.extend(reversed(inner))


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((key, entry) for key, entry in value.items() if isinstance(key, str))
    elif isinstance(value, list | tuple):
        yield from ((str(i), entry) for i, entry in enumerate(value))


def _closed(value: Any) -> str:
    """What a value is of which nothing can be read."""
    closed = isinstance(value, Inert) and value.made_of and not value
    return f"a pickled {value.made_of[:80]}" if closed else ""


def _shape(size: Any) -> tuple[int, ...]:
    """A size that is one, else (-1,)."""
    if not isinstance(size, tuple) or len(size) > _DIMENSIONS:
        return (-1,)
    return size if all(type(n) is int and 0 <= n < 1 << 63 for n in size) else (-1,)


def _same(ref: TensorRef) -> Hashable:
    """Equal for descriptions of the same numbers."""
    at = (ref.start, *_shape(ref.size), *_shape(ref.stride))
    return (ref.storage, at) if isinstance(ref.storage, StorageRef) and type(ref.start) is int else id(ref)


def _read(ref: TensorRef, numbers: _Numbers, name: str, where: str) -> Tensor:
    if ref.kind:
        raise CheckpointError(f"weights {where!r}: key {name!r} holds {ref.kind}; {PLAIN}")
    try:
        return _tensor(ref, numbers)
    except MemoryError:
        raise CheckpointError(f"weights {where!r}: not enough memory to read key {name!r}") from None
    except (ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, EOFError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        line = f"weights {where!r}: key {name!r} is damaged ({reason}); fetch the file again"
        raise CheckpointError(line) from None


# -- the two forms ----------------------------------------------------------------------------------


def _read_zip(stream: IO[bytes]) -> tuple[Any, _Numbers]:
    """The pickled object, and key -> the bytes of a storage."""
    archive = zipfile.ZipFile(stream)
    whole = stream.seek(0, io.SEEK_END)

    def member(name: str) -> bytes:
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > whole:
            raise ValueError("the archive is not one that torch.save writes")
        return archive.read(info)

    root = next((n[: -len("data.pkl")] for n in archive.namelist() if n.endswith("data.pkl")), None)
    if root is None:
        raise ValueError("the archive holds no data.pkl")
    if f"{root}byteorder" in archive.namelist() and member(f"{root}byteorder") != b"little":
        raise ValueError("only little-endian files can be read")
    state = InertUnpickler(io.BytesIO(member(f"{root}data.pkl")), encoding="utf-8").load()
    return state, lambda key: bytearray(member(f"{root}data/{key}"))


def _read_legacy(stream: IO[bytes]) -> tuple[Any, _Numbers]:
    """As `_read_zip`, for files from before torch 1.6: five pickles, then size and numbers of each storage."""
    stream.seek(0)
    if load(stream) != _LEGACY_MAGIC or load(stream) != _LEGACY_PROTOCOL:
        raise ValueError("it was not written by torch.save")
    system = load(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("only little-endian files can be read")
    unpickler = InertUnpickler(stream, encoding="utf-8")
    state = unpickler.load()
    places = _legacy_places(stream, load(stream), unpickler.kinds)

    def numbers(key: str) -> bytearray:
        start, size = places[key]
        stream.seek(start)
        return bytearray(stream.read(size))

    return state, numbers


def _legacy_places(
    stream: IO[bytes], keys: Iterable[Any], kinds: Mapping[str, str]
) -> dict[str, tuple[int, int]]:
    """Key -> (offset, bytes) of each storage."""
    position = stream.tell()
    whole = stream.seek(0, io.SEEK_END)
    places = {}
    for key in keys:
        stream.seek(position)
        (count,) = struct.unpack("<q", stream.read(8))
        kind = kinds[key]
        size = count * (UNREAD[kind] if kind in UNREAD else DTYPES[kind].itemsize)
        if not 0 <= size <= whole - position - 8:
            raise ValueError("the file is cut short")
        places[key] = (position + 8, size)
        position += 8 + size
    return places


def _tensor(ref: TensorRef, numbers: _Numbers) -> Tensor:
    """The tensor of a description that is checked against the numbers there are."""
    storage, size, stride = ref.storage, _shape(ref.size), _shape(ref.stride)
    if not isinstance(storage, StorageRef) or storage.kind not in DTYPES:
        raise ValueError("it holds no plain numbers")
    if len(size) != len(stride) or not all(
        type(n) is int and n >= 0 for n in (ref.start, storage.start, *size, *stride)
    ):
        raise ValueError("it has no shape")
    dtype, start = DTYPES[storage.kind], ref.start + storage.start
    count = math.prod(size)
    if count == 0:
        return torch.empty(size, dtype=dtype)
    raw = numbers(storage.key)
    last = start + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if max(last + 1, count) * dtype.itemsize > len(raw):
        raise ValueError(f"shape {size!r} needs more than the {len(raw)} bytes there are")
    return torch.frombuffer(raw, dtype=dtype).as_strided(size, stride, start).clone()
