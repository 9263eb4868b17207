"""Fitting an accuracy predictor to measured subnets: additive gains that never fall, and a saturating link.

    accuracy = base of the smallest + link(sum of increments)        searching/accuracy.py has the link

Each increment (from one choice of a gene, or one resolution, to the next) is non-negative: least squares under that
condition (Lawson and Hanson 1974, by scipy) with a small ridge. The link's curvature and the ridge are chosen by
the error on subnets left out, in folds.

Segmenters are the exception: trained on crops, they may lose by larger images. What a resolution brings is free there,
and nothing bends.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.records import Record
from nasvit_edge.searching.accuracy import PredictorFile, quality_of
from nasvit_edge.searching.population import genes
from nasvit_edge.space import SearchSpace, SubnetConfig

_Array = np.ndarray[Any, np.dtype[np.float64]]
_FOLDS = 5
_RIDGES = (1e-3, 1e-2, 0.1)
_CURVES = (0.0, 0.2, 0.4, 0.6, 0.8, 0.95)  # of the most that the link may bend over what was measured
FEWEST = 20


class LeftOut(Record, frozen=True, kw_only=True):
    """Errors on subnets left out, in folds (fractions); Kendall's tau, None where all are alike."""

    subnets: int
    folds: int
    rmse: float
    largest: float
    tau: float | None


class FittedFile(PredictorFile, frozen=True, kw_only=True):
    """A predictor's file as a fit writes it."""

    validation: LeftOut


def drawn(space: SearchSpace, count: int, seed: int) -> list[SubnetConfig]:
    """Smallest, largest, and subnets half uniform over genes, half small or large in all genes together.

    Fewer where the space does not have as many.
    """
    every = genes(space)
    rows = np.concatenate([every.extremes(), every.random(np.random.default_rng(seed), 4 * count)])
    return list(dict.fromkeys(every.config(row) for row in rows))[:count]


def fit(
    space: SearchSpace, configs: Sequence[SubnetConfig], accuracies: Sequence[float], source: str
) -> FittedFile:
    """A predictor's file, with the error on subnets left out.

    Raises:
        NasvitEdgeError: fewer than `FEWEST` subnets, or accuracies that are no fractions or all alike.
    """
    measured = np.asarray(accuracies, np.float64)
    if len(configs) < FEWEST or len(configs) != len(measured):
        raise NasvitEdgeError(
            f"{len(configs)} measured subnets are too few for a predictor; give at least {FEWEST}"
        )
    if not ((measured > 0) & (measured < 1)).all() or np.ptp(measured) == 0:
        raise NasvitEdgeError("accuracies must be between 0 and 1, and not all alike, to fit a predictor")
    design, names = _design(space, configs)
    free = [i for i, (gene, _) in enumerate(names) if gene == "resolution" and space.is_dense]
    folds, curves = _folds(len(measured)), (0.0,) if free else _CURVES
    errors = {(r, c): _left_out(design, measured, folds, r, c, free) for r in _RIDGES for c in curves}
    ridge, curve = min(errors, key=lambda pair: float(np.mean(errors[pair] ** 2)))
    saturation = _saturation(measured, curve)
    base, steps = _solve(design, measured, ridge, saturation, free)
    validation = _validation(measured, errors[ridge, curve])
    bases, gains = _gains(space, base, dict(zip(names, steps, strict=True)))
    highest = max(bases.values()) - base + sum(max(gene_gains.values()) for gene_gains in gains.values())
    return FittedFile(
        schema=1,
        kind="accuracy predictor",
        space=space.name,
        space_digest=space.digest(),
        source=source,
        unit="fractions",
        uncertainty=max(1e-6, validation.rmse),
        base={r: round(value, 7) for r, value in bases.items()},
        effects=dict.fromkeys(bases, gains),
        saturation=round(min(saturation, 0.49 / max(highest, 1e-9)), 6),  # it rises over all of the space
        quality=quality_of(space) if space.is_dense else None,
        validation=validation,
    )


def _design(space: SearchSpace, configs: Sequence[SubnetConfig]) -> tuple[_Array, list[tuple[str, int]]]:
    """(n, increments): 1 where a subnet has a choice or a larger one; and the increments' genes and choices."""
    rows = genes(space).rows(configs)
    columns, names = [], []
    for at, gene in enumerate(space.genes):
        for index in range(1, len(gene.choices)):
            columns.append(rows[:, at] >= index)
            names.append((gene.name, gene.choices[index]))
    return np.stack(columns, 1).astype(np.float64), names


def _folds(count: int) -> list[Any]:
    order = list(range(count))
    random.Random(0).shuffle(order)
    return [np.array(sorted(order[f::_FOLDS])) for f in range(_FOLDS)]


def _left_out(
    design: _Array, measured: _Array, folds: Sequence[Any], ridge: float, curve: float, free: Sequence[int]
) -> _Array:
    """(n,): prediction less measurement, each by a fit to the other folds."""
    saturation, residuals = _saturation(measured, curve), np.zeros(len(measured))
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(measured)), fold)
        base, steps = _solve(design[rest], measured[rest], ridge, saturation, free)
        residuals[fold] = base + _bent(design[fold] @ steps, saturation) - measured[fold]
    return residuals


def _saturation(measured: _Array, curve: float) -> float:
    """The link's parameter for a share of the curvature at which the largest gain could just be reached."""
    return curve / (4 * float(np.ptp(measured)))


def _bent(gain: Any, saturation: float) -> Any:
    """The link, level from where it would fall."""
    capped = np.minimum(gain, np.inf if saturation == 0 else 0.5 / saturation)
    return capped - saturation * capped**2


def _straight(gain: _Array, saturation: float) -> _Array:
    """The inverse of the link."""
    if saturation == 0:
        return gain
    return (1 - np.sqrt(np.maximum(0.0, 1 - 4 * saturation * gain))) / (2 * saturation)


def _solve(
    design: _Array, measured: _Array, ridge: float, saturation: float, free: Sequence[int]
) -> tuple[float, _Array]:
    """Accuracy of the smallest subnet, and increments, non-negative but for those of the columns `free`.

    Errors count as they are after the link.
    """
    from scipy.optimize import nnls

    count, width = design.shape
    base, steps = float(measured.min()), np.zeros(width)
    small = ridge * np.sqrt(count) / width * np.eye(width, width + 2 + len(free))
    for _ in range(4):  # the base, and with it the link's inverse, settles
        total = _straight(np.maximum(0.0, measured - base), saturation) + np.minimum(0.0, measured - base)
        slope = np.maximum(0.2, 1 - 2 * saturation * total)[:, None]
        rows = np.hstack([design, np.ones((count, 1)), -np.ones((count, 1)), -design[:, free]]) * slope
        solution = nnls(np.vstack([rows, small]), np.append(total * slope[:, 0], np.zeros(width)))[0]
        steps, shift = solution[:width], float(solution[width] - solution[width + 1])
        steps[free] -= solution[width + 2 :]
        base += shift
        if abs(shift) < 1e-7:
            break
    return base, steps


def _gains(
    space: SearchSpace, base: float, steps: dict[tuple[str, int], float]
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Bases of the resolutions, and increments as gains over the smallest choice."""
    gains: dict[str, dict[str, float]] = {}
    for gene in space.genes:
        total, by_choice = 0.0, {str(gene.choices[0]): 0.0}
        for choice in gene.choices[1:]:
            total += float(steps[gene.name, choice])
            by_choice[str(choice)] = round(total, 7)
        gains[gene.name] = by_choice
    return {r: base + gain for r, gain in gains.pop("resolution").items()}, gains


def _validation(measured: _Array, left_out: _Array) -> LeftOut:
    from scipy.stats import kendalltau

    tau = float(kendalltau(measured, measured + left_out)[0])
    return LeftOut(
        subnets=len(measured),
        folds=_FOLDS,
        rmse=round(float(np.sqrt(np.mean(left_out**2))), 6),
        largest=round(float(np.abs(left_out).max()), 6),
        tau=round(tau, 4) if np.isfinite(tau) else None,
    )
