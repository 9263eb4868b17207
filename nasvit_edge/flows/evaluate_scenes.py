"""`evaluate --supernet` of a dense space: mean IoU, pixel accuracy and the IoU of each class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nasvit_edge.data_sets.confusion import Confusion
from nasvit_edge.data_sets.scenes import SceneSet
from nasvit_edge.space import SubnetConfig

if TYPE_CHECKING:
    from nasvit_edge.searching.images import ImageAccuracy


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


def majority(confusion: Confusion) -> dict[str, float]:
    """What calling every pixel by the most frequent class of these scenes would score."""
    truth = confusion.counts.sum(1)
    share = float(truth.max() / max(1, truth.sum()))
    return {"accuracy": share / max(1, int(np.count_nonzero(truth))), "pixel_accuracy": share}


def lines(report: dict[str, Any]) -> list[str]:
    """What the table does not say: the baseline, and the classes of the best subnet."""
    best = max(report["subnets"], key=lambda row: row["accuracy"])
    classes = ", ".join(
        f"{name} {'does not occur' if value is None else format(value, '.0%')}"
        for name, value in best["ious"].items()
    )
    base, calibration = report["majority"], report["calibration"]
    return [
        *report["masks"],
        f"on {report['data']}, each calibrated on {calibration['data']}",
        f"every pixel by the most frequent class: mean IoU {base['accuracy']:.2%}, pixel accuracy {base['pixel_accuracy']:.1%}",
        f"IoU of the best one's classes: {classes}",
    ]
