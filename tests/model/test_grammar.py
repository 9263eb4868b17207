"""The grammar of blocks: every key alone and with others, over spaces that nobody ships."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path

import pytest
import torch
from conftest import configs, one_line
from grammar_spaces import ALONE, space_with, spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from nasvit_edge import sizes
from nasvit_edge.errors import SpaceError
from nasvit_edge.genes import GENES
from nasvit_edge.model.blocks import build
from nasvit_edge.model.checkpoint import random_supernet
from nasvit_edge.model.narrow import narrowed
from nasvit_edge.model.subnet import fold, fold_for, materialise, parameter_count
from nasvit_edge.ops import all_ops, lower, macs
from nasvit_edge.space import SearchSpace, SubnetConfig, parse_space, space_toml
from nasvit_edge.train.initial import initialised
from nasvit_edge.train.quantised import QuantisedSupernet


def check(space: SearchSpace, config: SubnetConfig) -> None:
    """A subnet is of its space, costs what its ops say, and computes what the supernet does, also written down and alone."""
    assert space.config(**config.to_dict()) == config
    assert parse_space(tomllib.loads(space_toml(space)), Path("written.toml")) == space
    ops = lower(space, config)
    supernet = random_supernet(space, 1)
    subnet = materialise(supernet, config)
    images = torch.randn(2, 3, *subnet.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = supernet(images, config)
        assert torch.equal(subnet(images), expected)
        assert _apart(fold(subnet)(images), expected) < 1e-4
        assert _apart(fold_for(subnet, "litert")(images), expected) < 1e-4
        assert torch.equal(narrowed(supernet, config)(images, config), expected)
        with FlopCounterMode(display=False) as counter:
            subnet(images[:1])
    assert counter.get_total_flops() == 2 * macs(space, config)
    for op in ops:
        _check_op(op)
    alone = space.only(config)
    assert (alone.size(), alone.largest(), alone.smallest()) == (1, config, config)
    assert lower(alone, config) == ops


def _check_op(op) -> None:
    module = build(op).eval()
    with torch.no_grad():
        x = torch.zeros(2, *op.in_shape())
        assert module(x).shape == (2, *op.out_shape()), op.key()
    assert sizes.parameters(op) == parameter_count(op), op.key()
    assert sizes.activations(op) >= max(x[0].numel(), 1)


def _apart(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual - expected).abs().max() / expected.std().clamp(min=1e-6))


@pytest.mark.parametrize("keys", ALONE, ids=str)
def test_every_key_works_alone(keys):
    space = space_with(**keys)
    check(space, space.sample(random.Random(str(keys))))


@settings(max_examples=20)
@given(st.data())
def test_any_keys_work_together(data):
    space = data.draw(spaces())
    check(space, data.draw(configs(space)))


@settings(max_examples=15)
@given(spaces())
def test_distinct_ops_have_distinct_keys_whatever_the_keys(space):
    ops = all_ops(space)
    assert len(set(ops)) == len(ops) == len({op.key() for op in ops})


def test_a_list_is_a_gene_and_a_number_is_none():
    space = space_with(
        {"width": 24, "depth": 2, "expand_ratio": 2.5, "kernel_size": 3}, attention={"mlps": [1, 2]}
    )
    assert [gene.name for gene in space.genes] == [
        "resolution", "first_conv width", "mb2 width", "mb2 depth", "mb2 kernel size", "mb2 expand ratio", "mb2 mlps",
        "last_conv width",
    ]  # fmt: skip
    assert space.smallest().line() == "r:8 w:8-16-16 d:1 k:3 e:2 n:1"
    assert set(GENES) | {"resolution"} == set(SubnetConfig.__struct_fields__)


def test_blocks_choose_for_themselves_where_a_list_is_in_a_list():
    space = space_with({"kernel_size": [[3, 5], [3], [5]], "depth": [3]})
    assert [gene.name for gene in space.genes if gene.kind == "kernel_size"][:3] == [
        "mb1 kernel size 0", "mb1 kernel size 1", "mb1 kernel size 2"]  # fmt: skip
    assert [op.kernel_size for op in lower(space, space.largest()) if op.name.startswith("mb1")] == [5, 3, 5]


def test_a_tied_width_is_the_one_before():
    space = space_with({"width": "same"})
    for config in (space.smallest(), space.largest()):
        assert {op.out_shape()[0] for op in lower(space, config) if op.name.startswith("mb1")} == {
            config.width[0]
        }


def test_widths_that_have_to_rise_do():
    space = space_with({"width": [8, 16, 24]}, common={"widths_rise": True})
    every = list(space.all_configs())
    assert len(every) == space.size() < space_with({"width": [8, 16, 24]}).size()
    assert all(list(c.width[:3]) == sorted(c.width[:3]) for c in every)
    assert set(all_ops(space)) == {op for config in every for op in lower(space, config)}
    rng = random.Random(0)
    assert {space.sample(rng) for _ in range(200)} <= set(every)
    with pytest.raises(SpaceError, match="less than the width before"):
        space.config(**space.smallest().to_dict() | {"width": [16, 8, 16, 16]})


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"mbconv": {"width": "wide"}}, "stage[0].width"),
        ({"mbconv": {"kernel_size": [3, [5]]}}, "stage[0].kernel_size"),
        ({"mbconv": {"kernel_size": [[3]]}}, "2 blocks need one each"),
        ({"mbconv": {"kernel_size": [[5, 3], [3]]}}, "rising"),
        ({"mbconv": {"kernel_size": 4}}, "odd"),
        ({"mbconv": {"form": "fused", "expand_ratio": [1]}}, "stage[0].se"),
        ({"mbconv": {"attention": {"mlps": 1}}}, "is for hybrid stages"),
        ({"mbconv": {"counts_first": False}}, "is for hybrid stages"),
        ({"hybrid": {"kernel_size": [[3]]}}, "one MBConv"),
        ({"hybrid": {"width": "same"}}, "stage[1].width"),
        ({"attention": {"mlps": 0}}, "stage[1].attention.mlps"),
        ({"attention": {"norm": "batch"}}, "sample, token"),
        ({"attention": {"head_width": 32}}, "multiples of the head_width"),
        ({"common": {"activation": "swish"}}, "silu"),
        ({"common": {"widths_rise": True}, "mbconv": {"width": [16, 40]}}, "rise"),
        ({"head": {"kind": "pooled", "width": [8], "expand_ratio": 2}}, "head.expand_ratio"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_told(keys, told):
    with pytest.raises(SpaceError) as caught:
        space_with(**keys)
    assert told in one_line(caught)


TRAINED = (
    {
        "mbconv": {"form": "fused", "shortcut": "none"},
        "attention": {"mixing": "none", "norm": "token", "scaling": False},
    },
    {
        "mbconv": {"se": [0, 1], "shortcut": "identity"},
        "attention": {"mlps": [1, 3], "mlp_ratio": [1, 2], "bias": False},
    },
)


@pytest.mark.parametrize("keys", TRAINED, ids=str)
def test_a_new_supernet_learns_with_all_that_a_subnet_uses(keys):
    """Also where no shortcut is beside a block: one that began with zeros would never give anything."""
    space = space_with(**keys)
    supernet = initialised(space, 0).train()
    for config in (space.largest(), space.smallest()):
        images = torch.randn(4, 3, config.resolution, config.resolution)
        outputs = supernet(images, config)
        assert outputs.std() > 1e-3
        supernet.zero_grad()
        outputs.square().sum().backward()
        assert _learning(supernet) == _used(space, config)


@pytest.mark.parametrize("keys", TRAINED, ids=str)
def test_training_in_eight_bits_folds_what_blocks_compute(keys):
    space = space_with(**keys)
    alone = narrowed(random_supernet(space, 1), space.largest())
    quantised = QuantisedSupernet(alone)
    config = alone.space.largest()
    images = torch.randn(2, 3, config.resolution, config.resolution)
    with torch.no_grad():
        expected = quantised.eval()(images, config)
    actual = quantised.train()(images, config)
    assert _apart(actual.detach(), expected) < 0.5
    actual.sum().backward()
    assert _learning(quantised) == _used(alone.space, config)


def _learning(supernet) -> set[str]:
    return {name for name, parameter in supernet.named_parameters() if parameter.grad is not None}


def _used(space, config) -> set[str]:
    return {f"{op.name}.{n}" for op in lower(space, config) for n, _ in build(op).named_parameters()}
