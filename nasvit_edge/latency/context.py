"""What an op costs inside a network, against what it takes alone.

Alone, an op converts its input to the runtime's layout and back, and finds its weights in the cache. Inside
a network the conversions at borders disappear (convolutions get cheaper), weights come from further away
once all of them together no longer fit the cache (everything gets dearer), and the many small kernels of a
transformer block start cold. All is learned from whole subnets:

    sum_ms = sum over ops of factor(kind) * op_ms
           + block_ms * transformer blocks
           + spill_ms * max(0, weights - fits)               weights in millions
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasvit_edge.latency.composition import Composition, checked, conformal, fit, left_out
from nasvit_edge.records import Amount

_Array = np.ndarray[Any, np.dtype[np.float64]]
SPLIT = "transformer"  # the kind with a factor of its own
_PRIOR = 0.1  # strength of the belief that kinds behave alike
_QUANTILES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]  # of the subnets' weights: the caches that are tried
_GAIN = 0.95  # a cache or a cost of blocks is believed where it lowers the left-out error at least this much


@dataclass(frozen=True, slots=True)
class Context:
    """Factors by kind of op (1 where none is given), the cost of each transformer block, and of weights beyond the cache.

    Attributes:
        factors: kind (`transformer`) -> factor.
        fits: millions of weights that stay in the cache.
        spill_ms: for each million beyond.
        block_ms: for each op of the kind `SPLIT`.
    """

    factors: Mapping[str, Amount]
    fits: Amount
    spill_ms: Amount
    block_ms: Amount = 0.0

    def sum_ms(self, parts: Parts) -> float:
        """The sum over a subnet."""
        inside = sum(self.factors.get(kind, 1.0) * time for kind, time in parts.ms.items())
        return inside + self.block_ms * parts.blocks + self.spill_ms * max(0.0, parts.weights - self.fits)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a subnet consists of: time by kind of op in ms, number of ops, millions of weights, ops of the kind `SPLIT`."""

    ms: Mapping[str, float]
    count: int
    weights: float
    blocks: int = 0


PLAIN = Context({}, 0.0, 0.0)


def fit_context(parts: Sequence[Parts], measured_ms: Sequence[float]) -> tuple[Context, Composition]:
    """The context and the composition that explain whole subnets best, without a negative term.

    Raises:
        NasvitEdgeError: fewer than three subnets, or values that are not positive and finite.
    """
    split = [p.ms.get(SPLIT, 0.0) for p in parts]
    others = [sum(p.ms.values()) - s for p, s in zip(parts, split, strict=True)]
    other, ops, counts, weights, blocks, measured = checked(
        np.maximum(others, 0),
        split,
        [p.count for p in parts],
        [p.weights for p in parts],
        [p.blocks for p in parts],
        measured_ms,
    )
    share = float(np.median(ops / measured))
    prior = np.array([[-_PRIOR * share, _PRIOR * share, 0, 0, 0, 0]])

    def columns(fits: float, with_blocks: bool) -> _Array:
        terms = [other, ops, counts, np.ones_like(other), np.maximum(0, weights - fits), blocks * with_blocks]
        return np.stack(terms, 1) / measured[:, None]

    models = [(fits, with_blocks) for with_blocks in (False, True) for fits in reversed(_knots(weights))]
    losses = {model: float(np.mean(left_out(columns(*model), prior))) for model in models}
    plain, best = models[0], min(models, key=lambda model: losses[model])
    if losses[best] > _GAIN * losses[plain]:
        best = plain
    design = columns(*best)
    base, split_scale, per_op, offset, spill, block = (float(c) for c in fit(design, prior))
    if base <= 0:  # nothing but the split kind is seen: one scale for all
        base = split_scale = max(split_scale, 1e-9)
    context = Context({SPLIT: split_scale / base}, best[0], spill / base, block / base)
    return context, Composition(base, per_op, offset, conformal(design, prior))


def _knots(weights: _Array) -> list[float]:
    """Cache sizes to try; with the last one nothing spills."""
    inner: Any = np.quantile(weights, _QUANTILES) if len(weights) >= 12 else []
    return sorted({0.0, *map(float, inner), float(weights.max())})
