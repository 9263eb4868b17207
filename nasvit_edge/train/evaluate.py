"""How good subnets are, counted by all processes together."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nasvit_edge.data_sets import Images
from nasvit_edge.model.evaluate import calibrated, correct
from nasvit_edge.model.subnet import Subnet, fold, materialise
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.space import SubnetConfig
from nasvit_edge.train.world import World


def subnet_accuracies(
    supernet: Supernet, configs: Sequence[SubnetConfig], calibration: Images, images: Images, world: World
) -> list[float]:
    """The share of `images` that each subnet gets right, calibrated on `calibration`; the same on every rank.

    Every rank takes some of the subnets where there is at least one for each, else a part of the images
    (and calibrates as the others do). All ranks hold the same weights and images.
    """
    if len(configs) < world.size:
        return [
            sharded_correct(_ready(supernet, c, calibration), images, world) / len(images) for c in configs
        ]
    counts = torch.zeros(len(configs), dtype=torch.int64)
    for index in range(world.rank, len(configs), world.size):
        counts[index] = correct(_ready(supernet, configs[index], calibration), images)
    return [count / len(images) for count in world.total(counts).tolist()]


def sharded_correct(subnet: Subnet, images: Images, world: World) -> int:
    """How many images a subnet gets right; every rank counts its part of them."""
    start, stop = (len(images) * rank // world.size for rank in (world.rank, world.rank + 1))
    own = correct(subnet, images.take(images.name, slice(start, stop)))
    return int(world.total(torch.tensor(own)))


def _ready(supernet: Supernet, config: SubnetConfig, calibration: Images) -> Subnet:
    return fold(calibrated(materialise(supernet, config), calibration))
