"""`profile`: every op of a space, timed on a device, into a latency table."""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from msgspec import structs
from msgspec.structs import replace

from nasvit_edge import files, systems
from nasvit_edge.code import code_digest
from nasvit_edge.device import Device, load_device
from nasvit_edge.errors import DeviceError, MeasurementError, NasvitEdgeError
from nasvit_edge.export.formats import format_for
from nasvit_edge.latency import PRECISIONS, SCHEMA, check_choice, table_name
from nasvit_edge.latency.file import OpEntry, Sampling, SubnetEntry, TableFile
from nasvit_edge.latency.table import parsed, refuse_overwriting
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.ops import all_ops, ops_digest
from nasvit_edge.profile import arithmetic, sampling, speed
from nasvit_edge.profile.canary import canaries
from nasvit_edge.profile.journal import Journal, locked
from nasvit_edge.profile.models import EMPTY, Item, Models, op_items, subnet_items
from nasvit_edge.profile.plan import ProfilePlan
from nasvit_edge.profile.protocol import load_protocol
from nasvit_edge.profile.renewal import Renewal, renewal
from nasvit_edge.profile.session import Session
from nasvit_edge.profile.summary import canary_report, composed, summaries
from nasvit_edge.records import write
from nasvit_edge.space import SearchSpace
from nasvit_edge.transport.answers import Description
from nasvit_edge.transport.connect import connect, transport_of
from nasvit_edge.transport.job import Runner
from nasvit_edge.transport.local import BUSY, missing_runtime
from nasvit_edge.transport.ways import Ways

_MORE = 0.1  # of the ops, added to a sample that is not good enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Measure `share` of the ops (a fraction) and more, until the estimates' error is at most `error`."""

    share: float
    error: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a table is measured with; None is the device's own."""

    runtime: str | None = None
    threads: int | None = None
    precision: str | None = None
    protocol: str = "default"
    name: str | None = None
    seed: int = 0
    sample: Sample | None = None
    again: bool = False  # all of it, also what a table has that still holds


def profile(
    space: SearchSpace,
    device: str = "host",
    *,
    out: Path | None = None,
    listener: Listener = SILENT,
    ways: Ways | None = None,
    **choice: Any,
) -> Path:
    """Measure and write `out/DEVICE-RUNTIME-THREADSt-PRECISION-SPACE.json`; returns its path.

    Finished measurements are kept line by line beside it, so the same command continues after a kill.
    `choice` are the fields of `Choice`; `name` stands for the device in the table, where a table is made to be passed on.

    Raises:
        DeviceError, NasvitEdgeError: a device that is unknown or cannot be reached; an unknown runtime, protocol or
            precision; a folder that cannot be written; another profile at work on the same table.
        MeasurementError: ops that could not be measured, named.
    """
    target, wanted = load_device(device), Choice(**choice)
    prepare(target, wanted)
    with connect(target, ways or Ways(), listener) as runner:
        return measure_table(space, target, runner, wanted, out=out, listener=listener)


def prepare(device: Device, choice: Choice) -> tuple[str, int, str]:
    """Runtime, threads and precision of a table, checked before anything is connected."""
    systems.require_transport(device.transport, device.name)
    runtime = choice.runtime or device.runtimes[0]
    precision = choice.precision or device.precision
    if runtime not in device.runtimes:
        raise DeviceError(
            f"device {device.name!r} has no runtime {runtime!r}; it has {', '.join(device.runtimes)}"
        )
    check_choice("precision", precision, PRECISIONS)
    if choice.name is not None and not files.is_name(choice.name):
        raise NasvitEdgeError(
            f"--name {choice.name!r} cannot name a table; use up to 64 letters, digits, '.', '_' and '-'"
        )
    format_for(runtime).threshold(precision)
    load_protocol(choice.protocol)
    if choice.sample is not None and not 0 < choice.sample.share <= 1:
        raise NasvitEdgeError(
            f"a sample of {choice.sample.share:%} is none; give more than 0% and at most 100%"
        )
    format_for(runtime).needs(here=device.is_here)
    return runtime, choice.threads or device.threads, precision


def measure_table(
    space: SearchSpace,
    device: Device,
    runner: Runner,
    choice: Choice,
    *,
    out: Path | None = None,
    listener: Listener = SILENT,
) -> Path:
    """`profile` on a runner that is there already."""
    runtime, threads, precision = prepare(device, choice)
    folder = files.writable_folder(out or Path("latency_tables"))
    path = folder / table_name(choice.name or device.name, runtime, threads, precision, space.name)
    with (
        locked(folder / f".{path.stem}.lock"),
        tempfile.TemporaryDirectory(prefix="nasvit-edge-") as temporary,
    ):
        refuse_overwriting(path, space)
        about = _about(runner, listener)
        if transport_of(device).tells_runtimes and runtime not in about.runtimes:
            raise missing_runtime(device, runtime)
        plan = _plan(space, device, choice, runner, about)
        renewing = None if choice.again or choice.sample else renewal(path, space, plan)
        if renewing is not None:
            listener.note(renewing.told(plan))
        journal = Journal(folder / f".{path.stem}.partial.jsonl", {"plan": asdict(plan)})
        models = Models(space, runtime, Path(temporary), choice.seed, precision)
        session = _session(space, plan, models, journal, runner, listener)
        session.device = device.name
        try:
            content = _content(space, plan, session, choice.sample, renewing, listener)
        except DeviceError as error:
            raise DeviceError(
                f"{error}; {len(journal.entries)} finished measurements are kept, the same command continues"
            ) from None
        how = {"target": device.name, "transport": device.transport, "conditions": about.conditions}
        file = replace(content, **how, arithmetic=arithmetic.shares(models))
        write(path, file)
        journal.remove()
        if device.name == speed.DEVICE:
            speed.keep_models(parsed(path, file, space), models)
    return path


def _plan(
    space: SearchSpace, device: Device, choice: Choice, runner: Runner, about: Description
) -> ProfilePlan:
    runtime, threads, precision = prepare(device, choice)
    return ProfilePlan(
        device=choice.name or device.name,
        runtime=runtime,
        runtime_version=about.runtimes.get(runtime),
        threads=threads,
        cores=device.cores or runner.cores(threads),
        precision=precision,
        space=space.name,
        protocol=load_protocol(choice.protocol),
        seed=choice.seed,
        fingerprint=about.about,
        code=code_digest(),
        program_sha256=device.program_sha256(),
    )


def _content(
    space: SearchSpace,
    plan: ProfilePlan,
    session: Session,
    sample: Sample | None,
    renewing: Renewal | None,
    listener: Listener,
) -> TableFile:
    """Measure, and what the file says then: all of it, a sample, or what of an older file has to be measured again."""
    if renewing is None:
        return table_content(space, plan, session.journal, _measure(space, plan, session, sample, listener))
    session.measure(renewing.items())
    _check(session)
    entries = session.journal.entries
    return renewing.content(plan, summaries(entries, plan.protocol), canary_report(entries, plan.protocol))


def _about(runner: Runner, listener: Listener) -> Description:
    """What the runner says of its device; warns where the device is busy."""
    answer = runner.about()
    if answer.about.get("emulated"):
        listener.note(
            f"the device is emulated by {answer.about['emulated']}: its latencies are marked so and mean nothing"
        )
    busy = answer.busy_cores
    if busy is not None and busy > BUSY:
        listener.note(
            f"other work keeps {busy:.1f} cores of the device busy: expect slow and scattered latencies"
        )
    return answer


def _session(
    space: SearchSpace,
    plan: ProfilePlan,
    models: Models,
    journal: Journal,
    runner: Runner,
    listener: Listener,
) -> Session:
    return Session(
        protocol=plan.protocol,
        runtime=plan.runtime,
        threads=plan.threads,
        cores=plan.cores,
        seed=plan.seed,
        models=models,
        journal=journal,
        runner=runner,
        canaries=canaries(space),
        listener=listener,
    )


def _measure(
    space: SearchSpace, plan: ProfilePlan, session: Session, sample: Sample | None, listener: Listener
) -> Sampling | None:
    """Measure everything, or as much as a sample needs; returns what the table says of the sample."""
    whole = [Item(EMPTY), *subnet_items(space, plan.protocol.subnets, plan.seed)]
    ops = all_ops(space)
    if sample is None:
        session.measure([*op_items(space), *whole])
        _check(session)
        return None
    count = math.ceil(sample.share * len(ops))
    while True:
        chosen = sampling.stratified(ops, count)
        session.measure([*(Item(op.key(), op=op) for op in chosen), *whole])
        _check(session)
        entries = summaries(session.journal.entries, plan.protocol)
        report = sampling.cross_validation(ops, _medians(ops, entries))
        listener.note(
            f"{len(chosen)} of {len(ops)} ops measured; cross-validated error of the others {report.error:.1%}"
        )
        if report.error <= sample.error or len(chosen) == len(ops):
            return Sampling(
                **structs.asdict(report),
                share=sample.share,
                target=sample.error,
                measured=len(chosen),
                ops=len(ops),
            )
        count = min(len(ops), max(count, len(chosen)) + math.ceil(_MORE * len(ops)))


def _check(session: Session) -> None:
    if session.failures:
        listed = "; ".join(f"{name}: {why}" for name, why in list(session.failures.items())[:3])
        raise MeasurementError(
            f"{len(session.failures)} models could not be measured ({listed}); "
            "the others are kept, run the same command again"
        )


def _medians(ops: Any, entries: Mapping[str, OpEntry]) -> dict[str, float]:
    return {op.key(): entries[op.key()].median_ms for op in ops if op.key() in entries}


def table_content(
    space: SearchSpace, plan: ProfilePlan, journal: Journal, sampled: Sampling | None
) -> TableFile:
    """What the file of a table says, from a journal that holds all that was to be measured."""
    entries = summaries(journal.entries, plan.protocol)
    ops = all_ops(space)
    items = subnet_items(space, plan.protocol.subnets, plan.seed)
    subnets = [(item.config, entries[item.id]) for item in items if item.config is not None]
    file = TableFile(
        schema=SCHEMA,
        provenance="measured",
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        tool_version=importlib.metadata.version("nasvit-edge"),
        ops_digest=ops_digest(space),
        ops={op.key(): entries[op.key()] for op in ops if op.key() in entries},
        estimates=sampling.estimates(ops, _medians(ops, entries)) if sampled else {},
        sampling=sampled,
        call_ms=entries[EMPTY].median_ms,
        canaries=canary_report(journal.entries, plan.protocol),
        subnets=tuple(SubnetEntry.of(config.to_dict(), entry) for config, entry in subnets),
        **asdict(plan),
    )
    adding = parsed(Path("new"), file, space)
    context, composition = composed(adding, [(config, entry.median_ms) for config, entry in subnets])
    return replace(file, context=context, composition=composition)
