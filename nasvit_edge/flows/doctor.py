"""What is installed, and where an artifact can run."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from nasvit_edge.device import cpu_model, device_names
from nasvit_edge.export import arithmetic, placement
from nasvit_edge.export.artifact import open_artifact
from nasvit_edge.export.formats import format_names
from nasvit_edge.flows import cache


def environment() -> dict[str, Any]:
    """Packages by extra, devices, formats, machine."""
    return {
        "packages": placement.environment(),
        "python": platform.python_version(),
        "cpu": cpu_model(),
        "cores": os.cpu_count() or 1,
        "devices": device_names(),
        "formats": format_names(),
        "cache": str(cache.root()),
    }


def examine(path: Path) -> dict[str, Any]:
    """What each target of an artifact's format would make of it; where its sidecar is there, it must be the file that was exported."""
    found = open_artifact(path, bare=True)
    return {
        "artifact": str(path),
        "checked": found.checked,
        "precision": found.precision,
        "arithmetic": arithmetic.told(path, found.form.name, found.precision),
        "targets": [target.to_dict() for target in placement.placements(path)],
    }
