"""Canaries: a few models timed again and again, to know when the machine itself changed its speed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nasvit_edge.ops import MBConv, Op, TransformerBlock, all_ops
from nasvit_edge.profile.journal import Entry
from nasvit_edge.profile.models import Item
from nasvit_edge.space import SearchSpace

PREFIX = "canary:"


def canaries(space: SearchSpace) -> list[Item]:
    """A convolution and a transformer of middling size, and the smallest subnet: compute, and memory."""
    kinds: list[list[Op]] = [
        sorted((op for op in all_ops(space) if isinstance(op, kind)), key=lambda op: op.macs())
        for kind in (MBConv, TransformerBlock)
    ]
    middle = [ops[len(ops) // 2] for ops in kinds if ops]
    items = [Item(f"{PREFIX}{op.key()}", op=op) for op in middle]
    return [*items, Item(f"{PREFIX}smallest", config=space.smallest())]


def factors(entries: Sequence[Entry]) -> dict[int, float]:
    """Reading -> how much slower than usual the machine was: the mean over canaries, relative to their medians."""
    readings: dict[str, dict[int, float]] = {}
    for entry in entries:
        if entry.id.startswith(PREFIX):
            readings.setdefault(entry.id, {})[entry.visit] = float(np.median(entry.samples_us))
    logs: dict[int, list[float]] = {}
    for values in readings.values():
        usual = float(np.median(list(values.values())))
        for reading, value in values.items():
            logs.setdefault(reading, []).append(math.log(value / usual))
    return {reading: math.exp(sum(values) / len(values)) for reading, values in sorted(logs.items())}


def drifted(entry: Entry, ratios: dict[int, float], threshold: float) -> bool:
    """Whether a reading before or after an entry was off: `entry.reading` is the one before it."""
    near = (ratios.get(entry.reading, 1.0), ratios.get(entry.reading + 1, 1.0))
    return any(abs(math.log(factor)) > math.log1p(threshold) for factor in near)
