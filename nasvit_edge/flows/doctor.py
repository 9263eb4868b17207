"""What is installed, and where an artifact can run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from nasvit_edge.device import cpu_model, device_names
from nasvit_edge.errors import NasvitEdgeError, require
from nasvit_edge.export import arithmetic
from nasvit_edge.export.artifact import open_artifact
from nasvit_edge.export.formats import format_names, load_format
from nasvit_edge.export.quiet import quiet
from nasvit_edge.flows import cache


def environment() -> dict[str, Any]:
    """Packages by extra, devices, formats, machine."""
    return {
        "packages": packages(),
        "python": platform.python_version(),
        "cpu": cpu_model(),
        "cores": os.cpu_count() or 1,
        "devices": device_names(),
        "formats": format_names(),
        "cache": str(cache.root()),
    }


def packages() -> list[dict[str, str]]:
    """What is installed for each extra, and whether it loads: extra, package, version or what to run."""
    formats = [item for name in format_names() for item in load_format(name).packages.items()]
    listed = {module: (p.extra, p.distribution) for module, p in formats}
    ours = {"torch": ("", "torch"), "torchvision": ("", "torchvision"), "timm": ("train", "timm")}
    return [_package(module, *known) for module, known in (ours | listed).items()]


def _package(module: str, extra: str, distribution: str) -> dict[str, str]:
    try:
        with quiet():
            require(module, extra or "all")
        state = importlib.metadata.version(distribution)
    except NasvitEdgeError as error:
        state = str(error)
    return {"extra": extra or "-", "package": distribution, "state": state}


def examine(path: Path) -> dict[str, Any]:
    """What each target of an artifact's format would make of it; where its sidecar is there, it must be the file that was exported."""
    found = open_artifact(path, bare=True)
    return {
        "artifact": str(path),
        "checked": found.checked,
        "precision": found.precision,
        "arithmetic": arithmetic.told(path, found.form.name, found.precision),
        "targets": [target.to_dict() for target in found.form.module().placements(path)],
    }
