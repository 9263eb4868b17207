"""The models that are measured: one file per op, and whole subnets for the composition."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasvit_edge import cache, files
from nasvit_edge.code import conversion_digest
from nasvit_edge.export.formats import Content, Conversion, Format, format_for, node_prefix
from nasvit_edge.ops import (
    Classifier,
    Labels,
    Lateral,
    Op,
    PixelClassifier,
    TransformerBlock,
    WholeNetwork,
    all_ops,
    lower,
    macs,
)
from nasvit_edge.profile.graphs import converters, graph_hash, layout_of, named_block
from nasvit_edge.space import SearchSpace, SubnetConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

_SIDE = 8
_QUIET = 0.1  # of the last batch norm in an inverted residual, as trained ones are small
_LARGE = 50_000_000  # multiply-accumulates of a subnet that takes a second to build
EMPTY = "empty"  # a model that does next to nothing: what a call takes


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to measure: an op, a whole subnet, or the empty model (neither)."""

    id: str
    op: Op | None = None
    config: SubnetConfig | None = None


def op_items(space: SearchSpace) -> list[Item]:
    """Every op of the space."""
    return [Item(op.key(), op=op) for op in all_ops(space)]


def subnet_items(space: SearchSpace, subnets: int, seed: int) -> list[Item]:
    """Whole subnets for the composition."""
    return [Item(subnet_id(c), config=c) for c in composition_subnets(space, subnets, seed)]


def subnet_id(config: SubnetConfig) -> str:
    """A subnet's id in a journal."""
    return f"subnet:{json.dumps(config.to_dict(), sort_keys=True)}"


def composition_subnets(space: SearchSpace, count: int, seed: int) -> list[SubnetConfig]:
    """Smallest, largest, a third uniform over genes, the others spread evenly over log MACs.

    Sums alone must not be extrapolated, and uniform genes alone all have middling sizes.
    """
    rng = random.Random(seed)
    drawn = sorted({mixed(space, rng) for _ in range(8 * count)}, key=lambda c: macs(space, c))
    chosen = dict.fromkeys([space.smallest(), space.largest()])
    chosen |= dict.fromkeys(space.sample(rng) for _ in range(count // 3))
    steps = np.linspace(
        math.log(macs(space, drawn[0])), math.log(macs(space, drawn[-1])), count - len(chosen)
    )
    for step in steps:
        left = [c for c in drawn if c not in chosen]
        if left:
            chosen[min(left, key=lambda c: abs(math.log(macs(space, c)) - step))] = None
    return list(chosen)


def mixed(space: SearchSpace, rng: random.Random) -> SubnetConfig:
    """A subnet whose genes lean small or large together: uniform genes alone all have middling sizes."""
    lean = rng.random()
    values = []
    for gene in space.genes:
        low = rng.random() < 0.6
        pick = round(lean * (len(gene.choices) - 1)) if low else rng.randrange(len(gene.choices))
        values.append(gene.choices[pick])
    return space.from_choices(space.rising(values))


@dataclass(slots=True)
class Models:
    """Makes model files for a runtime in `folder`; slow conversions are kept in the user's cache."""

    space: SearchSpace
    runtime: str
    folder: Path
    seed: int = 0
    precision: str = "fp32"
    supernet: Any = None
    known: dict[str, str] = field(default_factory=dict)  # item id -> hash of its graph, where made before

    @property
    def is_slow(self) -> bool:
        """Whether the conversion of an op takes about a second."""
        return self._format.slow or self.precision == "int8"

    @property
    def _format(self) -> Format:
        return format_for(self.runtime)

    def takes_a_second(self, item: Item) -> bool:
        """Whether the conversion of an item does."""
        return self.is_slow or (item.config is not None and macs(self.space, item.config) > _LARGE)

    def path(self, item: Item) -> tuple[Path, str]:
        """The model file of an item and the hash of its graph."""
        form = format_for(self.runtime)
        if (
            item.id in self.known
            and not self._chained(item)
            and self._file(item, form, self.known[item.id]).exists()
        ):
            return self._file(item, form, self.known[item.id]), self.known[item.id]
        if self._chained(item):
            return self._chain(item, form)
        graph, module, shape = self._graph(item)
        path = self._file(item, form, graph)
        if not path.exists():
            module = module or self._module(item)[0]
            template = None if item.op is None or not form.chained else template_of(item.op)
            if template is None or template == item.op:
                content: Content = form.module().device_model(module, shape, self._recipe(item, shape))
            else:
                content = self._resized(template, item, shape)
            if isinstance(content, dict):
                files.write_tree(path, content)
            else:
                files.write_bytes(path, content)
        return path, graph

    def _resized(self, template: Op, item: Item, shape: tuple[int, ...]) -> bytes:
        """An op's graph from that of the same op on another side."""
        floats = replace(self, precision="fp32")
        model, _ = floats.path(Item(template.key(), op=template))
        return self._format.chaining().resized(model.read_bytes(), shape, self._recipe(item, shape))

    def _chained(self, item: Item) -> bool:
        """Whether an item is a whole subnet that is put together from its ops."""
        return self._format.chained and item.config is not None

    def _chain(self, item: Item, form: Format) -> tuple[Path, str]:
        assert item.config is not None
        ops = lower(self.space, item.config)
        floats = replace(self, precision="fp32")
        chain = [floats.path(Item(op.key(), op=op)) for op in ops]
        graph = hashlib.sha256(" ".join(graph for _, graph in chain).encode()).hexdigest()[:24]
        self.known[item.id] = graph
        path = self._file(item, form, graph)
        if not path.exists():
            names = [("_" if self.space.is_dense else "") + node_prefix(op.name) for op in ops]
            recipe = self._recipe(item, (1, *ops[0].in_shape()))
            parts = [part.read_bytes() for part, _ in chain]
            files.write_bytes(path, form.chaining().chained(parts, names, sources(ops), recipe))
        return path, graph

    def is_kept(self, item: Item) -> bool:
        """Whether an item was converted before."""
        form = format_for(self.runtime)
        if self._chained(item):
            return True
        if item.id not in self.known:
            self._graph(item)
        return self._file(item, form, self.known[item.id]).exists()

    def _graph(self, item: Item) -> tuple[str, nn.Module | None, tuple[int, ...]]:
        """The hash of an item's graph, its module where it had to be built for that, and its input."""
        if item.config is not None:  # building one takes a second, and nobody compares these
            graph = hashlib.sha256(f"{self.space.name} {item.id} {self.seed}".encode()).hexdigest()[:24]
            self.known[item.id] = graph
            return graph, None, (1, 3, *self.space.input_size(item.config.resolution))
        module, shape = self._module(item)
        bare = next(module.children()) if item.op is not None and self.precision != "fp32" else module
        self.known[item.id] = graph_hash(bare, shape, layout_of(self.runtime, self.precision))
        return self.known[item.id], module, shape

    def parts(self, item: Item) -> list[Item]:
        """What has to be converted for an item: itself, or the ops that it is put together from."""
        if not self._format.chained:
            return [item]
        ops = [item.op] if item.op is not None else lower(self.space, item.config) if item.config else []
        if self.precision != "fp32" and item.op is not None:
            return [item]
        return [Item(t.key(), op=t) for t in map(template_of, ops)]

    def _file(self, item: Item, form: Format, graph: str) -> Path:
        suffix = form.model_suffix
        if not self.is_slow or item.config is not None:  # quick to make, or as large as all its ops
            return self.folder / f"{graph}-{self.precision}{suffix}"
        made_by = hashlib.sha256(" ".join([conversion_digest(), *converters(self.runtime)]).encode())
        folder = cache.root() / "models" / made_by.hexdigest()[:16]
        return folder / f"{graph}-{self.precision}{suffix}"

    def _recipe(self, item: Item, shape: tuple[int, ...]) -> Conversion:
        """Ranges for int8 from the same kind of values that are timed."""
        output = _output(item, dense=self.space.is_dense)
        no_weights = item.id == EMPTY or isinstance(item.op, Labels)
        if no_weights and self.precision != "fp16":  # nothing to quantise
            return Conversion(output=output)
        if self.precision != "int8":
            return Conversion(precision=self.precision, output=output)
        values = np.random.default_rng(self.seed).normal(size=(4, *shape[1:])).astype(np.float32)
        return Conversion(precision="int8", calibration=values, output=output)

    def _module(self, item: Item) -> tuple[nn.Module, tuple[int, ...]]:
        import torch

        if item.op is not None:
            block = op_module(item.op, self.runtime)
            return named_block(block, item.op, self.precision), (1, *item.op.in_shape())
        if item.config is None:
            return torch.nn.Sequential(torch.nn.ReLU()), (1, 8)
        from nasvit_edge.model.checkpoint import random_supernet
        from nasvit_edge.model.subnet import PixelLabels, fold_for, materialise

        self.supernet = self.supernet or random_supernet(self.space, self.seed)
        subnet = fold_for(materialise(self.supernet, item.config), self.runtime)
        shape = (1, 3, *self.space.input_size(item.config.resolution))
        return PixelLabels(subnet).eval() if self.space.is_dense else subnet, shape


def _output(item: Item, *, dense: bool) -> str:
    """What a model gives, in the words of `Conversion`; empty where it is nothing of a segmenter's end."""
    if isinstance(item.op, Labels) or (item.config is not None and dense):
        return "labels"
    return "logits" if isinstance(item.op, PixelClassifier) else ""


def sources(ops: Sequence[Op]) -> list[int]:
    """The op, by its number, on whose output each op computes; -1 for the input."""
    at = {op.name: number for number, op in enumerate(ops)}
    return [at.get(op.inputs[0], -1) for op in ops]


def template_of(op: Op) -> Op:
    """The op of the same weights on a small side, whose TFLite graph differs in sizes only.

    The parity of the side stays: it decides where a stride pads. Attention and resizing have shapes among their constants.
    """
    if isinstance(op, TransformerBlock | Classifier | Lateral | Labels | WholeNetwork):
        return op
    return replace(op, height=_SIDE + op.height % 2, width=_SIDE + op.width % 2)


def op_module(op: Op, runtime: str = "onnxruntime") -> nn.Module:
    """The module that ships for an op: generic weights, folded; a resized lateral adds a constant where the sum so far would be."""
    import torch

    from nasvit_edge.model.blocks import build
    from nasvit_edge.model.checkpoint import fill_generic, settle
    from nasvit_edge.model.rewrites import fold_block

    block = build(op)
    fill_generic(block)
    if isinstance(op, WholeNetwork):
        settle(block, (op.height, op.width))
    elif not isinstance(op, Lateral):
        _damp(block)
    folded = fold_block(block.eval(), runtime)
    if (
        not isinstance(op, Lateral) or op.out_shape()[1:] == op.in_shape()[1:]
    ):  # that of the finest level begins the sum
        return folded
    total = torch.randn(1, *op.out_shape(), generator=torch.Generator().manual_seed(0))
    return _adding(folded, total).eval()


def _adding(module: nn.Module, total: Tensor) -> nn.Module:
    """The module with a constant added to what it gives."""
    from torch import nn

    class Adding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = module
            self.register_buffer("total", total)

        def forward(self, x: Tensor) -> Tensor:
            return self.branch(x) + self.total

    return Adding()


def _damp(block: nn.Module) -> None:
    """Quieter branches: what a chain of ops adds up stays within what int8 runtimes can scale."""
    import torch

    with torch.no_grad():
        for name, value in block.named_parameters():
            if name.startswith("project.norm."):
                value.mul_(_QUIET)
