"""A canary before predictions: a few of a table's own models are timed again, which takes two seconds.

Where the machine is slower or faster today than when the table was measured, all its predictions are off by about one factor.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nasvit_edge import cache, files
from nasvit_edge.code import conversion_digest
from nasvit_edge.device import load_device
from nasvit_edge.errors import MeasurementError, NasvitEdgeError
from nasvit_edge.export.formats import format_for
from nasvit_edge.latency import LatencyTable
from nasvit_edge.latency.speed import TodaysSpeed
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.ops import Op, all_ops, lower
from nasvit_edge.profile.canary import canaries
from nasvit_edge.profile.graphs import converters
from nasvit_edge.profile.models import Item, Models, subnet_id
from nasvit_edge.profile.protocol import Protocol
from nasvit_edge.profile.trust import other_machine, outdated
from nasvit_edge.transport.answers import Failure
from nasvit_edge.transport.job import Job, Runner
from nasvit_edge.transport.local import local_runner

DEVICE = "host"
_TURNS = 4
LEAST_NOISE = 0.03  # what one machine's medians differ by within an hour, at the quietest
_UNKNOWN_NOISE = 0.05  # of a table without canaries: as far as canaries may drift while profiling
_SHARES = (0.5, 0.2, 0.8)  # of the table's whole subnets, the fastest first: which ones are timed
_OPS = 5  # beside the canaries, where there are no whole subnets
_FEWEST = 3
_PASSES, _SECONDS = 2, 2.0
_PROTOCOL = Protocol(name="canary", visits=1, runs=5, seconds=0.1, most_seconds=0.3, subnets=0)
_ANSWER_S = 20.0


@dataclass(frozen=True, slots=True)
class Relative:
    """A factor, and its standard error as a fraction."""

    factor: float
    error: float


def is_of_this_machine(table: LatencyTable) -> bool:
    """Whether the host's runner measured the table here, by its fingerprint."""
    device = table.file.target or table.file.device
    return device == DEVICE and other_machine(table) is None


def todays_speed(
    table: LatencyTable, listener: Listener = SILENT, runner: Runner | None = None
) -> TodaysSpeed | None:
    """How fast this machine is today; None where the table is of another one, or that cannot be told, which is noted."""
    if not is_of_this_machine(table):
        return None
    try:
        times = _times(table)
        if len(times) < _FEWEST:
            return None
        models = _files(table, list(times), listener)
        if runner is not None:
            return _speed(table, times, models, runner)
        with local_runner(load_device(DEVICE).runner) as host:
            return _speed(table, times, models, host)
    except (NasvitEdgeError, OSError, ImportError) as error:
        listener.note(f"whether this machine is as fast as its table says is not known: {error}")
        return None


def relative_speeds(
    tables: Sequence[LatencyTable], listener: Listener = SILENT, runner: Runner | None = None
) -> list[Relative] | None:
    """Of each table what this machine takes of its times today, over what it takes of the first one's, all timed in turns.

    Tables measured an hour apart are at the speeds of these hours. None where one is of another machine, or that cannot be told.
    """
    if not all(map(is_of_this_machine, tables)):
        return None
    try:
        times = [_times(table) for table in tables]
        if min(map(len, times)) < _FEWEST:
            return None
        models = [_files(table, list(one), listener) for table, one in zip(tables, times, strict=True)]
        parts = list(zip(tables, times, models, strict=True))
        here = local_runner(load_device(DEVICE).runner) if runner is None else contextlib.nullcontext(runner)
        with here as host:
            turns = [[_turn(*part, host) for part in parts] for _ in range(_TURNS)]
    except (NasvitEdgeError, OSError, ImportError) as error:
        listener.note(f"whether these tables are of one speed of this machine is not known: {error}")
        return None
    logs = np.array(turns)
    apart = logs - logs[:, :1]
    return [Relative(math.exp(one.mean()), math.expm1(one.std() / math.sqrt(_TURNS))) for one in apart.T]


def _turn(
    table: LatencyTable, times: Mapping[Item, float], models: Mapping[Item, Path], runner: Runner
) -> float:
    """The mean logarithm of today's times over the table's; MeasurementError where a model fails."""
    cores, ratios = runner.cores(table.file.threads), []
    for item, ms in times.items():
        answer = runner.measure(_job(table, item, models[item], cores), _ANSWER_S)
        if isinstance(answer, Failure):
            raise MeasurementError(answer.error)
        ratios.append(math.log(float(np.median(answer.samples_us)) / 1e3 / ms))
    return statistics.fmean(ratios)


def _times(table: LatencyTable) -> dict[Item, float]:
    """What is timed, and what the table says of it in ms: whole subnets, of a table that has none its canaries and other ops.

    Alone an op stays in the cache, so a neighbour that takes memory's bandwidth slows whole networks by far more. What is computed
    another way since is left out.
    """
    entries = sorted(table.file.subnets, key=lambda entry: entry.median_ms)
    whole = [entries[int(share * len(entries))] for share in _SHARES] if len(entries) >= _FEWEST else []
    configs = [table.space.config_from(entry.config) for entry in whole]
    items = [Item(subnet_id(config), config=config) for config in configs] or _small(table)
    changed = set(outdated(table, (op for item in items for op in _ops_of(table, item))))
    times: dict[Item, float] = {}
    for item in items:
        ms = _time_of(table, item)
        if ms is not None and not changed & {op.key() for op in _ops_of(table, item)}:
            times[item] = ms
    return times


def _small(table: LatencyTable) -> list[Item]:
    """The canaries of a profile, and ops spread over what ops take."""
    ops = {op.key(): op for op in all_ops(table.space) if op.key() in table.ops_ms}
    slowest_last = sorted(ops, key=lambda key: table.ops_ms[key])
    spread = [slowest_last[int((i + 0.5) / _OPS * len(ops))] for i in range(_OPS)] if ops else []
    return [*canaries(table.space), *(Item(key, op=ops[key]) for key in spread)]


def _ops_of(table: LatencyTable, item: Item) -> Sequence[Op]:
    return [item.op] if item.op is not None else lower(table.space, item.config) if item.config else []


def _time_of(table: LatencyTable, item: Item) -> float | None:
    """What the table measured of an item; None where it did not."""
    if item.op is not None:
        return table.ops_ms.get(item.op.key())
    whole = item.config.to_dict() if item.config else None
    return next((entry.median_ms for entry in table.file.subnets if entry.config == whole), None)


def keep_models(table: LatencyTable, models: Models) -> None:
    """Keep the files of what `todays_speed` will time, which a profile has just made; without room for them, nothing is kept."""
    items = [item for item in _times(table) if item.id in models.known]
    with contextlib.suppress(OSError, NasvitEdgeError):
        _fill(_places(table, items), models)


def _files(table: LatencyTable, items: Sequence[Item], listener: Listener) -> dict[Item, Path]:
    """The items' model files, which the user's cache keeps: making them takes longer than timing them."""
    places = _places(table, items)
    if not all(path.exists() for path in places.values()):
        listener.note("making the models that tell how fast this machine is today, once (--no-canary: not)")
        with tempfile.TemporaryDirectory(prefix="nasvit-edge-") as temporary:
            file = table.file
            _fill(places, Models(table.space, file.runtime, Path(temporary), 0, file.precision))
    return places


def _fill(places: Mapping[Item, Path], models: Models) -> None:
    for item, path in places.items():
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_bytes(path, models.path(item)[0].read_bytes())


def _places(table: LatencyTable, items: Sequence[Item]) -> dict[Item, Path]:
    file = table.file
    parts = [conversion_digest(), *converters(file.runtime), file.runtime, file.precision, repr(table.space)]
    folder = cache.root() / "canaries" / hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
    suffix = format_for(file.runtime).model_suffix
    return {item: folder / f"{hashlib.sha256(item.id.encode()).hexdigest()[:24]}{suffix}" for item in items}


def _speed(
    table: LatencyTable, times: Mapping[Item, float], models: Mapping[Item, Path], runner: Runner
) -> TodaysSpeed | None:
    """Two passes over all models, fewer where these are slow."""
    cores, begun = runner.cores(table.file.threads), time.monotonic()
    passes: list[list[float]] = [[] for _ in range(_PASSES)]
    for ratios in passes:
        for item, ms in times.items():
            if len(ratios) >= _FEWEST and time.monotonic() - begun > _SECONDS:
                break
            answer = runner.measure(_job(table, item, models[item], cores), _ANSWER_S)
            if not isinstance(answer, Failure):
                ratios.append(math.log(float(np.median(answer.samples_us)) / 1e3 / ms))
    means = [statistics.fmean(ratios) for ratios in passes if len(ratios) >= _FEWEST]
    if not means:
        return None
    spread = math.expm1(max(means) - min(means))
    factor = math.exp(statistics.fmean(means))
    return TodaysSpeed(
        factor=round(factor, 4), noise=round(max(noise_of(table), spread), 4), models=len(passes[0])
    )


def noise_of(table: LatencyTable) -> float:
    """What the table's machine changed by: between passes of a validation, and between canaries whose entries were kept."""
    validation, drift = table.file.validation, table.file.canaries
    repeated = 0.0 if validation is None else validation.repeat_mape
    if drift is None:
        return max(_UNKNOWN_NOISE, repeated)
    kept = [
        abs(math.log(r)) for r in drift.readings if r > 0 and abs(math.log(r)) <= math.log1p(drift.threshold)
    ]
    scatter = math.sqrt(statistics.fmean(value**2 for value in kept)) if kept else drift.threshold
    return max(LEAST_NOISE, repeated, 2 * scatter)


def _job(table: LatencyTable, item: Item, model: Path, cores: tuple[int, ...]) -> Job:
    return _PROTOCOL.job(
        id=item.id,
        model=str(model),
        runtime=table.file.runtime,
        threads=table.file.threads,
        cores=cores,
        seed=0,
    )
