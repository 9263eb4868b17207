"""Two classifiers on the same images: how far their accuracies are apart, by the images that only one gets right."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its two-sided interval of level 1 - 2 alpha."""

    value: float
    low: float
    high: float


def compare_hits(
    base: np.ndarray[Any, np.dtype[np.bool_]],
    candidate: np.ndarray[Any, np.dtype[np.bool_]],
    alpha: float,
) -> tuple[Interval, float, float]:
    """Candidate's share of hits less the base's, on the same images; chances as `larger_p` and `smaller_p`.

    Exact McNemar test; interval of Agresti and Min, Biometrics 57 (2001), 963-971 (half an image added to each cell).
    """
    from scipy import stats

    lost, won = int((base & ~candidate).sum()), int((~base & candidate).sum())
    count, less, more = len(base) + 2, lost + 0.5, won + 0.5
    error = math.sqrt(max(0.0, less + more - (more - less) ** 2 / count)) / count
    reach = float(stats.norm.ppf(1 - alpha)) * error
    middle = (won - lost) / len(base)
    centre = (more - less) / count
    larger = float(stats.binom.sf(won - 1, lost + won, 0.5)) if lost + won else 1.0
    smaller = float(stats.binom.sf(lost - 1, lost + won, 0.5)) if lost + won else 1.0
    return Interval(middle, min(middle, centre - reach), max(middle, centre + reach)), larger, smaller
