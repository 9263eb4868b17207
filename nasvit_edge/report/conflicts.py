"""What the conflicts of gradients over a run say by stage and kind of layer."""

from __future__ import annotations

import numpy as np

from nasvit_edge.records import Record
from nasvit_edge.train.conflict_file import Array, Conflicts
from nasvit_edge.train.conflicts import block, kind

_ROWS_A_PART = 10


class Signs(Record, frozen=True, kw_only=True):
    """What the cosines of some layers say, over all steps.

    Attributes:
        steps: in which at least one of the layers has both gradients.
        negative, mean_cosine: the share below 0 of layers and steps, and the mean; None where none was measured.
        stage, kind, block: which layers.
    """

    layers: int
    steps: int
    negative: float | None
    mean_cosine: float | None
    stage: str | None = None
    kind: str | None = None
    block: str | None = None


class Summary(Record, frozen=True, kw_only=True, omit_defaults=False):
    """A run: over all parameters as one vector, over layers, by stage and kind."""

    run: str
    space: str | None
    data: str | None
    recipe: str | None
    first_step: int
    last_step: int
    steps: int
    all: Signs
    layers: Signs
    groups: tuple[Signs, ...]
    kinds: tuple[Signs, ...]
    blocks: tuple[Signs, ...]


def summarise(conflicts: Conflicts) -> Summary:
    """Shares count every layer and step, those of long runs' later steps for all the steps that they stand for."""
    about, by_kind, by_group = conflicts.about, dict[str, list[int]](), dict[tuple[str, str], list[int]]()
    for i in conflicts.layers:
        name = conflicts.places[i]
        by_kind.setdefault(kind(name), []).append(i)
        by_group.setdefault((block(name).split(".")[0], kind(name)), []).append(i)
    return Summary(
        run=conflicts.name,
        space=about.space,
        data=about.data,
        recipe=about.recipe.name if about.recipe else None,
        first_step=int(conflicts.steps[0]),
        last_step=int(conflicts.steps[-1]),
        steps=len(conflicts.steps),
        all=_signs(conflicts, [0]),
        layers=_signs(conflicts, conflicts.layers),
        groups=tuple(_signs(conflicts, columns, stage=s, kind=k) for (s, k), columns in by_group.items()),
        kinds=tuple(_signs(conflicts, columns, kind=k) for k, columns in by_kind.items()),
        blocks=tuple(_signs(conflicts, [i], block=conflicts.places[i]) for i in conflicts.blocks),
    )


def _signs(conflicts: Conflicts, columns: list[int], **which: str) -> Signs:
    values = conflicts.cosines[:, columns].astype(float)
    present = ~np.isnan(values)
    weights = conflicts.weights[:, None] * present
    total = weights.sum()
    return Signs(
        layers=len(columns),
        steps=int(present.any(1).sum()),
        negative=float((weights * (values < 0)).sum() / total) if total else None,
        mean_cosine=float((weights * np.nan_to_num(values)).sum() / total) if total else None,
        **which,
    )


def over_time(conflicts: Conflicts, columns: list[int], bins: int) -> list[tuple[int, Array, Array]]:
    """(middle step, share of negative cosines, mean cosine) of up to `bins` equal parts, each (columns,).

    Parts are long enough for ten rows each: a share of three steps would say nothing.
    """
    chosen = conflicts.cosines[:, columns].astype(float)
    first, last = int(conflicts.steps[0]), int(conflicts.steps[-1])
    bins = max(1, min(bins, len(conflicts.steps) // _ROWS_A_PART))
    width = max(1, -(-(last - first + 1) // bins))
    part = (conflicts.steps - first) // width
    points = []
    for index in np.unique(part):
        values, weights = chosen[part == index], conflicts.weights[part == index, None]
        weights = weights * ~np.isnan(values)
        with np.errstate(invalid="ignore"):
            negative = (weights * (values < 0)).sum(0) / weights.sum(0)
            mean = (weights * np.nan_to_num(values)).sum(0) / weights.sum(0)
        points.append((first + int(index) * width + width // 2, negative, mean))
    return points
