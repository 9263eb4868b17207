"""The blocks of a subnet, one module per op, before folding (spec section 2).

Shapes: B batch, C channels, H W grid, N = H * W tokens, h heads, D head width.
Tokens stay an image (B, C, H, W) throughout, so linear layers on tokens are 1x1 convolutions and the
norm over all N * C values of a sample is a group norm with one group.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasvit_edge.block_ops import strided
from nasvit_edge.model.networks import network
from nasvit_edge.ops import (
    Classifier,
    Head,
    Labels,
    Lateral,
    MBConv,
    Op,
    PixelClassifier,
    Stem,
    TransformerBlock,
    WholeNetwork,
)

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "silu": nn.SiLU,
    "hard_swish": nn.Hardswish,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "gelu": nn.GELU,
}
GATES: dict[str, type[nn.Module]] = {
    "hard_sigmoid": nn.Hardsigmoid,
    "sigmoid": nn.Sigmoid,
}  # relu6(x + 3) / 6


class ConvNorm(nn.Module):
    """Convolution without bias, padded (where it is not before) to keep the grid at stride 1, then batch norm."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        *,
        eps: float = 1e-5,
        padded: bool = False,
    ) -> None:
        super().__init__()
        padding = 0 if padded else kernel // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


def uneven_padding(op: Stem | MBConv) -> nn.ZeroPad2d:
    """What TensorFlow's SAME adds before a convolution: of an odd number of rows or columns the smaller half comes first."""
    added = []
    for side in (op.width, op.height):  # from the last axis on
        total = max((strided(side, op.stride) - 1) * op.stride + op.kernel_size - side, 0)
        added += [total // 2, total - total // 2]
    return nn.ZeroPad2d((added[0], added[1], added[2], added[3]))


class StemBlock(nn.Module):
    """(B, 3, H, W) -> (B, C, H', W')."""

    def __init__(self, op: Stem) -> None:
        super().__init__()
        self.op = op
        self.pad = uneven_padding(op) if op.same else None
        self.body = ConvNorm(3, op.channels, op.kernel_size, op.stride, eps=op.eps, padded=op.same)
        self.act = ACTIVATIONS[op.activation]()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.body(x if self.pad is None else self.pad(x)))


def is_channels_last(x: Tensor | torch.fx.Proxy) -> bool:
    """Whether (B, C, H, W) lies in memory as (B, H, W, C), and not as both; in a trace it does not."""
    if isinstance(x, torch.fx.Proxy):
        return False
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def grid_mean(x: Tensor, *, keepdim: bool = False) -> Tensor:
    """The mean over the grid: (B, C, H, W) -> (B, C) or (B, C, 1, 1), with gradients in the memory format of `x`."""
    if is_channels_last(x):
        mean = x.permute(0, 2, 3, 1).flatten(1, 2).mean(1)  # mean((2, 3)) would send back contiguous ones
        return mean[:, :, None, None] if keepdim else mean
    return x.mean((2, 3), keepdim=keepdim)


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from its mean over the grid."""

    def __init__(self, channels: int, squeezed: int, act: str, gate: str) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = ACTIVATIONS[act]()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = GATES[gate]()

    def forward(self, x: Tensor) -> Tensor:
        mean = grid_mean(x, keepdim=True)  # (B, C, 1, 1)
        gate: Tensor = self.gate(self.expand(self.act(self.reduce(mean))))
        return x * gate


class Shortcut(nn.Module):
    """Average pool where the block strides, 1x1 conv where the channels change (or `project`)."""

    def __init__(self, op: MBConv, project: bool) -> None:
        super().__init__()
        self.stride = op.stride
        self.pad = (op.height % 2, op.width % 2)  # padded zeros count in the mean
        self.conv = nn.Conv2d(op.in_channels, op.channels, 1, bias=False) if project else None

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, self.stride, self.pad, count_include_pad=True)
        if self.conv is not None:
            x = self.conv(x)
        return x


class MBConvBlock(nn.Module):
    """(B, C, H, W) -> (B, C', H', W'); no activation after the sum."""

    def __init__(self, op: MBConv, project_shortcut: bool | None = None) -> None:
        super().__init__()
        self.op = op
        project = op.projects_shortcut if project_shortcut is None else project_shortcut
        k, stride, wide = op.kernel_size, op.stride, op.expanded
        self.expand, self.depthwise = None, None
        self.pad = uneven_padding(op) if op.same else None  # of the convolution that strides
        strides = functools.partial(ConvNorm, eps=op.eps, padded=op.same)
        plain = functools.partial(ConvNorm, eps=op.eps)
        if op.fused and op.expands:
            self.expand = strides(op.in_channels, wide, k, stride)
        elif op.expands:
            self.expand = plain(op.in_channels, wide)
        if op.has_depthwise:
            self.depthwise = strides(wide, wide, k, stride, groups=wide)
        self.se = SqueezeExcite(wide, op.squeezed, *op.squeeze) if op.squeezed else None
        whole = (op.in_channels, op.channels, k, stride)  # of a fused one that does not expand
        self.project = plain(wide, op.channels) if op.has_project else strides(*whole)
        self.shortcut = Shortcut(op, project) if op.shortcut or project else None
        self.act = ACTIVATIONS[op.activation]()

    def forward(self, x: Tensor) -> Tensor:
        y = self.pad(x) if self.pad is not None and self.op.fused else x
        if self.expand is not None:
            y = self.act(self.expand(y))
        if self.depthwise is not None:
            y = self.pad(y) if self.pad is not None else y
            y = self.act(self.depthwise(y))
        if self.se is not None:
            y = self.se(y)
        out: Tensor = self.project(y)
        if self.op.last_active:
            out = self.act(out)
        return out if self.shortcut is None else out + self.shortcut(x)


class HeadMix(nn.Module):
    """A linear layer across heads: (B, h, N, N) -> (B, h, N, N)."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        # torch.eye of meta tensors would load torch's compiler, which takes two seconds
        self.weight = nn.Parameter(torch.zeros(heads, heads).fill_diagonal_(1))
        self.bias = nn.Parameter(torch.zeros(heads))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.expand(len(x), -1, -1)  # a product a sample: one matmul would copy to (B*N*N, h)
        mixed = torch.baddbmm(self.bias[:, None], weight, x.flatten(2))  # (B, h, N*N)
        return mixed.unflatten(2, x.shape[2:])  # type: ignore[no-untyped-call]


class Attention(nn.Module):
    """Global attention with a position table; heads may be mixed before and after the softmax."""

    def __init__(self, op: TransformerBlock) -> None:
        super().__init__()
        self.op = op
        c, v = op.channels, op.value_channels
        self.query = nn.Conv2d(c, c, 1, bias=op.biased)
        self.key = nn.Conv2d(c, c, 1, bias=op.biased)
        self.value = nn.Conv2d(c, v, 1, bias=op.biased)
        self.value_conv = nn.Conv2d(v, v, 3, padding=1, groups=v, bias=False)
        offsets = (2 * op.height - 1) * (2 * op.width - 1)
        self.position_table = nn.Parameter(torch.zeros(offsets, op.heads))
        if op.mixes:
            self.mix_logits = HeadMix(op.heads)
            self.mix_weights = HeadMix(op.heads)
        self.act = ACTIVATIONS[op.activation]()
        self.project = nn.Conv2d(v, c, 1)

    def positions(self) -> Tensor:
        """The position bias (h, N, N) of this grid."""
        index = position_index(self.op.height, self.op.width).to(self.position_table.device)
        tokens = self.op.height * self.op.width
        return self.position_table.index_select(0, index).view(tokens, tokens, -1).permute(2, 0, 1)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.op.heads
        q = self.query(x).flatten(2).unflatten(1, (heads, -1))  # (B, h, D, N)
        k = self.key(x).flatten(2).unflatten(1, (heads, -1))  # (B, h, D, N)
        v = self.value_conv(self.value(x)).flatten(2).unflatten(1, (heads, -1))  # (B, h, 4D, N)
        logits = (q * self.op.head_width**-0.5).transpose(2, 3) @ k + self.positions()  # (B, h, N, N)
        if self.op.mixes:
            weights = self.mix_weights(self.mix_logits(logits).softmax(-1))
        else:
            weights = logits.softmax(-1)
        out = (v @ weights.transpose(2, 3)).flatten(1, 2).unflatten(2, x.shape[2:])  # (B, 4C, H, W)
        if is_channels_last(x):
            out = out.contiguous(memory_format=torch.channels_last)  # else act's gradient mixes both formats
        return self.project(self.act(out))


class MLP(nn.Module):
    """C -> inner, activation, inner -> C on every token."""

    def __init__(self, op: TransformerBlock) -> None:
        super().__init__()
        self.inner = nn.Conv2d(op.channels, op.inner, 1)
        self.act = ACTIVATIONS[op.activation]()
        self.outer = nn.Conv2d(op.inner, op.channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.act(self.inner(x)))


class TokenNorm(nn.LayerNorm):
    """Layer norm of each token of (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _norm(op: TransformerBlock) -> nn.Module:
    return TokenNorm(op.channels, eps=1e-5) if op.by_token else nn.GroupNorm(1, op.channels, eps=1e-5)


class TransformerBlockModule(nn.Module):
    """(B, C, H, W) -> (B, C, H, W); `scale_*` are the active rows of the switchable layer scaling.

    `norm1` is attention's, `norm{i + 1}` that of `mlp{i}`; the MLP with the highest number is the first.
    """

    norm1: nn.GroupNorm
    norm2: nn.GroupNorm
    mlp1: MLP

    def __init__(self, op: TransformerBlock) -> None:
        super().__init__()
        self.op = op
        for i in range(op.mlps + 1):
            self.add_module(f"norm{i + 1}", _norm(op))
        self.attention = Attention(op)
        for i in range(op.mlps):
            self.add_module(f"mlp{i + 1}", MLP(op))
        if op.scaled:
            self.scale_attention = nn.Parameter(torch.full((op.channels,), 1e-4))
            self.scale_mlp = nn.Parameter(torch.full((op.channels,), 1e-4))

    def scales(self) -> tuple[Tensor, Tensor]:
        """a and m of the spec, (C, 1, 1): the stored rows times 8 / C."""
        factor = 8.0 / self.op.channels
        return self.scale_attention[:, None, None] * factor, self.scale_mlp[:, None, None] * factor

    def forward(self, x: Tensor) -> Tensor:
        a, m = self.scales() if self.op.scaled else (1.0, 1.0)
        x = x + a * self.attention(self.norm1(x))
        for i in range(self.op.mlps, 0, -1):
            branch = self.get_submodule(f"mlp{i}")(self.get_submodule(f"norm{i + 1}")(x))
            x = x + (m * branch if self.op.scaled else branch)
        return x


class HeadBlock(nn.Module):
    """(B, C, H, W) -> (B, features)."""

    def __init__(self, op: Head) -> None:
        super().__init__()
        self.op = op
        self.expand = ConvNorm(op.in_channels, op.expanded, eps=op.eps)
        self.features = nn.Linear(op.expanded, op.features, bias=op.biased) if op.features else None
        self.act = ACTIVATIONS[op.activation]()

    def forward(self, x: Tensor) -> Tensor:
        out = grid_mean(self.act(self.expand(x)))  # (B, 6C); the batch axis stays at batch 1
        return out if self.features is None else self.act(self.features(out))


class ClassifierBlock(nn.Module):
    """(B, features) -> (B, classes)."""

    def __init__(self, op: Classifier) -> None:
        super().__init__()
        self.op = op
        self.linear = nn.Linear(op.features, op.classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class LateralBlock(nn.Module):
    """(B, C, H, W) -> (B, D, H', W')."""

    def __init__(self, op: Lateral) -> None:
        super().__init__()
        self.size = (op.out_height, op.out_width)
        self.resizes = self.size != (op.height, op.width)
        self.project = ConvNorm(op.in_channels, op.channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(x)
        return resized(out, self.size) if self.resizes else out


class PixelClassifierBlock(nn.Module):
    """(B, D, H, W) -> (B, classes, H, W)."""

    def __init__(self, op: PixelClassifier) -> None:
        super().__init__()
        self.act = ACTIVATIONS[op.activation]()
        self.linear = nn.Conv2d(op.channels, op.classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.act(x))


class LabelsBlock(nn.Module):
    """(B, classes, H, W) -> classes of pixels (B, H', W')."""

    def __init__(self, op: Labels) -> None:
        super().__init__()
        self.size = (op.out_height, op.out_width)

    def forward(self, x: Tensor) -> Tensor:
        return resized(x, self.size).argmax(1).to(torch.int32)


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, H, W) bilinearly to (B, C, *size), pixels taken at their centres."""
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


@functools.cache
def linear_weights(source: int, target: int) -> Tensor:
    """(target, source) float64: what `resized` adds up along one axis. A resize is two products with such matrices."""
    one = torch.eye(source, dtype=torch.float64)[None]
    return F.interpolate(one, target, mode="linear", align_corners=False)[0].T


def build(op: Op) -> nn.Module:
    """The module of an op, unfolded, freshly initialised; input (B, *op.in_shape())."""
    match op:
        case Stem():
            return StemBlock(op)
        case MBConv():
            return MBConvBlock(op)
        case TransformerBlock():
            return TransformerBlockModule(op)
        case Head():
            return HeadBlock(op)
        case Classifier():
            return ClassifierBlock(op)
        case Lateral():
            return LateralBlock(op)
        case PixelClassifier():
            return PixelClassifierBlock(op)
        case Labels():
            return LabelsBlock(op)
        case WholeNetwork():
            return network(op)


@functools.lru_cache(maxsize=256)
def position_index(height: int, width: int) -> Tensor:
    """For each pair of tokens (i, j), row-major: (yi - yj + H - 1) * (2W - 1) + (xi - xj + W - 1)."""
    with torch.device("cpu"), torch.inference_mode(False):
        y, x = torch.arange(height).repeat_interleave(width), torch.arange(width).repeat(height)
        rows = y[:, None] - y[None, :] + height - 1
        columns = x[:, None] - x[None, :] + width - 1
        return (rows * (2 * width - 1) + columns).flatten()
