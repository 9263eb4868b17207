"""Systems: what is promised, and tested, on each; what is not is refused before any work."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from nasvit_edge.errors import NasvitEdgeError


@dataclass(frozen=True, slots=True)
class System:
    """What a system lacks.

    Attributes:
        commands, formats: those that are refused.
        transports: how devices are reached from it.
    """

    name: str
    commands: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    transports: tuple[str, ...] = ("local", "ssh", "adb", "pull")


LINUX = System("Linux")
SYSTEMS = {
    "darwin": System("macOS", formats=("tensorrt",)),
    "win32": System(
        "Windows",
        commands=("train", "finetune", "adopt"),
        formats=("tflite", "coreml", "tensorrt"),
        transports=("local",),
    ),
}


def here() -> System:
    """The system that this runs on; any other Unix is taken for Linux."""
    return SYSTEMS.get(sys.platform, LINUX)


def require_command(name: str) -> None:
    """NasvitEdgeError where a command is not promised here."""
    if name in here().commands:
        raise _refused(name)


def require_format(name: str) -> None:
    """NasvitEdgeError where a format is not promised here."""
    if not has_format(name):
        others = [form for form in ("onnx", "tflite", "coreml") if has_format(form)]
        raise _refused(f"format {name!r}", f"use {' or '.join(others)}, or run it on Linux")


def has_format(name: str) -> bool:
    """Whether a format is promised here."""
    return name not in here().formats


def require_transport(name: str, device: str) -> None:
    """NasvitEdgeError where devices cannot be reached this way from here."""
    if name not in here().transports:
        raise _refused(f"device {device!r} ({name})", "use --device host, or run it on Linux or macOS")


def _refused(what: str, todo: str = "run it on Linux or macOS") -> NasvitEdgeError:
    also = " (WSL is Linux)" if here().name == "Windows" else ""
    return NasvitEdgeError(f"{what} is not supported on {here().name}", f"{todo}{also}; see docs/systems.md")
