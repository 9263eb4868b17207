"""What a network costs that nobody described to us: counted from its graph as torch.export gives it.

Conventions are those of `sizes`: op by op, what is not read again is freed, and what works element by element writes over an
input that nobody reads behind it. Multiply-accumulates are those of convolutions, linear layers and products of matrices.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from nasvit_edge.errors import SpaceError
from nasvit_edge.model.networks import NetworkBlock, reason


def counted(block: NetworkBlock, side: int) -> dict[str, int]:
    """`macs`, `weights` and `activations` of the network as it ships, and its `parameters`, for images (1, 3, side, side).

    Raises:
        SpaceError: torch.export cannot follow it, as converters would have to.
    """
    deployed, image = block.deployed(), torch.zeros(1, 3, side, side)
    return {
        "macs": _macs(deployed, image),
        "weights": sum(p.numel() for p in deployed.parameters() if p.dim() > 1),
        "parameters": sum(p.numel() for p in block.parameters()),
        "activations": _peak(_graph(deployed, image), image.numel()),
    }


def _macs(module: nn.Module, image: Tensor) -> int:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:  # fused attention would not be counted
        module(image)
    return counter.get_total_flops() // 2


def _graph(block: NetworkBlock, image: Tensor) -> fx.Graph:
    try:
        return torch.export.export(block, (image,)).graph
    except Exception as error:  # noqa: BLE001 - whatever it cannot follow
        raise SpaceError(f"torch.export cannot follow {block.source}: {reason(error)}") from None


def _peak(graph: fx.Graph, image: int) -> int:
    """The most values alive at once; weights are none."""
    sizes = {node: _storage(node) for node in graph.nodes}
    weights = {node for node in graph.nodes if node.op == "placeholder" and node.name != _image(graph)}
    last: dict[int, fx.Node] = {}
    for node in graph.nodes:
        for source in (*node.all_input_nodes, node):
            for key in sizes[source]:
                last[key] = node
    constant = {key for node in weights for key in sizes[node]}
    alive: dict[int, int] = {}
    most = image
    for node in graph.nodes:
        if node in weights or node.op == "output":
            continue
        fresh = {key: size for key, size in sizes[node].items() if key not in alive and key not in constant}
        ending = [key for key, at in last.items() if at is node and key in alive]
        alive |= fresh
        most = max(most, sum(alive.values()) - _written_over(node, fresh, [alive[key] for key in ending]))
        for key in ending:
            del alive[key]
    return most


def _image(graph: fx.Graph) -> str:
    """The name of the image: the last of what goes in; weights come first."""
    return [node.name for node in graph.nodes if node.op == "placeholder"][-1]


def _storage(node: fx.Node) -> dict[int, int]:
    """Of the tensors that a node gives: where they are -> how many values that is. Views are where their source is."""
    return {
        t.untyped_storage()._cdata: t.untyped_storage().nbytes() // t.element_size()
        for t in _tensors(node.meta.get("val"))
    }


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)


def _written_over(node: fx.Node, fresh: dict[int, int], ending: list[int]) -> int:
    """The values of an input that an element-by-element op writes its output over."""
    pointwise = torch.Tag.pointwise in getattr(node.target, "tags", ())
    size = sum(fresh.values())
    return size if pointwise and size in ending else 0
