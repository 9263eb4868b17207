"""Evaluating a saved Core ML program where Core ML is not: the MIL operations that subnets convert to.

The program is read from the package on disk, weights file included, and run on torch tensors operation by
operation. Values that the program types as fp16 are computed in single precision and rounded to half after
every operation, so what half precision loses shows (Apple's engines may accumulate differently).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasvit_edge.errors import VerifyError, require
from nasvit_edge.export.quiet import quiet

if TYPE_CHECKING:
    from torch import Tensor

MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
_SENTINEL = 0xDEADBEEF
_RGB = 20  # FeatureTypes.proto
_BLOB = struct.Struct("<IIQQ")  # sentinel, type, bytes, offset of the data
_FLOAT16, _FLOAT32, _INT8, _UINT8, _INT32, _BOOL, _STRING = 10, 11, 21, 31, 23, 1, 2  # MIL DataType
_TYPES: dict[int, type[np.generic]] = {
    _FLOAT16: np.float16,
    _FLOAT32: np.float32,
    _INT8: np.int8,
    _UINT8: np.uint8,
    _INT32: np.int32,
    _BOOL: np.bool_,
}
Args = Mapping[str, Any]


class Program:
    """The main function of a saved ML program."""

    def __init__(self, package: Path) -> None:
        self.spec = read_spec(package / MODEL)
        if self.spec.WhichOneof("Type") != "mlProgram" or "main" not in self.spec.mlProgram.functions:
            raise VerifyError(f"artifact {str(package)!r} holds no ML program")
        function = self.function = self.spec.mlProgram.functions["main"]
        self.block = function.block_specializations[function.opset]
        self.inputs = [value.name for value in function.inputs]
        weights = package / WEIGHTS
        self.weights = weights.read_bytes() if weights.exists() else b""
        self.constants: dict[str, Any] = {}
        self.producers = {out.name: op for op in self.block.operations for out in op.outputs}

    def operations(self) -> list[str]:
        """The types of the operations that compute something, in order."""
        return [op.type for op in self.block.operations if op.type != "const"]

    def labels(self) -> list[str]:
        """The classes of the classifier; empty where the program is none."""
        for op in self.block.operations:
            if op.type == "classify":
                return [str(label) for label in np.ravel(self._argument(op, "classes", {}))]
        return []

    def logits_name(self) -> str:
        """The value before the classifier's softmax, else the program's output."""
        chain = self._after_logits()
        return (
            self._bound(chain[-1], "x" if len(chain) > 1 else "probabilities")
            if chain
            else str(self.block.outputs[0])
        )

    def _after_logits(self) -> list[Any]:
        """A classifier's last operations, from `classify` back to its softmax; empty where it is none."""
        op = self.producers[str(self.block.outputs[0])]
        if op.type != "classify":
            return []
        chain, name = [op], self._bound(op, "probabilities")
        while self.producers[name].type in ("cast", "softmax"):
            op = self.producers[name]
            if op in chain:
                raise VerifyError("the program's last operations go round in a circle")
            chain.append(op)
            name = self._bound(op, "x")
        return chain

    def faults(self) -> list[str]:
        """What would mislead an app that uses this classifier; empty where it is none, or sound."""
        chain = self._after_logits()
        if not chain:
            return []
        description, known = self.spec.description, self._constants()
        image = description.input[0].type.imageType
        rows = [d.constant.size for d in self.function.inputs[0].type.tensorType.dimensions]
        softmax = [op for op in chain if op.type == "softmax"]
        found = [] if len(softmax) == 1 else ["it has no softmax before its classes"]
        if any(int(self._argument(op, "axis", known)) not in (1, -1) for op in softmax):
            found.append("its softmax is not over the classes")
        if image.colorSpace != _RGB:
            found.append("its image is not RGB")
        if [image.height, image.width] != rows[2:]:
            found.append(f"its image is {image.height} x {image.width}, its tensor {rows[2:]}")
        names = {description.predictedFeatureName, description.predictedProbabilitiesName}
        if names != {out.name for out in chain[0].outputs}:
            found.append("the names of its outputs are not the classifier's")
        return found

    def run(self, values: dict[str, Tensor]) -> Tensor:
        """The logits for named inputs; a program for one image takes any number of them."""
        import torch

        wanted = self.logits_name()
        with torch.no_grad():
            known = self._constants() | values
            for op in self.block.operations:
                if op.type == "classify" or wanted in known:
                    break
                if op.outputs[0].name not in known:
                    self._evaluate(op, known)
        logits: Tensor = known[wanted]
        return logits

    def _constants(self) -> dict[str, Any]:
        """What does not depend on the input; computed once."""
        if not self.constants:
            for op in self.block.operations:
                if op.type == "const" or op.type.startswith("constexpr_"):
                    self._evaluate(op, self.constants)
        return self.constants

    def _evaluate(self, op: Any, known: dict[str, Any]) -> None:
        if op.type == "const":
            known[op.outputs[0].name] = self._value(op.attributes["val"])
            return
        if op.type not in _OPERATIONS:
            raise VerifyError(
                f"the evaluator has no operation {op.type!r} (layer {op.outputs[0].name!r}); verify this file on a Mac"
            )
        names = {*op.inputs, *(name for name in op.attributes if name != "name")}
        found = _OPERATIONS[op.type]({name: self._argument(op, name, known) for name in names})
        for out, value in zip(op.outputs, found if isinstance(found, list) else [found], strict=True):
            known[out.name] = _typed(value, out.type.tensorType.dataType)

    def _argument(self, op: Any, name: str, known: dict[str, Any]) -> Any:
        if name not in op.inputs:
            return self._value(op.attributes[name])
        bound = op.inputs[name].arguments
        values = [known[b.name] if b.WhichOneof("binding") == "name" else self._value(b.value) for b in bound]
        return values if name == "values" else values[0]

    def _bound(self, op: Any, name: str) -> str:
        return str(op.inputs[name].arguments[0].name)

    def _value(self, value: Any) -> Any:
        """A constant: a tensor, or for text an array of strings."""
        import torch

        if value.immediateValue.WhichOneof("value") == "list":
            return np.array([self._value(item) for item in value.immediateValue.list.values])
        kind = value.type.tensorType.dataType
        shape = [d.constant.size for d in value.type.tensorType.dimensions]
        if value.WhichOneof("value") == "blobFileValue":
            array = self._blob(value.blobFileValue.offset, kind)
        else:
            held = value.immediateValue.tensor
            array = np.array(getattr(held, held.WhichOneof("value")).values)
            if held.WhichOneof("value") == "bytes":
                array = np.frombuffer(held.bytes.values, _TYPES[kind])
        if kind == _STRING:
            return array.reshape(shape)
        return torch.from_numpy(array.astype(_TYPES[kind]).reshape(shape).copy())

    def _blob(self, offset: int, kind: int) -> np.ndarray[Any, Any]:
        sentinel, _, size, start = _BLOB.unpack_from(self.weights, offset)
        if sentinel != _SENTINEL or start + size > len(self.weights):
            raise VerifyError("the weights file is cut short or not the model's")
        return np.frombuffer(self.weights[start : start + size], _TYPES[kind])


def empty_spec() -> Any:
    """A model's protobuf, to be filled."""
    with quiet():  # importing the package off a Mac logs what it lacks
        return require("coremltools.proto.Model_pb2", "coreml").Model()


def read_spec(path: Path) -> Any:
    """The model's protobuf; VerifyError where it is none."""
    spec = empty_spec()
    try:
        spec.ParseFromString(path.read_bytes())
    except Exception as error:  # noqa: BLE001 - protobuf's own error classes differ by version
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or ["unreadable"])[0][:120]
        raise VerifyError(f"artifact {str(path.parents[2])!r} is damaged: {reason}") from None
    return spec


def _typed(value: Tensor, kind: int) -> Tensor:
    """Rounded to the type that the program gives it; floating point is carried on in single precision."""
    if kind == _FLOAT16:
        return value.half().float()
    return value.float() if kind == _FLOAT32 else value


def _ints(value: Tensor) -> list[int]:
    return [int(v) for v in value.flatten()]


def _number(args: Args, name: str, default: float) -> float:
    return float(args[name]) if name in args else default


def _flag(args: Args, name: str) -> bool:
    return bool(args[name]) if name in args else False


def _text(value: Any) -> str:
    return str(np.ravel(value)[0])


def _pads(args: Args, sizes: list[int], kernel: list[int], strides: list[int]) -> list[int]:
    """[top, bottom, left, right] of a convolution or pool."""
    kind = _text(args["pad_type"])
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


def _avg_pool(args: Args) -> Tensor:
    from torch.nn import functional as F

    x, kernel, strides = args["x"].float(), _ints(args["kernel_sizes"]), _ints(args["strides"])
    top, bottom, left, right = _pads(args, list(x.shape[2:]), kernel, strides)
    mean = F.avg_pool2d(F.pad(x, (left, right, top, bottom)), kernel, strides)
    if not _flag(args, "exclude_padding_from_average"):
        return mean
    inside = F.pad(x.new_ones(x.shape), (left, right, top, bottom))
    shared: Tensor = mean / F.avg_pool2d(inside, kernel, strides)
    return shared


def _layer_norm(args: Args) -> Tensor:
    x, axes = args["x"].float(), _ints(args["axes"])
    centred = x - x.mean(axes, keepdim=True)
    normal = centred * (centred.square().mean(axes, keepdim=True) + _number(args, "epsilon", 1e-5)).rsqrt()
    shape = [x.shape[a] if a % x.dim() in {b % x.dim() for b in axes} else 1 for a in range(x.dim())]
    if "gamma" in args:
        normal = normal * args["gamma"].float().reshape(shape)
    normed: Tensor = normal + args["beta"].float().reshape(shape) if "beta" in args else normal
    return normed


def _matmul(args: Args) -> Tensor:
    x, y = args["x"].float(), args["y"].float()
    x = x.transpose(-1, -2) if _flag(args, "transpose_x") else x
    y = y.transpose(-1, -2) if _flag(args, "transpose_y") else y
    product: Tensor = x @ y
    return product


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
    found: Tensor = x.reshape(shape)
    return found


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
    weights: Tensor = (data - zero) * scale
    return weights


def _concat(args: Args) -> Tensor:
    import torch

    return torch.cat(list(args["values"]), int(args["axis"]))


def _reduced(kind: str) -> Callable[[Args], Tensor]:
    def reduce(args: Args) -> Tensor:
        found: Tensor = getattr(args["x"].float(), kind)(
            _ints(args["axes"]), keepdim=_flag(args, "keep_dims")
        )
        return found

    return reduce


def _one(function: Callable[[Tensor], Tensor]) -> Callable[[Args], Tensor]:
    return lambda args: function(args["x"].float())


def _two(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Args], Tensor]:
    return lambda args: function(args["x"].float(), args["y"].float())


def _hard_sigmoid(args: Args) -> Tensor:
    gate: Tensor = (args["x"].float() * _number(args, "alpha", 0.2) + _number(args, "beta", 0.5)).clamp(0, 1)
    return gate


def _squeeze(args: Args) -> Tensor:
    x: Tensor = args["x"]
    axes = {a % x.dim() for a in _ints(args["axes"])} if "axes" in args else set(range(x.dim()))
    return x.reshape([n for a, n in enumerate(x.shape) if a not in axes or n != 1])


def _expand_dims(args: Args) -> Tensor:
    x: Tensor = args["x"]
    for axis in sorted(_ints(args["axes"])):
        x = x.unsqueeze(axis)
    return x


_OPERATIONS: dict[str, Callable[[Args], Any]] = {
    "add": _two(lambda x, y: x + y),
    "avg_pool": _avg_pool,
    "cast": lambda args: args["x"].trunc() if "int" in _text(args["dtype"]) else args["x"],
    "concat": _concat,
    "constexpr_affine_dequantize": _dequantized,
    "conv": _conv,
    "expand_dims": _expand_dims,
    "identity": lambda args: args["x"],
    "layer_norm": _layer_norm,
    "linear": _linear,
    "matmul": _matmul,
    "mul": _two(lambda x, y: x * y),
    "real_div": _two(lambda x, y: x / y),
    "reduce_mean": _reduced("mean"),
    "reduce_sum": _reduced("sum"),
    "relu": _one(lambda x: x.relu()),
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
}
