"""The proof vectors: logits that the published code computed for eight subnets, and the power of that check."""

from __future__ import annotations

import gzip
import importlib.util
import json
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from held import load_tensors
from torch import Tensor

from nasvit_edge.model.checkpoint import random_supernet
from nasvit_edge.model.subnet import Subnet, fold, materialise
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.ops import MBConv, TransformerBlock
from nasvit_edge.space import SubnetConfig

PARITY = GOLDEN / "parity"
MANIFEST: dict[str, list[int]] = json.loads(gzip.decompress((PARITY / "state_manifest.json.gz").read_bytes()))
SUBNETS: list[dict[str, Any]] = json.loads((PARITY / "subnets.json").read_text())["subnets"]
GENES = ("resolution", "width", "depth", "kernel_size", "expand_ratio")
TOLERANCE = 1e-4


def _fill() -> ModuleType:
    spec = importlib.util.spec_from_file_location("parity_fill", PARITY / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FILL = _fill()


@pytest.fixture(scope="module")
def published(nasvit) -> Supernet:
    """The official supernet with the weights of the fill, read as a checkpoint with published names."""
    values = {name: FILL.fill_entry(name, tuple(shape)) for name, shape in MANIFEST.items()}
    supernet = Supernet(nasvit)
    load_tensors(supernet, {n: torch.from_numpy(v) for n, v in values.items() if v is not None})
    return supernet.eval()


@pytest.fixture(scope="module")
def logits() -> dict[str, Any]:
    return dict(np.load(PARITY / "logits.npz"))


def error(actual: Tensor, expected: Tensor) -> float:
    """The largest difference over the standard deviation of what is expected."""
    return float((actual - expected).abs().max() / expected.std())


def _config(published: Supernet, row: dict[str, Any]) -> SubnetConfig:
    return published.space.config(**{gene: row[gene] for gene in GENES})


def _parameters(subnet: Subnet) -> int:
    """Learned numbers: parameters, and the constants that they were folded into."""
    return sum(p.numel() for p in subnet.parameters())


@pytest.mark.parametrize("row", SUBNETS, ids=lambda row: str(row["id"]))
def test_logits_are_the_published_ones(published, logits, row):
    config = _config(published, row)
    images = torch.from_numpy(FILL.image(2, config.resolution))
    expected = torch.from_numpy(logits[f"logits_{row['id']}"])
    subnet = materialise(published, config)
    with torch.no_grad():
        assert error(published(images, config), expected) < TOLERANCE
        assert error(subnet(images), expected) < TOLERANCE
        assert error(fold(subnet)(images), expected) < TOLERANCE
        assert error(fold(subnet, "NHWC")(images), expected) < TOLERANCE


@pytest.mark.parametrize(
    ("row", "most"), [(SUBNETS[0], 8.24e6), (SUBNETS[1], 16.69e6)], ids=["smallest", "largest"]
)
def test_a_subnet_holds_only_what_it_uses(published, row, most):
    subnet = materialise(published, _config(published, row))
    assert 0.99 * most < _parameters(subnet) <= most
    assert _parameters(fold(subnet)) < _parameters(subnet)


def test_the_first_two_are_the_ends_of_the_space(published):
    assert _config(published, SUBNETS[0]) == published.space.smallest()
    assert _config(published, SUBNETS[1]) == published.space.largest()


# -- the power of the check ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(nano) -> tuple[Subnet, Tensor, Tensor]:
    """The largest subnet of `nano` with generic weights, images, and its logits."""
    subnet = materialise(random_supernet(nano, 3), nano.largest())
    images = torch.from_numpy(FILL.image(4, nano.largest().resolution))
    with torch.no_grad():
        return subnet, images, subnet(images)


def _without(subnet: Subnet, dropped: str, x: Tensor) -> Tensor:
    """The logits without what one block adds: a transformer block whole, an MBConv down to its shortcut."""
    for op in subnet.ops:
        block = subnet.get_submodule(op.name)
        if op.name != dropped:
            x = block(x)
        elif isinstance(op, MBConv):
            x = block.shortcut(x)
    return x


def test_dropping_any_one_block_shows(whole):
    subnet, images, expected = whole
    blocks = [op.name for op in subnet.ops if isinstance(op, MBConv | TransformerBlock)]
    assert len(blocks) == 10
    with torch.no_grad():
        actual = {name: error(_without(subnet, name, images), expected) for name in blocks}
    assert min(actual.values()) > 100 * TOLERANCE, actual


def _branches(subnet: Subnet) -> list[tuple[str, torch.nn.Module]]:
    """Every inner module that ends a branch: attention, both MLPs, and squeeze and excitation."""
    ends = (
        "attention.project",
        "mlp1.outer",
        "mlp2.outer",
        "se.expand",
        "shortcut.conv",
        "attention.value_conv",
    )
    return [(name, module) for name, module in subnet.named_modules() if name.endswith(ends)]


def test_dropping_any_branch_of_a_block_shows(whole):
    subnet, images, expected = whole
    assert len(_branches(subnet)) > 15
    for name, module in _branches(subnet):
        handle = module.register_forward_hook(lambda _module, _inputs, output: torch.zeros_like(output))
        with torch.no_grad():
            assert error(subnet(images), expected) > 100 * TOLERANCE, name
        handle.remove()


@pytest.mark.parametrize("part", ["query", "key", "mix_logits", "mix_weights", "position_table", "value"])
def test_permuting_two_heads_shows(nano, whole, part):
    _, images, expected = whole
    for op in whole[0].ops:
        if not isinstance(op, TransformerBlock):
            continue
        subnet = materialise(random_supernet(nano, 3), nano.largest())
        parameter = subnet.get_parameter(f"{op.name}.attention.{_tensor(part)}")
        parameter.data = _first_two_swapped(parameter.data, part, op)
        with torch.no_grad():
            assert error(subnet(images), expected) > 10 * TOLERANCE, op.name


def _tensor(part: str) -> str:
    return part if part == "position_table" else f"{part}.weight"


def _first_two_swapped(tensor: Tensor, part: str, op: TransformerBlock) -> Tensor:
    if part == "position_table":
        return tensor[:, [1, 0, *range(2, op.heads)]]
    per_head = tensor.shape[0] // op.heads
    order = torch.arange(tensor.shape[0]).view(op.heads, per_head)[[1, 0, *range(2, op.heads)]]
    return tensor[order.flatten()]


def test_another_depth_of_layer_scaling_shows(nano, whole):
    subnet, images, expected = whole
    supernet = random_supernet(nano, 3)
    with torch.no_grad():
        for name, parameter in supernet.named_parameters():
            if name.endswith("scale_attention"):
                parameter.copy_(parameter.roll(1, 0))
        assert error(supernet(images, subnet.config), expected) > 10 * TOLERANCE
