"""Which table answers a request: what was given is met or refused, and only what was left out is filled in.

device     runtime       threads  precision
host       (left out)    1        int8          -> host-onnxruntime-1t-int8-nano.json, runtime filled in
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nasvit_edge import files
from nasvit_edge.errors import TableError
from nasvit_edge.hints import command
from nasvit_edge.latency.names import PRECISIONS, check_choice
from nasvit_edge.runtimes import RUNTIMES
from nasvit_edge.space import SearchSpace, families

USUAL = "as {} is measured unless a command says otherwise"
KEYS = ("runtime", "threads", "precision")
_NAME = re.compile(rf"-({'|'.join(map(re.escape, RUNTIMES))})-([1-9]\d*)t-({'|'.join(PRECISIONS)})-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was given of a table; None, or 0 and "", is left out."""

    device: str | None = None
    runtime: str | None = None
    threads: int | None = None
    precision: str | None = None

    @classmethod
    def of(cls, text: str | None, **options: Any) -> Wanted:
        """A device as users name it (`host:litert:2t:int8`) beside the options of `KEYS`.

        Raises:
            NasvitEdgeError: unknown values, or an option that contradicts the device's text.
        """
        values: dict[str, Any] = {} if text is None else named(text)
        for key, value in options.items():
            if value and values.setdefault(key, value) != value:
                raise TableError(
                    f"device {text!r} says {key} {values[key]}, and --{key} {value} contradicts it: give one of the two"
                )
        wanted = cls(**values)
        wanted.check()
        return wanted

    def check(self) -> None:
        """NasvitEdgeError for a runtime or a precision that there is none of."""
        for key, choices in (("runtime", RUNTIMES), ("precision", PRECISIONS)):
            if getattr(self, key):
                check_choice(key, getattr(self, key), choices)

    def given(self) -> dict[str, Any]:
        """What was given of runtime, threads and precision."""
        return {key: getattr(self, key) for key in KEYS if getattr(self, key)}

    def filled(self, values: Mapping[str, Any]) -> Wanted:
        """With `values` where something was left out."""
        return replace(self, **{**values, **self.given()})


@dataclass(frozen=True, slots=True)
class Selected:
    """A table's file, and what of `KEYS` was filled in with its own values, and why."""

    path: Path
    filled: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""

    def told(self) -> str:
        """`litert, 2 threads (the only table of android): left out were runtime, threads`; "" where all was given."""
        if not self.filled:
            return ""
        return (
            f"{shown(self.filled)}, which {'was' if len(self.filled) == 1 else 'were'} left out ({self.why})"
        )


def table_for(
    wanted: Wanted, space: SearchSpace, defaults: Mapping[str, Any] | None = None, *, given: str | None = None
) -> Selected:
    """The table of a device for a space (or the space that it is a subnet of), in `./latency_tables` or among the shipped ones.

    Args:
        given: the device as the user named it, for what is suggested.
        own: what the device is measured with unless a command says otherwise: its runtime, threads and precision.

    Raises:
        TableError: there is none of what was given, or several and nothing says which; names those that there are.
    """
    device = wanted.device or "host"
    of_device = [path for name in families(space.name) for path in _of(device, name)]
    meeting = [path for path in of_device if _meets(path, wanted.given())]
    usual = None if defaults is None else wanted.filled(defaults)
    for path in meeting:
        if usual is not None and _meets(path, usual.given()):
            return _selected(path, wanted, USUAL.format(device))
    if device != "host" and len({path.name for path in meeting}) == 1:
        return _selected(meeting[0], wanted, f"of the only table of {device} for {space.name} that fits")
    raise TableError(_nothing(wanted, space, usual, meeting, of_device, given or device))


def _selected(path: Path, wanted: Wanted, why: str) -> Selected:
    fields, options = heading(path), wanted.given()
    return Selected(path, {key: fields[key] for key in KEYS if key not in options}, why)


def _nothing(
    wanted: Wanted,
    space: SearchSpace,
    usual: Wanted | None,
    meeting: Sequence[Path],
    of_device: Sequence[Path],
    given: str,
) -> str:
    """Why no table was found, what there is, and what to run."""
    device = wanted.device or "host"
    if meeting and wanted.device != "host":
        return (
            f"several latency tables of {device!r} for space {space.name!r} fit: {_stems(meeting)}; say which by --runtime, --threads or "
            "--precision, or by --table FILE"
        )
    what = usual or wanted
    asked = shown(what.given()) or "anything"
    there_are = f"; of {device!r} there are {_stems(of_device)}" if of_device else ""
    text = (
        f"no latency table of {device!r} with {asked} for space {space.name!r} in ./latency_tables{there_are}"
    )
    if usual is None:  # no device is known by that name: nothing can be measured
        return text
    return f"{text}; measure it: {command('profile', device=given, **usual.given(), space=space.given)}"


def shown(values: Mapping[str, Any]) -> str:
    """`litert, 2 threads, int8`."""
    words = {key: str(value) for key, value in values.items()}
    if "threads" in values:
        words["threads"] = f"{values['threads']} thread{'' if values['threads'] == 1 else 's'}"
    return ", ".join(words[key] for key in KEYS if key in words)


def named(text: str) -> dict[str, Any]:
    """`host:litert:2t:int8` -> device, and what else is named.

    Raises:
        TableError: a part that is nothing known, or two of one kind.
    """
    device, *rest = text.split(":")
    fields: dict[str, object] = {"device": device}
    for part in rest:
        key, value = _part(text, part)
        if fields.setdefault(key, value) != value:
            raise TableError(f"table {text!r} names two {key}: {fields[key]} and {value}; give one")
    return fields


def _part(text: str, part: str) -> tuple[str, Any]:
    if part in RUNTIMES:
        return "runtime", part
    if part in PRECISIONS:
        return "precision", part
    if re.fullmatch(r"[1-9][0-9]{0,2}t", part):
        return "threads", int(part[:-1])
    raise TableError(
        f"table {text!r}: {part!r} is no runtime ({', '.join(RUNTIMES)}), threads (2t) or precision ({', '.join(PRECISIONS)})"
    )


def heading(path: Path) -> dict[str, object]:
    """Device, runtime, threads, precision and space in the name of a table's file; {} where it is none."""
    match = _NAME.search(path.stem)
    if match is None:
        return {}
    device, space = path.stem[: match.start()], path.stem[match.end() :]
    runtime, threads, precision = match.groups()
    values = {"device": device, "runtime": runtime, "threads": int(threads)}
    return {**values, "precision": precision, "space": space}


def found_tables() -> list[Path]:
    """Every table in `./latency_tables` and among the shipped ones."""
    return list(dict.fromkeys(path for folder in _folders() for path in sorted(folder.glob("*.json"))))


def _folders() -> list[Path]:
    """Where tables are looked for; in a checkout both are one."""
    here, shipped = Path("latency_tables"), files.shipped("latency_tables")
    return [here] if here.resolve() == shipped.resolve() else [here, shipped]


def _of(device: str, space: str) -> list[Path]:
    return [path for path in found_tables() if _is_of(heading(path), device, space)]


def _is_of(fields: Mapping[str, Any], device: str, space: str) -> bool:
    return (fields.get("device"), fields.get("space")) == (device, space)


def _meets(path: Path, options: Mapping[str, Any]) -> bool:
    fields = heading(path)
    return all(fields[key] == value for key, value in options.items())


def _stems(paths: Sequence[Path]) -> str:
    return ", ".join(dict.fromkeys(path.stem for path in paths))
