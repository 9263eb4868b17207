"""What the MIL operations compute that subnets convert to, on torch tensors, by name of operation.

Each takes the operation's inputs by their names in the ML program (https://apple.github.io/coremltools, MIL ops).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nasvit_edge.errors import VerifyError

if TYPE_CHECKING:
    from torch import Tensor

Args = Mapping[str, Any]


def _ints(value: Tensor) -> list[int]:
    return [int(v) for v in value.flatten()]


def _number(args: Args, name: str, default: float) -> float:
    return float(args[name]) if name in args else default


def _flag(args: Args, name: str) -> bool:
    return bool(args[name]) if name in args else False


def text(value: Any) -> str:
    return str(np.ravel(value)[0])


def _pads(args: Args, sizes: list[int], kernel: list[int], strides: list[int]) -> list[int]:
    """[top, bottom, left, right] of a convolution or pool."""
    kind = text(args["pad_type"])
    if kind == "valid":
        return [0, 0, 0, 0]
    if kind == "custom":
        return _ints(args["pad"])
    pads = []
    for size, k, s in zip(sizes, kernel, strides, strict=True):
        total = max(0, (-(-size // s) - 1) * s + k - size)
        pads += [total // 2, total - total // 2] if kind == "same" else [total - total // 2, total // 2]
    return pads


def _conv(args: Args) -> Tensor:
    from torch.nn import functional as F

    x, weight = args["x"].float(), args["weight"].float()
    strides = _ints(args["strides"])
    dilations = _ints(args["dilations"])
    reach = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    top, bottom, left, right = _pads(args, list(x.shape[2:]), reach, strides)
    bias = args["bias"].float() if "bias" in args else None
    padded = F.pad(x, (left, right, top, bottom))
    return F.conv2d(padded, weight, bias, strides, 0, dilations, int(args["groups"]))


def _pad(args: Args) -> Tensor:
    """Of the last axes; `pad` has [before, after] of each, in order."""
    from torch.nn import functional as F

    if "mode" in args and text(args["mode"]) != "constant":
        raise VerifyError(f"the evaluator pads by constants, not by {text(args['mode'])!r}")
    pairs = _ints(args["pad"])
    last_first = [n for i in range(len(pairs) - 2, -1, -2) for n in pairs[i : i + 2]]
    return F.pad(args["x"], last_first, value=_number(args, "constant_val", 0.0))


def _avg_pool(args: Args) -> Tensor:
    from torch.nn import functional as F

    x, kernel, strides = args["x"].float(), _ints(args["kernel_sizes"]), _ints(args["strides"])
    top, bottom, left, right = _pads(args, list(x.shape[2:]), kernel, strides)
    mean = F.avg_pool2d(F.pad(x, (left, right, top, bottom)), kernel, strides)
    if not _flag(args, "exclude_padding_from_average"):
        return mean
    inside = F.pad(x.new_ones(x.shape), (left, right, top, bottom))
    return mean / F.avg_pool2d(inside, kernel, strides)


def _layer_norm(args: Args) -> Tensor:
    x, axes = args["x"].float(), _ints(args["axes"])
    centred = x - x.mean(axes, keepdim=True)
    normal = centred * (centred.square().mean(axes, keepdim=True) + _number(args, "epsilon", 1e-5)).rsqrt()
    shape = [x.shape[a] if a % x.dim() in {b % x.dim() for b in axes} else 1 for a in range(x.dim())]
    if "gamma" in args:
        normal = normal * args["gamma"].float().reshape(shape)
    return normal + args["beta"].float().reshape(shape) if "beta" in args else normal


def _matmul(args: Args) -> Tensor:
    x, y = args["x"].float(), args["y"].float()
    x = x.transpose(-1, -2) if _flag(args, "transpose_x") else x
    y = y.transpose(-1, -2) if _flag(args, "transpose_y") else y
    return x @ y


def _linear(args: Args) -> Tensor:
    from torch.nn import functional as F

    return F.linear(
        args["x"].float(), args["weight"].float(), args["bias"].float() if "bias" in args else None
    )


def _reshape(args: Args) -> Tensor:
    """The program's shape; where it is for one image and several are run, the first axis is theirs."""
    x, shape = args["x"], _ints(args["shape"])
    if shape and shape[0] == 1 and x.shape[0] > 1:
        shape[0] = x.shape[0]
    return x.reshape(shape)


def _slice_by_index(args: Args) -> Tensor:
    x: Tensor = args["x"]
    begin, end = _ints(args["begin"]), _ints(args["end"])
    stride = _ints(args["stride"]) if "stride" in args else [1] * x.dim()
    masks = [
        _ints(args[m]) if m in args else [0] * x.dim() for m in ("begin_mask", "end_mask", "squeeze_mask")
    ]
    where: list[Any] = []
    for axis in range(x.dim()):
        if masks[2][axis]:
            where.append(begin[axis])
            continue
        if axis == 0 and (begin[0], end[0]) == (0, 1):  # all images of a batch
            where.append(slice(None))
            continue
        low = None if masks[0][axis] else begin[axis]
        where.append(slice(low, None if masks[1][axis] else end[axis], stride[axis]))
    return x[tuple(where)]


def _slice_by_size(args: Args) -> Tensor:
    x: Tensor = args["x"]
    begin, size = _ints(args["begin"]), _ints(args["size"])
    where = [slice(b, None if s == -1 else b + s) for b, s in zip(begin, size, strict=True)]
    if (begin[0], size[0]) == (0, 1):  # all images of a batch
        where[0] = slice(None)
    return x[tuple(where)]


def _dequantized(args: Args) -> Tensor:
    data, axis = args["quantized_data"].float(), int(args["axis"])
    shape = [-1 if a == axis else 1 for a in range(data.dim())]
    scale, zero = (args[n].float().flatten() for n in ("scale", "zero_point"))
    scale, zero = (v.reshape(shape) if v.numel() > 1 else v for v in (scale, zero))
    return (data - zero) * scale


def _concat(args: Args) -> Tensor:
    import torch

    return torch.cat(list(args["values"]), int(args["axis"]))


def _reduced(kind: str) -> Callable[[Args], Tensor]:
    def reduce(args: Args) -> Tensor:
        return getattr(args["x"].float(), kind)(_ints(args["axes"]), keepdim=_flag(args, "keep_dims"))

    return reduce


def _one(function: Callable[[Tensor], Tensor]) -> Callable[[Args], Tensor]:
    return lambda args: function(args["x"].float())


def _two(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Args], Tensor]:
    return lambda args: function(args["x"].float(), args["y"].float())


def _upsample_bilinear(args: Args) -> Tensor:
    """By factors, the size rounded down; the step between samples follows from the sizes, pixels are taken at their centres."""
    from torch.nn import functional as F

    corners, x = _flag(args, "align_corners"), args["x"].float()
    if not corners and "half_pixel_centers" in args and not _flag(args, "half_pixel_centers"):
        raise VerifyError(
            "the evaluator resizes with pixels at their centres only; verify this file on a Mac"
        )
    factors = [float(args[f"scale_factor_{side}"]) for side in ("height", "width")]
    size = [int(n * factor) for n, factor in zip(x.shape[-2:], factors, strict=True)]
    return F.interpolate(x, size, mode="bilinear", align_corners=corners)


def _argmax(args: Args) -> Tensor:
    return args["x"].argmax(int(args["axis"]), keepdim=_flag(args, "keep_dims"))


def _hard_sigmoid(args: Args) -> Tensor:
    return (args["x"].float() * _number(args, "alpha", 0.2) + _number(args, "beta", 0.5)).clamp(0, 1)


def _gelu(args: Args) -> Tensor:
    from torch.nn import functional as F

    mode = text(args["mode"]) if "mode" in args else "EXACT"
    if mode not in ("EXACT", "TANH_APPROXIMATION"):
        raise VerifyError(f"the evaluator has no gelu of mode {mode!r}; verify this file on a Mac")
    return F.gelu(args["x"].float(), approximate="none" if mode == "EXACT" else "tanh")


def _squeeze(args: Args) -> Tensor:
    x: Tensor = args["x"]
    axes = {a % x.dim() for a in _ints(args["axes"])} if "axes" in args else set(range(x.dim()))
    return x.reshape([n for a, n in enumerate(x.shape) if a not in axes or n != 1])


def _expand_dims(args: Args) -> Tensor:
    x: Tensor = args["x"]
    for axis in sorted(_ints(args["axes"])):
        x = x.unsqueeze(axis)
    return x


OPERATIONS: dict[str, Callable[[Args], Any]] = {
    "add": _two(lambda x, y: x + y),
    "avg_pool": _avg_pool,
    "cast": lambda args: args["x"].trunc() if "int" in text(args["dtype"]) else args["x"],
    "clip": lambda args: args["x"].clamp(float(args["alpha"]), float(args["beta"])),
    "concat": _concat,
    "constexpr_affine_dequantize": _dequantized,
    "conv": _conv,
    "expand_dims": _expand_dims,
    "gelu": _gelu,
    "identity": lambda args: args["x"],
    "layer_norm": _layer_norm,
    "linear": _linear,
    "matmul": _matmul,
    "mul": _two(lambda x, y: x * y),
    "pad": _pad,
    "real_div": _two(lambda x, y: x / y),
    "reduce_argmax": _argmax,
    "reduce_mean": _reduced("mean"),
    "reduce_sum": _reduced("sum"),
    "relu": _one(lambda x: x.relu()),
    "relu6": _one(lambda x: x.clamp(0, 6)),
    "reshape": _reshape,
    "rsqrt": lambda args: (args["x"].float() + _number(args, "epsilon", 1e-12)).rsqrt(),
    "sigmoid": _one(lambda x: x.sigmoid()),
    "sigmoid_hard": _hard_sigmoid,
    "silu": _one(lambda x: x * x.sigmoid()),
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "softmax": lambda args: args["x"].float().softmax(int(args["axis"])),
    "square": _one(lambda x: x.square()),
    "squeeze": _squeeze,
    "sub": _two(lambda x, y: x - y),
    "transpose": lambda args: args["x"].permute(_ints(args["perm"])),
    "upsample_bilinear": _upsample_bilinear,
}
