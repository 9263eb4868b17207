"""What a run starts from, and what its weights need in the end."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from nasvit_edge import files
from nasvit_edge.model.checkpoint import (
    is_segmenter,
    load_stages,
    load_supernet,
    read_weights,
    resolve_weights,
)
from nasvit_edge.model.evaluate import Batches, calibrated
from nasvit_edge.model.subnet import materialise, statistics
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.space import SearchSpace

Note = Callable[[str], None]
SETTLED = "settled on"  # key of `Supernet.source`: which images and recipe its statistics are of


def initialised(space: SearchSpace, seed: int, scaling: str = "switchable") -> Supernet:
    """A new supernet with the training initialisation, fixed by `seed`; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        supernet = Supernet(space, scaling)
        initialise(supernet)
    return supernet


def started(
    weights: str, space: SearchSpace, seed: int, scaling: str = "switchable", note: Note = lambda text: None
) -> Supernet:
    """The supernet of a space with the weights of a file; of a dense space also the stages of a classifier alone.

    Stem and decoder are then new, with the training initialisation fixed by `seed`.

    Raises:
        CheckpointError: weights of another space.
    """
    if weights.startswith("random"):
        return load_supernet(weights, space)
    path = resolve_weights(weights)
    tensors, metadata = read_weights(path)
    if not space.is_dense or is_segmenter(tensors):
        return load_supernet(path, space)
    supernet = initialised(space, seed, str(metadata.get("scaling", scaling)))
    load_stages(supernet, tensors, str(path))
    supernet.source = {"kind": "stages", **metadata, "sha256": files.sha256(path)}
    note(f"the stages of {path.name} with a new stem and decoder")
    return supernet


def initialise(supernet: Supernet) -> None:
    """The training initialisation (spec section 2): framework defaults, the last batch norm of every
    MBConv 0, position tables truncated normal with std 0.02, layer scaling 1e-4 (as built)."""
    for name, parameter in supernet.named_parameters():
        if name.endswith("project.norm.weight"):
            torch.nn.init.zeros_(parameter)
        elif name.endswith("position_table"):
            torch.nn.init.trunc_normal_(parameter, std=0.02)
        elif name.endswith(("mix_logits.weight", "mix_weights.weight")):
            torch.nn.init.kaiming_uniform_(parameter, a=math.sqrt(5))  # as a linear layer


def settle(supernet: Supernet, images: Batches) -> None:
    """Give the supernet the largest subnet's statistics, so that its eval mode is of use.

    Training itself keeps none (batch statistics throughout); a subnet is calibrated before use. Images that others
    calibrate on are compared with these statistics, so they are to be of the training pipeline.
    """
    largest = calibrated(materialise(supernet, supernet.space.largest()), images)
    own = dict(supernet.named_buffers())
    with torch.no_grad():
        for name, value in statistics(largest).items():
            own[name].copy_(value)
    supernet.source[SETTLED] = images.name
