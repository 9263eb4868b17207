"""The weights of a network that was read, as those of a supernet, and how its channels are put in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nasvit_edge.adopting.layers import Block, ConvLayer
from nasvit_edge.adopting.reading import Network
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.space import SearchSpace

Order = Literal["importance", "random", "none"]
_NORM = ("weight", "bias", "running_mean", "running_var")


def supernet_of(
    network: Network,
    space: SearchSpace,
    order: Order = "importance",
    seed: int = 0,
    initial: Supernet | None = None,
) -> Supernet:
    """A supernet whose largest subnet has a network's weights.

    Args:
        network: what the space was made of (`spaces.largest_space`, `spaces.elastic_space`).
        space: for other classes than the network's it keeps the classifier that a supernet begins with.
        order: of each block's expanded channels; narrower subnets use the first ones.
        seed: of `random`.
        initial: a supernet of the space whose classifier stays where the network's has other classes.
    """
    supernet = initial or Supernet(space)
    state = dict(_entries(network, supernet))
    with torch.no_grad():
        own_state = supernet.state_dict()
        for name, value in state.items():
            own_state[name].copy_(value.detach().reshape(own_state[name].shape))
        if order != "none":
            put_in_order(supernet, order, seed)
            _order_last_width(supernet, network, order, torch.Generator().manual_seed(seed))
    return supernet.eval()


def put_in_order(supernet: Supernet, order: Order, seed: int = 0) -> None:
    """Permute the expanded channels of every block, which leaves what the largest subnet computes; narrower ones have the first."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for block in _blocks(supernet):
            _put_in_order(block, order, generator)


def _blocks(supernet: Supernet) -> Iterator[Any]:
    names = [name for name in supernet.ops if "." in name]
    return (supernet.get_submodule(name) for name in names)


def _entries(network: Network, supernet: Supernet) -> Iterator[tuple[str, Tensor]]:
    yield from _layer("first_conv.body", network.stem)
    names = [name for name in supernet.ops if "." in name]
    for name, block in zip(names, network.blocks, strict=True):
        yield from _block(name, block)
    yield from _layer("last_conv.expand", network.head)
    if network.features is not None:
        yield from _linear("last_conv.features", network.features)
    if network.classifier.out_features == supernet.space.classes:
        yield from _linear("classifier.linear", network.classifier)


def _block(name: str, block: Block) -> Iterator[tuple[str, Tensor]]:
    if block.expand is not None:
        yield from _layer(f"{name}.expand", block.expand)
    if block.depthwise is not None:
        yield from _layer(f"{name}.depthwise", block.depthwise)
    if block.squeeze is not None:
        yield from _linear(f"{name}.se.reduce", block.squeeze.reduce)
        yield from _linear(f"{name}.se.expand", block.squeeze.expand)
    yield from _layer(f"{name}.project", block.project)


def _layer(name: str, layer: ConvLayer) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}.conv.weight", layer.conv.weight
    tensors: Mapping[str, Any] = layer.norm.state_dict()
    yield from ((f"{name}.norm.{part}", tensors[part]) for part in _NORM)


def _linear(name: str, linear: Any) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}.weight", linear.weight
    if linear.bias is not None:
        yield f"{name}.bias", linear.bias


def importance(block: Any) -> Tensor:
    """How much each expanded channel of a block gives to its output: the sum of the projection's absolute weights, times the
    absolute scale of the batch norm before it and of the projection's own (Li et al., ICLR 2017, with scales)."""
    weights: Tensor = block.project.conv.weight.abs() * block.project.norm.weight.abs()[:, None, None, None]
    before = block.depthwise if block.depthwise is not None else block.expand
    return weights.sum((0, 2, 3)) * before.norm.weight.abs()


def _put_in_order(block: Any, order: Order, generator: torch.Generator) -> None:
    """Permute the expanded channels of a block, which computes the same as before."""
    if block.expand is None:
        return
    wide = block.project.conv.in_channels
    at = (
        _by_importance(importance(block))
        if order == "importance"
        else torch.randperm(wide, generator=generator)
    )
    _permute_outputs(block.expand, at)
    if block.depthwise is not None:
        _permute_outputs(block.depthwise, at)
    if block.se is not None:
        block.se.reduce.weight.copy_(block.se.reduce.weight[:, at])
        block.se.expand.weight.copy_(block.se.expand.weight[at])
        block.se.expand.bias.copy_(block.se.expand.bias[at])
        _order_squeezed(block.se)
    block.project.conv.weight.copy_(block.project.conv.weight[:, at])


def _order_squeezed(se: Any) -> None:
    """Permute what squeeze-excitation squeezes to, by how much of the gate comes from it."""
    at = _by_importance(se.expand.weight.abs().sum((0, 2, 3)) * se.reduce.weight.abs().sum((1, 2, 3)))
    se.reduce.weight.copy_(se.reduce.weight[at])
    se.reduce.bias.copy_(se.reduce.bias[at])
    se.expand.weight.copy_(se.expand.weight[:, at])


def _order_last_width(supernet: Supernet, network: Network, order: Order, generator: torch.Generator) -> None:
    """Permute the channels between the last block and the head, where nothing else takes them."""
    *_, block = _blocks(supernet)
    if network.blocks[-1].skip or isinstance(supernet.space.stages[-1].width, int):
        return
    head: Any = supernet.get_submodule("last_conv.expand")
    taken = head.conv.weight.abs().sum((0, 2, 3)) * block.project.norm.weight.abs()
    at = _by_importance(taken) if order == "importance" else torch.randperm(len(taken), generator=generator)
    _permute_outputs(block.project, at)
    head.conv.weight.copy_(head.conv.weight[:, at])


def _by_importance(values: Tensor) -> Tensor:
    return values.argsort(descending=True, stable=True)


def _permute_outputs(layer: Any, at: Tensor) -> None:
    layer.conv.weight.copy_(layer.conv.weight[at])
    for part in _NORM:
        tensor: Tensor = getattr(layer.norm, part)
        tensor.copy_(tensor[at])


def logits_of(module: nn.Module, images: Tensor) -> Tensor:
    """What a network gives in eval mode, whatever mode it is in."""
    training = module.training
    try:
        with torch.inference_mode():
            logits: Tensor = module.eval()(images)
    finally:
        module.train(training)
    return logits


def difference(supernet: Supernet, module: nn.Module, images: Tensor) -> float:
    """The largest difference of logits of the largest subnet and of the network itself, as a share of their standard deviation.

    Args:
        images: (B, 3, S, S), prepared.
    """
    theirs = logits_of(module, images)
    config = supernet.space.largest()
    with torch.inference_mode():
        ours = supernet.eval()(images, config, size=(images.shape[-2], images.shape[-1]))
    return float((ours - theirs).abs().max() / theirs.std())
