"""`profile`: every op of a space, timed on a device, into a latency table."""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import os
import platform
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasvit_edge import files
from nasvit_edge.device import cpu_model, load_device
from nasvit_edge.errors import DeviceError, MeasurementError, require
from nasvit_edge.latency import (
    PRECISIONS,
    SCHEMA,
    Composition,
    LatencyTable,
    check_choice,
    fit_composition,
    table_name,
)
from nasvit_edge.profile.journal import Journal, locked
from nasvit_edge.profile.local import Job, LocalRunner, local_runner
from nasvit_edge.profile.models import EMPTY, Item, Models, format_for, work_list
from nasvit_edge.profile.protocol import Protocol, load_protocol
from nasvit_edge.space import SearchSpace

OnProgress = Callable[[int, int, str], None]
_RUNTIME_PACKAGES = {"onnxruntime": "onnxruntime", "litert": "ai-edge-litert"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured, and how; a journal of another plan is not continued."""

    device: str
    runtime: str
    runtime_version: str
    threads: int
    precision: str
    space: str
    protocol: Protocol
    seed: int
    machine: dict[str, Any]
    ops: int


def profile(
    space: SearchSpace,
    device: str = "host",
    *,
    runtime: str = "onnxruntime",
    threads: int = 1,
    precision: str = "fp32",
    protocol: str = "default",
    out: Path | None = None,
    seed: int = 0,
    on_progress: OnProgress = lambda done, total, detail: None,
) -> Path:
    """Measure and write `out/DEVICE-RUNTIME-THREADSt-PRECISION-SPACE.json`; returns its path.

    Finished measurements are kept line by line beside it, so the same command continues after a kill.

    Raises:
        DeviceError, NasvitEdgeError: unknown device, runtime, protocol or precision; a folder that
            cannot be written; another profile at work on the same table.
        MeasurementError: ops that could not be measured, named.
    """
    target = load_device(device)
    items = work_list(space, load_protocol(protocol).subnets, seed)
    plan = _plan(space, device, runtime, threads, precision, load_protocol(protocol), seed, len(items))
    if runtime not in target.runtimes:
        raise DeviceError(
            f"device {device!r} has no runtime {runtime!r}; it has {', '.join(target.runtimes)}"
        )
    folder = files.writable_folder(out or Path("latency_tables"))
    path = folder / table_name(device, runtime, threads, precision, space.name)
    with locked(folder / f".{path.stem}.lock"), local_runner(target.runner) as runner:
        journal = Journal(folder / f".{path.stem}.partial.jsonl", {"plan": asdict(plan)})
        failures = _measure(space, items, plan, journal, runner, on_progress)
        if failures:
            listed = "; ".join(f"{name}: {why}" for name, why in list(failures.items())[:3])
            raise MeasurementError(
                f"{len(failures)} of {len(items)} models could not be measured ({listed}); "
                "the others are kept, run the same command again"
            )
        files.write_json(path, _table(space, items, plan, journal))
        journal.remove()
    return path


def _plan(
    space: SearchSpace,
    device: str,
    runtime: str,
    threads: int,
    precision: str,
    protocol: Protocol,
    seed: int,
    ops: int,
) -> Plan:
    check_choice("precision", precision, PRECISIONS)
    form = format_for(runtime)
    require("onnxruntime" if form.name == "onnx" else "ai_edge_litert.interpreter", form.name)
    return Plan(
        device=device,
        runtime=runtime,
        runtime_version=runtime_version(runtime),
        threads=threads,
        precision=precision,
        space=space.name,
        protocol=protocol,
        seed=seed,
        machine=machine(),
        ops=ops,
    )


def runtime_version(runtime: str) -> str:
    """The installed version of a runtime."""
    return importlib.metadata.version(_RUNTIME_PACKAGES[runtime])


def machine() -> dict[str, Any]:
    """What this machine is."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "cpu": cpu_model(),
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
    }


def _measure(
    space: SearchSpace,
    items: Sequence[Item],
    plan: Plan,
    journal: Journal,
    runner: LocalRunner,
    on_progress: OnProgress,
) -> dict[str, str]:
    """Measure what the journal lacks, visit after visit; returns id -> reason for what failed."""
    done, failures = journal.done(), {}
    total = len(items) * plan.protocol.visits
    with tempfile.TemporaryDirectory(prefix="nasvit-edge-") as temporary:
        models = Models(space, plan.runtime, Path(temporary), plan.seed)
        prepared = _prepare(items, plan, done, models, on_progress)
        for visit in range(plan.protocol.visits):
            order = [item for item in items if (item.id, visit) not in done]
            random.Random(plan.seed * 1009 + visit).shuffle(order)
            for item in order:
                model, lowering = prepared[item.id]
                answer = runner.measure(_job(item, model, plan))
                if "error" in answer:
                    failures[item.id] = str(answer["error"])
                    continue
                journal.add({**answer, "visit": visit, "lowering": lowering})
                on_progress(len(journal.entries), total, "measuring")
    return failures


def _prepare(
    items: Sequence[Item], plan: Plan, done: set[tuple[str, int]], models: Models, on_progress: OnProgress
) -> dict[str, tuple[Path, str]]:
    """Convert first, all of it: the converter would disturb what is measured."""
    wanted = [i for i in items if any((i.id, visit) not in done for visit in range(plan.protocol.visits))]
    prepared = {}
    for index, item in enumerate(wanted):
        prepared[item.id] = models.path(item)
        on_progress(index + 1, len(wanted), "converting")
    return prepared


def _job(item: Item, model: Path, plan: Plan) -> Job:
    return Job(
        id=item.id,
        model=str(model),
        runtime=plan.runtime,
        threads=plan.threads,
        runs=plan.protocol.runs,
        seconds=plan.protocol.seconds,
        seed=plan.seed,
    )


def _table(space: SearchSpace, items: Sequence[Item], plan: Plan, journal: Journal) -> dict[str, Any]:
    entries: dict[str, list[dict[str, Any]]] = {}
    for entry in journal.entries:
        entries.setdefault(entry["id"], []).append(entry)
    summary = {item.id: _summary(entries[item.id]) for item in items}
    table = asdict(plan) | {
        "schema": SCHEMA,
        "kind": "latency table",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "tool_version": importlib.metadata.version("nasvit-edge"),
        "ops": {item.id: summary[item.id] for item in items if item.op is not None},
        "call_ms": summary[EMPTY]["median_ms"],
        "composition": None,
    }
    subnets = [(item.config, summary[item.id]) for item in items if item.config is not None]
    composition = _composition(space, table, subnets)
    table["composition"] = asdict(composition)
    table["subnets"] = [{"config": c.to_dict()} | s for c, s in subnets]
    return table


def _composition(
    space: SearchSpace, table: dict[str, Any], subnets: Sequence[tuple[Any, Any]]
) -> Composition:
    ops_ms = {key: entry["median_ms"] for key, entry in table["ops"].items()}
    adding = LatencyTable(Path("new"), space, ops_ms, table["call_ms"], None, table)
    sums, counts = zip(*(adding.sums(config) for config, _ in subnets), strict=True)
    return fit_composition(sums, counts, [entry["median_ms"] for _, entry in subnets])


def _summary(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Median, p90 and MAD over the samples of all visits, in ms."""
    samples = np.concatenate([entry["samples_us"] for entry in entries]) / 1e3
    median = float(np.median(samples))
    return {
        "median_ms": _round(median),
        "p90_ms": _round(float(np.quantile(samples, 0.9))),
        "mad_ms": _round(float(np.median(np.abs(samples - median)))),
        "runs": int(sum(len(e["samples_us"]) * e.get("inner", 1) for e in entries)),
        "visits": len(entries),
        "lowering": entries[-1].get("lowering", ""),
    }


def _round(ms: float) -> float:
    """Five digits: more is noise, and makes tables large."""
    return float(f"{ms:.5g}") if math.isfinite(ms) else ms
