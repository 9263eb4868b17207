"""`benchmark`: artifacts on a device, in turns, into a result file."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import re
import subprocess
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from msgspec import structs

from nasvit_edge import files, records, systems, units
from nasvit_edge.benchmark.accuracy import Accuracy, Hits, Overlaps, SavedAccuracy
from nasvit_edge.benchmark.plan import ORDER, BenchmarkProtocol, Facts, Participant
from nasvit_edge.benchmark.result import (
    KIND,
    SCHEMA,
    BenchmarkFile,
    BenchmarkRun,
    MeasuredArtifact,
    Measurer,
    Result,
    SavedProtocol,
    read_result,
)
from nasvit_edge.benchmark.session import Round, Rounds, measure
from nasvit_edge.data_sets import split_to_judge
from nasvit_edge.data_sets.splits import ALL
from nasvit_edge.device import Device, load_device
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
from nasvit_edge.flows.artifact_predictions import Predictions
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.profile.speed import DEVICE
from nasvit_edge.requests.benchmark import Request
from nasvit_edge.runtimes import RUNTIMES
from nasvit_edge.space import SearchSpace, load_space
from nasvit_edge.transport.answers import Description
from nasvit_edge.transport.connect import connect
from nasvit_edge.transport.job import Runner
from nasvit_edge.transport.ways import Ways


def run(request: Request, *, listener: Listener = SILENT) -> Result:
    """Measure and write the result; after every round the file holds what there is, marked as incomplete.

    Raises:
        NasvitEdgeError: options that do not fit, before anything is measured.
        MeasurementError, DeviceError: an artifact does not run, the device is gone; the file says so.
    """
    ways = Ways(lock_clocks=request.lock_clocks, wait_s=units.seconds(request.wait))
    device = load_device(request.device).at(request.address, request.serial)
    protocol = BenchmarkProtocol(
        rounds=request.rounds,
        seconds=request.seconds,
        most_seconds=max(3.0, 4 * request.seconds),
        threads=request.threads or device.threads,
        seed=request.seed,
    )
    entries = _entries(request, device)
    files.writable_folder(request.out.parent)
    with connect(device, ways, listener) as runner:
        return _measured(request, device, protocol, entries, runner, listener)


def _measured(
    request: Request,
    device: Device,
    protocol: BenchmarkProtocol,
    entries: list[Participant],
    runner: Runner,
    listener: Listener,
) -> Result:
    about = runner.about()
    predictions = _predictions(request, device, protocol, about, runner, listener)
    entries = [_knowing(entry, **predictions.of(entry)) for entry in entries]
    entries = _with_accuracy(entries, request, listener.once())
    runner.bring([entry.file for entry in entries], listener)
    cores = device.cores or runner.cores(protocol.threads)
    empty = _file(request, device, protocol, cores, about)

    def keep(rounds: Rounds, stopped: str | None = "killed") -> None:
        done = min(map(len, rounds))
        reason = f"{stopped} after {done} of {protocol.rounds} rounds" if stopped else None
        listed = tuple(
            _measured_one(entry, entry_rounds) for entry, entry_rounds in zip(entries, rounds, strict=True)
        )
        measured_rounds[:] = rounds
        file = structs.replace(empty, complete=stopped is None, stopped=reason, artifacts=listed)
        records.write(request.out, file)

    measured_rounds: Rounds = []
    try:
        keep(measure(entries, runner, protocol, cores, listener=listener, keep=keep), None)
    except BaseException as error:
        if measured_rounds:
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else f"ended ({error})"
            keep(measured_rounds, reason)
        raise
    return read_result(request.out)


def _entries(request: Request, device: Device) -> list[Participant]:
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
            entries.append(_entry(bases[place], f"{other} (again)" if request.aa else other, request, device))
            baseline = len(entries) - 1
        entries.append(replace(_entry(path, names[place], request, device), baseline=baseline))
    _comparable(entries)
    _of_spaces(_spaces(request), entries)
    return entries


def _spaces(request: Request) -> dict[str, str]:
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


def _entry(path: Path, name: str, request: Request, device: Device) -> Participant:
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
    return Participant(name=name, path=path, runtime=runtime, model=model, facts=_facts(path, runtime))


def _facts(path: Path, runtime: str) -> Facts:
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


def _predictions(
    request: Request,
    device: Device,
    protocol: BenchmarkProtocol,
    about: Description,
    runner: Runner,
    listener: Listener,
) -> Predictions:
    """What the device's latency tables predict; on this machine after a look at how fast it is today."""
    times = device.name == DEVICE and not request.no_canary
    return Predictions(
        device=device,
        threads=protocol.threads,
        about=about.about,
        spaces=_spaces(request),
        canary=runner if times else None,
        listener=listener,
    )


def _with_accuracy(entries: Sequence[Participant], request: Request, listener: Listener) -> list[Participant]:
    """With the accuracy on labelled images, before anything is timed."""
    if request.data is None:
        return list(entries)
    spaces = _spaces(request)
    split = _split(entries, request, listener)
    by_sha256: dict[str, SavedAccuracy] = {}
    for place, entry in enumerate(entries):
        listener.progress(place, len(entries), f"accuracy of {entry.name}")
        if entry.facts.sha256 not in by_sha256:
            accuracy = _accuracy(entry.path, request.data, split, spaces, request.labels_in_order, listener)
            by_sha256[entry.facts.sha256] = accuracy.saved()
    return [_knowing(e, stored=by_sha256[e.facts.sha256]) for e in entries]


def _knowing(entry: Participant, **facts: Any) -> Participant:
    """With more facts."""
    return replace(entry, facts=structs.replace(entry.facts, **facts))


def _split(entries: Sequence[Participant], request: Request, listener: Listener) -> str:
    """The images that all are judged on: those that trained none of them, where a folder has no test images of its own."""
    assert request.data is not None
    spaces = _spaces(request)
    for entry in entries:
        artifact, space = _opened(entry.path, spaces)
        split, remark = split_to_judge(request.data, space, artifact.trained_on())
        if split != "test":
            listener.note(remark.removesuffix(ALL))
            return split
    return "test"


def _opened(path: Path, spaces: Mapping[str, str]) -> tuple[Artifact, SearchSpace]:
    artifact = open_artifact(path, bare=True)
    return artifact, artifact.space(spaces.get(artifact.metadata["space"]))


def _accuracy(
    path: Path, data: str, split: str, spaces: Mapping[str, str], in_order: bool, listener: Listener
) -> Accuracy:
    from nasvit_edge.export.verification import hits, overlaps

    artifact, space = _opened(path, spaces)
    space_file = spaces.get(artifact.metadata["space"])
    if space.is_dense:
        return Overlaps(*overlaps(path, data, space_path=space_file, split=split))
    return Hits(*hits(path, data, space_path=space_file, in_order=in_order, split=split, listener=listener))


def _measured_one(entry: Participant, rounds: Sequence[Round]) -> MeasuredArtifact:
    facts = structs.asdict(entry.facts)
    return MeasuredArtifact(
        **facts, name=entry.name, baseline=entry.baseline, runtime=entry.runtime, rounds=tuple(rounds)
    )


def _file(
    request: Request, device: Device, protocol: BenchmarkProtocol, cores: Sequence[int], about: Description
) -> BenchmarkFile:
    """A result file before anything was measured."""
    facts = {key: getattr(about, key) for key in ("about", "conditions", "busy_cores")}
    return BenchmarkFile(
        schema=SCHEMA,
        kind=KIND,
        run=_run(),
        device=Measurer(name=device.name, **facts),
        protocol=SavedProtocol(**asdict(protocol), order=ORDER, cores=tuple(cores)),
        aa=request.aa,
        complete=False,
        artifacts=(),
    )


def _run() -> BenchmarkRun:
    sha = _git("rev-parse", "HEAD")
    return BenchmarkRun(
        uuid=str(uuid.uuid4()),
        utc=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        tool_version=importlib.metadata.version("nasvit-edge"),
        git_sha=sha or None,
        git_dirty=bool(_git("status", "--porcelain", "--untracked-files=no")) if sha else None,
        ci_url=_ci_url(os.environ.get),
    )


def _git(*words: str) -> str:
    """What git says of the working directory; empty where it says nothing."""
    try:
        process = subprocess.run(
            ["git", *words], capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return process.stdout.strip() if process.returncode == 0 else ""


def _ci_url(get: Callable[[str], str | None]) -> str | None:
    """The page of the CI job: of GitHub Actions, or GitLab's."""
    server, repository, run = map(get, ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID"))
    return f"{server}/{repository}/actions/runs/{run}" if server and repository and run else get("CI_JOB_URL")
