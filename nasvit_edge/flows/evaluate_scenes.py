"""`evaluate --supernet` of a dense space: mean IoU, pixel accuracy and the IoU of each class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nasvit_edge.data_sets.confusion import Confusion
from nasvit_edge.data_sets.scenes import SceneSet
from nasvit_edge.records import Record
from nasvit_edge.space import SubnetConfig

if TYPE_CHECKING:
    from nasvit_edge.searching.images import ImageAccuracy


class Majority(Record, frozen=True, kw_only=True):
    """A baseline: mean IoU and the share of pixels."""

    accuracy: float
    pixel_accuracy: float


def confusions(
    source: ImageAccuracy, configs: Sequence[SubnetConfig], on_progress: Callable[[int, int, str], None]
) -> list[Confusion]:
    """What each subnet, calibrated by itself, calls the pixels of the validation scenes."""
    from nasvit_edge.model.evaluate import calibrated, confusion
    from nasvit_edge.model.subnet import fold, materialise

    assert isinstance(source.validation, SceneSet)
    found: list[Confusion] = []
    for config in configs:
        subnet = fold(calibrated(materialise(source.supernet, config), source.calibration))
        found.append(confusion(subnet, source.validation))
        on_progress(len(found), len(configs), f"best mean IoU {max(c.mean_iou for c in found):.2%}")
    return found


def majority(confusion: Confusion) -> Majority:
    """What calling every pixel by the most frequent class of these scenes would score."""
    truth = confusion.counts.sum(1)
    share = float(truth.max() / max(1, truth.sum()))
    return Majority(accuracy=share / max(1, int(np.count_nonzero(truth))), pixel_accuracy=share)
