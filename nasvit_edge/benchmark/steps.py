"""Where a history changes its level: the fewest levels that explain the figures, however far single runs are off.

Levels are fitted to log values by least squares with a bounded loss, so that an outlier costs the same wherever it
is; each further level costs a penalty. The optimum over a grid of levels is exact, by dynamic programming. A steady
drift would be cut into a staircase; so the same fit with a slope is tried, and kept where it explains more for less.
Source of the loss: Fearnhead and Rigaill, Journal of the American Statistical Association 114 (2019), 169-183.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from nasvit_edge.benchmark.metrics import METRICS

LEAST = 3  # runs of a level: fewer may be outliers
SMALLEST_NOISE = 1e-3  # relative; smaller changes are nobody's step
_OUTLIER = 3.0  # standard deviations from which on a run counts as one
_PENALTY, _PENALTY_LOG = 4.0, 2.5  # of a level: the sum of the first and the second times log(runs)
_T = 3.0  # half an interval of level 98 % in standard errors, with the usual 8 rounds
_LAGS = (1, 2, 3)  # runs apart: neighbours alone are too alike where noise lasts for days
_TIE = 1e-9
_FEW = 5  # runs for each one apart
_GRID, _MOST_LEVELS = 4, 256  # levels a standard deviation, and in all

_Array = np.ndarray[Any, np.dtype[np.float64]]


class HistoryFigure(Protocol):
    """What is needed of a point of a history."""

    @property
    def metric(self) -> str: ...
    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Fit:
    """A series cut into levels.

    Attributes:
        starts: indices at which a new level starts; not 0.
        drift: how far the levels move from the first to the last run, relative; 0 without a drift.
        noise: standard deviation between runs, relative.
    """

    starts: tuple[int, ...]
    drift: float = 0.0
    noise: float = 0.0


@dataclass(frozen=True, slots=True)
class Level:
    """Runs `start` to `end` (without it) around one value, their median.

    Attributes:
        change: relative to the level before; None for the first, and from a value of 0.
    """

    start: int
    end: int
    value: float
    change: float | None


def find_steps(points: Sequence[HistoryFigure]) -> list[int]:
    """The indices at which a new level starts, of one series in order of time."""
    return list(fit(points).starts)


def fit(points: Sequence[HistoryFigure]) -> Fit:
    """Levels of one series in order of time, and its drift."""
    values = np.asarray([point.value for point in points], np.float64)
    changed = np.flatnonzero(values[1:] != values[:-1]) + 1
    exact = bool(points) and METRICS[points[0].metric].of_round is None
    if exact and 2 * len(changed) < len(values):  # a file's size is no matter of noise: each change is one
        return Fit(tuple(int(i) for i in changed))
    if len(values) < 2 * LEAST:
        return Fit(())
    logs = np.log(values) if values.min() > 0 else np.log1p(values)
    logs -= np.median(logs)  # so that the unit changes nothing
    noise = max(_noise(logs), SMALLEST_NOISE)
    scale = np.maximum(noise, [_error(point) for point in points])
    starts, slope = _best(logs, scale)
    return Fit(tuple(starts), math.expm1(min(slope * (len(logs) - 1), 700.0)), noise)


def levels(points: Sequence[HistoryFigure], starts: Sequence[int]) -> list[Level]:
    """The levels between steps; of no points none."""
    if not points:
        return []
    spans: list[Level] = []
    for start, end in zip((0, *starts), (*starts, len(points)), strict=True):
        value = float(np.median([point.value for point in points[start:end]]))
        before = spans[-1].value if spans else 0.0
        spans.append(Level(start, end, value, value / before - 1 if before > 0 else None))
    return spans


def _noise(logs: _Array) -> float:
    """The standard deviation between runs, by the median of differences, which steps and outliers leave alone."""
    lags = [lag for lag in _LAGS if lag * _FEW <= len(logs)]  # else a step is in most of the differences
    apart = [np.median(np.abs(logs[lag:] - logs[:-lag])) for lag in lags]
    return float(max(apart)) / 0.6745 / math.sqrt(2)


def _error(point: HistoryFigure) -> float:
    """The standard error of a figure's log by its interval; 0 where that is unknown."""
    if point.low is None or point.high is None or point.low <= 0:
        return 0.0
    return math.log(point.high / point.low) / (2 * _T)


def _best(logs: _Array, scale: _Array) -> tuple[list[int], float]:
    """Starts of levels, and the slope a run."""
    count, penalty = len(logs), _PENALTY + _PENALTY_LOG * math.log(len(logs))
    starts, cost = _cut(logs, scale, penalty)
    slope = 0.0
    if len(starts) < 2:  # a slope would cost as much
        return starts, slope
    for apart in sorted({max(1, count // part) for part in (8, 4, 2)}):
        drift = float(np.median(logs[apart:] - logs[:-apart])) / apart
        cuts, own_cost = _cut(logs - drift * np.arange(count), scale, penalty)
        if own_cost + penalty < cost:
            starts, cost, slope = cuts, own_cost + penalty, drift
    return starts, slope


def _cut(logs: _Array, scale: _Array, penalty: float) -> tuple[list[int], float]:
    """The starts of the best levels, each of `LEAST` runs or more, and the cost of this fit.

    `open_cost[g]` is that of the best fit up to a run whose last level is grid[g]; `closed[t]` of the best one of t runs.
    """
    grid = _grid(logs, float(np.median(scale)))
    loss = np.minimum(((logs[:, None] - grid) / scale[:, None]) ** 2, _OUTLIER**2)  # (runs, grid)
    sums = np.vstack([np.zeros(len(grid)), np.cumsum(loss, axis=0)])
    closed, began = np.full(len(logs) + 1, np.inf), np.zeros(len(logs) + 1, int)
    closed[0] = -penalty  # the first level is free
    open_cost, since = np.full(len(grid), np.inf), np.zeros(len(grid), int)
    for end in range(1, len(logs) + 1):
        open_cost = open_cost + loss[end - 1]
        if end >= LEAST:
            fresh = closed[end - LEAST] + penalty + sums[end] - sums[end - LEAST]
            better = fresh < open_cost - _TIE  # an outlier at a step costs the same on both sides
            since, open_cost = np.where(better, end - LEAST, since), np.where(better, fresh, open_cost)
        best = int(open_cost.argmin())
        closed[end], began[end] = open_cost[best], since[best]
    starts, place = [], len(logs)
    while began[place] > 0:
        place = int(began[place])
        starts.append(place)
    return starts[::-1], float(closed[-1])


def _grid(logs: _Array, noise: float) -> _Array:
    """Levels that come into question: medians of five runs beside each other, rounded to a part of the noise."""
    padded = np.pad(logs, 2, mode="reflect")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)
    grid = np.unique(np.round(around / noise * _GRID)) * noise / _GRID
    if len(grid) <= _MOST_LEVELS:
        return grid
    return np.quantile(around, np.linspace(0, 1, _MOST_LEVELS))
