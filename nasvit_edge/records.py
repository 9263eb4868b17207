"""Records: what is read from files and devices, and written, as typed values.

A record is a frozen `Record` (open: keys that a newer version adds are passed over) or `Strict` (for files that people write: an unknown
key is an error). Ranges and choices stand in the types, as `Annotated[float, Meta(gt=0)]` and `Literal["a", "b"]`; a `description` in a `Meta` is what
an error says is possible. In a union no `tuple[A, B]` stands beside what has bounds: msgspec 0.22 reads beyond its own memory then
(`tuple[A, ...]` with a length is read well).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, inspect

from nasvit_edge import files
from nasvit_edge.errors import NasvitEdgeError

T = TypeVar("T")

# control characters, what begins lines or turns them round, what is no text
_UNPRINTED = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
# every number has bounds: a type without them takes NaN, which TOML can say
_NUMBER = "a number above 0 and below 1e10"
Positive = Annotated[float, Meta(gt=0, lt=1e10, description=_NUMBER)]
Number = (  # a whole one stays one
    Annotated[int, Meta(gt=0, lt=10**10, description=_NUMBER)]
    | Annotated[float, Meta(gt=0, lt=1e10, description=_NUMBER)]
)
Share = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
Figure = Annotated[float, Meta(ge=-1e300, le=1e300, description="a number")]
Amount = Annotated[float, Meta(ge=0, le=1e300, description="a number that is not negative")]
Count = Annotated[int, Meta(ge=1, le=2**53)]
Whole = Annotated[int, Meta(ge=0, le=2**53)]
Fact = str | bool | int | float | None  # one of the things that devices tell of themselves
# `$` alone matches before a line's end, too
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)", description="64 hex digits")]
Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$(?!\n)",
        description="up to 64 letters, digits, '.', '_' and '-', no '.' or '-' first",
    ),
]
Plain = Annotated[
    str,
    Meta(
        pattern=rf"^(?!-)[^{_UNPRINTED}]*$(?!\n)",
        description="it may not begin with '-' nor hold control characters",
    ),
]


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that is read or written; what is not said is left out."""


class Strict(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record that people write."""


class RecordError(NasvitEdgeError):
    """A value that is no record of its kind.

    Attributes:
        key: where, as `artifacts[0].rounds`; empty of the whole.
    """

    def __init__(self, text: str, key: str = "") -> None:
        super().__init__(text)
        self.key = key


def read(kind: type[T], path: Path, what: str) -> T:
    """The record in a file: TOML by its suffix, else JSON.

    Raises:
        NasvitEdgeError: no such file, no JSON or TOML; RecordError names file, key, value and what is possible.
    """
    text = files.read_toml if Path(path).suffix == ".toml" else files.read_json
    return parse(kind, text(path, what), f"{what} {str(path)!r}")


def parse(kind: type[T], value: Any, where: str) -> T:
    """The record that `value`, as JSON and TOML are read, stands for; `where` begins the error's text."""
    _refuse_schema(kind, value, where)
    try:
        return msgspec.convert(value, kind, strict=True)
    except (msgspec.ValidationError, RecursionError) as error:
        key, text = _explained(kind, value, error)
        raise RecordError(f"{where}: {text}", key) from None
    except UnicodeEncodeError as error:  # half of a pair, as JSON can say it
        raise RecordError(f"{where}: {_short(error.object)} in it is no text in Unicode") from None


def content(record: Any) -> Any:
    """A record as JSON holds it."""
    return _lists(msgspec.to_builtins(record))


def _lists(value: Any) -> Any:
    """With lists, as JSON is read, in place of tuples."""
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, tuple | list) else value


def write(path: Path, record: Any) -> None:
    """A record as a JSON file, whole or not at all."""
    files.write_json(path, content(record))


def schema(*kinds: type[Any]) -> dict[str, object]:
    """The JSON schema of kinds of records, by name in `$defs`."""
    _, definitions = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    return dict(definitions)


def _refuse_schema(kind: Any, value: Any, where: str) -> None:
    field = getattr(kind, "__annotations__", {}).get("schema")
    if field is None or not isinstance(value, dict) or "schema" not in value:
        return
    reads, number = _schema_read(kind), value["schema"]
    if type(number) is not int or number != reads:
        raise RecordError(f"{where} has schema {_short(number)}; this version reads schema {reads}", "schema")


@functools.cache  # the library walks the whole type anew, which takes as long as to read a small file
def _schema_read(kind: Any) -> Any:
    literal = _fields(kind)["schema"].type
    assert isinstance(literal, inspect.LiteralType)
    (reads,) = literal.values
    return reads


# -- what an error says -----------------------------------------------------------------------------


def _explained(kind: type[Any], value: Any, error: Exception) -> tuple[str, str]:
    """Key, and a line on it: which value, and what is possible."""
    text = str(error)
    what, _, place = text.partition(" - at `$")
    keys = _keys(kind, value, re.findall(r"\.([^.\[\]`]+)|\[(\d+|\.\.\.)\]", place), text)
    if error.__cause__ is not None:  # a record's own check, of several keys
        return _spelled(keys), f"{_spelled(keys)}{': ' if keys else ''}{error.__cause__}"
    unknown = re.search(r"unknown field `(.*)`", what, re.S)
    missing = re.search(r"required field `(.*)`", what)
    fault = unknown or missing
    if fault is not None:
        key = _spelled([*keys, fault[1]])
        fields = ", ".join(name for name in _fields(_type_at(kind, keys)) if name != "schema")
        return key, f"key {key!r} is {'unknown; possible are ' + fields if unknown else 'missing'}"
    key, at = _spelled(keys), _type_at(kind, keys)
    short = _short(_value_at(value, keys))
    possible = _possible(at) or _plain(what)
    return key, f"key {key!r} is {short}; {possible}" if key else f"{possible}, not {short}"


def _keys(kind: type[Any], value: Any, parts: list[tuple[str, str]], text: str) -> list[str | int]:
    """The place of an error, entries of tables by their names, which the library leaves out."""
    keys: list[str | int] = []
    for name, index in parts:
        if name:
            keys.append(name)
        elif index != "...":
            keys.append(int(index))
        else:
            keys.append(_entry(kind, value, keys, text))
    return keys


def _entry(kind: type[Any], value: Any, keys: list[str | int], text: str) -> str:
    """The entry of a table that is wrong: halves are left out until one is left."""
    names = list(_value_at(value, keys))
    while len(names) > 1:
        half = names[: len(names) // 2]
        wrong = _error(kind, _only(value, keys, half)) == text
        names = half if wrong else names[len(names) // 2 :]
    return str(names[0])


def _error(kind: type[Any], value: Any) -> str:
    try:
        msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def _only(value: Any, keys: list[str | int], names: list[str]) -> Any:
    if not keys:
        return {name: value[name] for name in names}
    inner = _only(value[keys[0]], keys[1:], names)
    if isinstance(value, dict):
        return value | {keys[0]: inner}
    place = int(keys[0])
    return [*value[:place], inner, *value[place + 1 :]]


def _value_at(value: Any, keys: list[str | int]) -> Any:
    for key in keys:
        value = value[key]
    return value


def _spelled(keys: list[str | int]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")


def _short(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"a {'table' if isinstance(value, dict) else 'list'} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


_HOLDERS = (inspect.StructType, inspect.DataclassType)


def _fields(kind: Any) -> dict[str, inspect.Field]:
    info = kind if isinstance(kind, inspect.Type) else inspect.type_info(kind)
    structs = [part for part in _parts(info) if isinstance(part, _HOLDERS)]
    return {field.encode_name: field for part in structs for field in part.fields}


def _type_at(kind: type[Any], keys: list[str | int]) -> inspect.Type:
    info = inspect.type_info(kind)
    for key in keys:
        info = next(inner for part in _parts(info) if (inner := _inner(part, key)) is not None)
    return info


def _parts(kind: inspect.Type) -> Iterator[inspect.Type]:
    """The types that a value may be of."""
    if isinstance(kind, inspect.Metadata):
        yield from _parts(kind.type)
    elif isinstance(kind, inspect.UnionType):
        for part in kind.types:
            yield from _parts(part)
    else:
        yield kind


def _inner(kind: inspect.Type, key: str | int) -> inspect.Type | None:
    if isinstance(kind, _HOLDERS):
        return next((field.type for field in kind.fields if field.encode_name == key), None)
    if isinstance(kind, inspect.DictType):
        return kind.value_type
    if isinstance(kind, inspect.TupleType):
        return kind.item_types[int(key)]
    return getattr(kind, "item_type", None)


def _possible(kind: inspect.Type) -> str:
    """What a `description` says is possible, or which choices there are; empty where the type says neither."""
    inner = [kind, *(kind.types if isinstance(kind, inspect.UnionType) else ())]
    for part in inner:
        if isinstance(part, inspect.Metadata) and part.extra_json_schema:
            return str(part.extra_json_schema.get("description", ""))
    for part in _parts(kind):
        if isinstance(part, inspect.LiteralType):
            return f"possible are {', '.join(map(str, part.values))}"
    return ""


_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "object": "a table",
    "array": "a list",
    "null": "nothing",
}


def _plain(text: str) -> str:
    """What was expected, in words."""
    expected = text.removeprefix("Expected ").split(", got ")[0]
    named = re.sub(r"`([^`]*)`", lambda match: _named(match[1]), expected)
    return f"it has to be {named}" if text.startswith("Expected") else text[0].lower() + text[1:]


def _named(union: str) -> str:
    return " or ".join(_WORDS.get(part, part) for part in union.split(" | "))
