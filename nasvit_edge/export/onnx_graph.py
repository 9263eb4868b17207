"""The nodes of an ONNX graph, written one by one from a module's own trace (`torch.fx`)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nasvit_edge.errors import ExportError

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, fx, nn

    Node = Any  # torch.fx.Node: its arguments are of any type

OPSET = 18
_IR_VERSION = 10
_Array = np.ndarray[Any, np.dtype[np.float32]]


class Graph:
    """The ONNX graph being written; `values` maps a trace node to the name that holds it."""

    def __init__(
        self, onnx: Any, traced: fx.GraphModule, *, half: bool = False, weights_8bit: bool = False
    ) -> None:
        self.onnx, self.traced = onnx, traced
        self.half, self.weights_8bit = half, weights_8bit
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.values: dict[Any, str] = {}
        self.output = ""

    def add(self, node: Node) -> None:
        """Write what one trace node computes."""
        if node.op == "placeholder":
            self.values[node] = self._cast("image", node, "FLOAT16") if self.half else "image"
        elif node.op == "output":
            last = self.values[node.args[0]]
            self.output = self._cast(last, node, "FLOAT") if self.half else last
        elif node.op == "get_attr":
            self.values[node] = self.constant(str(node.target), _attribute(self.traced, str(node.target)))
        elif node.op == "call_module":
            module = self.traced.get_submodule(str(node.target))
            write = _MODULES.get(type(module).__name__)
            self._written(node, write, type(module).__name__, module)
        else:
            name = node.target if isinstance(node.target, str) else node.target.__name__
            self._written(node, _CALLS.get(name), name)

    def _written(self, node: Node, write: Callable[..., str] | None, what: str, *args: Any) -> None:
        if write is None:
            raise ExportError(f"ONNX: no lowering of {what!r} (at {node.name!r})")
        self.values[node] = write(self, node, *args)

    def emit(self, kind: str, inputs: Sequence[str], node: Node, **attributes: Any) -> str:
        """Append an ONNX node and return the name of its output."""
        output = f"{node.name}_{len(self.nodes)}"
        made = self.onnx.helper.make_node(kind, list(inputs), [output], name=output, **attributes)
        self.nodes.append(made)
        return output

    def constant(self, name: str, value: Tensor | _Array | np.ndarray[Any, Any]) -> str:
        """A named initializer, written once."""
        if name not in self.constants:
            array = value if isinstance(value, np.ndarray) else value.detach().cpu().numpy()
            if self.half and array.dtype == np.float32:
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

    def _cast(self, value: str, node: Node, kind: str) -> str:
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

    def axes(self, axes: Sequence[int]) -> str:
        return self.constant("axes_" + "_".join(map(str, axes)), np.array(axes, np.int64))

    def finish(self, shape: tuple[int, ...], *, dynamic_batch: bool = False) -> bytes:
        """The serialised model; `dynamic_batch` names the first axis instead of fixing it."""
        helper, kinds = self.onnx.helper, self.onnx.TensorProto
        last = next(n for n in self.traced.graph.nodes if n.op == "output")
        for made in self.nodes:
            made.output[:] = ["logits" if o == self.output else o for o in made.output]
            made.input[:] = ["logits" if i == self.output else i for i in made.input]
        first: int | str = "batch" if dynamic_batch else shape[0]
        graph = helper.make_graph(
            self.nodes,
            "subnet",
            [helper.make_tensor_value_info("image", kinds.FLOAT, (first, *shape[1:]))],
            [helper.make_tensor_value_info("logits", kinds.FLOAT, (first, *_shape(last.args[0])[1:]))],
            list(self.constants.values()),
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(
            graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="nasvit-edge"
        )
        self.onnx.checker.check_model(model)
        content: bytes = model.SerializeToString(deterministic=True)
        return content


def _attribute(root: Any, path: str) -> Tensor:
    for part in path.split("."):
        root = getattr(root, part)
    tensor: Tensor = root
    return tensor


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["tensor_meta"].shape)


def _conv(graph: Graph, node: Node, conv: nn.Conv2d) -> str:
    inputs = [graph.operand(node.args[0]), graph.weight(f"{node.target}.weight", conv.weight, node)]
    if conv.bias is not None:
        inputs.append(graph.constant(f"{node.target}.bias", conv.bias))
    pads = [int(p) for p in conv.padding] * 2
    return graph.emit(
        "Conv",
        inputs,
        node,
        kernel_shape=list(conv.kernel_size),
        strides=list(conv.stride),
        pads=pads,
        group=conv.groups,
    )


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


def _binary(kind: str) -> Callable[[Graph, Node], str]:
    def write(graph: Graph, node: Node) -> str:
        return graph.emit(kind, [graph.operand(node.args[0]), graph.operand(node.args[1])], node)

    return write


def _layer_norm(graph: Graph, node: Node) -> str:
    shape = tuple(node.args[1])
    ones = graph.constant("ones_" + "x".join(map(str, shape)), np.ones(shape, np.float32))
    inputs = [graph.operand(node.args[0]), ones]
    return graph.emit("LayerNormalization", inputs, node, axis=1, epsilon=node.kwargs["eps"])


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
        listed = axes if isinstance(axes, tuple | list) else (axes,)
        return graph.emit(kind, [x, graph.axes([int(a) for a in listed])], node, keepdims=int(keep))

    return write


def _reshaped(graph: Graph, node: Node) -> str:
    return graph.reshape(node, graph.operand(node.args[0]))


def _transpose(graph: Graph, node: Node) -> str:
    order = list(range(len(_shape(node))))
    a, b = (int(axis) % len(order) for axis in node.args[1:3])
    order[a], order[b] = order[b], order[a]
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


_MODULES: dict[str, Callable[..., str]] = {
    "Conv2d": _conv,
    "Linear": _linear,
    "SiLU": _silu,
    "ReLU": _relu,
    "Hardsigmoid": _hard_sigmoid,
}
_CALLS: dict[str, Callable[..., str]] = {
    operator.add.__name__: _binary("Add"),
    operator.mul.__name__: _binary("Mul"),
    "matmul": _binary("MatMul"),
    "layer_norm": _layer_norm,
    "avg_pool2d": _avg_pool,
    "mean": _reduce("ReduceMean"),
    "sum": _reduce("ReduceSum"),
    "flatten": _reshaped,
    "unflatten": _reshaped,
    "transpose": _transpose,
    "softmax": _softmax,
    "narrow": _narrow,
    "cat": _concat,
}
