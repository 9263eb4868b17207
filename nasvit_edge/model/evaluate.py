"""Calibrating subnets on images and counting what they get right."""

from __future__ import annotations

import torch

from nasvit_edge.data_sets import ImageSet
from nasvit_edge.model.subnet import Subnet, calibrate, fold, materialise
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.space import SubnetConfig

CALIBRATION_BATCH = 64  # images a batch; at most 64 batches are used (spec section 2)


def subnet_accuracy(
    supernet: Supernet, config: SubnetConfig, calibration: ImageSet, images: ImageSet
) -> float:
    """The share of `images` that a subnet gets right, calibrated on `calibration`."""
    subnet = fold(calibrated(materialise(supernet, config), calibration))
    return correct(subnet, images) / len(images)


def calibrated(subnet: Subnet, images: ImageSet) -> Subnet:
    """`subnet`, calibrated in place on (at most 64 batches of) `images`."""
    used = images.take(images.name, _first(images, 64 * CALIBRATION_BATCH))
    batches = (x for x, _ in used.batches(subnet.space, subnet.config.resolution, CALIBRATION_BATCH))
    return calibrate(subnet, batches, data=images.name)


def _first(images: ImageSet, count: int) -> slice:
    return slice(0, min(count, len(images)))


def correct(subnet: Subnet, images: ImageSet) -> int:
    """How many images a subnet gets right."""
    found = 0
    with torch.inference_mode():
        for x, labels in images.batches(subnet.space, subnet.config.resolution):
            found += int((subnet(x).argmax(1) == labels).sum())
    return found
