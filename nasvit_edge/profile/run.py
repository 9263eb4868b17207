"""`profile`: every op of a space, timed on a device, into a latency table."""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nasvit_edge import files
from nasvit_edge.device import load_device
from nasvit_edge.errors import DeviceError, MeasurementError, NasvitEdgeError, require
from nasvit_edge.latency import PRECISIONS, SCHEMA, check_choice, table_name
from nasvit_edge.latency.table import parsed
from nasvit_edge.ops import all_ops
from nasvit_edge.profile import sampling
from nasvit_edge.profile.canary import canaries
from nasvit_edge.profile.code import code_digest
from nasvit_edge.profile.journal import Journal, locked
from nasvit_edge.profile.local import LocalRunner, fastest_cores, local_runner
from nasvit_edge.profile.models import EMPTY, Item, Models, format_for, op_items, subnet_items
from nasvit_edge.profile.protocol import Protocol, load_protocol
from nasvit_edge.profile.session import OnProgress, Session
from nasvit_edge.profile.summary import canary_report, composed, summaries
from nasvit_edge.profile.trust import runtime_version
from nasvit_edge.space import SearchSpace

_BUSY = 0.25  # cores that others may keep busy before we warn
_MORE = 0.1  # of the ops, added to a sample that is not good enough
Note = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured, and how; a journal of another plan is not continued."""

    device: str
    runtime: str
    runtime_version: str | None
    threads: int
    cores: tuple[int, ...]
    precision: str
    space: str
    protocol: Protocol
    seed: int
    fingerprint: dict[str, Any]
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Measure `share` of the ops (a fraction) and more, until the estimates' error is at most `error`."""

    share: float
    error: float = 0.05


def profile(
    space: SearchSpace,
    device: str = "host",
    *,
    runtime: str = "onnxruntime",
    threads: int = 1,
    precision: str = "fp32",
    protocol: str = "default",
    out: Path | None = None,
    name: str | None = None,
    seed: int = 0,
    sample: Sample | None = None,
    on_progress: OnProgress = lambda done, total, detail: None,
    note: Note = lambda text: None,
) -> Path:
    """Measure and write `out/DEVICE-RUNTIME-THREADSt-PRECISION-SPACE.json`; returns its path.

    Finished measurements are kept line by line beside it, so the same command continues after a kill.
    `name` stands for the device in the table, where a table is made to be passed on.

    Raises:
        DeviceError, NasvitEdgeError: unknown device, runtime, protocol or precision; a folder that
            cannot be written; another profile at work on the same table.
        MeasurementError: ops that could not be measured, named.
    """
    target = load_device(device)
    if runtime not in target.runtimes:
        raise DeviceError(
            f"device {device!r} has no runtime {runtime!r}; it has {', '.join(target.runtimes)}"
        )
    check_choice("precision", precision, PRECISIONS)
    if sample is not None and not 0 < sample.share <= 1:
        raise NasvitEdgeError(f"a sample of {sample.share:%} is none; give more than 0% and at most 100%")
    _require(runtime)
    folder = files.writable_folder(out or Path("latency_tables"))
    path = folder / table_name(name or device, runtime, threads, precision, space.name)
    with (
        locked(folder / f".{path.stem}.lock"),
        local_runner(target.runner) as runner,
        tempfile.TemporaryDirectory(prefix="nasvit-edge-") as temporary,
    ):
        about = _about(runner, note)
        plan = Plan(
            device=name or device,
            runtime=runtime,
            runtime_version=runtime_version(runtime),
            threads=threads,
            cores=fastest_cores(threads),
            precision=precision,
            space=space.name,
            protocol=load_protocol(protocol),
            seed=seed,
            fingerprint=about,
            code=code_digest(),
        )
        journal = Journal(folder / f".{path.stem}.partial.jsonl", {"plan": asdict(plan)})
        models = Models(space, runtime, Path(temporary), seed, precision)
        session = _session(space, plan, models, journal, runner, on_progress)
        sampled = _measure(space, plan, session, sample, note)
        files.write_json(path, _table(space, plan, journal, sampled))
        journal.remove()
    return path


def _require(runtime: str) -> None:
    form = format_for(runtime)
    require("onnxruntime" if form.name == "onnx" else "ai_edge_litert.interpreter", form.name)


def _about(runner: LocalRunner, note: Note) -> dict[str, Any]:
    """The device's fingerprint; warns where the device is busy."""
    answer = runner.about()
    busy = answer.get("busy_cores")
    if busy is not None and busy > _BUSY:
        note(f"other work keeps {busy:.1f} cores of this machine busy: expect slow and scattered latencies")
    found: dict[str, Any] = answer["about"]
    return found


def _session(
    space: SearchSpace,
    plan: Plan,
    models: Models,
    journal: Journal,
    runner: LocalRunner,
    on_progress: OnProgress,
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
        on_progress=on_progress,
    )


def _measure(
    space: SearchSpace, plan: Plan, session: Session, sample: Sample | None, note: Note
) -> dict[str, Any] | None:
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
        found = summaries(session.journal.entries, plan.protocol)
        report = sampling.cross_validation(ops, _medians(ops, found))
        note(
            f"{len(chosen)} of {len(ops)} ops measured; cross-validated error of the others {report['error']:.1%}"
        )
        if report["error"] <= sample.error or len(chosen) == len(ops):
            return report | {
                "share": sample.share,
                "target": sample.error,
                "measured": len(chosen),
                "ops": len(ops),
            }
        count = min(len(ops), max(count, len(chosen)) + math.ceil(_MORE * len(ops)))


def _check(session: Session) -> None:
    if session.failures:
        listed = "; ".join(f"{name}: {why}" for name, why in list(session.failures.items())[:3])
        raise MeasurementError(
            f"{len(session.failures)} models could not be measured ({listed}); "
            "the others are kept, run the same command again"
        )


def _medians(ops: Any, found: dict[str, dict[str, Any]]) -> dict[str, float]:
    return {op.key(): found[op.key()]["median_ms"] for op in ops if op.key() in found}


def _table(
    space: SearchSpace, plan: Plan, journal: Journal, sampled: dict[str, Any] | None
) -> dict[str, Any]:
    found = summaries(journal.entries, plan.protocol)
    ops = all_ops(space)
    measured = {op.key(): found[op.key()] for op in ops if op.key() in found}
    subnets = [i for i in subnet_items(space, plan.protocol.subnets, plan.seed) if i.config is not None]
    raw = asdict(plan) | {
        "schema": SCHEMA,
        "kind": "latency table",
        "provenance": "measured",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "tool_version": importlib.metadata.version("nasvit-edge"),
        "ops": measured,
        "estimates": sampling.estimates(ops, _medians(ops, found)) if sampled else {},
        "sampling": sampled,
        "call_ms": found[EMPTY]["median_ms"],
        "canaries": canary_report(journal.entries, plan.protocol),
        "subnets": [{"config": i.config.to_dict()} | found[i.id] for i in subnets if i.config],
        "validation": None,
    }
    adding = parsed(Path("new"), raw, space)
    pairs = [(i.config, found[i.id]["median_ms"]) for i in subnets if i.config]
    return raw | composed(adding, pairs)
