"""Measuring whole subnets on this machine, each in fresh processes that take turns."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasvit_edge.device import load_device
from nasvit_edge.errors import DeviceError, MeasurementError
from nasvit_edge.latency import LatencyTable
from nasvit_edge.profile.conversion import convert_all
from nasvit_edge.profile.local import Job, fastest_cores, local_runner
from nasvit_edge.profile.models import Item, Models, subnet_id
from nasvit_edge.profile.protocol import PROTOCOLS
from nasvit_edge.profile.trust import other_machine
from nasvit_edge.space import SubnetConfig

PASSES = 2
_JOB = PROTOCOLS["thorough"]


@dataclass(frozen=True, slots=True)
class Visit:
    """What one process measured."""

    median_ms: float
    p90_ms: float


def measure_subnets(
    table: LatencyTable,
    subnets: Sequence[SubnetConfig],
    seed: int,
    on_progress: Callable[[int, int, str], None] = lambda done, total, detail: None,
    passes: int = PASSES,
    what: str = "validating",
) -> dict[SubnetConfig, list[Visit]]:
    """Each subnet in `passes` fresh processes, one pass over all after the other; runtime and the like as the table's.

    Raises:
        DeviceError: the table is of another device than this machine.
        MeasurementError: a subnet could not be measured.
    """
    other = other_machine(table)
    if other is not None:
        raise DeviceError(f"subnets of table {table.path.name!r} cannot be measured here: {other}")
    raw, rng = table.raw, random.Random(seed)
    items = [Item(subnet_id(config), config=config) for config in dict.fromkeys(subnets)]
    taken: dict[SubnetConfig, list[Visit]] = {config: [] for config in subnets}
    with tempfile.TemporaryDirectory(prefix="nasvit-edge-") as temporary:
        models = Models(table.space, raw["runtime"], Path(temporary), 0, raw["precision"])
        prepared = convert_all(items, models, on_progress)
        program = load_device("host").runner
        for turn in range(passes):
            for item in rng.sample(items, len(items)):
                with local_runner(program) as runner:
                    answer = runner.measure(_job(item, prepared[item.id][0], raw, seed))
                if "error" in answer:
                    raise MeasurementError(f"subnet {item.id} could not be measured: {answer['error']}")
                assert item.config is not None
                taken[item.config].append(_visit(answer["samples_us"]))
                done = sum(map(len, taken.values()))
                on_progress(done, passes * len(items), f"{what}, pass {turn + 1}")
    return taken


def _visit(samples_us: Any) -> Visit:
    median, p90 = np.quantile(np.asarray(samples_us, np.float64) / 1e3, [0.5, 0.9])
    return Visit(float(median), float(p90))


def _job(item: Item, model: str, raw: dict[str, Any], seed: int) -> Job:
    return Job(
        id=item.id,
        model=model,
        runtime=raw["runtime"],
        threads=raw["threads"],
        cores=fastest_cores(raw["threads"]),
        runs=_JOB.runs,
        seconds=_JOB.seconds,
        most_seconds=_JOB.most_seconds,
        precision=_JOB.precision,
        seed=seed,
    )
