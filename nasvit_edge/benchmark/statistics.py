"""Comparing two artifacts whose rounds were measured beside each other.

The unit is the round: a fresh process, one value (the median of its samples, or another figure of it). Samples of one
process are not independent, so tests on pooled samples find differences where there are none. The values of a round are
compared in pairs, as base and candidate took turns, or ran right after each other: a drift of the device is nearly the same
for both, and its rest has the other sign in the next turn or round (ABBA).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasvit_edge.data_sets.confusion import mean_iou
from nasvit_edge.paired import Interval as Interval

ALPHA = 0.01  # of one side: chance of a false alarm, or of a false improvement
MIN_EFFECT = 0.03  # a smaller change is none
LEAST_PAIRS = 3  # fewer say nothing
POWER = 0.9


@dataclass(frozen=True, slots=True)
class Comparison:
    """Candidate over base.

    Attributes:
        ratio: geometric mean over pairs, with its interval.
        larger_p, smaller_p: of one-sided tests; small where the candidate's value is larger, or smaller.
        sd: standard deviation of a pair's log ratio.
    """

    ratio: Interval
    larger_p: float
    smaller_p: float
    sd: float
    pairs: int


def compare(base: Sequence[float], candidate: Sequence[float], alpha: float = ALPHA) -> Comparison:
    """The paired t test on log ratios of positive values; `base[i]` and `candidate[i]` are of one round.

    Fewer than three pairs give an interval without bounds.
    """
    return compare_logs(
        np.log(np.asarray(candidate, np.float64)) - np.log(np.asarray(base, np.float64)), alpha
    )


def compare_logs(ratios: Sequence[float] | np.ndarray[Any, Any], alpha: float = ALPHA) -> Comparison:
    """`compare` of the log ratios of pairs."""
    logs = np.asarray(ratios, np.float64)
    mean, error, sd = _moments(logs)
    if error is None:
        return Comparison(Interval(math.exp(mean), 0.0, math.inf), 1.0, 1.0, sd, len(logs))
    from scipy import stats

    reach = stats.t.ppf(1 - alpha, len(logs) - 1) * error
    ratio = Interval(math.exp(mean), math.exp(mean - reach), math.exp(mean + reach))
    larger = _tail(mean, error, len(logs) - 1)
    return Comparison(ratio, larger, 1 - larger if mean else 1.0, sd, len(logs))


def estimate(values: Sequence[float], alpha: float = ALPHA) -> Interval:
    """The geometric mean of positive values, one a round, with its t interval; of one or two values without bounds."""
    mean, error, _ = _moments(np.log(np.asarray(values, np.float64)))
    if error is None:
        return Interval(math.exp(mean), 0.0, math.inf)
    from scipy import stats

    reach = stats.t.ppf(1 - alpha, len(values) - 1) * error
    return Interval(math.exp(mean), math.exp(mean - reach), math.exp(mean + reach))


def _moments(logs: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float | None, float]:
    """Mean, its standard error (None of too few), and the standard deviation; differences of rounding are none."""
    mean = float(logs.mean())
    if len(logs) < LEAST_PAIRS:
        return mean, None, 0.0
    sd = float(logs.std(ddof=1))
    mean, sd = (0.0 if abs(value) < 1e-12 else value for value in (mean, sd))
    return mean, sd / math.sqrt(len(logs)), sd


def _tail(mean: float, error: float, freedom: int) -> float:
    """The chance of a mean at least so large without a difference."""
    if error == 0:
        return 1.0 if mean <= 0 else 0.0
    from scipy import stats

    return float(stats.t.sf(mean / error, freedom))


def false_discovery(chances: Sequence[float]) -> list[float]:
    """Adjusted p values: deciding by them at alpha keeps the expected share of false ones below it.

    Source: Benjamini and Hochberg, Journal of the Royal Statistical Society B 57 (1995), 289-300.
    """
    if not chances:
        return []
    from scipy import stats

    return [float(value) for value in stats.false_discovery_control(chances)]


def smallest_change(sd: float, pairs: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """The relative increase that `pairs` pairs with log ratios of this standard deviation find with chance `power`."""
    if pairs < LEAST_PAIRS:
        return math.inf
    from scipy import optimize, stats

    freedom = pairs - 1
    needed = stats.t.ppf(1 - alpha, freedom)

    def missing(shift: float) -> float:
        return float(stats.nct.sf(needed, freedom, shift)) - power

    return math.expm1(optimize.brentq(missing, 0.0, 10 * needed + 10) * sd / math.sqrt(pairs))


def compare_overlaps(
    base: np.ndarray[Any, np.dtype[np.int64]],
    candidate: np.ndarray[Any, np.dtype[np.int64]],
    alpha: float = ALPHA,
) -> tuple[Interval, float, float]:
    """Candidate's mean IoU less the base's, of the same scenes, (N, 2, C) each; chances as `larger_p` and `smaller_p`.

    Mean IoU is no mean over scenes, so the scatter of the difference is taken from leaving out one scene at a time: the
    jackknife with Student's t. Source: Miller, Biometrika 61 (1974), 1-15.
    """
    change = float(mean_iou(candidate.sum(0)) - mean_iou(base.sum(0)))
    left_out = mean_iou(candidate.sum(0) - candidate) - mean_iou(base.sum(0) - base)
    left_out = left_out[np.isfinite(left_out)]
    count = len(left_out)
    if count < LEAST_PAIRS:
        return Interval(change, -1.0, 1.0), 1.0, 1.0
    from scipy import stats

    error = (count - 1) / math.sqrt(count) * float(left_out.std(ddof=1))
    change, error = (0.0 if abs(value) < 1e-12 else value for value in (change, error))
    reach = float(stats.t.ppf(1 - alpha, count - 1)) * error
    larger = _tail(change, error, count - 1)
    return Interval(change, change - reach, change + reach), larger, 1 - larger if change else 1.0


def difference(before: Sequence[float], after: Sequence[float], alpha: float = ALPHA) -> Interval:
    """The relative change of positive values of two runs, unpaired, with Welch's interval of level 1 - 2 alpha."""
    logs = [np.log(np.asarray(side, np.float64)) for side in (before, after)]
    mean = float(logs[1].mean() - logs[0].mean())
    if min(map(len, logs)) < LEAST_PAIRS:
        return Interval(math.expm1(mean), -1.0, math.inf)
    from scipy import stats

    if max(side.std() for side in logs) < 1e-12:
        return Interval(math.expm1(mean), math.expm1(mean), math.expm1(mean))
    ends = stats.ttest_ind(logs[1], logs[0], equal_var=False).confidence_interval(1 - 2 * alpha)
    return Interval(math.expm1(mean), math.expm1(float(ends.low)), math.expm1(float(ends.high)))
