"""From a job to its answer."""

from __future__ import annotations

import hashlib
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from mac_runner.errors import Ended, Lost, Refused
from mac_runner.machine import THERMAL, cool_down
from mac_runner.timing import Open, measure


def answered(job: dict[str, Any], fetch: Callable[[str], bytes], open_model: Open) -> dict[str, Any]:
    """The answer to a job: a measurement, or why there is none. `fetch` gives a file by its hash."""
    name = {key: str(job[key]) for key in ("id", "nonce") if key in job}
    with tempfile.TemporaryDirectory(prefix="nasvit-edge-") as folder:
        try:
            package = unpacked(job, Path(folder), fetch)
            cool_down(coolest_of(job))
            return name | measure(job, package, open_model)
        except (Lost, Ended, Refused):
            raise
        except Exception as error:
            return name | {"error": (" ".join(str(error).split()) or type(error).__name__)[:300]}


def coolest_of(job: dict[str, Any]) -> str:
    """The hottest state that a job may be measured in."""
    limit = job.get("max_thermal")
    return limit if limit in THERMAL else THERMAL[-1]


def unpacked(job: dict[str, Any], folder: Path, fetch: Callable[[str], bytes]) -> Path:
    """The job's model in `folder`; ValueError for a name that leads elsewhere, or content that is another."""
    package = folder / inside(job["model"])
    for entry in job["files"]:
        content = fetch(entry["sha256"])
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise ValueError(f"file {entry['path']!r} arrived damaged")
        path = package / inside(entry["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return package


def inside(name: str) -> PurePosixPath:
    """A relative path that stays where it is put."""
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in name or "\0" in name:
        raise ValueError(f"a model may not name the path {name!r}")
    return path


def tell(answer: dict[str, Any]) -> None:
    """A line of progress."""
    text = answer["error"] if "error" in answer else f"{statistics.median(answer['samples_us']) / 1e3:.4g} ms"
    print(f"{answer['id'][:100]}: {text}", file=sys.stderr)
