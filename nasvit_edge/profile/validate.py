"""How good a table's predictions are: whole subnets, measured, against what the table says of them."""

from __future__ import annotations

import datetime
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace

from nasvit_edge.device import Device
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.latency import LatencyTable, Prediction
from nasvit_edge.latency.file import Validated, Validation
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.profile.models import mixed
from nasvit_edge.profile.subnets import measure_subnets
from nasvit_edge.profile.summary import digits
from nasvit_edge.records import write
from nasvit_edge.space import SubnetConfig
from nasvit_edge.transport.job import Runner

_DRAWN = 2000  # subnets to choose from, for an even spread over latency
FEWEST = 4  # whole subnets
_BAND = 1.2  # subnets within this factor of one another form a narrow band
_Array = np.ndarray[Any, np.dtype[np.float64]]


def validation_subnets(table: LatencyTable, count: int, seed: int) -> list[SubnetConfig]:
    """Half uniform over genes, half spread evenly over predicted latency, smallest and largest among them."""
    space, rng = table.space, random.Random(seed)
    chosen = dict.fromkeys([space.smallest(), space.largest()])
    pool = sorted(
        {(table.predict(c).ms, str(c), c) for c in (mixed(space, rng) for _ in range(_DRAWN))},
        key=lambda p: p[:2],
    )
    latencies = [ms for ms, _, _ in pool]
    for target in np.linspace(latencies[0], latencies[-1], max(0, count // 2 - 2)):
        near = sorted(pool, key=lambda p: abs(p[0] - target))
        chosen[next((c for _, _, c in near if c not in chosen), near[0][2])] = None
    for _ in range(20 * count):
        if len(chosen) >= count:
            break
        chosen[space.sample(rng)] = None
    return list(chosen)[:count]


def validate(
    table: LatencyTable,
    count: int = 40,
    seed: int = 1,
    listener: Listener = SILENT,
    runner: Runner | None = None,
    device: Device | None = None,
) -> Validation:
    """Measure `count` subnets, each in two fresh processes, one pass over all after the other.

    Raises:
        DeviceError: the table is of another device than this machine.
        MeasurementError: a subnet could not be measured.
    """
    if count < FEWEST:
        raise NasvitEdgeError(f"{count} subnets validate nothing; give at least {FEWEST}")
    subnets = validation_subnets(table, count, seed)
    visits = measure_subnets(table, subnets, seed, listener, runner=runner, device=device)
    measured = [[one.median_ms for one in visits[config]] for config in subnets]
    predicted = [table.predict(config) for config in subnets]
    rows = [row(*triple) for triple in zip(subnets, predicted, measured, strict=True)]
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return replace(report(rows), date=date, seed=seed)


def row(config: SubnetConfig, predicted: Prediction, measured_ms: Sequence[float]) -> Validated:
    """A subnet of a report: what was predicted, and what each pass measured."""
    low, high = predicted.low_ms, predicted.high_ms
    return Validated(
        config=config.to_dict(),
        predicted_ms=digits(predicted.ms),
        low_ms=None if low is None else digits(low),
        high_ms=None if high is None else digits(high),
        measured_ms=tuple(digits(ms) for ms in measured_ms),
    )


def report(rows: Sequence[Validated]) -> Validation:
    """Errors of predictions against the mean of the passes, beside how well the passes repeat each other.

    `mape`, `largest`, `within_5`, `within_10`, `repeat_mape` are fractions; `tau` is Kendall's over all
    subnets, `tau_bands` over pairs whose measured latencies are within a factor of 1.2 of each other.
    """
    predicted = np.array([row.predicted_ms for row in rows])
    passes = np.array([row.measured_ms for row in rows])
    measured = passes.mean(1)
    error = np.abs(predicted / measured - 1)
    inside = [
        row.low_ms <= ms <= row.high_ms
        for row, ms in zip(rows, measured, strict=True)
        if row.low_ms is not None and row.high_ms is not None
    ]
    return Validation(
        count=len(rows),
        mape=_digits(error.mean()),
        bias=_digits((predicted / measured - 1).mean()),
        largest=_digits(error.max()),
        within_5=_digits((error <= 0.05).mean()),
        within_10=_digits((error <= 0.10).mean()),
        tau=_digits(_tau(predicted, measured, math.inf)),
        tau_bands=_digits(_tau(predicted, measured, _BAND)),
        inside_interval=_digits(np.mean(inside)) if inside else None,
        repeat_mape=_digits(np.abs(passes[:, 0] / passes[:, -1] - 1).mean()),
        subnets=tuple(rows),
    )


def store(table: LatencyTable, validation: Validation) -> None:
    """Write the report into the table's file."""
    write(table.path, replace(table.file, validation=validation))


def _tau(a: _Array, b: _Array, band: float) -> float:
    """Kendall's tau over pairs whose `b` are within the factor `band`; 1 where there is no such pair."""
    near = np.abs(np.log(b)[:, None] - np.log(b)[None]) <= math.log(band)
    signs = np.sign(a[:, None] - a[None]) * np.sign(b[:, None] - b[None])
    pairs = np.triu(near & (b[:, None] != b[None]), 1)
    return float(signs[pairs].mean()) if pairs.any() else 1.0


def _digits(value: Any) -> float:
    return round(float(value), 4)
