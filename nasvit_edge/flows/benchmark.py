"""`benchmark`: artifacts on a device, in turns, into a result file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from msgspec import structs

from nasvit_edge import files, records, units
from nasvit_edge.benchmark.accuracy import Accuracy, Hits, Overlaps, SavedAccuracy
from nasvit_edge.benchmark.participants import given_spaces, participants
from nasvit_edge.benchmark.plan import ORDER, BenchmarkProtocol, Participant
from nasvit_edge.benchmark.provenance import this_run
from nasvit_edge.benchmark.result import (
    KIND,
    SCHEMA,
    BenchmarkFile,
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
from nasvit_edge.export.artifact import (
    Artifact,
    open_artifact,
)
from nasvit_edge.flows.artifact_predictions import Predictions
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.profile.speed import DEVICE
from nasvit_edge.requests.benchmark import Request
from nasvit_edge.space import SearchSpace
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
    entries = participants(request, device)
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
        spaces=given_spaces(request),
        canary=runner if times else None,
        listener=listener,
    )


def _with_accuracy(entries: Sequence[Participant], request: Request, listener: Listener) -> list[Participant]:
    """With the accuracy on labelled images, before anything is timed."""
    if request.data is None:
        return list(entries)
    spaces = given_spaces(request)
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
    spaces = given_spaces(request)
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
        run=this_run(),
        device=Measurer(name=device.name, **facts),
        protocol=SavedProtocol(**asdict(protocol), order=ORDER, cores=tuple(cores)),
        aa=request.aa,
        complete=False,
        artifacts=(),
    )
