"""The nodes of an ONNX graph, written one by one from a module's own trace (`torch.fx`)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nasvit_edge.errors import ExportError
from nasvit_edge.export.formats import Conversion, node_prefix

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, fx, nn

    Node = Any  # torch.fx.Node: its arguments are of any type

# The lowest that work, for runtimes that are years old: LayerNormalization came with opset 17, and that with IR 8.
OPSET = 17
IR_VERSION = 8
_Array = np.ndarray[Any, np.dtype[np.float32]]


class Graph:
    """The ONNX graph being written as a recipe says; `values` maps a trace node to the name that holds it."""

    def __init__(
        self, onnx: Any, traced: fx.GraphModule, recipe: Conversion, runtime: str = "onnxruntime"
    ) -> None:
        self.onnx, self.traced, self.calls = onnx, traced, _CALLS | CALLS[runtime]
        self.half, self.weights_8bit = recipe.precision == "fp16", recipe.precision == "w8"
        self.named = recipe.precision == "int8" or bool(recipe.mixed)
        self.dynamic_batch, self.output_name = recipe.dynamic_batch, recipe.output or "logits"
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.values: dict[Any, str] = {}
        self.padding: dict[
            Any, list[int]
        ] = {}  # trace node of zeros that are added -> how many, as Conv takes them
        self.output = ""

    def add(self, node: Node) -> None:
        """Write what one trace node computes."""
        if node.op == "placeholder":
            self.values[node] = self.cast("image", node, "FLOAT16") if self.half else "image"
        elif node.op == "output":
            last = self.values[node.args[0]]
            floating = node.args[0].meta["tensor_meta"].dtype.is_floating_point
            self.output = self.cast(last, node, "FLOAT") if self.half and floating else last
        elif node.op == "get_attr":
            self.values[node] = self.constant(str(node.target), _attribute(self.traced, str(node.target)))
        elif node.op == "call_module":
            module = self.traced.get_submodule(str(node.target))
            write = _MODULES.get(type(module).__name__)
            self._written(node, write, type(module).__name__, module)
        else:
            name = node.target if isinstance(node.target, str) else node.target.__name__
            self._written(node, self.calls.get(name), name)

    def _written(self, node: Node, write: Callable[..., str] | None, what: str, *args: Any) -> None:
        if write is None:
            raise ExportError(f"ONNX: no lowering of {what!r} (at {node.name!r})")
        self.values[node] = write(self, node, *args)

    def emit(self, kind: str, inputs: Sequence[str], node: Node, **attributes: Any) -> str:
        """Append an ONNX node and return the name of its output."""
        output = f"{self._owner(node)}{node.name}_{len(self.nodes)}"
        proto = self.onnx.helper.make_node(kind, list(inputs), [output], name=output, **attributes)
        self.nodes.append(proto)
        return output

    def _owner(self, node: Node) -> str:
        """The op that a sum or product belongs to, where ops are kept in floating point by their names."""
        inside = list(node.meta.get("nn_module_stack", ())) if self.named else []
        prefix = node_prefix(inside[-1]) if inside else ""
        return "" if node.name.startswith(prefix) else prefix

    def constant(
        self, name: str, value: Tensor | _Array | np.ndarray[Any, Any], *, single: bool = False
    ) -> str:
        """A named initializer, written once; `single` keeps single precision in a half-precision graph."""
        if name not in self.constants:
            array = value if isinstance(value, np.ndarray) else value.detach().cpu().numpy()
            if self.half and array.dtype == np.float32 and not single:
                array = array.astype(np.float16)
            self.constants[name] = self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def weight(self, name: str, value: Tensor, node: Node) -> str:
        """A weight (C', ...): an initializer, or 8-bit integers with a scale per output channel."""
        if not self.weights_8bit:
            return self.constant(name, value)
        array = value.detach().cpu().numpy()
        scale = np.abs(array).reshape(len(array), -1).max(1).clip(1e-12) / 127
        steps = np.rint(array / scale.reshape(-1, *[1] * (array.ndim - 1))).astype(np.int8)
        inputs = [
            self.constant(f"{name}.int8", steps),
            self.constant(f"{name}.scale", scale.astype(np.float32)),
        ]
        return self.emit("DequantizeLinear", inputs, node, axis=0)

    def cast(self, value: str, node: Node, kind: str) -> str:
        """The value as another type, by ONNX's name of it."""
        return self.emit("Cast", [value], node, to=getattr(self.onnx.TensorProto, kind))

    def operand(self, value: Any) -> str:
        """The name of an argument: a traced value or a Python number."""
        if isinstance(value, int | float):
            return self.constant(f"number_{value}", np.array(value, np.float32))
        return self.values[value]

    def reshape(self, node: Node, x: str) -> str:
        """To the traced shape; the batch axis is copied."""
        shape = (0, *_shape(node)[1:])
        dims = self.constant("shape_" + "x".join(map(str, shape)), np.array(shape, np.int64))
        return self.emit("Reshape", [x, dims], node)

    def sizes(self, node: Node, x: str) -> str:
        """The traced shape for a Resize; an open batch axis is taken from `x`.

        All axes: ONNX Runtime loses sizes of some axes only when it makes quantised graphs channels-last.
        """
        shape = _shape(node)
        if not self.dynamic_batch:
            return self.constant("size_" + "x".join(map(str, shape)), np.array(shape, np.int64))
        rest = self.constant("size_" + "x".join(map(str, shape[1:])), np.array(shape[1:], np.int64))
        return self.emit("Concat", [self.emit("Shape", [x], node, start=0, end=1), rest], node, axis=0)

    def axes(self, axes: Sequence[int]) -> str:
        return self.constant("axes_" + "_".join(map(str, axes)), np.array(axes, np.int64))

    def finish(self, shape: tuple[int, ...]) -> bytes:
        """The serialised model for inputs of `shape`; an open batch axis has a name instead of a size."""
        helper, kinds, output = self.onnx.helper, self.onnx.TensorProto, self.output_name
        last = next(n for n in self.traced.graph.nodes if n.op == "output")
        for proto in self.nodes:
            proto.output[:] = [output if o == self.output else o for o in proto.output]
            proto.input[:] = [output if i == self.output else i for i in proto.input]
        first: int | str = "batch" if self.dynamic_batch else shape[0]
        floating = last.args[0].meta["tensor_meta"].dtype.is_floating_point
        kind = kinds.FLOAT if floating else kinds.INT32
        graph = helper.make_graph(
            self.nodes,
            "subnet",
            [helper.make_tensor_value_info("image", kinds.FLOAT, (first, *shape[1:]))],
            [helper.make_tensor_value_info(output, kind, (first, *_shape(last.args[0])[1:]))],
            list(self.constants.values()),
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(
            graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="nasvit-edge"
        )
        self.onnx.checker.check_model(model)
        return model.SerializeToString(deterministic=True)


def _attribute(root: Any, path: str) -> Tensor:
    for part in path.split("."):
        root = getattr(root, part)
    return root


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["tensor_meta"].shape)


def _conv(graph: Graph, node: Node, conv: nn.Conv2d) -> str:
    inputs = [graph.operand(node.args[0]), graph.weight(f"{node.target}.weight", conv.weight, node)]
    if conv.bias is not None:
        inputs.append(graph.constant(f"{node.target}.bias", conv.bias))
    pads = graph.padding.get(node.args[0]) or [int(p) for p in conv.padding] * 2
    return graph.emit(
        "Conv",
        inputs,
        node,
        kernel_shape=list(conv.kernel_size),
        strides=list(conv.stride),
        pads=pads,
        group=conv.groups,
    )


def _zero_pad(graph: Graph, node: Node, pad: nn.ZeroPad2d) -> str:
    """Nothing yet: the convolution behind it does it."""
    left, right, top, bottom = pad.padding
    graph.padding[node] = [top, left, bottom, right]
    return graph.operand(node.args[0])


def _linear(graph: Graph, node: Node, linear: nn.Linear) -> str:
    inputs = [graph.operand(node.args[0]), graph.weight(f"{node.target}.weight", linear.weight, node)]
    if linear.bias is not None:
        inputs.append(graph.constant(f"{node.target}.bias", linear.bias))
    return graph.emit("Gemm", inputs, node, transB=1)


def _silu(graph: Graph, node: Node, _module: nn.Module) -> str:
    x = graph.operand(node.args[0])
    return graph.emit("Mul", [x, graph.emit("Sigmoid", [x], node)], node)


def _relu(graph: Graph, node: Node, _module: nn.Module) -> str:
    return graph.emit("Relu", [graph.operand(node.args[0])], node)


def _hard_sigmoid(graph: Graph, node: Node, _module: nn.Module) -> str:
    return graph.emit("HardSigmoid", [graph.operand(node.args[0])], node, alpha=1 / 6, beta=0.5)


def _hard_swish(graph: Graph, node: Node, module: nn.Module) -> str:
    return graph.emit("Mul", [graph.operand(node.args[0]), _hard_sigmoid(graph, node, module)], node)


def _relu6(graph: Graph, node: Node, _module: nn.Module) -> str:
    return graph.emit("Clip", [graph.operand(node.args[0]), graph.operand(0), graph.operand(6)], node)


def _sigmoid(graph: Graph, node: Node, _module: nn.Module) -> str:
    return graph.emit("Sigmoid", [graph.operand(node.args[0])], node)


def _gelu(graph: Graph, node: Node, _module: nn.Module) -> str:
    """x / 2 * (1 + erf(x / sqrt 2)); an operator of its own came with opset 20."""
    x = graph.operand(node.args[0])
    erf = graph.emit("Erf", [graph.emit("Mul", [x, graph.operand(0.5**0.5)], node)], node)
    half = graph.emit("Mul", [x, graph.operand(0.5)], node)
    return graph.emit("Mul", [half, graph.emit("Add", [erf, graph.operand(1)], node)], node)


def _binary(kind: str) -> Callable[[Graph, Node], str]:
    def write(graph: Graph, node: Node) -> str:
        return graph.emit(kind, [graph.operand(node.args[0]), graph.operand(node.args[1])], node)

    return write


def _layer_norm(graph: Graph, node: Node) -> str:
    """With a bias of zeros, without which ONNX Runtime 1.15 to 1.17 abort."""
    return _normalised(graph, node, single=False)


def _layer_norm_in_single(graph: Graph, node: Node) -> str:
    """In a half-precision graph between casts: ONNX Runtime before 1.20 normalises half precision to NaN or worse."""
    return _normalised(graph, node, single=graph.half)


def _normalised(graph: Graph, node: Node, *, single: bool) -> str:
    shape = tuple(node.args[1])
    named = {name: np.full(shape, value, np.float32) for name, value in (("ones", 1), ("zeros", 0))}
    constants = [
        graph.constant(f"{name}_" + "x".join(map(str, shape)), value, single=single)
        for name, value in named.items()
    ]
    x = graph.operand(node.args[0])
    inputs = [graph.cast(x, node, "FLOAT") if single else x, *constants]
    axis = len(_shape(node)) - len(shape)
    output = graph.emit("LayerNormalization", inputs, node, axis=axis, epsilon=node.kwargs["eps"])
    return graph.cast(output, node, "FLOAT16") if single else output


def _avg_pool(graph: Graph, node: Node) -> str:
    x, kernel, stride, pad = node.args
    kernels, strides = [kernel] * 2, [stride] * 2
    pads = list(pad) * 2
    return graph.emit(
        "AveragePool",
        [graph.operand(x)],
        node,
        kernel_shape=kernels,
        strides=strides,
        pads=pads,
        count_include_pad=1,
    )


def _reduce(kind: str) -> Callable[[Graph, Node], str]:
    def write(graph: Graph, node: Node) -> str:
        x, axes = graph.operand(node.args[0]), node.args[1]
        keep = bool(node.kwargs.get("keepdim", False))
        if kind == "ReduceMean" and axes == (2, 3):
            pooled = graph.emit("GlobalAveragePool", [x], node)
            return pooled if keep else graph.reshape(node, pooled)
        listed = [int(a) for a in (axes if isinstance(axes, tuple | list) else (axes,))]
        if kind == "ReduceMean":  # its axes became an input with opset 18
            return graph.emit(kind, [x], node, axes=listed, keepdims=int(keep))
        return graph.emit(kind, [x, graph.axes(listed)], node, keepdims=int(keep))

    return write


def _reshaped(graph: Graph, node: Node) -> str:
    return graph.reshape(node, graph.operand(node.args[0]))


def _transpose(graph: Graph, node: Node) -> str:
    order = list(range(len(_shape(node))))
    a, b = (int(axis) % len(order) for axis in node.args[1:3])
    order[a], order[b] = order[b], order[a]
    return graph.emit("Transpose", [graph.operand(node.args[0])], node, perm=order)


def _permute(graph: Graph, node: Node) -> str:
    order = [int(axis) for axis in node.args[1:]]
    return graph.emit("Transpose", [graph.operand(node.args[0])], node, perm=order)


def _narrow(graph: Graph, node: Node) -> str:
    x, axis, start, length = node.args
    ends = [graph.axes([int(n)]) for n in (start, start + length, axis)]
    return graph.emit("Slice", [graph.operand(x), *ends], node)


def _concat(graph: Graph, node: Node) -> str:
    parts, axis = node.args
    return graph.emit("Concat", [graph.operand(p) for p in parts], node, axis=axis)


def _softmax(graph: Graph, node: Node) -> str:
    return graph.emit("Softmax", [graph.operand(node.args[0])], node, axis=node.args[1])


def _interpolate(graph: Graph, node: Node) -> str:
    """By a Resize, pixels taken at their centres."""
    x, centres = _bilinear(graph, node), "half_pixel"
    inputs = [x, "", "", graph.sizes(node, x)]
    return graph.emit("Resize", inputs, node, mode="linear", coordinate_transformation_mode=centres)


def _interpolate_by_products(graph: Graph, node: Node) -> str:
    """Columns, then rows, as matrix products.

    Whole segmenters are up to 1.35 times as fast as by ONNX Runtime's Resize on a CPU (`benchmarks/resize_lowering.py`).
    """
    from nasvit_edge.model.blocks import linear_weights

    x = _bilinear(graph, node)
    (height, width), (tall, wide) = _shape(node.args[0])[-2:], _shape(node)[-2:]
    columns = graph.constant(f"columns_{width}_{wide}", linear_weights(width, wide).float().T)
    rows = graph.constant(f"rows_{height}_{tall}", linear_weights(height, tall).float())
    return graph.emit("MatMul", [rows, graph.emit("MatMul", [x, columns], node)], node)


def _bilinear(graph: Graph, node: Node) -> str:
    """What is resized; other ways of resizing are not lowered."""
    how = node.kwargs
    if how.get("mode") != "bilinear" or how.get("align_corners") or how.get("antialias"):
        raise ExportError(f"ONNX: no lowering of {how.get('mode')!r} resizing (at {node.name!r})")
    return graph.operand(node.args[0])


def _argmax(graph: Graph, node: Node) -> str:
    x, axis = node.args
    return graph.emit("ArgMax", [graph.operand(x)], node, axis=axis, keepdims=0)


def _to(graph: Graph, node: Node) -> str:
    dtype = str(node.args[1])
    if dtype != "torch.int32":
        raise ExportError(f"ONNX: no lowering of a cast to {dtype} (at {node.name!r})")
    return graph.cast(graph.operand(node.args[0]), node, "INT32")


_MODULES: dict[str, Callable[..., str]] = {
    "Conv2d": _conv,
    "ZeroPad2d": _zero_pad,
    "Linear": _linear,
    "SiLU": _silu,
    "ReLU": _relu,
    "ReLU6": _relu6,
    "GELU": _gelu,
    "Sigmoid": _sigmoid,
    "Hardswish": _hard_swish,
    "Hardsigmoid": _hard_sigmoid,
}
_CALLS: dict[str, Callable[..., str]] = {
    operator.add.__name__: _binary("Add"),
    operator.mul.__name__: _binary("Mul"),
    "matmul": _binary("MatMul"),
    "avg_pool2d": _avg_pool,
    "mean": _reduce("ReduceMean"),
    "sum": _reduce("ReduceSum"),
    "flatten": _reshaped,
    "unflatten": _reshaped,
    "transpose": _transpose,
    "permute": _permute,
    "softmax": _softmax,
    "narrow": _narrow,
    "cat": _concat,
    "argmax": _argmax,
    "to": _to,
}
CALLS: dict[str, dict[str, Callable[..., str]]] = {  # what is written for each runtime in a way of its own
    "onnxruntime": {"layer_norm": _layer_norm_in_single, "interpolate": _interpolate_by_products},
    "tensorrt": {"layer_norm": _layer_norm, "interpolate": _interpolate},
}
