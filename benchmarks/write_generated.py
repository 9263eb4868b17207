"""Write what is said of keys from the records that have them: `devices/protocol.json`, and tables in the docs.

    python benchmarks/write_generated.py            # after a record or its docstring has changed
    python benchmarks/write_generated.py --check    # which files are not what it would write; a test runs this

Descriptions are those of the records' docstrings: keys that are told of together there are one row of a table. In the docs a table stands
between `<!-- keys: MODULE.RECORD -->`, with the names of keys behind it where not all are wanted, and `<!-- end of keys -->`.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as types

from nasvit_edge.records import schema
from nasvit_edge.transport import wire

ROOT = Path(__file__).resolve().parent.parent
PROTOCOL = ROOT / "devices" / "protocol.json"
HEAD = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "nasvit-edge runner protocol, version 1",
    "$comment": "What runners are asked and answer. Over a pipe (host, ssh) a request or an answer is one line; over HTTP (iphone, mac, browser) it is a "
    "body, see devices/PROTOCOL.md. Written from nasvit_edge/transport/wire.py by benchmarks/write_generated.py.",
    "$ref": "#/$defs/answer",
}
_LINE = 160
_REGION = re.compile(r"(<!-- keys: (\S+?)((?: \w+)*) -->\n).*?(<!-- end of keys -->\n)", re.DOTALL)


def protocol() -> dict[str, Any]:
    """The schema of all that travels."""
    names = {kind.__name__: name for name, kind in wire.DEFINITIONS.items()}
    definitions = {name: _definition(name, kind, names) for name, kind in wire.DEFINITIONS.items()}
    # a measurement of trtexec may be one of both kinds
    unions = {
        name: {"anyOf" if name == "ssh_answer" else "oneOf": [_reference(part) for part in parts]}
        for name, parts in wire.UNIONS.items()
    }
    return HEAD | {"$defs": definitions | unions}


def _definition(name: str, kind: type[Any], names: dict[str, str]) -> dict[str, Any]:
    given, meanings = schema(kind)[kind.__name__], _told(kind)
    properties = {
        key: _plain(value, names) | ({"description": meanings[key]} if key in meanings else {})
        for key, value in given["properties"].items()
    }
    more = msgspec.json.schema(wire.OPEN[name]) if name in wire.OPEN else False
    required = {"required": given["required"]} if given.get("required") else {}
    first, _, _ = inspect.cleandoc(kind.__doc__ or "").partition("\n")
    return {
        "description": first,
        "type": "object",
        "properties": properties,
        "additionalProperties": more,
    } | required


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


def _plain(given: Any, names: dict[str, str]) -> Any:
    """A type without what only Python tells apart: None is left out on the wire, and a whole number is a number."""
    if isinstance(given, list):
        return [_plain(part, names) for part in given]
    if not isinstance(given, dict):
        return given
    if "$ref" in given:
        kind = given["$ref"].rpartition("/")[2]
        return _reference(names.get(kind, kind))
    kept = {key: value for key, value in given.items() if key not in ("default", "anyOf", "description")}
    parts = [part for part in given.get("anyOf", ()) if part != {"type": "null"}]
    if parts:
        part = next((part for part in parts if part.get("type") == "number"), parts[0])
        return _plain(part | kept, names)
    inner = ("items", "prefixItems")
    return {key: _plain(value, names) if key in inner else value for key, value in kept.items()}


def _told(kind: type[Any]) -> dict[str, str]:
    """Field -> what the docstrings of a record say of it."""
    return {key: text for keys, text in _rows(kind) for key in keys}


def _rows(kind: type[Any]) -> Iterator[tuple[list[str], str]]:
    """Fields that the docstrings of a record, and of what it inherits from, tell of together, and what they say."""
    for one in kind.__mro__:
        _, _, listed = (inspect.cleandoc(vars(one).get("__doc__") or "")).partition("Attributes:\n")
        for names, text in re.findall(r"^    (\w+(?:, \w+)*): (.*(?:\n {8}.*)*)", listed, re.MULTILINE):
            yield names.split(", "), re.sub(r"\s+", " ", text).removesuffix(".")


def documented(page: str) -> str:
    """A page of the docs with its tables of keys as the records have them."""
    return _REGION.sub(lambda region: region[1] + _table(region[2], region[3].split()) + region[4], page)


def _table(name: str, chosen: list[str]) -> str:
    """The rows of a record; ValueError where it has a key that its docstring does not tell of, or the other way round."""
    module, _, kind = name.rpartition(".")
    record = getattr(importlib.import_module(module), kind)
    rows, keys = list(_rows(record)), _keys(record)
    unlike = {key for names, _ in rows for key in names} ^ set(keys)
    if unlike - {"schema"} or set(chosen) - set(keys):
        raise ValueError(
            f"{name}: {sorted(unlike | (set(chosen) - set(keys)))} stand in the record or its docstring alone"
        )
    wanted = [(names, text) for names, text in rows if not chosen or set(names) & set(chosen)]
    lines = [f"| {', '.join(f'`{keys[name]}`' for name in names)} | {text} |" for names, text in wanted]
    return "\n".join(["| key | |", "|---|---|", *lines, ""])


def _keys(record: type[Any]) -> dict[str, str]:
    """Field -> its key in a file."""
    return {field.name: field.encode_name for field in types.type_info(record).fields}


def shown(value: Any, depth: int = 0) -> str:
    """JSON with sorted keys, what is short in one line."""
    line = json.dumps(value, sort_keys=True)
    if len(line) <= _LINE or not isinstance(value, dict | list) or not value:
        return line
    inner = (
        [f"{json.dumps(key)}: {shown(value[key], depth + 1)}" for key in sorted(value)]
        if isinstance(value, dict)
        else [shown(part, depth + 1) for part in value]
    )
    start, end = "{}" if isinstance(value, dict) else "[]"
    gap = "\n" + " " * (depth + 1)
    return f"{start}{gap}{f',{gap}'.join(inner)}{gap[:-1]}{end}"


def files() -> dict[Path, str]:
    """What each file should hold."""
    pages = {path: documented(path.read_text()) for path in sorted((ROOT / "docs").glob("*.md"))}
    return {PROTOCOL: f"{shown(protocol())}\n"} | pages


def main() -> None:
    """Write them anew, or say which are out of date."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where something would be"
    )
    check = parser.parse_args().check
    stale = {path: text for path, text in files().items() if path.read_text() != text}
    for path, text in stale.items():
        print(f"{path.relative_to(ROOT)}: {'not what the records say' if check else 'written'}")
        if not check:
            path.write_text(text)
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
