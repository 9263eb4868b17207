"""The fastest subnet of a space by a latency table: exact, by dynamic programming over the stages.

A stage's ops depend on the resolution, the width before it and its own genes only, so per resolution the best
ways to each width are enough to know. A prediction is the larger of two sums over ops, one with the cost of
weights beyond the cache and one without (`latency/context.py`), so a way is best where no other has both
sums smaller.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from nasvit_edge.latency import LatencyTable
from nasvit_edge.ops import lower
from nasvit_edge.space import SearchSpace, SubnetConfig

_Cost = tuple[float, float]  # without, and with the cost of every weight
_Path = tuple[_Cost, tuple[tuple[int, ...], ...]]  # cost so far, the choices (width, depth, kernel, expand)


def fastest(space: SearchSpace, table: LatencyTable) -> SubnetConfig:
    """The subnet with the lowest predicted latency."""
    candidates = [_fastest_at(space, table, resolution) for resolution in space.resolutions]
    return min(candidates, key=lambda config: table.predict(config).ms)


def _fastest_at(space: SearchSpace, table: LatencyTable, resolution: int) -> SubnetConfig:
    ways: dict[int, list[_Path]] = {}
    for width in space.stem.width:
        cost = _cost(space, table, resolution, {0: width}, {}, "first_conv")
        ways[width] = [(cost, ((width,),))]
    for index, stage in enumerate(space.stages):
        reached: dict[int, list[_Path]] = {}
        choices = itertools.product(stage.width, stage.depth, stage.kernel_size, stage.expand_ratio)
        for (before, paths), chosen in itertools.product(ways.items(), list(choices)):
            widths = {index: before, index + 1: chosen[0]}
            cost = _cost(space, table, resolution, widths, {index: chosen}, stage.name)
            reached.setdefault(chosen[0], []).extend(_longer(paths, cost, chosen))
        ways = {width: _best(paths) for width, paths in reached.items()}
    return _with_head(space, table, resolution, ways)


def _longer(paths: Iterable[_Path], cost: _Cost, chosen: tuple[int, ...]) -> list[_Path]:
    return [((done[0] + cost[0], done[1] + cost[1]), (*way, chosen)) for done, way in paths]


def _best(paths: list[_Path]) -> list[_Path]:
    """The paths that no other beats in both costs."""
    kept: list[_Path] = []
    for path in sorted(paths):
        if not kept or path[0][1] < kept[-1][0][1]:
            kept.append(path)
    return kept


def _with_head(
    space: SearchSpace, table: LatencyTable, resolution: int, ways: dict[int, list[_Path]]
) -> SubnetConfig:
    last = len(space.stages)
    free = table.context.spill_ms * table.context.fits * _scale(table)
    made: list[tuple[float, tuple[tuple[int, ...], ...]]] = []
    for (before, paths), width in itertools.product(ways.items(), space.head.width):
        widths = {last: before, last + 1: width}
        for name in ("last_conv", "classifier"):
            paths = _longer(paths, _cost(space, table, resolution, widths, {}, name), (width,))
        made += [(max(cost[0], cost[1] - free), way[:-1]) for cost, way in paths]
    stem, *stages, head = min(made)[1]
    return space.config(
        resolution=resolution,
        width=[stem[0], *(s[0] for s in stages), head[0]],
        depth=[s[1] for s in stages],
        kernel_size=[s[2] for s in stages],
        expand_ratio=[s[3] for s in stages],
    )


def _scale(table: LatencyTable) -> float:
    return table.composition.scale if table.composition else 1.0


def _cost(
    space: SearchSpace,
    table: LatencyTable,
    resolution: int,
    widths: dict[int, int],
    stages: dict[int, tuple[int, ...]],
    name: str,
) -> _Cost:
    """What the ops called `name` (or `name.*`) add to a prediction, with everything else smallest."""
    base = space.smallest()
    lists = {kind: list(getattr(base, kind)) for kind in ("width", "depth", "kernel_size", "expand_ratio")}
    for index, width in widths.items():
        lists["width"][index] = width
    for index, chosen in stages.items():
        lists["depth"][index], lists["kernel_size"][index], lists["expand_ratio"][index] = chosen[1:]
    config = SubnetConfig(resolution, *(tuple(values) for values in lists.values()))
    ops = [op for op in lower(space, config) if op.name.split(".")[0] == name]
    per_op = table.composition.per_op_ms if table.composition else 0.0
    keys = [op.key() for op in ops]
    times = {key: table.context.factors.get(key.split("/", 1)[0], 1.0) * table.op_ms(key) for key in keys}
    cost = sum(_scale(table) * times[key] + per_op for key in keys)
    weights = sum(op.weights() for op in ops) / 1e6
    return cost, cost + _scale(table) * table.context.spill_ms * weights
