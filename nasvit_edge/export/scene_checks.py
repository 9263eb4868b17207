"""Segmenters on labelled scenes: mean IoU, pixel accuracy and the classes' IoU of an artifact, beside its supernet's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import asdict

from nasvit_edge.data_sets import mask_check
from nasvit_edge.data_sets.confusion import Confusion
from nasvit_edge.data_sets.scenes import load_scenes
from nasvit_edge.export import dense, parity
from nasvit_edge.export.sidecar import Scenes
from nasvit_edge.space import SearchSpace, SubnetConfig

if TYPE_CHECKING:
    from torch import Tensor

    from nasvit_edge.model.supernet import Supernet

BATCH = 4  # scenes
_Array = np.ndarray[Any, Any]
_Run = Callable[[_Array], _Array]


def elastic(supernet: Supernet, config: SubnetConfig, statistics: Mapping[str, Tensor]) -> _Run:
    """Images (B, 3, H, W) to the supernet's logits (B, classes, H', W'), with a subnet's statistics."""
    return lambda images: parity.reference(supernet, config, statistics, images)


def compared(
    run: _Run, exact: _Run | None, data: str, space: SearchSpace, config: SubnetConfig, split: str = "test"
) -> Scenes:
    """What an artifact's outputs are worth on the scenes of `data`, at the masks' size; `exact` the same way.

    `run` gives labels or logits, `exact` logits: of them the labels are taken where `run` gives labels, so that only
    what the artifact loses tells them apart.

    Raises:
        DataError: folders that are no scenes of this space, masks that nothing can be judged on.
    """
    scenes = load_scenes(data, split, space)
    lines = mask_check.checked(scenes, space)
    ours, theirs = Confusion(space.classes), Confusion(space.classes)
    for images, masks in scenes.batches(space, config.resolution, BATCH):
        truth, pixels = masks.numpy(), images.numpy()
        size = (truth.shape[1], truth.shape[2])
        outputs = run(pixels)
        ours.add(dense.at_size(outputs, size), truth)
        if exact is not None:
            logits = exact(pixels)
            same = (
                dense.labels_of(logits, (pixels.shape[2], pixels.shape[3])) if outputs.ndim == 3 else logits
            )
            theirs.add(dense.at_size(same, size), truth)
    names = space.label_names()
    return Scenes(
        data=scenes.name,
        images=len(scenes),
        masks=tuple(lines),
        **asdict(ours.figures(names)),
        reference=None if exact is None else theirs.figures(names),
        mean_iou_drop=None if exact is None else theirs.mean_iou - ours.mean_iou,
    )


def overlaps(
    run: _Run, data: str, space: SearchSpace, config: SubnetConfig, split: str = "test"
) -> tuple[str, np.ndarray[Any, np.dtype[np.int64]]]:
    """The name of the scenes, and of each one and each class the pixels that are right, and the union: (N, 2, C)."""
    scenes = load_scenes(data, split, space)
    mask_check.checked(scenes, space)
    per_scene = []
    for images, masks in scenes.batches(space, config.resolution, BATCH):
        truth = masks.numpy()
        labels = dense.at_size(run(images.numpy()), (truth.shape[1], truth.shape[2]))
        for label_map, mask in zip(labels, truth, strict=True):
            confusion = Confusion(space.classes)
            confusion.add(label_map, mask)
            per_scene.append(confusion.overlaps)
    return scenes.name, np.stack(per_scene)
