"""Sparse profiling: which ops to measure when not all are, and estimates of the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nasvit_edge.latency.estimate import FEWEST, cross_validated, estimate, features
from nasvit_edge.latency.file import Guess
from nasvit_edge.ops import Op
from nasvit_edge.profile.summary import digits
from nasvit_edge.records import Record

_LEAST = FEWEST + 4  # of a kind, so that its error can be estimated


def stratified(ops: Sequence[Op], count: int) -> list[Op]:
    """About `count` ops, each kind with its share (and at least 8), spread evenly over its sizes."""
    kinds: dict[str, list[Op]] = {}
    for op in ops:
        kinds.setdefault(features(op).kind, []).append(op)
    chosen = []
    for same in kinds.values():
        ordered = sorted(same, key=lambda op: (op.macs(), op.key()))
        wanted = min(len(ordered), max(_LEAST, round(count * len(ordered) / len(ops))))
        spread = sorted(range(len(ordered)), key=lambda i: (_corput(i, len(ordered)), i))
        chosen += [ordered[i] for i in sorted(spread[:wanted])]
    return chosen


def _corput(index: int, count: int) -> float:
    """Ends and middle first, then quarters, eighths: any beginning of this order is spread evenly."""
    if index in (0, count - 1):
        return -1.0
    low, high, level = 0, count - 1, 0
    while True:
        middle = (low + high) // 2
        if index == middle or high - low <= 1:
            return level + index / count
        low, high, level = (low, middle, level + 1) if index < middle else (middle, high, level + 1)


class Errors(Record, frozen=True, kw_only=True):
    """Relative errors of estimates: over the ops that are not measured, and by kind."""

    error: float
    kinds: dict[str, float]


def cross_validation(ops: Sequence[Op], measured_ms: Mapping[str, float]) -> Errors:
    """Error of estimates by kind, and over the ops that are not measured."""
    by_kind: dict[str, list[Op]] = {}
    for op in ops:
        by_kind.setdefault(features(op).kind, []).append(op)
    errors, total, missing = {}, 0.0, 0
    for kind, same in by_kind.items():
        known = [op for op in same if op.key() in measured_ms]
        left = len(same) - len(known)
        if not left:
            continue
        errors[kind] = cross_validated(
            [features(op) for op in known], [measured_ms[op.key()] for op in known]
        )
        total, missing = total + left * errors[kind], missing + left
    kinds = {kind: round(error, 4) for kind, error in errors.items()}
    return Errors(error=total / missing if missing else 0.0, kinds=kinds)


def estimates(ops: Sequence[Op], measured_ms: Mapping[str, float]) -> dict[str, Guess]:
    """The table's `estimates` for ops without a measurement."""
    missing = [op for op in ops if op.key() not in measured_ms]
    known = {features(op): measured_ms[op.key()] for op in ops if op.key() in measured_ms}
    guesses = estimate(known, [features(op) for op in missing])
    return {
        op.key(): Guess(median_ms=digits(e.ms), error=round(e.error, 4))
        for op, e in zip(missing, guesses, strict=True)
        if e is not None
    }
