"""Calibrating subnets on images and counting what they get right: images, or of scenes the pixels of each class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from nasvit_edge.data_sets import Images, Labelled
from nasvit_edge.data_sets.confusion import Confusion
from nasvit_edge.data_sets.scenes import SceneSet
from nasvit_edge.model.blocks import resized
from nasvit_edge.model.subnet import Subnet, calibrate, fold, materialise
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.space import SearchSpace, SubnetConfig

CALIBRATION_BATCH = 64  # images a batch (spec section 2)
SCENE_BATCH = 8


class Batches(Protocol):
    """Images for calibration: a `train.calibration.Calibration`, or a set of images as they are."""

    @property
    def name(self) -> str:
        """Which images, for provenance."""

    def batches(self, space: SearchSpace, resolution: int, size: int) -> Iterator[tuple[Tensor, Any]]:
        """Normalised images (B, 3, h, w) at a resolution, and what is of no use here."""


def subnet_accuracy(
    supernet: Supernet, config: SubnetConfig, calibration: Batches, images: Labelled
) -> float:
    """How good a subnet is, calibrated on `calibration`: the share of `images` it gets right, or its mean IoU."""
    subnet = fold(calibrated(materialise(supernet, config), calibration))
    return accuracy(subnet, images)


def calibrated(subnet: Subnet, images: Batches) -> Subnet:
    """`subnet`, calibrated in place on all batches of `images`."""
    size = SCENE_BATCH if subnet.space.is_dense else CALIBRATION_BATCH
    batches = images.batches(subnet.space, subnet.config.resolution, size)
    return calibrate(subnet, (x.to(_device(subnet)) for x, _ in batches), data=images.name)


def accuracy(subnet: Subnet, images: Labelled) -> float:
    """The share of images that a subnet gets right, or its mean IoU."""
    return score(tally(subnet, images), images)


def tally(subnet: Subnet, images: Labelled) -> Tensor:
    """What a subnet gets right, int64, to be added up over parts of a set: (1,), or of scenes the confusion (C, C)."""
    if isinstance(images, SceneSet):
        return torch.from_numpy(confusion(subnet, images).counts)
    return torch.tensor([correct(subnet, images)])


def score(total: Tensor, images: Labelled) -> float:
    """The accuracy, or mean IoU, of what was added up over all of `images`."""
    if isinstance(images, SceneSet):
        return Confusion(len(total), total.numpy()).mean_iou
    return int(total) / len(images)


def confusion(subnet: Subnet, scenes: SceneSet) -> Confusion:
    """The pixels of each class as a segmenter calls them, at the masks' size."""
    counts = Confusion(subnet.space.classes)
    with torch.inference_mode():
        for x, masks in scenes.batches(subnet.space, subnet.config.resolution, SCENE_BATCH):
            logits = subnet(x.to(_device(subnet)))
            labels = resized(logits, (masks.shape[1], masks.shape[2])).argmax(1).cpu()
            counts.add(labels.numpy(), masks.numpy())
    return counts


def correct(subnet: Subnet, images: Images) -> int:
    """How many images a subnet gets right."""
    return int(hits(subnet, images).sum())


def hits(subnet: Subnet, images: Images) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(n,): which images a subnet gets right."""
    right = []
    with torch.inference_mode():
        for x, labels in images.batches(subnet.space, subnet.config.resolution):
            right.append(subnet(x.to(_device(subnet))).argmax(1).cpu() == labels)
    return torch.cat(right).numpy() if right else np.zeros(0, np.bool_)


def _device(subnet: Subnet) -> torch.device:
    return next(subnet.parameters()).device
