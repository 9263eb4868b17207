"""What a run starts from, and what its weights need in the end."""

from __future__ import annotations

import math

import torch

from nasvit_edge.files import file_and_key
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.model.accuracy import Batches, calibrated
from nasvit_edge.model.blocks import HeadMix
from nasvit_edge.model.checkpoint import load_supernet, loaded, resolve_weights, source_of, trained_on_of
from nasvit_edge.model.filling import is_segmenter, load_stages
from nasvit_edge.model.subnet import materialise, statistics
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.model.weights_file import WeightsFile, weights_file
from nasvit_edge.space import SearchSpace

SETTLED = "settled on"  # key of `Supernet.source`: which images and recipe its statistics are of


def initialised(space: SearchSpace, seed: int, scaling: str = "switchable") -> Supernet:
    """A new supernet with the training initialisation, fixed by `seed`; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        supernet = Supernet(space, scaling)
        initialise(supernet)
    return supernet


def started(
    weights: str, space: SearchSpace, seed: int, scaling: str = "switchable", listener: Listener = SILENT
) -> Supernet:
    """The supernet of a space with the weights of a file; of a dense space also the stages of a classifier alone.

    Stem and decoder are then new, with the training initialisation fixed by `seed`.

    Raises:
        CheckpointError: weights of another space.
    """
    if weights.startswith("random"):
        return load_supernet(weights, space)
    key = file_and_key(weights)[1]
    with weights_file(resolve_weights(weights)) as file:
        if not space.is_dense or is_segmenter(file.tensors):
            supernet = loaded(file, space, key)
        else:
            supernet = _with_stages(file, key, space, seed, scaling)
            listener.note(f"the stages of {file.path.name} with a new stem and decoder")
    if "note" in supernet.source:
        listener.note(str(supernet.source["note"]))
    return supernet


def _with_stages(file: WeightsFile, key: str | None, space: SearchSpace, seed: int, scaling: str) -> Supernet:
    supernet = initialised(space, seed, str(file.metadata.get("scaling", scaling)))
    supernet.source = source_of("stages", file, load_stages(supernet, file, key))
    supernet.trained_on = trained_on_of(file)
    return supernet


def initialise(supernet: Supernet) -> None:
    """The training initialisation (spec section 2): framework defaults, the last batch norm of every
    MBConv 0, position tables truncated normal with std 0.02, layer scaling 1e-4 (as built).

    An MBConv that has not always a shortcut beside it stays as it is: 0 would be all that it gives."""
    bypassed = tuple(f"{stage.name}." for stage in supernet.space.stages if stage.shortcut == "pooled")
    for name, parameter in supernet.named_parameters():
        if name.endswith("project.norm.weight") and name.startswith(bypassed):
            torch.nn.init.zeros_(parameter)
        elif name.endswith("position_table"):
            torch.nn.init.trunc_normal_(parameter, std=0.02)
    for module in supernet.modules():
        if isinstance(module, HeadMix):
            torch.nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))  # both as a linear layer's
            torch.nn.init.uniform_(module.bias, -(bound := module.weight.shape[1] ** -0.5), bound)


def settle(supernet: Supernet, images: Batches) -> None:
    """Give the supernet the largest subnet's statistics, so that its eval mode is of use.

    Training itself keeps none (batch statistics throughout); a subnet is calibrated before use. Images that others
    calibrate on are compared with these statistics, so they are to be of the training pipeline.
    """
    largest = calibrated(materialise(supernet, supernet.space.largest()), images)
    buffers = dict(supernet.named_buffers())
    with torch.no_grad():
        for name, value in statistics(largest).items():
            buffers[name].copy_(value)
    supernet.source[SETTLED] = images.name
