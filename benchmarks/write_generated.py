"""Write what is said of keys from the records that have them: `devices/protocol.json`, and tables in the docs.

    python benchmarks/write_generated.py            # after a record or its docstring has changed
    python benchmarks/write_generated.py --check    # which files are not what it would write; a test runs this

Descriptions are those of the records' docstrings: keys that are told of together there are one row of a table. In the docs a table stands
between `<!-- keys: MODULE.RECORD -->`, with the names of keys behind it where not all are wanted, and `<!-- end of keys -->`. What is on the
wire alone stays in the protocol as the file has it.
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

from msgspec import inspect as types

from nasvit_edge.latency.file import State
from nasvit_edge.records import schema
from nasvit_edge.transport.answers import Description, Failure, Measurement, SshDescription
from nasvit_edge.transport.job import Job

ROOT = Path(__file__).resolve().parent.parent
PROTOCOL = ROOT / "devices" / "protocol.json"
KINDS = {
    "job": Job,
    "measurement": Measurement,
    "error": Failure,
    "state": State,
    "description": Description,
    "ssh_description": SshDescription,
}
# what transports add and take off again, and tools' output that the host reads before
WIRE = {
    "job": ("files", "input", "max_thermal", "nonce", "schema", "units"),
    "measurement": ("id", "nonce", "compile_ms", "tegrastats", "trtexec"),
    "error": ("id", "nonce", "error"),
    "description": ("id", "nonce", "about", "conditions", "busy_cores"),
    "ssh_description": ("id", "about", "conditions", "busy_cores", "board"),
}
_ELSEWHERE = {"ssh_description": {"install"}}  # fields that only other transports send
_REFERRED = ("before", "after", "flags")  # definitions of their own
_SAID_WHEN = {"detail": {"const": True}}  # left out otherwise, as older runners do not know it
_LINE = 160
_REGION = re.compile(r"(<!-- keys: (\S+?)((?: \w+)*) -->\n).*?(<!-- end of keys -->\n)", re.DOTALL)


def generated(protocol: dict[str, Any]) -> dict[str, Any]:
    """The protocol with what records say in place of what it said."""
    definitions = dict(protocol["$defs"])
    for name, kind in KINDS.items():
        definitions[name] = _definition(name, kind, definitions[name])
    return protocol | {"$defs": definitions}


def _definition(name: str, kind: type[Any], before: dict[str, Any]) -> dict[str, Any]:
    given, meanings, wire = schema(kind)[kind.__name__], _told(kind), WIRE.get(name, ())
    properties = {key: before["properties"][key] for key in wire}
    for key in given["properties"]:
        if key in _ELSEWHERE.get(name, ()) or key in wire:
            continue
        if key in _REFERRED:
            properties[key] = before["properties"][key]
            continue
        said = {"description": meanings[key]} if key in meanings else {}
        properties[key] = _SAID_WHEN.get(key, _plain(given["properties"][key])) | said
    return before | {"properties": dict(sorted(properties.items()))}


def _plain(given: dict[str, Any]) -> dict[str, Any]:
    """A type without what only Python tells apart: None is left out on the wire, and a whole number is a number."""
    kept = {key: value for key, value in given.items() if key not in ("default", "anyOf", "description")}
    parts = [part for part in given.get("anyOf", ()) if part != {"type": "null"}]
    if parts:
        kept |= next((part for part in parts if part.get("type") == "number"), parts[0])
        kept.pop("description", None)
    for key in ("items", "prefixItems"):
        inner = kept.get(key)
        if isinstance(inner, dict):
            kept[key] = _plain(inner)
        elif isinstance(inner, list):
            kept[key] = [_plain(part) for part in inner]
    return kept


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
    return {PROTOCOL: f"{shown(generated(json.loads(PROTOCOL.read_text())))}\n"} | pages


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
