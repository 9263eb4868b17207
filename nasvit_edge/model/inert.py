"""Unpickling that makes nothing but plain values, descriptions of tensors, and inert stand-ins.

All stand-ins are made for one load: whatever a pickle does to them, it does to nothing else.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import torch

DTYPES = {
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
UNREAD = {"UntypedStorage": 1, "QInt8Storage": 1, "QUInt8Storage": 1, "QInt32Storage": 4}  # kind -> bytes
_NUMBERS = re.compile(r"(float|u?int|complex)\d\w*")  # dtypes, as `torch` names them


@dataclass(frozen=True, slots=True)
class StorageRef:
    """A run of numbers in the file: `kind` as torch names it, `start` in elements."""

    kind: str
    key: str
    start: int


@dataclass(frozen=True, slots=True)
class TensorRef:
    """What a pickle says about a tensor; nothing in it is to be trusted.

    Attributes:
        kind: of one that cannot be read: what it is.
    """

    storage: Any = None
    start: Any = None
    size: Any = None
    stride: Any = None
    kind: str = ""


class Inert(dict):  # type: ignore[type-arg]
    """Stands for any foreign object of a pickle: takes everything, does nothing."""

    made_of = ""  # the name that it stands for

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, _state: Any) -> None:
        pass

    def __call__(self, *_args: Any, **_kwargs: Any) -> Inert:
        return self

    def append(self, _value: Any) -> None:
        pass

    def extend(self, _values: Any) -> None:
        pass

    add = append

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)


class _Ordered(Inert):
    """An OrderedDict: entries are kept, attributes such as `_metadata` are not."""

    def __init__(self, pairs: Any = ()) -> None:
        super().__init__()
        self.update(pairs)


class InertUnpickler(pickle._Unpickler):
    """Resolves no name at all: every global is a stand-in made here, for this load.

    The Python implementation is used: its memo is a dict, where the C one allocates what a damaged
    file asks for.
    """

    def __init__(self, stream: IO[bytes], **options: Any) -> None:
        super().__init__(stream, **options)
        self.kinds: dict[str, str] = {}  # storage key -> kind
        self._stand_ins: dict[tuple[str, str], Any] = _stand_ins()

    def find_class(self, module: str, name: str) -> Any:
        plain = name in DTYPES or name in UNREAD or _NUMBERS.fullmatch(name)
        if module.split(".")[0] == "torch" and plain:
            return name
        if (module, name) not in self._stand_ins:
            about = {"__module__": __name__, "made_of": f"{module}.{name}"}
            self._stand_ins[module, name] = type("_Inert", (Inert,), about)
        return self._stand_ins[module, name]

    def persistent_load(self, pid: Any) -> StorageRef | Inert | type[Inert]:
        """('storage', kind, key, place, count), in older files with a view (key, start, count) or None."""
        match pid:
            case ("storage", str(kind), str() | int() as key, _, _, *view):
                self.kinds[str(key)] = kind
                start = view[0][1] if view and view[0] is not None else 0
                return StorageRef(kind, str(key), start)
            case ("module", type() as kind, *_) if issubclass(
                kind, Inert
            ):  # a class, which older files name so
                return kind
        return Inert()


def _stand_ins() -> dict[tuple[str, str], Any]:
    """The few names that mean something; fresh objects, so that a pickle cannot change them for later loads."""

    def tensor(storage: Any, start: Any, size: Any, stride: Any, *_rest: Any) -> TensorRef:
        return TensorRef(storage, start, size, stride)

    def newer(*arguments: Any) -> TensorRef:
        """Of kinds of numbers that have no storage of their own: fp8, unsigned."""
        storage, start, size, stride, _, _, kind, *_ = arguments
        kind = f"{kind[:40]} numbers" if isinstance(kind, str) else "no numbers"
        return TensorRef(storage, start, size, stride, kind)

    def other(kind: str) -> Callable[..., TensorRef]:
        return lambda *_arguments: TensorRef(kind=kind)

    def parameter(data: Any, *_rest: Any) -> Any:
        return data

    def from_type(rebuild: Callable[..., Any], _type: Any, arguments: Any, *_rest: Any) -> Any:
        return rebuild(*arguments)

    return {
        ("torch._utils", "_rebuild_tensor"): tensor,
        ("torch._utils", "_rebuild_tensor_v2"): tensor,
        ("torch._utils", "_rebuild_tensor_v3"): newer,
        ("torch._utils", "_rebuild_qtensor"): other("a quantised tensor"),
        ("torch._utils", "_rebuild_sparse_tensor"): other("a sparse tensor"),
        ("torch._utils", "_rebuild_meta_tensor_no_storage"): other("a tensor without numbers"),
        ("torch._utils", "_rebuild_parameter"): parameter,
        ("torch._utils", "_rebuild_parameter_with_state"): parameter,
        ("torch._tensor", "_rebuild_from_type_v2"): from_type,
        ("torch", "Size"): tuple,
        ("collections", "OrderedDict"): type("_Ordered", (_Ordered,), {"__module__": __name__}),
    }


def load(stream: IO[bytes]) -> Any:
    """The object that a pickle describes; Exception of any kind where it is damaged."""
    return InertUnpickler(stream, encoding="utf-8").load()
