"""Fronts: what nothing else beats in every respect. All costs are to be small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

_Floats = np.ndarray[Any, np.dtype[np.float64]]
_Ints = np.ndarray[Any, np.dtype[np.intp]]
_CHUNK = 256


class TooMuchWorkError(Exception):
    """A front that takes more comparisons than were allowed."""


@dataclass(slots=True)
class Work:
    """How many comparisons of two rows are still allowed: counted, not timed, so that results repeat."""

    left: float

    def spend(self, comparisons: int) -> None:
        """TooMuchWorkError where it is not left."""
        self.left -= comparisons
        if self.left < 0:
            raise TooMuchWorkError


def front(costs: _Floats, work: Work | None = None) -> _Ints:
    """Indices of the rows of `costs` (n, k) that no other row beats or equals, the smallest first cost first.

    Of equal rows one is kept.

    Raises:
        TooMuchWorkError: `work` is spent.
    """
    order: _Ints = np.lexsort(costs.T[::-1])
    if not len(order):
        return order
    if costs.shape[1] == 1:
        return order[:1]
    if costs.shape[1] == 2:
        order = order[_staircase(costs[order, 1])]
        return order
    order = order[_filtered(costs[order], work or Work(np.inf))]
    return order


def _staircase(values: _Floats) -> Any:
    """Where a value is below all before it."""
    before = np.minimum.accumulate(values)
    return np.concatenate([[True], values[1:] < before[:-1]])


def _filtered(rows: _Floats, work: Work) -> _Ints:
    """Indices of the undominated among rows in lexicographic order: a row is beaten only by earlier ones.

    In chunks, each against the front of all before it (the rest of the costs suffice there), then within itself.
    """
    chunks: list[_Ints] = []
    rest = rows[:, 1:]
    archive = rest[:0]
    for start in range(0, len(rows), _CHUNK):
        chunk = np.arange(start, min(start + _CHUNK, len(rows)))
        work.spend(len(chunk) * (_CHUNK + (0 if rest.shape[1] == 2 else len(archive))))
        chunk = chunk[~_beaten(rest[chunk], archive)]
        block = rest[chunk]
        chunk = chunk[~np.any(np.tril(_no_worse(block, block), -1), axis=1)]
        chunks.append(chunk)
        archive = _smallest(np.concatenate([archive, rest[chunk]]))
    return np.concatenate(chunks)


def _beaten(rows: _Floats, archive: _Floats) -> Any:
    """For each row, whether a row of `archive` is nowhere larger; with two columns `archive` is a staircase."""
    if not len(archive):
        return np.zeros(len(rows), bool)
    if rows.shape[1] == 2:
        at = np.searchsorted(archive[:, 0], rows[:, 0], "right") - 1
        return (at >= 0) & (archive[np.maximum(at, 0), 1] <= rows[:, 1])
    beaten = np.zeros(len(rows), bool)
    for start in range(0, len(archive), 4 * _CHUNK):
        part, left = archive[start : start + 4 * _CHUNK], np.flatnonzero(~beaten)
        beaten[left] = np.any(_no_worse(part, rows[left]), axis=1)
    return beaten


def _no_worse(others: _Floats, rows: _Floats) -> Any:
    """[i, j]: whether `others[j]` is nowhere larger than `rows[i]`; column by column, which is faster than all at once."""
    mask = np.ones((len(rows), len(others)), bool)
    for mine, theirs in zip(rows.T.copy(), others.T.copy(), strict=True):
        mask &= theirs[None] <= mine[:, None]
    return mask


def _smallest(rows: _Floats) -> _Floats:
    """The undominated rows; with two columns sorted by the first."""
    if rows.shape[1] > 2:
        return rows
    return rows[front(rows)]


def ranks(costs: _Floats, most: int) -> _Ints:
    """The front each row of `costs` is in (0: nothing beats it), until `most` rows have one; the others share the last.

    Equal rows are in one front each after the other.
    """
    numbers: _Ints = np.full(len(costs), -1, np.intp)
    left, rank, done = np.arange(len(costs)), 0, 0
    while done < most and len(left):
        members = front(costs[left])
        numbers[left[members]] = rank
        left = np.delete(left, members)
        rank, done = rank + 1, done + len(members)
    numbers[numbers < 0] = rank
    return numbers


def crowding(costs: _Floats, rank: _Ints) -> _Floats:
    """How far the neighbours of a row are in its front, summed over costs; infinite at the ends (Deb 2002)."""
    distance = np.zeros(len(costs))
    for column in costs.T:
        order = np.lexsort([column, rank])
        values, levels = column[order], rank[order]
        first = np.concatenate([[True], levels[1:] != levels[:-1]])
        last = np.concatenate([first[1:], [True]])
        gap = np.empty(len(values))
        gap[1:-1] = (values[2:] - values[:-2]) / max(values.max() - values.min(), 1e-300)
        gap[first | last] = np.inf
        distance[order] += gap
    return distance


def hypervolume(costs: _Floats, reference: _Floats) -> float:
    """The area that the rows of `costs` (n, 2) dominate below `reference` (2,)."""
    inside = costs[(costs < reference).all(1)]
    if not len(inside):
        return 0.0
    steps = inside[front(inside)]
    right = np.append(steps[1:, 0], reference[0])
    return float(((right - steps[:, 0]) * (reference[1] - steps[:, 1])).sum())
