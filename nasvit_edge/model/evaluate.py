"""Calibrating subnets on images and counting what they get right: images, or of scenes the pixels of each class."""

from __future__ import annotations

import torch
from torch import Tensor

from nasvit_edge.data_sets import Images, Labelled
from nasvit_edge.data_sets.confusion import Confusion
from nasvit_edge.data_sets.scenes import SceneSet
from nasvit_edge.model.blocks import resized
from nasvit_edge.model.subnet import Subnet, calibrate, fold, materialise
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.space import SubnetConfig

CALIBRATION_BATCH = 64  # images a batch; at most 64 batches are used (spec section 2)
# Scenes have many more pixels, and statistics of all of them take longer than an epoch of training.
SCENE_BATCH, SCENE_BATCHES = 8, 16


def subnet_accuracy(
    supernet: Supernet, config: SubnetConfig, calibration: Labelled, images: Labelled
) -> float:
    """How good a subnet is, calibrated on `calibration`: the share of `images` it gets right, or its mean IoU."""
    subnet = fold(calibrated(materialise(supernet, config), calibration))
    return accuracy(subnet, images)


def calibrated(subnet: Subnet, images: Labelled) -> Subnet:
    """`subnet`, calibrated in place on `images`, or as many of them as `calibrating` takes."""
    batch = SCENE_BATCH if isinstance(images, SceneSet) else CALIBRATION_BATCH
    used = calibrating(images)
    batches = (x.to(_device(subnet)) for x, _ in used.batches(subnet.space, subnet.config.resolution, batch))
    return calibrate(subnet, batches, data=images.name)


def calibrating(images: Labelled) -> Labelled:
    """The images that a subnet is calibrated on: the first 64 batches; scenes evenly from all, as frames of a video come in order."""
    if isinstance(images, SceneSet):
        count = min(len(images), SCENE_BATCH * SCENE_BATCHES)
        return images.take(images.name, [i * len(images) // count for i in range(count)])
    return images.take(images.name, slice(0, min(64 * CALIBRATION_BATCH, len(images))))


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
    found = Confusion(subnet.space.classes)
    with torch.inference_mode():
        for x, masks in scenes.batches(subnet.space, subnet.config.resolution, SCENE_BATCH):
            logits = subnet(x.to(_device(subnet)))
            labels = resized(logits, (masks.shape[1], masks.shape[2])).argmax(1).cpu()
            found.add(labels.numpy(), masks.numpy())
    return found


def correct(subnet: Subnet, images: Images) -> int:
    """How many images a subnet gets right."""
    found = 0
    with torch.inference_mode():
        for x, labels in images.batches(subnet.space, subnet.config.resolution):
            found += int((subnet(x.to(_device(subnet))).argmax(1).cpu() == labels).sum())
    return found


def _device(subnet: Subnet) -> torch.device:
    return next(subnet.parameters()).device
