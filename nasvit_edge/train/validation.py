"""How good subnets are, counted by all processes together."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nasvit_edge.data_sets import Labelled
from nasvit_edge.model.accuracy import Batches, calibrated, score, tally
from nasvit_edge.model.subnet import Subnet, fold, materialise
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.space import SubnetConfig
from nasvit_edge.train.world import World


def subnet_accuracies(
    supernet: Supernet,
    configs: Sequence[SubnetConfig],
    calibration: Batches,
    images: Labelled,
    world: World,
) -> list[float]:
    """The share of `images` that each subnet gets right, or its mean IoU, calibrated on `calibration`; the same on every rank.

    Every rank takes some of the subnets where there is at least one for each, else a part of the images
    (and calibrates as the others do). All ranks hold the same weights and images.
    """
    if len(configs) < world.size:
        return [
            score(sharded_tally(_ready(supernet, c, calibration), images, world), images) for c in configs
        ]
    accuracies = {
        index: tally(_ready(supernet, configs[index], calibration), images)
        for index in range(world.rank, len(configs), world.size)
    }
    nothing = torch.zeros_like(accuracies[world.rank])
    everything = world.total(torch.stack([accuracies.get(i, nothing) for i in range(len(configs))]))
    return [score(total, images) for total in everything]


def sharded_tally(subnet: Subnet, images: Labelled, world: World) -> torch.Tensor:
    """What a subnet gets right (`model.evaluate.tally`); every rank counts its part of the images."""
    start, stop = (len(images) * rank // world.size for rank in (world.rank, world.rank + 1))
    return world.total(tally(subnet, images.take(images.name, slice(start, stop))))


def _ready(supernet: Supernet, config: SubnetConfig, calibration: Batches) -> Subnet:
    return fold(calibrated(materialise(supernet, config), calibration))
