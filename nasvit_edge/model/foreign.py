"""Reading a foreign torch checkpoint without executing anything in it.

Both forms that `torch.save` writes, the zip archive and the older run of pickles, are taken apart
here. `torch.load` is not used: without `weights_only` it runs TorchScript archives and calls what a
pickle names; with it, it refuses every file that holds an object it does not know.

While a file is unpickled there exist only plain values, tensor descriptions (`TensorRef`) and inert
stand-ins, all made for this one load: whatever the pickle does to them, it does to nothing else.
Numbers are read afterwards, and only those of the weights.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from nasvit_edge.errors import CheckpointError

_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


@dataclass(frozen=True, slots=True)
class StorageRef:
    """A run of numbers in the file: `kind` as torch names it, `start` in elements."""

    kind: str
    key: str
    start: int


@dataclass(frozen=True, slots=True)
class TensorRef:
    """What a pickle says about a tensor; nothing in it is trusted before `_tensor`."""

    storage: Any
    start: Any
    size: Any
    stride: Any


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The weights of a training checkpoint: `model_ema`, else `model`, else `state_dict`, else the top.

    Prefixes `module.` are removed; entries that are no tensors are left out.

    Raises:
        CheckpointError: an entry that does not fit its numbers; names file and key.
        Exception: of any kind, where the file is damaged.
    """
    with path.open("rb") as stream:
        zipped = stream.read(4) == b"PK\x03\x04"
        if zipped and not zipfile.is_zipfile(stream):
            raise ValueError("the file is cut short")
        state, numbers = _read_zip(stream) if zipped else _read_legacy(stream)
        tensors = {}
        for name, ref in _weights_of(state).items():
            try:
                tensors[name] = _tensor(ref, numbers)
            except (ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, EOFError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
                raise CheckpointError(
                    f"weights {str(path)!r}: key {name!r} is damaged ({reason}); fetch the file again"
                ) from None
        return tensors


def _weights_of(state: Any) -> dict[str, TensorRef]:
    for key in ("model_ema", "model", "state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping) and state[key]:
            state = state[key]
            break
    entries = state.items() if isinstance(state, Mapping) else ()
    return {
        re.sub(r"^(module\.)+", "", name): value
        for name, value in entries
        if isinstance(name, str) and isinstance(value, TensorRef)
    }


# -- the two forms ----------------------------------------------------------------------------------


def _read_zip(stream: IO[bytes]) -> tuple[Any, Callable[[str], bytes]]:
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
    state = _InertUnpickler(io.BytesIO(member(f"{root}data.pkl")), encoding="utf-8").load()
    return state, lambda key: member(f"{root}data/{key}")


def _read_legacy(stream: IO[bytes]) -> tuple[Any, Callable[[str], bytes]]:
    """As `_read_zip`, for files from before torch 1.6: five pickles, then size and numbers of each storage."""
    stream.seek(0)
    if _load(stream) != _LEGACY_MAGIC or _load(stream) != _LEGACY_PROTOCOL:
        raise ValueError("it was not written by torch.save")
    system = _load(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("only little-endian files can be read")
    unpickler = _InertUnpickler(stream, encoding="utf-8")
    state = unpickler.load()
    places = _legacy_places(stream, _load(stream), unpickler.kinds)

    def numbers(key: str) -> bytes:
        start, size = places[key]
        stream.seek(start)
        return stream.read(size)

    return state, numbers


def _legacy_places(
    stream: IO[bytes], keys: Iterable[Any], kinds: Mapping[str, str]
) -> dict[str, tuple[int, int]]:
    """Key -> (offset, bytes) of each storage."""
    position = stream.tell()
    whole = stream.seek(0, io.SEEK_END)
    places = {}
    for key in map(str, keys):
        stream.seek(position)
        (count,) = struct.unpack("<q", stream.read(8))
        size = count * _DTYPES[kinds[key]].itemsize
        if not 0 <= size <= whole - position - 8:
            raise ValueError("the file is cut short")
        places[key] = (position + 8, size)
        position += 8 + size
    return places


def _tensor(ref: TensorRef, numbers: Callable[[str], bytes]) -> Tensor:
    """The tensor of a description that is checked against the numbers there are."""
    storage, size, stride = ref.storage, ref.size, ref.stride
    if not isinstance(storage, StorageRef) or storage.kind not in _DTYPES:
        raise ValueError("it holds no plain numbers")
    if not isinstance(size, tuple) or not isinstance(stride, tuple) or len(size) != len(stride):
        raise ValueError("it has no shape")
    if not all(type(n) is int and n >= 0 for n in (ref.start, storage.start, *size, *stride)):
        raise ValueError(f"it has the shape {size!r}")
    dtype, start = _DTYPES[storage.kind], ref.start + storage.start
    count = math.prod(size)
    if count == 0:
        return torch.empty(size, dtype=dtype)
    raw = bytearray(numbers(storage.key))
    last = start + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if max(last + 1, count) * dtype.itemsize > len(raw):
        raise ValueError(f"shape {size!r} needs more than the {len(raw)} bytes there are")
    return torch.frombuffer(raw, dtype=dtype).as_strided(size, stride, start).clone()


# -- unpickling -------------------------------------------------------------------------------------


class _Inert(dict):  # type: ignore[type-arg]
    """Stands for any foreign object of a pickle: takes everything, does nothing."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, _state: Any) -> None:
        pass

    def __call__(self, *_args: Any, **_kwargs: Any) -> _Inert:
        return self

    def append(self, _value: Any) -> None:
        pass

    def extend(self, _values: Any) -> None:
        pass

    add = append

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)


class _Ordered(_Inert):
    """An OrderedDict: entries are kept, attributes such as `_metadata` are not."""

    def __init__(self, pairs: Any = ()) -> None:
        super().__init__()
        self.update(pairs)


class _InertUnpickler(pickle._Unpickler):
    """Resolves no name at all: every global is a stand-in made here, for this load.

    The Python implementation is used: its memo is a dict, where the C one allocates what a damaged
    file asks for.
    """

    def __init__(self, stream: IO[bytes], **options: Any) -> None:
        super().__init__(stream, **options)
        self.kinds: dict[str, str] = {}  # storage key -> kind
        self._stand_ins: dict[tuple[str, str], Any] = _stand_ins()

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "torch" and name in _DTYPES:
            return name
        if (module, name) not in self._stand_ins:
            self._stand_ins[module, name] = type("_Inert", (_Inert,), {"__module__": __name__})
        return self._stand_ins[module, name]

    def persistent_load(self, pid: Any) -> StorageRef | _Inert:
        """('storage', kind, key, place, count), in older files with a view (key, start, count) or None."""
        match pid:
            case ("storage", str(kind), key, _, _, *view):
                self.kinds[str(key)] = kind
                start = view[0][1] if view and view[0] is not None else 0
                return StorageRef(kind, str(key), start)
        return _Inert()


def _stand_ins() -> dict[tuple[str, str], Any]:
    """The few names that mean something; fresh objects, so that a pickle cannot change them for later loads."""

    def tensor(storage: Any, start: Any, size: Any, stride: Any, *_rest: Any) -> TensorRef:
        return TensorRef(storage, start, size, stride)

    def parameter(data: Any, *_rest: Any) -> Any:
        return data

    def from_type(rebuild: Callable[..., Any], _type: Any, arguments: Any, *_rest: Any) -> Any:
        return rebuild(*arguments)

    return {
        ("torch._utils", "_rebuild_tensor"): tensor,
        ("torch._utils", "_rebuild_tensor_v2"): tensor,
        ("torch._utils", "_rebuild_parameter"): parameter,
        ("torch._utils", "_rebuild_parameter_with_state"): parameter,
        ("torch._tensor", "_rebuild_from_type_v2"): from_type,
        ("torch", "Size"): tuple,
        ("collections", "OrderedDict"): type("_Ordered", (_Ordered,), {"__module__": __name__}),
    }


def _load(stream: IO[bytes]) -> Any:
    return _InertUnpickler(stream, encoding="utf-8").load()
