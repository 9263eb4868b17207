"""Estimating latencies that were not measured from those that were, per kind of op.

A physical base (time grows with the arithmetic and the memory traffic of each part of the op; factors by
non-negative least squares) is corrected by a Gaussian process over the logarithms of the op's sizes.
With some 60 measured neighbours that reaches a few per cent, where boosted trees need hundreds.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.ops import (
    Classifier,
    Head,
    Labels,
    Lateral,
    MBConv,
    Op,
    PixelClassifier,
    Stem,
    TransformerBlock,
    WholeNetwork,
)

_Array = np.ndarray[Any, np.dtype[np.float64]]
FEWEST = 4  # measured entries that a fit needs
_MOST = 400  # a Gaussian process costs the cube of its points


@dataclass(frozen=True, slots=True)
class Features:
    """What an estimate is made from.

    Attributes:
        kind: entries of one kind are fitted together; they have equally long `sizes` and `work`.
        sizes: positive numbers that say which shape this is.
        work: additive costs (multiply-accumulates, values moved) of its parts; not negative.
    """

    kind: str
    sizes: tuple[float, ...]
    work: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A latency in ms with the relative error (mean, cross-validated) of its kind."""

    ms: float
    error: float


def features(op: Op) -> Features:
    """Kind, sizes and work of an op."""
    match op:
        case Stem():
            base = stem_features(op.height * op.width, op.channels, op.kernel_size, op.stride)
            return replace(base, kind=f"stem{op.more()}")
        case MBConv():
            return mbconv_features(op)
        case TransformerBlock():
            return _transformer(op)
        case Head():
            area = op.height * op.width
            base = head_features(area, op.in_channels, op.expanded, max(1, op.features))
            return replace(base, kind=f"head{op.more()}")
        case Classifier():
            macs = op.features * op.classes
            return Features("classifier", (op.features, op.classes), (macs, op.features, 1))
        case Lateral():
            area, out = op.height * op.width, op.out_height * op.out_width
            moved = (area * op.in_channels, area * op.channels, (out > area) * out * op.channels)
            return Features(
                "lateral", (area, op.in_channels, op.channels, out / area), (op.macs(), *moved, 1)
            )
        case PixelClassifier():
            area = op.height * op.width
            traffic = (area * op.channels, area * op.classes)
            return Features("pixels", (area, op.channels, op.classes), (op.macs(), *traffic, 1))
        case Labels():
            area, out = op.height * op.width, op.out_height * op.out_width
            return Features("labels", (area, out, op.classes), (op.classes * area, op.classes * out, out, 1))
        case WholeNetwork():
            sizes = (op.macs(), op.weights(), op.spec.activations)
            return Features("network", sizes, (*sizes, 1))


def stem_features(area: int, channels: int, kernel_size: int, stride: int) -> Features:
    """Features of a stem on `area` pixels."""
    out = area / stride**2
    work = (out * channels * kernel_size**2, area, out * channels, 1)
    return Features("stem", (area, channels, kernel_size, stride), work)


def head_features(area: int, channels: int, expanded: int, outputs: int) -> Features:
    """Features of a head: 1x1 conv, pooling, 1x1 conv."""
    work = (area * channels * expanded, area * expanded, expanded * outputs, 1)
    return Features("head", (area, channels, expanded, outputs), work)


def mbconv_features(op: MBConv) -> Features:
    """Features of an MBConv, by whether it has squeeze-excitation and a 1x1 conv before, and by all else that its key says."""
    pixels = op.height * op.width
    out = op.out_shape()[1] * op.out_shape()[2]
    wide, project = op.expanded, op.projects_shortcut
    fused = out * op.in_channels * op.kernel_size**2 * (wide if op.expands else op.channels)
    work = (
        fused if op.fused else pixels * op.in_channels * wide * op.expands,
        out * wide * op.kernel_size**2 * op.has_depthwise,
        out * wide * op.channels,
        pixels * wide * op.expands,
        out * wide,
        out * op.channels,
        wide * op.squeezed,
        out * op.in_channels * op.channels * project,
        out * op.channels * (op.shortcut and not project and op.stride == 1),
        1,
    )
    sizes = (pixels, op.in_channels, wide, op.channels, op.kernel_size, op.stride, 1 + op.expands)
    kind = f"mbconv{'-se' if op.squeezed else ''}{'' if op.expands else '-1'}{op.more()}"
    return Features(kind, sizes, work)


def _transformer(op: TransformerBlock) -> Features:
    tokens, c, v, heads = op.height * op.width, op.channels, op.value_channels, op.heads
    pairs = tokens**2
    work = (
        tokens * c * c,
        tokens * c * v,
        pairs * c,
        pairs * v,
        pairs * heads**2,
        pairs * heads,
        tokens * v,
        1,
    )
    if not op.more():
        return Features("transformer", (tokens, c, v), work)
    inner = (1 + op.mlps * op.inner, tokens * c * op.mlps * op.inner)
    return Features("transformer-other", (tokens, c, v, inner[0]), (*work, inner[1]))


class Estimator:
    """Fits of one kind of op: latencies from sizes and work."""

    def __init__(self, entries: Sequence[Features], ms: Sequence[float]) -> None:
        """Fit; `ms` are the measured latencies of `entries`, all of one kind.

        Raises:
            NasvitEdgeError: fewer than four entries.
        """
        if len(entries) < FEWEST:
            raise NasvitEdgeError(
                f"an estimate of ops of kind {entries[0].kind if entries else '?'!r} needs {FEWEST} measured ones, not {len(entries)}"
            )
        picked = np.linspace(0, len(entries) - 1, min(len(entries), _MOST)).astype(int)
        latency = np.array(ms, np.float64)[picked]
        sizes = np.log(np.array([entries[i].sizes for i in picked], np.float64))
        work = np.array([entries[i].work for i in picked], np.float64)
        self._mean = sizes.mean(0)
        spread = sizes.std(0)
        self._varies = spread > 1e-9
        self._spread = np.where(self._varies, spread, 1.0)
        self._rates = _rates(work, latency)
        self._process: Any = None
        if self._varies.any():
            self._process = _process(int(self._varies.sum()))
            residual = np.log(latency) - np.log(self._base(work))
            self._offset = float(residual.mean())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a length scale at its bound is no fault
                self._process.fit(self._scaled(sizes), residual - self._offset)

    def predict(self, entries: Sequence[Features]) -> _Array:
        """Latencies in ms (n,)."""
        base = self._base(np.array([e.work for e in entries], np.float64))
        if self._process is None:
            return base
        sizes = np.log(np.array([e.sizes for e in entries], np.float64))
        correction = self._process.predict(self._scaled(sizes)) + self._offset
        return base * np.exp(correction)

    def _base(self, work: _Array) -> _Array:
        return np.maximum(work @ self._rates, 1e-9)

    def _scaled(self, sizes: _Array) -> _Array:
        return ((sizes - self._mean) / self._spread)[:, self._varies]


def _rates(work: _Array, ms: _Array) -> _Array:
    """Time per unit of each part: non-negative least squares of relative errors."""
    from scipy.optimize import nnls

    scale = np.where(work.max(0) > 0, work.max(0), 1.0)
    return nnls(work / scale / ms[:, None], np.ones(len(ms)))[0] / scale


def head_rates(entries: Sequence[Features], ms: Sequence[float]) -> float:
    """ms a multiply-accumulate of a head's last layer, which works on a single position."""
    rates = _rates(np.array([e.work for e in entries], np.float64), np.array(ms, np.float64))
    return float(rates[2])


def _process(dimensions: int) -> Any:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    kernel = ConstantKernel(0.1, (1e-4, 1e2)) * RBF(np.full(dimensions, 2.0), (0.2, 1e2)) + WhiteKernel(
        1e-4, (1e-7, 1e-1)
    )
    return GaussianProcessRegressor(kernel)


def cross_validated(entries: Sequence[Features], ms: Sequence[float], seed: int = 0, folds: int = 5) -> float:
    """Mean relative error of estimates of one kind, each from the other folds.

    Infinite where there are too few entries to leave any out.
    """
    if len(entries) < FEWEST + 1:
        return float("inf")
    order = np.random.default_rng(seed).permutation(len(entries))
    errors = []
    for fold in range(min(folds, len(entries))):
        out = order[fold :: min(folds, len(entries))]
        training = np.setdiff1d(order, out)
        estimator = Estimator([entries[i] for i in training], [ms[i] for i in training])
        errors += list(np.abs(estimator.predict([entries[i] for i in out]) / np.array(ms)[out] - 1))
    return float(np.mean(errors))


def estimate(measured: dict[Features, float], wanted: Sequence[Features]) -> list[Estimate | None]:
    """Estimates of `wanted` from what was measured, kind by kind; None where a kind has too few entries."""
    estimates: dict[Features, Estimate] = {}
    for kind in {entry.kind for entry in wanted}:
        known = {entry: ms for entry, ms in measured.items() if entry.kind == kind}
        if len(known) < FEWEST:
            continue
        missing = [entry for entry in dict.fromkeys(wanted) if entry.kind == kind]
        entries, ms = list(known), list(known.values())
        error = min(1.0, cross_validated(entries, ms))
        values = Estimator(entries, ms).predict(missing)
        estimates |= {e: Estimate(float(v), error) for e, v in zip(missing, values, strict=True)}
    return [estimates.get(entry) for entry in wanted]
