"""The fastest subnet of a space by a latency table: exact, by dynamic programming over the stages.

A prediction is monotone in the sum of its ops, and a stage's ops depend on the resolution, the width
before it and its own genes only, so per resolution the best way to each width is enough to know.
"""

from __future__ import annotations

import itertools

from nasvit_edge.latency import LatencyTable
from nasvit_edge.ops import lower
from nasvit_edge.space import SearchSpace, SubnetConfig

_Path = tuple[float, tuple[tuple[int, ...], ...]]  # cost so far, the choices (width, depth, kernel, expand)


def fastest(space: SearchSpace, table: LatencyTable) -> SubnetConfig:
    """The subnet with the lowest predicted latency."""
    candidates = [_fastest_at(space, table, resolution) for resolution in space.resolutions]
    return min(candidates, key=lambda config: table.predict(config).ms)


def _fastest_at(space: SearchSpace, table: LatencyTable, resolution: int) -> SubnetConfig:
    ways: dict[int, _Path] = {}
    for width in space.stem.width:
        ways[width] = (_cost(space, table, resolution, {0: width}, {}, "first_conv"), ((width,),))
    for index, stage in enumerate(space.stages):
        reached: dict[int, _Path] = {}
        choices = itertools.product(stage.width, stage.depth, stage.kernel_size, stage.expand_ratio)
        for (before, way), chosen in itertools.product(ways.items(), list(choices)):
            widths = {index: before, index + 1: chosen[0]}
            cost = way[0] + _cost(space, table, resolution, widths, {index: chosen}, stage.name)
            if chosen[0] not in reached or cost < reached[chosen[0]][0]:
                reached[chosen[0]] = (cost, (*way[1], chosen))
        ways = reached
    return _with_head(space, table, resolution, ways)


def _with_head(
    space: SearchSpace, table: LatencyTable, resolution: int, ways: dict[int, _Path]
) -> SubnetConfig:
    last = len(space.stages)
    made = []
    for (before, way), width in itertools.product(ways.items(), space.head.width):
        widths = {last: before, last + 1: width}
        cost = sum(_cost(space, table, resolution, widths, {}, name) for name in ("last_conv", "classifier"))
        made.append((way[0] + cost, (*way[1], (width,))))
    stem, *stages, head = min(made)[1]
    return space.config(
        resolution=resolution,
        width=[stem[0], *(s[0] for s in stages), head[0]],
        depth=[s[1] for s in stages],
        kernel_size=[s[2] for s in stages],
        expand_ratio=[s[3] for s in stages],
    )


def _cost(
    space: SearchSpace,
    table: LatencyTable,
    resolution: int,
    widths: dict[int, int],
    stages: dict[int, tuple[int, ...]],
    name: str,
) -> float:
    """What the ops called `name` (or `name.*`) add to a prediction, with everything else smallest."""
    base = space.smallest()
    lists = {kind: list(getattr(base, kind)) for kind in ("width", "depth", "kernel_size", "expand_ratio")}
    for index, width in widths.items():
        lists["width"][index] = width
    for index, chosen in stages.items():
        lists["depth"][index], lists["kernel_size"][index], lists["expand_ratio"][index] = chosen[1:]
    config = SubnetConfig(resolution, *(tuple(values) for values in lists.values()))
    ops = [op for op in lower(space, config) if op.name.split(".")[0] == name]
    scale, per_op = (
        (table.composition.scale, table.composition.per_op_ms) if table.composition else (1.0, 0.0)
    )
    return sum(scale * table.op_ms(op.key()) + per_op for op in ops)
