"""Latency over time: what a device does in its first minute, and what it keeps up when it is warm."""

from __future__ import annotations

import datetime
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from nasvit_edge.errors import MeasurementError, NasvitEdgeError, TableError
from nasvit_edge.latency import LatencyTable
from nasvit_edge.latency.file import Sustained, TableFile
from nasvit_edge.listening import Listener
from nasvit_edge.profile.conversion import convert_all
from nasvit_edge.profile.models import Item, Models, subnet_id
from nasvit_edge.profile.protocol import load_protocol
from nasvit_edge.profile.summary import both, digits
from nasvit_edge.records import write
from nasvit_edge.space import SubnetConfig
from nasvit_edge.transport.answers import Failure
from nasvit_edge.transport.job import MODEL_SECONDS, Job, Runner

SHORTEST_S = 2.0
SUSTAINED = "sustained"
_FIRST_S = 60.0
_KEPT = 600  # windows in a table


def sustain(table: LatencyTable, runner: Runner, seconds: float, seed: int, listener: Listener) -> Sustained:
    """Run the table's middle subnet for `seconds` without a pause.

    Raises:
        MeasurementError: the subnet could not be run, or the run was cut short.
    """
    if seconds < SHORTEST_S:
        raise NasvitEdgeError(
            f"a sustained run of {seconds:g} s is too short; give at least {SHORTEST_S:g}s, like 10m"
        )
    config, file = middle_subnet(table), table.file
    item = Item(subnet_id(config), config=config)
    with tempfile.TemporaryDirectory(prefix="nasvit-edge-") as temporary:
        models = Models(table.space, file.runtime, Path(temporary), 0, file.precision)
        (path, _), *_ = convert_all([item], models, listener, "converting a subnet").values()
        runner.bring([Path(path)], listener)
        listener.progress(0, 1, f"{SUSTAINED}, one subnet for {seconds:g} s")
        answer = runner.measure(_job(item, path, file, runner, seconds, seed), MODEL_SECONDS)
        listener.progress(1, 1, SUSTAINED)
    if isinstance(answer, Failure):
        raise MeasurementError(
            f"the sustained run failed: {answer.error}; run it again: {table.profiling(sustained=f'{seconds:g}s')}"
        )
    windows = answer.windows or ()
    if not windows or windows[-1][0] < 0.9 * seconds:
        reached = windows[-1][0] if windows else 0.0
        raise MeasurementError(
            f"the sustained run ended after {reached:.0f} of {seconds:g} s; run it again: {table.profiling(sustained=f'{seconds:g}s')}"
        )
    return replace(
        report(windows, seconds),
        config=config.to_dict(),
        flags=answer.flags,
        state=both(answer.before, answer.after),
    )


def report(windows: Sequence[Sequence[float]], seconds: float) -> Sustained:
    """From windows [s, us] to the numbers of a table."""
    begin, end = min(_FIRST_S, seconds / 4), 0.75 * seconds
    first = [us for s, us in windows if s <= begin] or [windows[0][1]]
    last = [us for s, us in windows if s >= end] or [windows[-1][1]]
    minute1, steady = (statistics.median(part) / 1e3 for part in (first, last))
    step = -(-len(windows) // _KEPT)
    return Sustained(
        seconds=seconds,
        minute1_ms=digits(minute1),
        steady_ms=digits(steady),
        factor=round(steady / minute1, 4),
        windows=tuple((round(s, 1), digits(us / 1e3)) for s, us in windows[::step]),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def middle_subnet(table: LatencyTable) -> SubnetConfig:
    """The subnet of middling latency among those measured whole."""
    entries = sorted(table.file.subnets, key=lambda entry: entry.median_ms)
    if not entries:
        raise TableError(
            f"table {table.path.name!r} holds no whole subnets; measure it: {table.profiling(again=True)}"
        )
    return table.space.config_from(entries[len(entries) // 2].config)


def store(table: LatencyTable, sustained: Sustained) -> None:
    """Write the report into the table's file."""
    write(table.path, replace(table.file, sustained=sustained))


def steady_factor(table: LatencyTable) -> float:
    """How much slower than in short measurements the device is when it is warm; never less than 1.

    Raises:
        TableError: that was not measured.
    """
    if table.file.sustained is None:
        raise TableError(
            f"table {table.path.name!r} has no sustained run, so --steady cannot be kept; measure it: "
            f"{table.profiling(sustained='10m')}"
        )
    return max(1.0, table.file.sustained.factor)


def _job(item: Item, model: str, file: TableFile, runner: Runner, seconds: float, seed: int) -> Job:
    cores = file.cores or runner.cores(file.threads)
    return load_protocol("quick").job(
        id=item.id,
        model=model,
        runtime=file.runtime,
        threads=file.threads,
        cores=cores,
        seed=seed,
        sustained_s=seconds,
    )
