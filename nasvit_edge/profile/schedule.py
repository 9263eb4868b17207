"""What a profile is going to do, step by step, and about how long a piece of each kind of work takes.

The seconds are those of two cores of a server with `nano` (`benchmarks/record_progress.py`); what another machine or space
takes shows as soon as a step of the kind is under way.
"""

from __future__ import annotations

import os

from nasvit_edge.listening import PlannedStep
from nasvit_edge.ops import all_ops
from nasvit_edge.profile.models import Item, Models
from nasvit_edge.profile.protocol import PROTOCOLS, Protocol
from nasvit_edge.profile.subnets import CONVERTING, PASSES, VALIDATING
from nasvit_edge.profile.sustained import SUSTAINED

CONVERT, TIME = "converting", "timing"  # kinds of work
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
    count = (len(ops) if sample is None else round(sample * len(ops))) + protocol.subnets + 1
    planned = [
        PlannedStep(name="converting", kind=CONVERT, count=count, each_s=_op_s(models)),
        PlannedStep(name="measuring", kind=TIME, count=protocol.visits * count, each_s=_visit_s(protocol)),
    ]
    if sustained_s:
        planned.append(PlannedStep(name=SUSTAINED, kind=SUSTAINED, count=1, each_s=sustained_s))
    if validate:
        planned += validation(models, validate)
    return planned


def validation(models: Models, subnets: int) -> list[PlannedStep]:
    """The steps of a validation."""
    each_s = _PROCESS_S + _visit_s(PROTOCOLS["thorough"])
    return [
        PlannedStep(name=CONVERTING, kind=CONVERT, count=subnets, each_s=_subnet_s(models)),
        PlannedStep(name=VALIDATING, kind=TIME, count=PASSES * subnets, each_s=each_s),
    ]


def _op_s(models: Models) -> float:
    return _SLOW_S / (os.cpu_count() or 1) if models.is_slow else _OP_S


def _subnet_s(models: Models) -> float:
    largest = Item("largest", config=models.space.largest())
    return _LARGE_S if models.takes_a_second(largest) else _SUBNET_S


def _visit_s(protocol: Protocol) -> float:
    return _LOAD_S + _LONGER * protocol.seconds
