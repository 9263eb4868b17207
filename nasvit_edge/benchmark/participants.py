"""What takes part in a benchmark: artifacts and their baselines, checked before the device is asked, with what is known of each file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nasvit_edge import systems
from nasvit_edge.benchmark.plan import Facts, Participant
from nasvit_edge.device import Device
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.export import arithmetic
from nasvit_edge.export.artifact import (
    Artifact,
    digest,
    open_artifact,
    read_content,
    size_bytes,
)
from nasvit_edge.export.formats import format_of
from nasvit_edge.export.sidecar import read_sidecar, sidecar_path
from nasvit_edge.requests.benchmark import Request
from nasvit_edge.runtimes import RUNTIMES
from nasvit_edge.space import load_space


def participants(request: Request, device: Device) -> list[Participant]:
    """The artifacts, each behind its baseline; everything checked that can be without the device."""
    bases = list(request.baseline or ())
    if request.aa and bases:
        raise NasvitEdgeError("--aa measures an artifact against itself; leave out --baseline")
    if request.aa:
        bases = list(request.artifacts)
    if len(bases) not in (0, 1, len(request.artifacts)):
        raise NasvitEdgeError(
            f"there are {len(bases)} --baseline for {len(request.artifacts)} artifacts; give one for all, or one for each in their order"
        )
    if len(bases) == 1:
        bases *= len(request.artifacts)
    names = _names([*request.artifacts, *bases])
    entries: list[Participant] = []
    for place, path in enumerate(request.artifacts):
        baseline = None
        if bases:
            other = names[len(request.artifacts) + place]
            entries.append(
                participant(bases[place], f"{other} (again)" if request.aa else other, request, device)
            )
            baseline = len(entries) - 1
        entries.append(replace(participant(path, names[place], request, device), baseline=baseline))
    _comparable(entries)
    _of_spaces(given_spaces(request), entries)
    return entries


def given_spaces(request: Request) -> dict[str, str]:
    """Name of a space -> how it was given."""
    return {load_space(space_file).name: space_file for space_file in request.space or ()}


def _of_spaces(spaces: Mapping[str, str], entries: Sequence[Participant]) -> None:
    """Refuse a space that no artifact is from."""
    present = sorted({entry.facts.space or "none" for entry in entries})
    for name, space_file in spaces.items():
        if name not in present:
            raise NasvitEdgeError(
                f"--space {space_file!r} is space {name!r}, and no artifact is from it; they are from {', '.join(present)}"
            )


def _names(paths: Sequence[Path]) -> list[str]:
    """File names, with as many folders as tell different files of one name apart."""
    names = []
    for path in paths:
        parts, depth = path.parts, 1
        rivals = [p.parts for p in paths if p != path]
        while depth < len(parts) and any(r[-depth:] == parts[-depth:] for r in rivals):
            depth += 1
        names.append("/".join(parts[-depth:]))
    return names


def _comparable(entries: Sequence[Participant]) -> None:
    for entry in entries:
        base = None if entry.baseline is None else entries[entry.baseline]
        if base is not None and base.runtime != entry.runtime:
            raise NasvitEdgeError(
                f"{entry.name!r} runs by {entry.runtime} and its baseline {base.name!r} by {base.runtime}; "
                "compare files of one runtime, or measure them without --baseline"
            )


def participant(path: Path, name: str, request: Request, device: Device) -> Participant:
    form = format_of(path.suffix)
    systems.require_format(form.name)
    able = [runtime for runtime in device.runtimes if RUNTIMES[runtime].form == form.name]
    runtime = request.runtime or next(iter(able), None)
    if runtime not in able:
        raise NasvitEdgeError(
            f"device {device.name!r} does not run {path.name!r} by {request.runtime or form.runtime}; "
            f"it has {', '.join(device.runtimes)}"
        )
    model = form.model_in(path) if form.model else None  # the device builds its engine from it
    return Participant(name=name, path=path, runtime=runtime, model=model, facts=facts_of(path, runtime))


def facts_of(path: Path, runtime: str) -> Facts:
    """What is known of a file: of an export its sidecar, of another file its hash and size."""
    if not sidecar_path(path).exists():
        content = read_content(path)
        return Facts(
            sha256=digest(content),
            bytes=size_bytes(content),
            precision="unknown",
            format=format_of(path.suffix).name,
            path=str(path),
        )
    artifact, sidecar = open_artifact(path), read_sidecar(path)
    counts = arithmetic.told(path, artifact.form.name, artifact.precision)
    return Facts(
        path=str(path),
        sha256=sidecar.sha256,
        bytes=sidecar.bytes,
        format=artifact.form.name,
        precision=artifact.precision,
        space=artifact.metadata["space"],
        config=artifact.metadata["config"],
        macs=_count(artifact.metadata.get("macs", "")),
        int8_macs=None if counts is None else counts.int8_macs,
        fallback_ops=_fallback(artifact, runtime),
    )


def _count(text: str) -> int | None:
    """A number that a file says of itself; None of what is none."""
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,17}", text) else None


def _fallback(artifact: Artifact, runtime: str) -> int | None:
    """How many ops the runtime's delegate or parser would not take; None where there is none to ask."""
    placements = [p for p in artifact.form.module().placements(artifact.path) if runtime in p.runtimes]
    return len(placements[0].outside) if placements else None
