"""From the sum over a subnet's ops to the latency of the whole.

    ms = scale * sum_ms + per_op_ms * count + offset_ms

with coefficients (none negative) fitted on whole models measured beside their ops.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.records import Amount

COVERAGE = 0.9  # of the interval of a prediction
_Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Prediction:
    """A latency with its 90 % interval (None where nothing is known of the error).

    `coverage` is the share of the ops' time that was measured (1.0: all of it).
    `Composition.predict` fills the fields with arrays.
    """

    ms: Any
    low_ms: Any
    high_ms: Any
    coverage: float = 1.0


@dataclass(frozen=True, slots=True)
class Composition:
    """ms = scale * sum_ms + per_op_ms * count + offset_ms; `error` is the relative half-width of the interval."""

    scale: Amount
    per_op_ms: Amount
    offset_ms: Amount
    error: Amount

    def predict(self, sum_ms: Any, op_count: Any) -> Prediction:
        """Arrays (or numbers) of sums and op counts to latencies with intervals, in ms."""
        ms = self.scale * np.asarray(sum_ms) + self.per_op_ms * np.asarray(op_count) + self.offset_ms
        return Prediction(ms, ms / (1 + self.error), ms * (1 + self.error))


def fit_composition(sum_ms: Any, op_count: Any, measured_ms: Any) -> Composition:
    """Fit a composition to whole models.

    Relative errors are minimised, with Huber weights against outliers and no negative coefficient. The
    interval is conformal: the 90 % quantile of the leave-one-out errors.

    Args:
        sum_ms, op_count, measured_ms: one number a model (n,), n >= 3.

    Raises:
        NasvitEdgeError: fewer than three models, or values that are not positive and finite.
    """
    sums, counts, measured = checked(sum_ms, op_count, measured_ms)
    design = np.stack([sums, counts, np.ones_like(sums)], 1) / measured[:, None]
    scale, per_op, offset = (float(c) for c in fit(design))
    return Composition(scale, per_op, offset, conformal(design))


def checked(*lists: Any) -> list[_Array]:
    """The lists as equally long float arrays; the last one (latencies) above zero, none negative."""
    arrays = [np.asarray(v, np.float64).ravel() for v in lists]
    if len({len(a) for a in arrays}) != 1 or len(arrays[-1]) < 3:
        raise NasvitEdgeError(
            f"a composition needs equally long lists of at least 3, not {[len(a) for a in arrays]}"
        )
    if not all(np.isfinite(a).all() and a.min() >= 0 for a in arrays) or arrays[-1].min() <= 0:
        raise NasvitEdgeError("a composition needs finite sums and counts, and latencies above zero")
    return arrays


def conformal(design: _Array, prior: _Array | None = None) -> float:
    """The relative half-width that holds for 90 % of models left out of the fit."""
    errors = left_out(design, prior)
    rank = min(len(errors), math.ceil((len(errors) + 1) * COVERAGE)) - 1
    return float(np.sort(errors)[rank])


def left_out(design: _Array, prior: _Array | None = None) -> _Array:
    """The relative error at each model of the fit to all others; 1 where there are too few to leave one out."""
    if len(design) <= design.shape[1]:
        return np.ones(len(design))
    return np.array([abs(row @ fit(np.delete(design, i, 0), prior) - 1) for i, row in enumerate(design)])


def fit(design: _Array, prior: _Array | None = None) -> _Array:
    """Non-negative coefficients c with design @ c near 1: Huber weights, a few rounds.

    `prior` rows ask for prior @ c near 0.
    """
    from scipy.optimize import nnls

    largest = np.maximum(design.max(0), 1e-300)  # columns of one size: microseconds beside counts
    scaled, weights = design / largest, np.ones(len(design))
    rows = np.zeros((0, design.shape[1])) if prior is None else prior / largest
    for _ in range(8):
        a = np.vstack([scaled * weights[:, None], rows])
        c = nnls(a, np.concatenate([weights, np.zeros(len(rows))]))[0]
        residuals = np.abs(scaled @ c - 1)
        spread = 1.5 * max(float(np.median(residuals)) * 1.4826, 1e-9)
        weights = np.sqrt(np.minimum(1, spread / np.maximum(residuals, 1e-12)))
    return c / largest
