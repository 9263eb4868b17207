"""The models that are measured: one file per op, and whole subnets for the composition."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasvit_edge import files
from nasvit_edge.export.artifact import versions
from nasvit_edge.export.formats import Format, format_names, load_format
from nasvit_edge.latency import RUNTIMES, check_choice
from nasvit_edge.ops import Op, all_ops, macs
from nasvit_edge.space import SearchSpace, SubnetConfig

if TYPE_CHECKING:
    from torch import nn

EMPTY = "empty"  # a model that does next to nothing: what a call takes


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to measure: an op, a whole subnet, or the empty model (neither)."""

    id: str
    op: Op | None = None
    config: SubnetConfig | None = None


def work_list(space: SearchSpace, subnets: int, seed: int) -> list[Item]:
    """The empty model, every op of the space, and `subnets` whole subnets."""
    items = [Item(EMPTY)] + [Item(op.key(), op=op) for op in all_ops(space)]
    return items + [Item(subnet_id(c), config=c) for c in composition_subnets(space, subnets, seed)]


def subnet_id(config: SubnetConfig) -> str:
    """A subnet's id in a journal."""
    return f"subnet:{json.dumps(config.to_dict(), sort_keys=True)}"


def composition_subnets(space: SearchSpace, count: int, seed: int) -> list[SubnetConfig]:
    """Smallest, largest, and subnets spread evenly over log MACs: sums alone must not be extrapolated."""
    rng = random.Random(seed)
    drawn = sorted({_mixed(space, rng) for _ in range(8 * count)}, key=lambda c: macs(space, c))
    chosen = dict.fromkeys([space.smallest(), space.largest()])
    for i in range(count - 2):
        chosen.setdefault(drawn[min(len(drawn) - 1, i * len(drawn) // max(1, count - 2))])
    return list(chosen)


def _mixed(space: SearchSpace, rng: random.Random) -> SubnetConfig:
    """A subnet whose genes lean small or large together: uniform genes alone all have middling sizes."""
    lean = rng.random()
    values = []
    for gene in space.genes:
        low = rng.random() < 0.6
        pick = round(lean * (len(gene.choices) - 1)) if low else rng.randrange(len(gene.choices))
        values.append(gene.choices[pick])
    return space.from_choices(values)


def format_for(runtime: str) -> Format:
    """The format that a runtime reads."""
    check_choice("runtime", runtime, RUNTIMES)
    return next(f for f in map(load_format, format_names()) if f.runtime == runtime)


@dataclass(slots=True)
class Models:
    """Makes model files for a runtime in `folder`; slow conversions are kept in the user's cache."""

    space: SearchSpace
    runtime: str
    folder: Path
    seed: int = 0
    supernet: Any = None

    def path(self, item: Item) -> tuple[Path, str]:
        """The model file of an item and the hash of its lowering."""
        form = format_for(self.runtime)
        module, shape = self._module(item, form.layout)
        lowering = lowering_hash(module, shape, self.runtime)
        path = self._folder(form) / f"{lowering}{form.suffix}"
        if not path.exists():
            files.write_bytes(path, form.module().convert(module, shape))
        return path, lowering

    def _folder(self, form: Format) -> Path:
        if form.name == "onnx":  # milliseconds each: not worth keeping
            return self.folder
        from platformdirs import user_cache_path

        return user_cache_path("nasvit-edge") / "models"

    def _module(self, item: Item, layout: str) -> tuple[nn.Module, tuple[int, ...]]:
        import torch

        if item.op is not None:
            return op_module(item.op, layout), (1, *item.op.in_shape())
        if item.config is None:
            return torch.nn.Sequential(torch.nn.ReLU()), (1, 8)
        from nasvit_edge.model.checkpoint import random_supernet
        from nasvit_edge.model.subnet import fold, materialise

        self.supernet = self.supernet or random_supernet(self.space, self.seed)
        side = item.config.resolution
        return fold(materialise(self.supernet, item.config), layout), (1, 3, side, side)


def op_module(op: Op, layout: str = "NCHW") -> nn.Module:
    """The module that ships for an op: generic weights, folded."""
    from nasvit_edge.model.blocks import build
    from nasvit_edge.model.checkpoint import fill_generic
    from nasvit_edge.model.folded import fold_block

    block = build(op)
    fill_generic(block)
    return fold_block(block.eval(), layout)


def lowering_hash(module: nn.Module, shape: tuple[int, ...], runtime: str) -> str:
    """A hash of everything that decides the graph: the trace, all shapes, and the converter's versions."""
    import torch

    traced = torch.fx.symbolic_trace(module)
    tensors = [(name, tuple(value.shape)) for name, value in module.state_dict().items()]
    parts = [str(shape), traced.code, str(tensors), *_settings(module), *_converters(runtime)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def _settings(module: nn.Module) -> Iterator[str]:
    yield from (str(child) for child in module.modules() if not list(child.children()))


def _converters(runtime: str) -> list[str]:
    names = ("litert-torch", "torch") if runtime == "litert" else ()
    return [f"{name} {versions().get(name)}" for name in names]
