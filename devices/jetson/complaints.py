"""Why trtexec failed, of all that it printed. Standard library of Python 3.8; used on the device and on the host."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FULL = "no space left"
TOO_OLD = (
    "this trtexec is of TensorRT 7 or older, which is too old: TensorRT 8 (JetPack 4.6) or newer is needed"
)
_OTHER_VERSION = "the engine was built by another version of TensorRT"
_STATUS = re.compile(r"^&&&& [A-Z]+ TensorRT\.trtexec(?: \[TensorRT v(\d{4,6})\])?", re.M)
_STAMP = re.compile(r"^(?:\[[0-9/:. -]+\] )?\[[A-Z]\] ?(?:\[TRT\] )?")
_ERROR = re.compile(
    r"\[[EF]\]|trtexec was ended|terminate called|what\(\):|Segmentation fault|^Killed|Aborted|error while loading"
)
_REASON = re.compile(
    r"ERROR:|Assertion|UNSUPPORTED|Error Code|out of memory|implementation|[Vv]ersion|not supported|[Nn]o (?:importer|supported)"
)
_MEMORY = re.compile(
    r"out of memory|insuff?icient memory|memory is insufficient|could not be allocated", re.I
)
_NODE = re.compile(r"While parsing node|Invalid Node|In node \d")
_VERSION = re.compile(
    r"Version tag does not match|[sS]erialization.?[vV]ersion|incompatible serialization version|SERIALIZATION_VERSION"
)
_LONGEST = 390  # characters of all errors: what a runner may answer, with what is said around them


def too_old(text: str) -> bool:
    """Whether a trtexec that printed this is older than TensorRT 8: it tells no version, or an older one."""
    versions = _STATUS.findall(text)
    return bool(versions) and all(not version or version.startswith("7") for version in versions)


def complaint(text: str) -> str:
    """The first errors, which name node and reason, and the last, which says what came of it; as one line."""
    lines = _whole(line.strip() for line in text.splitlines())
    if any("o space left" in line for line in lines):
        return FULL
    errors = [_plain(line) for line in lines if _ERROR.search(line)]
    if not errors:
        return _plain((lines or ["it printed nothing"])[-1])[:250]
    telling = [line for line in errors if _REASON.search(line)]
    nodes = [line for line in errors if _NODE.search(line)]
    memory = [_plain(line) for line in lines if _MEMORY.search(line)]
    prefix = f"{_OTHER_VERSION}: " if any(map(_VERSION.search, errors)) else ""
    first = [lines[0] for lines in (errors, nodes, memory or telling) if lines]
    return prefix + " | ".join(_fitting(_different([*first, errors[-1]])))


def _whole(lines: Iterable[str]) -> list[str]:
    """Messages with the lines that they go on in; what an ONNX node is made of is left out."""
    messages: list[str] = []
    for line in lines:
        if not line or line.startswith("&&&&"):
            continue
        if _STAMP.match(line) or not messages or _ERROR.search(line):
            messages.append(line)
        elif "Begin node" not in messages[-1] and _STAMP.match(messages[-1]):
            messages[-1] += " " + line
        elif "Begin node" not in messages[-1]:
            messages.append(line)
    return messages


def _plain(line: str) -> str:
    """Without time, level and number of the error."""
    return " ".join(re.sub(r"^(?:Error\[\d+\]|\d+): ", "", _STAMP.sub("", line)).split())


def _different(lines: list[str]) -> list[str]:
    """Those that say more than the ones before."""
    kept: list[str] = []
    for line in lines:
        if not any(line in other or other.rstrip(".") in line for other in kept):
            kept.append(line)
    return kept


def _fitting(lines: list[str]) -> list[str]:
    """The longest cut, so that all are told."""
    most = _LONGEST
    while sum(min(most, len(line)) for line in lines) > _LONGEST:
        most -= 10
    return [line[:most] for line in lines]
