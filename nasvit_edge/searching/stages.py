"""Why a subnet is what it is: what each stage takes and brings, and what the next change of each gene would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from msgspec import field
from msgspec.structs import asdict

from nasvit_edge.genes import Choice
from nasvit_edge.latency.setting import TableSetting
from nasvit_edge.ops import Classifier, Labels, Lateral, Op, lower
from nasvit_edge.records import Record
from nasvit_edge.searching.evaluation import Evaluator, Floats, Place, Values
from nasvit_edge.searching.mixing import MixedEvaluator
from nasvit_edge.searching.population import Rows
from nasvit_edge.searching.saved import Stage
from nasvit_edge.space import SearchSpace, SubnetConfig

DECODER = "decoder"  # of a dense space, what `evaluation` calls the last place


class ExplainedStage(Stage, frozen=True, kw_only=True):
    """A stage with what it brings: what the subnet would lose of its accuracy with the stage's own genes at their smallest."""

    accuracy: float


class Change(Record, frozen=True, kw_only=True):
    """A gene moved to the next choice, and by how much that changes the subnet."""

    gene: str
    old: int = field(name="from")
    new: int = field(name="to")
    latency_ms: float
    accuracy: float
    parameters: int
    macs: int


class Explained(Record, frozen=True, kw_only=True):
    """Shares of stages and effects of changes; accuracies by the evaluator's source.

    Attributes:
        latency_ms, accuracy: the subnet's own. `offset_ms`: the part of its latency that is there whatever the ops.
        quality: what accuracies are, where that is another.
    """

    latency_ms: float
    accuracy: float
    offset_ms: float
    stages: tuple[ExplainedStage, ...]
    changes: tuple[Change, ...]
    config: SubnetConfig
    table: str = ""
    setting: TableSetting | None = None
    result: str = ""
    quality: str = "accuracy"


def explained(evaluator: Evaluator, config: SubnetConfig) -> Explained:
    """Why a subnet is what it is; each stage with what it brings."""
    row = evaluator.genes.rows([config])[0]
    without = [_smallest(evaluator, row, place) for place in evaluator.places]
    near, moves = _steps(evaluator, row)
    values = evaluator(np.concatenate([row[None], np.array(without, np.int8), near]))
    whole, count = values[0], len(without)
    stages = zip(described(evaluator, config), values.accuracy[1 : 1 + count], strict=True)
    return Explained(
        latency_ms=float(whole.latency_ms[0]),
        accuracy=float(whole.accuracy),
        offset_ms=evaluator.fixed_ms(0),
        stages=tuple(
            ExplainedStage(**asdict(stage), accuracy=float(whole.accuracy - less)) for stage, less in stages
        ),
        changes=tuple(_change(move, whole, values[1 + count + i]) for i, move in enumerate(moves)),
        config=config,
    )


def described(
    evaluator: Evaluator, config: SubnetConfig, precisions: Mapping[str, str] | None = None
) -> tuple[Stage, ...]:
    """The stages of a subnet in order, with what they take; `precisions`: of each, where they were searched."""
    row = evaluator.genes.rows([config])[0]
    if isinstance(evaluator, MixedEvaluator):
        row = evaluator.row(config, precisions or {})
    sums = np.array([place.sums[_at(place, row)] for place in evaluator.places])
    latency = _latency(evaluator, sums)
    parameters, macs = (sums[:, evaluator.at(name)] for name in ("parameters", "macs"))
    total = latency.sum() + evaluator.fixed_ms(0)
    return tuple(
        Stage(
            **_shape(evaluator, config, place),
            latency_ms=float(latency[i]),
            latency_share=float(latency[i] / total),
            parameters=int(parameters[i]),
            parameter_share=float(parameters[i] / parameters.sum()),
            macs=int(macs[i]),
            precision=(precisions or {}).get(place.name, ""),
        )
        for i, place in enumerate(evaluator.places)
    )


def _latency(evaluator: Evaluator, sums: Floats) -> Floats:
    """(places,): what each adds to the latency; what weights cost beyond the cache goes by weights."""
    weights, total = sums[:, evaluator.at("weights")], sums.sum(0)
    beyond = evaluator.latency(0, total) - evaluator.fixed_ms(0) - total[evaluator.at("ms 0")]
    return sums[:, evaluator.at("ms 0")] + beyond * weights / weights.sum()


def _at(place: Place, row: Any) -> int:
    return int(row[list(place.columns)].astype(np.int64) @ np.array(place.strides()))


class _Shape(TypedDict):
    name: str
    blocks: tuple[str, ...]
    side: int | tuple[int, ...]
    width: int
    genes: dict[str, Choice]


def _shape(evaluator: Evaluator, config: SubnetConfig, place: Place) -> _Shape:
    space, row = evaluator.genes.space, evaluator.genes.rows([config])[0]
    ops = [op for op in lower(space, config) if op.stage == place.name]
    pairs = [(space.genes[column], int(row[column])) for column in place.own if column < len(space.genes)]
    side, width = _output(space, ops)
    return {
        "name": DECODER if isinstance(ops[-1], Labels) else place.name,
        "blocks": tuple(op.kind for op in ops),
        "side": side,
        "width": width,
        "genes": {gene.key: gene.choices[at] for gene, at in pairs},
    }


def _output(space: SearchSpace, ops: Sequence[Op]) -> tuple[int | tuple[int, ...], int]:
    """`side` and `width` of what a place gives on; of a dense space `side` is [height, width], a decoder's `width` the classes."""
    last = next(op for op in reversed(ops) if not isinstance(op, Classifier | Lateral))
    if isinstance(last, Labels):
        return last.out_shape(), last.classes
    shape = last.out_shape()
    side = shape[1:] if space.is_dense else shape[1] if len(shape) > 1 else 1
    return side, shape[0]


def grid(stage: Stage) -> str:
    """`16x16x72`."""
    height, width = (stage.side, stage.side) if isinstance(stage.side, int) else stage.side
    return f"{height}x{width}x{stage.width}"


def _smallest(evaluator: Evaluator, row: Any, place: Place) -> Any:
    """`row` with the place's own genes at their smallest allowed choice."""
    reduced = row.copy()
    for column in place.own:
        reduced[column] = evaluator.genes.allowed[column][0]
    return evaluator.genes.risen(reduced[None])[0]


def _steps(evaluator: Evaluator, row: Any) -> tuple[Rows, list[tuple[str, int, int]]]:
    """`row` with one gene at the next smaller or larger allowed choice; and (gene, from, to)."""
    rows, moves = [], []
    genes = zip(evaluator.genes.space.genes, evaluator.genes.allowed, strict=True)
    for column, (gene, allowed) in enumerate(genes):
        at = int(row[column])
        smaller, larger = [int(c) for c in allowed if c < at], [int(c) for c in allowed if c > at]
        for step in (*smaller[-1:], *larger[:1]):
            neighbour = row.copy()
            neighbour[column] = step
            if len(evaluator.genes.only_rising(neighbour[None])):
                rows.append(neighbour)
                moves.append((gene.name, gene.choices[at], gene.choices[step]))
    return np.array(rows, np.int8).reshape(len(rows), len(row)), moves


def _change(move: tuple[str, int, int], before: Values, after: Values) -> Change:
    gene, old, new = move
    return Change(
        gene=gene,
        old=old,
        new=new,
        latency_ms=float(after.latency_ms[0] - before.latency_ms[0]),
        accuracy=float(after.accuracy - before.accuracy),
        parameters=int(after.parameters - before.parameters),
        macs=int(after.macs - before.macs),
    )
