"""A whole network of somebody else's: stem, blocks, head, and what all of them share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from nasvit_edge.adopting.layers import (
    TAKEN,
    Block,
    ConvLayer,
    UnreadableError,
    activation_of,
    block_of,
    layers_of,
)
from nasvit_edge.errors import SpaceError

Outline = tuple[ConvLayer, list[Block], ConvLayer, Any, str, nn.Linear]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network that our grammar has.

    Attributes:
        head: the 1x1 convolution before pooling.
        features: the linear layer (or 1x1 convolution) behind it, None where there is none; `features_activation` of that.
        same: whether it is padded as TensorFlow does it.
        eps: of all its batch norms.
    """

    stem: ConvLayer
    blocks: tuple[Block, ...]
    head: ConvLayer
    features: Any
    features_activation: str
    classifier: nn.Linear
    same: bool
    eps: float


def read_network(module: nn.Module) -> Network:
    """What a network of timm's or torchvision's is made of.

    Raises:
        SpaceError: it has a block that our grammar does not have, or is none of these; says which and why.
    """
    for outline in (_timm, _torchvision, _mnasnet):
        parts = outline(module)
        if parts is not None:
            break
    else:
        raise SpaceError(f"{type(module).__name__} is none of the families that can be made elastic: {TAKEN}")
    stem, blocks, head, features, act, classifier = parts
    layers = [stem, *(layer for block in blocks for layer in block.layers), head]
    if stem.conv.in_channels != 3:
        raise UnreadableError("stem", f"takes {stem.conv.in_channels} channels; images have 3")
    return Network(
        stem=stem,
        blocks=tuple(blocks),
        head=head,
        features=features,
        features_activation=act,
        classifier=classifier,
        same=_same(layers),
        eps=_eps(layers),
    )


def _timm(module: Any) -> Outline | None:
    """timm's EfficientNet and MobileNetV3, which build most of its mobile families."""
    names = ("conv_stem", "bn1", "blocks", "conv_head", "classifier")
    if not all(isinstance(getattr(module, name, None), nn.Module) for name in names):
        return None
    blocks = [
        block_of(f"blocks.{i}.{j}", block)
        for i, stage in enumerate(module.blocks)
        for j, block in enumerate(stage)
    ]
    stem = _one("conv_stem", layers_of(nn.Sequential(module.conv_stem, module.bn1), "conv_stem"))
    classifier = _linear(module.classifier)
    if isinstance(getattr(module, "bn2", None), nn.BatchNorm2d):
        head = _one("conv_head", layers_of(nn.Sequential(module.conv_head, module.bn2), "conv_head"))
        return stem, blocks, head, None, "", classifier
    if not isinstance(getattr(module, "norm_head", None), nn.Identity):
        raise UnreadableError("conv_head", "has batch norm behind pooling")
    last = blocks.pop()
    if last.layers != [last.project] or last.project.kernel != 1:
        raise UnreadableError("conv_head", "has no 1x1 convolution before pooling")
    return stem, blocks, last.project, module.conv_head, activation_of(module.act2, "act2"), classifier


def _torchvision(module: Any) -> Outline | None:
    """torchvision's MobileNetV2, MobileNetV3 and EfficientNet."""
    sequences = (getattr(module, "features", None), getattr(module, "classifier", None))
    if not all(isinstance(part, nn.Sequential) for part in sequences):
        return None
    parts = list(module.features)
    *inner, classifier = module.classifier
    if len(parts) < 3 or not isinstance(classifier, nn.Linear):
        return None
    stem, head = (_one(f"features.{i}", layers_of(parts[i], f"features.{i}")) for i in (0, -1))
    blocks = [block_of(name, block) for name, block in _blocks(parts[1:-1], "features", 1)]
    linear = next((part for part in inner if isinstance(part, nn.Linear)), None)
    act = activation_of(inner[1], "classifier.1") if linear is not None else ""
    return stem, blocks, head, linear, act, classifier


def _mnasnet(module: Any) -> Outline | None:
    """torchvision's MNASNet: one flat list, the first block of which is three pairs of layers."""
    parts = list(getattr(module, "layers", None) or [])
    if type(module).__name__ != "MNASNet" or len(parts) < 11:
        return None
    stem = _one("layers.0", layers_of(nn.Sequential(*parts[:3]), "layers.0"))
    head = _one("layers.14", layers_of(nn.Sequential(*parts[-3:]), "layers.14"))
    first = block_of("layers.3", nn.Sequential(*parts[3:8]), skip=False)
    blocks = [block_of(name, block) for name, block in _blocks(parts[8:-3], "layers", 8)]
    return stem, [first, *blocks], head, None, "", _linear(module.classifier[-1])


def _blocks(parts: Iterable[nn.Module], where: str, start: int) -> Iterator[tuple[str, nn.Module]]:
    """Blocks, alone or in a list a stage."""
    for i, part in enumerate(parts, start):
        if type(part) is nn.Sequential:
            yield from ((f"{where}.{i}.{j}", block) for j, block in enumerate(part))
        else:
            yield f"{where}.{i}", part


def _one(where: str, layers: list[Any]) -> ConvLayer:
    if len(layers) != 1 or not isinstance(layers[0], ConvLayer) or not layers[0].activation:
        raise UnreadableError(where, "is not one convolution with batch norm and activation")
    return layers[0]


def _linear(classifier: nn.Module) -> nn.Linear:
    if not isinstance(classifier, nn.Linear) or classifier.bias is None:
        raise UnreadableError("classifier", f"is a {type(classifier).__name__}, not a linear layer with bias")
    return classifier


def _same(layers: list[ConvLayer]) -> bool:
    """How all that strides is padded."""
    strided = [layer for layer in layers if layer.stride > 1]
    kinds = {layer.same for layer in strided}
    if len(kinds) > 1:
        raise SpaceError(f"some of its convolutions are padded as TensorFlow does it, some evenly; {TAKEN}")
    for layer in layers:
        even = layer.conv.padding == (layer.kernel // 2,) * 2
        if not layer.same and not even:
            raise SpaceError(
                f"a {layer.kernel} x {layer.kernel} convolution of it is padded by {layer.conv.padding}; {TAKEN}"
            )
    return kinds == {True}


def _eps(layers: list[ConvLayer]) -> float:
    values = {layer.norm.eps for layer in layers}
    if len(values) > 1:
        raise SpaceError(f"its batch norms add {sorted(values)} to variances; one space has one value")
    return values.pop()
