"""A block of somebody else's network as its layers: convolutions with what follows each, squeeze-excitation, shortcut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from nasvit_edge.errors import SpaceError

_PASSED = ("Identity", "Dropout", "DropPath", "StochasticDepth")  # nothing at inference
_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "relu6": "relu6",
    "hardswish": "hard_swish",
    "gelu": "gelu",
    "sigmoid": "sigmoid",
    "hardsigmoid": "hard_sigmoid",
}
_SHORTCUTS = ("has_skip", "use_res_connect", "apply_residual")  # timm's, torchvision's
TAKEN = (
    "adopt takes the blocks of MobileNetV2/V3, MnasNet, FBNet and EfficientNets; --fixed takes any network"
)


class UnreadableError(SpaceError):
    """A block that our grammar does not have."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"block {where!r} {reason}; {TAKEN}")


@dataclass(frozen=True, slots=True)
class ConvLayer:
    """A convolution, its batch norm and the activation behind it (`""`: none)."""

    conv: nn.Conv2d
    norm: nn.BatchNorm2d
    activation: str = ""

    @property
    def kernel(self) -> int:
        return int(self.conv.kernel_size[0])

    @property
    def stride(self) -> int:
        return int(self.conv.stride[0])

    @property
    def depthwise(self) -> bool:
        return self.conv.groups > 1

    @property
    def same(self) -> bool:
        """Whether it is padded as TensorFlow does it, which shows where it strides."""
        return type(self.conv).__name__ == "Conv2dSame"


@dataclass(frozen=True, slots=True)
class Squeeze:
    """Squeeze-excitation: 1x1 (or linear) to fewer channels, activation, back, gate."""

    reduce: Any
    expand: Any
    activation: str
    gate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block; which of its layers there are is its form.

    Attributes:
        name: in the network that it is from.
        skip: whether what enters is added.
    """

    name: str
    expand: ConvLayer | None
    depthwise: ConvLayer | None
    squeeze: Squeeze | None
    project: ConvLayer
    skip: bool

    @property
    def first(self) -> ConvLayer:
        """The layer with the kernel and the stride."""
        return self.depthwise or self.expand or self.project

    @property
    def fused(self) -> bool:
        return self.depthwise is None

    @property
    def inputs(self) -> int:
        return int((self.expand or self.first).conv.in_channels)

    @property
    def outputs(self) -> int:
        return int(self.project.conv.out_channels)

    @property
    def expanded(self) -> int:
        return int(self.project.conv.in_channels)

    @property
    def layers(self) -> list[ConvLayer]:
        return [layer for layer in (self.expand, self.depthwise, self.project) if layer is not None]

    @property
    def activation(self) -> str:
        return self.layers[0].activation


def activation_of(module: nn.Module, where: str) -> str:
    """What our grammar calls an activation or gate."""
    name = type(module).__name__.lower().replace("_", "")
    known = _ACTIVATIONS.get(name.removesuffix("jit").removesuffix("me"))
    if known is None:
        raise UnreadableError(where, f"has a {type(module).__name__}")
    return known


def layers_of(module: nn.Module, where: str) -> list[ConvLayer | Squeeze]:
    """The layers of a module in order.

    Raises:
        UnreadableError: it has parts that are none.
    """
    read: list[ConvLayer | Squeeze] = []
    conv: nn.Conv2d | None = None
    for part in _leaves(module):
        if isinstance(part, nn.Conv2d):
            conv = _checked(part, where)
        elif isinstance(part, nn.BatchNorm2d) and conv is not None:
            read.append(ConvLayer(conv, part))
            conv = None
        elif _squeezes(part):
            read.append(_squeeze(part, where))
        elif conv is None and read and isinstance(read[-1], ConvLayer) and not read[-1].activation:
            read[-1] = ConvLayer(read[-1].conv, read[-1].norm, activation_of(part, where))
        else:
            raise UnreadableError(where, f"has a {type(part).__name__}")
    if conv is not None:
        raise UnreadableError(where, "has a convolution without batch norm")
    return read


def block_of(name: str, module: nn.Module, skip: bool | None = None) -> Block:
    """A block of a network; `skip` is read off it where it is not given."""
    read = layers_of(module, name)
    squeezes = [part for part in read if isinstance(part, Squeeze)]
    layers = [part for part in read if isinstance(part, ConvLayer)]
    if skip is None:
        skip = any(bool(getattr(module, key, False)) for key in _SHORTCUTS)
    expand, depthwise, project = _by_form(layers, name)
    if len(squeezes) > 1 or (squeezes and read.index(squeezes[0]) != len(read) - 2):
        raise UnreadableError(name, "has squeeze-excitation elsewhere than before its last convolution")
    block = Block(
        name=name,
        expand=expand,
        depthwise=depthwise,
        squeeze=squeezes[0] if squeezes else None,
        project=project,
        skip=skip,
    )
    _check_activations(block)
    return block


def _by_form(layers: Sequence[ConvLayer], where: str) -> tuple[ConvLayer | None, ConvLayer | None, ConvLayer]:
    """(expand, depthwise, project)."""
    shape = [("depthwise" if x.depthwise else "1x1" if x.kernel == 1 else "k x k") for x in layers]
    if shape == ["1x1", "depthwise", "1x1"]:
        return layers[0], layers[1], layers[2]
    if shape == ["depthwise", "1x1"]:
        return None, layers[0], layers[1]
    if shape in (["k x k", "1x1"], ["1x1", "1x1"]):
        return layers[0], None, layers[1]
    if shape in (["k x k"], ["1x1"]):
        return None, None, layers[0]
    raise UnreadableError(where, f"is {', '.join(shape) or 'empty'}, no block of the grammar")


def _check_activations(block: Block) -> None:
    acts = [layer.activation for layer in block.layers]
    if any(act != acts[0] for act in acts[:-1]) or acts[-1] not in ("", acts[0]) or not acts[0]:
        raise UnreadableError(block.name, f"has the activations {acts}; all but the last must be one")
    if any(layer.stride > 1 for layer in block.layers if layer is not block.first):
        raise UnreadableError(block.name, "strides elsewhere than in its k x k convolution")


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    """The parts of a module, in order; a batch norm's activation behind it."""
    if type(module).__name__ in _PASSED:
        return
    if isinstance(module, nn.Conv2d) or _squeezes(module):
        yield module
        return
    children = list(module.children())
    if isinstance(module, nn.BatchNorm2d) or not children:
        yield module
    for child in children:
        yield from _leaves(child)


def _checked(conv: nn.Conv2d, where: str) -> nn.Conv2d:
    height, width = conv.kernel_size
    if height != width or height % 2 == 0 or conv.stride[0] != conv.stride[1]:
        raise UnreadableError(where, f"has a {height} x {width} convolution; kernels must be square and odd")
    if set(conv.dilation) != {1}:
        raise UnreadableError(where, f"has a convolution dilated by {conv.dilation[0]}")
    if conv.bias is not None:
        raise UnreadableError(where, "has a convolution with bias before batch norm")
    if conv.groups > 1 and not conv.groups == conv.in_channels == conv.out_channels:
        raise UnreadableError(where, f"has a convolution in {conv.groups} groups")
    return conv


def _squeezes(module: nn.Module) -> bool:
    return type(module).__name__ in ("SqueezeExcite", "SqueezeExcitation", "SEModule")


def _squeeze(module: nn.Module, where: str) -> Squeeze:
    """timm's (conv_reduce, act1, conv_expand, gate; in `SEModule` fc1, act, fc2, gate), torchvision's (fc1, activation, fc2, scale_activation)."""
    for names in (
        ("conv_reduce", "conv_expand", "act1", "gate"),
        ("fc1", "fc2", "activation", "scale_activation"),
    ):
        parts: list[Any] = [getattr(module, name, None) for name in names]
        if all(isinstance(part, nn.Module) for part in parts) and all(p.bias is not None for p in parts[:2]):
            return Squeeze(parts[0], parts[1], activation_of(parts[2], where), activation_of(parts[3], where))
    raise UnreadableError(where, f"has a {type(module).__name__} of another form")
