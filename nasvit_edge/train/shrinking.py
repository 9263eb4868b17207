"""Photographs that a space sees much smaller than they are: said before a run begins, with the shipped space that would keep them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nasvit_edge.data_sets import Labelled
from nasvit_edge.data_sets.decoding import check_header
from nasvit_edge.data_sets.scenes import SceneSet
from nasvit_edge.data_sets.sets import ImageSet
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.ops import lower
from nasvit_edge.space import SearchSpace, load_space, space_names
from nasvit_edge.train.estimate import Needed, estimate
from nasvit_edge.train.recipe import Recipe
from nasvit_edge.units import show_bytes, show_seconds

MUCH = 2.0  # times the space's largest resolution: below, little is lost by it
_COMFORTABLE = 0.8  # of the memory
_LOOKED_AT = 64  # files, evenly from all


def told(
    images: Labelled,
    space: SearchSpace,
    recipe: Recipe,
    how: Mapping[str, Any],
    shipped: Sequence[SearchSpace] | None = None,
) -> str:
    """What a person should know before the run, in a line; "" where images are not much larger than the space's.

    Args:
        images: that train. Scenes are never told of: crops of them train.
        recipe: whose epochs and batches the estimate of the other space is for.
        how: as `estimate.estimate` takes it: threads, bf16, processes, device.
        shipped: the spaces to choose from; those of the package if not given.
    """
    if isinstance(images, SceneSet) or not len(images):
        return ""
    height, width = median_size(images)
    largest = max(space.resolutions)
    if min(height, width) < MUCH * largest:
        return ""
    other = keeping(min(height, width), space, shipped)
    if other is None:
        return ""
    return (
        f"the median image has {width} x {height} px, of which space {space.name!r} sees {largest} px at most "
        f"({min(height, width) / largest:.1f} times smaller): space {other.name!r} ({min(other.resolutions)} to {max(other.resolutions)} px) "
        f"would keep {'them' if max(other.resolutions) >= min(height, width) else 'more of them'}; by this recipe it takes "
        f"{_effort(other.with_labels(space.label_names()), recipe, len(images), how)}"
    )


def median_size(images: ImageSet | Any) -> tuple[int, int]:
    """Height and width, each the median of the files' (of a sample); of a set without files that of its images."""
    if images.paths is None:
        return images.stored_size
    places = np.linspace(0, len(images) - 1, min(_LOOKED_AT, len(images))).astype(int)
    sizes = [check_header(os.fsdecode(path)) for path in images.paths[places]]
    height, width = np.median(sizes, axis=0).astype(int).tolist()
    return height, width


def keeping(
    side: int, space: SearchSpace, shipped: Sequence[SearchSpace] | None = None
) -> SearchSpace | None:
    """The space whose largest resolution is nearest to `side` and larger than this one's; of two alike the one of the same kinds of stages."""
    listed = [load_space(name) for name in space_names()] if shipped is None else shipped
    larger = [s for s in listed if not s.is_dense and max(s.resolutions) > max(space.resolutions)]
    return min(
        larger,
        key=lambda s: (abs(math.log(max(s.resolutions) / side)), _kinds(s) != _kinds(space), s.name),
        default=None,
    )


def _kinds(space: SearchSpace) -> set[type]:
    return {type(op) for op in lower(space, space.largest())}


def _effort(space: SearchSpace, recipe: Recipe, images: int, how: Mapping[str, Any]) -> str:
    """Time and memory of a run, measured in a few seconds."""
    try:
        needed = estimate(space, recipe, images, quick=True, **how)
    except NasvitEdgeError as error:
        return f"more time and memory than could be estimated here ({error})"
    of = f"{show_bytes(needed.peak_bytes)} of {show_bytes(needed.memory_bytes)} of memory{_in_parts(needed, recipe)}"
    what = "its largest subnet, " if recipe.single else ""
    return f"{what}about {show_seconds(needed.run_s)} and {of} (scaled from steps of {needed.measured_batch} images)"


def _in_parts(needed: Needed, recipe: Recipe) -> str:
    """How a step that does not fit into memory would; "" of one that does."""
    if needed.peak_bytes <= needed.memory_bytes:
        return ""
    rest, batch = needed.peak_bytes - needed.activations_bytes, recipe.run.batch_size
    fewer = needed.activations_bytes * recipe.run.parts  # of the whole batch
    for parts in (p for p in range(recipe.run.parts + 1, batch + 1) if batch % p == 0):
        if rest + fewer / parts <= _COMFORTABLE * needed.memory_bytes:
            return f": NOT ENOUGH, but {show_bytes(rest + fewer / parts)} with --set run.parts={parts}"
    return ": NOT ENOUGH"
