"""Calibrating subnets on images and counting what they get right."""

from __future__ import annotations

import torch

from nasvit_edge.data_sets import Images
from nasvit_edge.model.subnet import Subnet, calibrate, fold, materialise
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.space import SubnetConfig

CALIBRATION_BATCH = 64  # images a batch; at most 64 batches are used (spec section 2)


def subnet_accuracy(supernet: Supernet, config: SubnetConfig, calibration: Images, images: Images) -> float:
    """The share of `images` that a subnet gets right, calibrated on `calibration`."""
    subnet = fold(calibrated(materialise(supernet, config), calibration))
    return correct(subnet, images) / len(images)


def calibrated(subnet: Subnet, images: Images) -> Subnet:
    """`subnet`, calibrated in place on (at most 64 batches of) `images`."""
    used = images.take(images.name, _first(images, 64 * CALIBRATION_BATCH))
    batches = (
        x.to(_device(subnet))
        for x, _ in used.batches(subnet.space, subnet.config.resolution, CALIBRATION_BATCH)
    )
    return calibrate(subnet, batches, data=images.name)


def _first(images: Images, count: int) -> slice:
    return slice(0, min(count, len(images)))


def correct(subnet: Subnet, images: Images) -> int:
    """How many images a subnet gets right."""
    found = 0
    with torch.inference_mode():
        for x, labels in images.batches(subnet.space, subnet.config.resolution):
            found += int((subnet(x.to(_device(subnet))).argmax(1).cpu() == labels).sum())
    return found


def _device(subnet: Subnet) -> torch.device:
    return next(subnet.parameters()).device
