"""Measuring whole subnets on a table's device, each in fresh processes that take turns."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec import UNSET

from nasvit_edge.device import Device, known_device, shipped_runner
from nasvit_edge.errors import DeviceError, MeasurementError
from nasvit_edge.latency import LatencyTable
from nasvit_edge.latency.file import TableFile
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.profile.conversion import convert_all
from nasvit_edge.profile.models import Item, Models, subnet_id
from nasvit_edge.profile.protocol import PROTOCOLS
from nasvit_edge.profile.trust import other_machine
from nasvit_edge.space import SubnetConfig
from nasvit_edge.transport.answers import Failure
from nasvit_edge.transport.connect import connect
from nasvit_edge.transport.job import Job, Runner
from nasvit_edge.transport.ways import Ways

PASSES = 2
CONVERTING, VALIDATING = "converting whole subnets", "validating"


@dataclass(frozen=True, slots=True)
class Visit:
    """What one process measured."""

    median_ms: float
    p90_ms: float


def measure_subnets(
    table: LatencyTable,
    subnets: Sequence[SubnetConfig],
    seed: int,
    listener: Listener = SILENT,
    passes: int = PASSES,
    what: str = VALIDATING,
    runner: Runner | None = None,
    device: Device | None = None,
) -> dict[SubnetConfig, list[Visit]]:
    """Each subnet in `passes` fresh processes, one pass over all after the other; runtime and the like as the table's.

    Without a `runner`, `device` is connected, or what is known here by the name that the table has.

    Raises:
        DeviceError: the device is another one than the table's, or cannot be reached.
        MeasurementError: a subnet could not be measured.
    """
    if runner is None:
        with connect(device_of(table, device), Ways(), listener) as connected:
            return measure_subnets(table, subnets, seed, listener, passes, what, connected)
    _same_device(table, runner)
    file, rng = table.file, random.Random(seed)
    items = [Item(subnet_id(config), config=config) for config in dict.fromkeys(subnets)]
    visits: dict[SubnetConfig, list[Visit]] = {config: [] for config in subnets}
    with tempfile.TemporaryDirectory(prefix="nasvit-edge-") as temporary:
        models = Models(table.space, file.runtime, Path(temporary), 0, file.precision)
        prepared = convert_all(items, models, listener, CONVERTING)
        runner.bring([Path(path) for path, _ in prepared.values()], listener)
        cores = runner.cores(file.threads)
        for turn in range(passes):
            for item in rng.sample(items, len(items)):
                runner.fresh()
                answer = runner.measure(_job(item, prepared[item.id][0], file, cores, seed))
                if isinstance(answer, Failure):
                    raise MeasurementError(f"subnet {item.id} could not be measured: {answer.error}")
                assert item.config is not None
                visits[item.config].append(_visit(answer.samples_us))
                done = sum(map(len, visits.values()))
                listener.progress(done, passes * len(items), f"{what}, pass {turn + 1}")
    return visits


def device_of(table: LatencyTable, given: Device | None = None) -> Device:
    """The device that a table was measured on: the one that the user gave, else one that is known here by the table's name for it.

    The file of a table may be anybody's, so it names no path. Nothing is started: where the device is this machine, it
    is compared with the table's fingerprint first, else as soon as it is connected.

    Raises:
        DeviceError: the table was imported, or its device is not known here or another one.
    """
    if table.file.provenance == "imported":
        raise DeviceError(f"subnets of table {table.path.name!r} cannot be measured here: it was imported")
    try:
        device = given or known_device(table.file.target or "host")
    except DeviceError as error:
        raise DeviceError(
            f"table {table.path.name!r}: {error}; where it is one of yours, give its file: --device FILE.toml"
        ) from None
    other = other_machine(table) if _is_this_machine(device) else None
    if other is not None:
        raise _not_here(table, other)
    program = device.program_sha256()
    expected = table.file.program_sha256
    if expected is not UNSET and expected != program:  # older tables do not say
        raise _not_here(table, f"its program was {_told(expected)} and is {_told(program)} now")
    return device


def _told(program: str | None) -> str:
    return "the shipped one" if program is None else f"{program[:8]} of one's own"


def _is_this_machine(device: Device) -> bool:
    """Whether the host's runner measures; another program may stand for any board."""
    return device.is_here and device.runner == shipped_runner()


def _same_device(table: LatencyTable, runner: Runner) -> None:
    other = other_machine(table, runner.about().about)
    if other is not None:
        raise _not_here(table, other)


def _not_here(table: LatencyTable, why: str) -> DeviceError:
    return DeviceError(f"subnets of table {table.path.name!r} cannot be measured here: {why}")


def _visit(samples_us: Sequence[float]) -> Visit:
    median, p90 = np.quantile(np.asarray(samples_us, np.float64) / 1e3, [0.5, 0.9])
    return Visit(float(median), float(p90))


def _job(item: Item, model: str, file: TableFile, cores: tuple[int, ...], seed: int) -> Job:
    return PROTOCOLS["thorough"].job(
        id=item.id, model=model, runtime=file.runtime, threads=file.threads, cores=cores, seed=seed
    )
