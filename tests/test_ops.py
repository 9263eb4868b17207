"""The one walk: exact MACs, shapes that chain, keys that stay."""

from __future__ import annotations

import functools
import json
import random
from itertools import pairwise

import pytest
import torch
from conftest import GOLDEN, TINY, configs, edited, space_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from nasvit_edge.model.blocks import build
from nasvit_edge.model.checkpoint import random_supernet
from nasvit_edge.model.subnet import materialise
from nasvit_edge.ops import (
    IMAGE,
    Classifier,
    Head,
    MBConv,
    Stem,
    TransformerBlock,
    all_ops,
    kind_of,
    lower,
    macs,
    round8,
    strided,
)
from nasvit_edge.space import load_space

GENES = ("resolution", "width", "depth", "kernel_size", "expand_ratio")
PUBLISHED = json.loads((GOLDEN / "parity" / "subnets.json").read_text())["subnets"]
ODD_WIDTHS = edited(
    TINY,
    ("resolutions = [8, 12]", "resolutions = [9, 13, 15]"),
    ("width = [8]\n", "width = [6, 10]\n"),
    ("width = [8, 16]", "width = [10, 15, 20]"),
)


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: str(row["id"]))
def test_macs_are_exactly_the_published_ones(nasvit, row):
    assert macs(nasvit, nasvit.config(**{gene: row[gene] for gene in GENES})) == row["macs"]


def _counted(op) -> int:
    """Multiply-accumulates of a block as torch counts them."""
    module = build(op).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, *op.in_shape()))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("text", [TINY, ODD_WIDTHS], ids=["even", "odd"])
def test_every_op_has_the_macs_that_torch_counts(text):
    for op in all_ops(space_of(text)):
        assert op.macs() == _counted(op), op.key()


@pytest.mark.parametrize("name", ["nano", "nasvit", "alphanet"])
def test_shipped_ops_have_the_macs_that_torch_counts(name):
    ops = all_ops(load_space(name))
    light = sorted((op for op in ops if op.macs() < 4e7), key=lambda op: op.key())
    for op in random.Random(0).sample(light, 25):
        assert op.macs() == _counted(op), op.key()


@settings(max_examples=8)
@given(st.data())
def test_the_sum_of_macs_is_what_torch_counts_on_the_subnet(nano, data):
    config = data.draw(configs(nano))
    subnet = materialise(random_supernet(nano), config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        subnet(torch.zeros(1, 3, config.resolution, config.resolution))
    assert counter.get_total_flops() == 2 * macs(nano, config)


@pytest.mark.parametrize("name", ["nano", "nasvit", "alphanet"])
@given(st.data())
def test_ops_chain_in_shape(name, data):
    space = load_space(name)
    config = data.draw(configs(space))
    ops = lower(space, config)
    assert ops[0].in_shape() == (3, config.resolution, config.resolution)
    for first, second in pairwise(ops):
        assert first.out_shape() == second.in_shape()
    assert ops[-1].out_shape() == (space.classes,)
    assert len({op.name for op in ops}) == len(ops) == 3 + sum(config.depth)


@pytest.mark.parametrize("name", ["nano", "alphanet", "nano-dense"])
@given(st.data())
def test_ops_say_whose_outputs_they_take(name, data):
    """The first one's is the input; what is added has the shape of the output; only the last op's is not read."""
    space = load_space(name)
    ops = lower(space, data.draw(configs(space)))
    shapes = {IMAGE: ops[0].in_shape()}
    for op in ops:
        taken, *added = op.inputs
        assert shapes[taken] == op.in_shape()
        assert all(shapes[one] == op.out_shape() for one in added)
        shapes[op.name] = op.out_shape()
    read = {one for op in ops for one in op.inputs}
    assert set(shapes) - read == {ops[-1].name}


@pytest.mark.parametrize("name", ["nano", "nano-dense"])
def test_ops_say_their_kind_and_the_place_whose_genes_they_depend_on(name):
    space = load_space(name)
    places = {gene.name.partition(" ")[0] for gene in space.genes} - {"resolution"}
    assert {op.stage for op in lower(space, space.largest())} <= places | {"first_conv", "last_conv"}
    for op in all_ops(space):
        assert kind_of(op.key()) == op.kind


def test_modules_have_the_shapes_that_ops_state():
    for text in (TINY, ODD_WIDTHS):
        for op in all_ops(space_of(text)):
            with torch.no_grad():
                assert build(op).eval()(torch.zeros(2, *op.in_shape())).shape == (2, *op.out_shape()), (
                    op.key()
                )


@given(st.data())
def test_one_more_block_never_has_fewer_macs(nasvit, data):
    config = data.draw(configs(nasvit))
    stage = data.draw(st.integers(0, len(nasvit.stages) - 1))
    choices = nasvit.stages[stage].depth
    if config.depth[stage] == max(choices):
        return
    depth = list(config.depth)
    depth[stage] += 1
    assert macs(nasvit, nasvit.config(**config.to_dict() | {"depth": depth})) > macs(nasvit, config)


def test_the_resolution_of_stages_is_the_published_one(nasvit):
    for resolution, sides in ((288, [144, 144, 72, 36, 18, 9, 9, 5]), (192, [96, 96, 48, 24, 12, 6, 6, 3])):
        ops = lower(nasvit, nasvit.config(**nasvit.smallest().to_dict() | {"resolution": resolution}))
        last = {op.name.split(".")[0]: op.out_shape()[-1] for op in ops[:-2]}
        assert list(last.values()) == sides


def test_keys_are_those_of_the_golden_file():
    """A table measured with an older version must keep its meaning: raise KEY_VERSION to change a key."""
    keys = {op.key() for name in ("nasvit", "nano") for op in all_ops(load_space(name))}
    assert sorted(keys) == (GOLDEN / "op_keys.txt").read_text().split()


@pytest.mark.parametrize("name", ["nano", "nasvit", "alphanet"])
def test_distinct_ops_have_distinct_keys_and_the_other_way_round(name):
    ops = all_ops(load_space(name))
    assert len(set(ops)) == len(ops) == len({op.key() for op in ops})


def test_a_place_is_not_part_of_an_op(nano):
    near = {op.key(): op for op in lower(nano, nano.largest())}
    assert len(near) < len(lower(nano, nano.largest()))
    for op in lower(nano, nano.largest()):
        assert near[op.key()] == op


@pytest.mark.parametrize("name", ["nano", "nasvit", "alphanet"])
@given(st.data())
def test_all_ops_covers_any_subnet(name, data):
    space = load_space(name)
    known = _known(name)
    assert {op.key() for op in lower(space, data.draw(configs(space)))} <= known


@functools.cache
def _known(name: str) -> set[str]:
    return {op.key() for op in all_ops(load_space(name))}


def test_all_ops_is_exactly_the_union_over_all_subnets():
    space = space_of(TINY)
    assert set(all_ops(space)) == {op for config in space.all_configs() for op in lower(space, config)}


def test_all_ops_is_in_a_stable_order(nano):
    assert all_ops(nano) == all_ops(load_space("nano"))


def test_another_input_size_than_the_resolution_can_be_lowered(nano):
    ops = lower(nano, nano.largest(), (24, 40))
    assert ops[0].in_shape() == (3, 24, 40)
    assert [type(op) for op in ops] == [type(op) for op in lower(nano, nano.largest())]
    assert {type(op) for op in ops} == {Stem, MBConv, TransformerBlock, Head, Classifier}


@given(st.floats(0.01, 1e5))
def test_rounding_gives_the_nearest_multiple_of_eight_not_much_below(value):
    rounded = round8(value)
    assert rounded % 8 == 0
    assert rounded >= max(8, 0.9 * value)
    assert abs(rounded - value) <= 4 or rounded == 8 or rounded - 8 < 0.9 * value


@given(st.floats(0.01, 1e5), st.floats(0, 100))
def test_rounding_never_falls(value, more):
    assert round8(value + more) >= round8(value)


@pytest.mark.parametrize(
    ("value", "rounded"), [(20, 24), (28, 32), (12, 16), (11.9, 16), (3, 8), (75.9, 72), (64, 64)]
)
def test_rounding_is_half_up(value, rounded):
    assert round8(value) == rounded


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_strided_sizes_are_those_of_a_convolution(stride, kernel):
    for size in range(1, 40):
        conv = torch.nn.Conv2d(1, 1, kernel, stride, kernel // 2)
        assert conv(torch.zeros(1, 1, size, size)).shape[-1] == strided(size, stride)
