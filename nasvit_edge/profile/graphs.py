"""What a graph is known by: a hash of what is computed, however the code that builds it spells it.

Equal hashes are the same computation on the same shapes, so that what was measured of one holds for the other. The versions of
converters are not part of it: tables and files of models keep them beside it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from nasvit_edge.export.artifact import versions
from nasvit_edge.export.formats import format_for, node_prefix
from nasvit_edge.ops import Op

if TYPE_CHECKING:
    from torch import fx, nn

_HASH = "[0-9a-f]{24}"


def graph_hash(module: nn.Module, shape: tuple[int, ...], layout: str = "") -> str:
    """The hash of a module's graph for an input of this shape: its trace, settings and the shapes of all weights.

    `layout`: in what numbers it is written, where that is not what it was at first.
    """
    return _hashed([*_parts(module, shape, plain=True), *([layout] if layout else [])])


def layout_of(runtime: str, precision: str) -> str:
    """How a runtime's ops are written at a precision, once that is another way than at first."""
    number = format_for(runtime).layouts.get(precision)
    return f"{precision} {number}" if number else ""


def former_hashes(module: nn.Module, shape: tuple[int, ...], runtime: str) -> list[str]:
    """What tables say that were made before: with the converter's versions, as the code was spelled, below fp32 with the op's name."""
    made_by = converters(runtime)
    return [_hashed([*_parts(module, shape, plain=plain), *made_by]) for plain in (False, True)]


def _hashed(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def _parts(module: nn.Module, shape: tuple[int, ...], *, plain: bool) -> list[str]:
    import torch

    traced = torch.fx.symbolic_trace(module)
    for node in traced.graph.nodes if plain else ():
        node.kwargs = {key: value for key, value in node.kwargs.items() if not _is_default(node, key, value)}
    traced.recompile()
    tensors = [(name, tuple(value.shape)) for name, value in module.state_dict().items()]
    settings = [str(child) for child in module.modules() if not list(child.children())]
    return [str(shape), traced.code, str(tensors), *settings]


def _is_default(node: fx.Node, key: str, value: Any) -> bool:
    """Whether an argument is what every operator of this name takes without it: `keepdim=False` of `mean`."""
    import torch

    if node.op not in ("call_method", "call_function"):
        return False
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    schemas = torch._C._jit_get_schemas_for_operator(f"aten::{name}")
    known = [argument for schema in schemas for argument in schema.arguments if argument.name == key]
    return bool(known) and all(a.has_default_value() and a.default_value == value for a in known)


def converters(runtime: str) -> list[str]:
    """What makes a runtime's files from graphs, with versions; nothing where that is our own code."""
    return [f"{name} {versions().get(name)}" for name in format_for(runtime).graph_packages]


def named_block(block: nn.Module, op: Op, precision: str) -> nn.Module:
    """An op's module as it is converted at a precision: below fp32 under its name, which says whether it becomes int8."""
    import torch

    if precision == "fp32":
        return block
    return torch.nn.Sequential(OrderedDict({node_prefix(op.name): block})).eval()
