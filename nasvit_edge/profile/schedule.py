"""What a profile is going to do, step by step, and about how long a piece of each kind of work takes.

The seconds are those of two cores of a server with `nano` (`benchmarks/record_progress.py`); what another machine or space
takes shows as soon as a step of the kind is under way.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from nasvit_edge.listening import PlannedStep
from nasvit_edge.ops import all_ops
from nasvit_edge.profile.conversion import SLOW
from nasvit_edge.profile.models import Item, Models
from nasvit_edge.profile.protocol import PROTOCOLS, Protocol
from nasvit_edge.profile.subnets import CONVERTING as SUBNETS
from nasvit_edge.profile.subnets import PASSES, VALIDATING
from nasvit_edge.profile.sustained import SUSTAINED

CONVERT, CONVERT_SLOWLY, TIME = "converting", "converting what takes long", "timing"  # kinds of work
CONVERTING = "converting"
_OP_S, _SLOW_S, _SUBNET_S, _LARGE_S = 0.025, 1.0, 0.1, 1.0  # to convert
_LOAD_S, _PROCESS_S = 0.04, 0.3  # a model in a fork that is warm; the start of a process of its own
_LONGER = 1.5  # a visit than its protocol's seconds, in the mean


def steps(
    models: Models,
    protocol: Protocol,
    *,
    sample: float | None = None,
    sustained_s: float = 0.0,
    validate: int = 0,
) -> list[PlannedStep]:
    """The steps of a table: its ops (a share `sample` of them), then a sustained run and a validation by so many subnets."""
    ops = all_ops(models.space)
    chosen = ops if sample is None else ops[: max(1, round(sample * len(ops)))]
    count = len(chosen) + protocol.subnets + 1
    visits = protocol.visits * count
    planned = [
        *_converting(CONVERTING, models, [Item(op.key(), op=op) for op in chosen], count, _OP_S),
        PlannedStep(name="measuring", kind=TIME, count=visits, each_s=_visit_s(protocol)),
    ]
    if sustained_s:
        planned.append(PlannedStep(name=SUSTAINED, kind=SUSTAINED, count=1, each_s=sustained_s))
    if validate:
        planned += validation(models, validate)
    return planned


def validation(models: Models, subnets: int) -> list[PlannedStep]:
    """The steps of a validation."""
    largest = Item("largest", config=models.space.largest())
    large = models.takes_a_second(largest) and not models.is_slow
    each_s = _PROCESS_S + _visit_s(PROTOCOLS["thorough"])
    return [
        *_converting(SUBNETS, models, [], subnets, _LARGE_S if large else _SUBNET_S),
        PlannedStep(name=VALIDATING, kind=TIME, count=PASSES * subnets, each_s=each_s),
    ]


def _converting(
    name: str, models: Models, items: Sequence[Item], count: int, each_s: float
) -> list[PlannedStep]:
    """Where conversions take long, first what `items` are put together from, in parallel."""
    whole = PlannedStep(name=name, kind=CONVERT, count=count, each_s=each_s)
    if not models.is_slow:
        return [whole]
    parts = len({part.id for item in items for part in models.parts(item)})
    slow_s = _SLOW_S / (os.cpu_count() or 1)
    slow = PlannedStep(name=SLOW.format(name), kind=CONVERT_SLOWLY, count=parts, each_s=slow_s)
    return [slow, whole] if parts else [whole]


def _visit_s(protocol: Protocol) -> float:
    return _LOAD_S + _LONGER * protocol.seconds
