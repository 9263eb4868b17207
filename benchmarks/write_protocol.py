"""Write what `devices/protocol.json` says of answers from the records that read them.

    python benchmarks/write_protocol.py          # after a record of answers has changed; a test holds the file to it

Descriptions are those of the records' docstrings. What is on the wire alone, and requests, stay as the file has them.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

from msgspec.structs import fields

from nasvit_edge.latency.file import State
from nasvit_edge.records import schema
from nasvit_edge.transport.answers import Description, Failure, Measurement, SshDescription

PROTOCOL = Path(__file__).resolve().parent.parent / "devices" / "protocol.json"
KINDS = {
    "measurement": Measurement,
    "error": Failure,
    "state": State,
    "description": Description,
    "ssh_description": SshDescription,
}
# what transports add and take off again, and tools' output that the host reads before
WIRE = {
    "measurement": ("id", "nonce", "compile_ms", "tegrastats", "trtexec"),
    "error": ("id", "nonce", "error"),
    "description": ("id", "nonce", "about", "conditions", "busy_cores"),
    "ssh_description": ("id", "about", "conditions", "busy_cores", "board"),
}
_ELSEWHERE = {"ssh_description": {"install"}}  # fields that only other transports send
_REFERRED = ("before", "after", "flags")  # definitions of their own
_LINE = 160


def generated(protocol: dict[str, Any]) -> dict[str, Any]:
    """The protocol with what records say in place of what it said."""
    definitions = dict(protocol["$defs"])
    for name, kind in KINDS.items():
        definitions[name] = _definition(name, kind, definitions[name])
    return protocol | {"$defs": definitions}


def _definition(name: str, kind: type[Any], before: dict[str, Any]) -> dict[str, Any]:
    definitions, meanings, wire = schema(kind), _told(kind), WIRE.get(name, ())
    properties = {key: before["properties"][key] for key in wire}
    for field in fields(kind):
        key = field.name
        if key in _ELSEWHERE.get(name, ()) or key in wire:
            continue
        if key in _REFERRED:
            properties[key] = before["properties"][key]
            continue
        properties[key] = _plain(definitions[kind.__name__]["properties"][key]) | (
            {"description": meanings[key]} if key in meanings else {}
        )
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
    meanings: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        _, _, listed = (inspect.cleandoc(one.__doc__ or "")).partition("Attributes:\n")
        meanings |= dict(re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", listed, re.MULTILINE))
    return {key: re.sub(r"\s+", " ", text).removesuffix(".") for key, text in meanings.items()}


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


def main() -> None:
    """Write it anew."""
    PROTOCOL.write_text(f"{shown(generated(json.loads(PROTOCOL.read_text())))}\n")


if __name__ == "__main__":
    main()
