"""The conflict meter: the cosines of the gradients, whole rows, and a size that stays bounded."""

from __future__ import annotations

import csv
import random

import numpy as np
import pytest
import torch
from conftest import one_line
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.errors import TrainingError
from nasvit_edge.model.checkpoint import random_supernet
from nasvit_edge.train.conflicts import DENSE, Meter, block, layer, stride
from nasvit_edge.train.merge import merge
from nasvit_edge.train.recipe import load_recipe
from nasvit_edge.train.step import Passes, sandwich

RECIPE = load_recipe("nasvit")
NAMES = [
    "first_conv.body.conv.weight",
    "first_conv.body.norm.weight",
    "first_conv.body.norm.bias",
    "mb1.0.shortcut.conv.weight",
    "mb2.1.scale_mlp",
    "mb2.1.attention.query.weight",
    "mb2.1.attention.query.bias",
    "mb2.1.attention.position_table",
    "classifier.linear.weight",
    "classifier.linear.bias",
]


pytestmark = pytest.mark.usefixtures("one_thread")


def rows(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def gradients(rng, shapes):
    """One in five is absent."""
    return [
        None if rng.random() < 0.2 else torch.from_numpy(rng.normal(size=shape)).float() for shape in shapes
    ]


def cosine(largest, subnets):
    """Of what is there, as one vector each, in float64."""
    zeros = [torch.zeros_like(a if a is not None else b) for a, b in zip(largest, subnets, strict=True)]
    one, two = (
        torch.cat([(z if g is None else g).flatten().double() for g, z in zip(gs, zeros, strict=True)])
        for gs in (largest, subnets)
    )
    return (one @ two / (one.norm() * two.norm())).item()


@given(seed=st.integers(0, 2**31))
@settings(max_examples=30)
def test_every_cell_is_the_cosine_of_the_two_gradients_of_its_place(seed, tmp_path_factory):
    rng = np.random.default_rng(seed)
    shapes = [tuple(rng.integers(1, 4, rng.integers(1, 4))) for _ in NAMES]
    largest, subnets = gradients(rng, shapes), gradients(rng, shapes)
    subnets[0] = torch.ones(shapes[0])
    path = tmp_path_factory.getbasetemp() / "cells.csv"
    with Meter(NAMES, path) as meter:
        meter.record(1, merge(largest, subnets, RECIPE.merge, project=True).products)
    (row,) = rows(path)
    for place in list(row)[1:]:
        of = [i for i, n in enumerate(NAMES) if place in ("all", layer(n), block(n))]
        one, two = [largest[i] for i in of], [subnets[i] for i in of]
        shared = [a is not None or b is not None for a, b in zip(one, two, strict=True)]
        one, two = ([g for g, kept in zip(gs, shared, strict=True) if kept] for gs in (one, two))
        if all(g is None for g in one) or all(g is None for g in two):
            assert row[place] == ""
        else:
            assert float(row[place]) == pytest.approx(cosine(one, two), rel=1e-3, abs=1e-5)


def test_weight_and_bias_are_one_layer_and_each_block_has_a_column():
    assert [layer(name) for name in NAMES[:3]] == ["first_conv.body.conv", *["first_conv.body.norm"] * 2]
    assert layer("mb2.1.scale_mlp") == "mb2.1.scale_mlp"
    assert layer("mb2.1.attention.position_table") == "mb2.1.attention.position_table"
    assert [block(name) for name in NAMES[3:5]] == ["mb1.0", "mb2.1"]
    assert block("classifier.linear.weight") == "classifier"


def test_the_header_lists_all_then_blocks_with_their_layers_in_order(tmp_path):
    with Meter(NAMES, tmp_path / "c.csv"):
        pass
    assert (tmp_path / "c.csv").read_text() == (
        "step,all,first_conv,first_conv.body.conv,first_conv.body.norm,mb1.0,mb1.0.shortcut.conv,mb2.1,mb2.1.scale_mlp,"
        "mb2.1.attention.query,mb2.1.attention.position_table,classifier,classifier.linear\n"
    )


def products_of(tiny, step: int):
    torch.manual_seed(step)
    supernet = random_supernet(tiny, 1).train()
    passes = Passes(supernet, RECIPE)
    images, labels = torch.randn(4, 3, 12, 12), torch.randint(0, 4, (4,))
    passed = passes(images, labels, sandwich(tiny, RECIPE.subnets, random.Random(step)))
    return passed, merge(passed.largest, passed.subnets, RECIPE.merge, project=False).products


def test_in_a_real_step_blocks_that_no_other_subnet_uses_stay_empty(tiny, tmp_path):
    names = [name for name, _ in random_supernet(tiny).named_parameters()]
    unused = 0
    with Meter(names, tmp_path / "c.csv") as meter:
        for step in range(1, 4):
            passed, products = products_of(tiny, step)
            meter.record(step, products)
            unused += sum(g is None for g in passed.subnets)
    actual = rows(tmp_path / "c.csv")
    assert [int(row["step"]) for row in actual] == [1, 2, 3]
    cells = [float(value) for row in actual for place, value in row.items() if place != "step" and value]
    assert all(-1 <= cell <= 1 for cell in cells)
    assert any(cell < 0 for cell in cells)
    assert all(row["first_conv"] for row in actual)
    assert unused
    assert any(value == "" for row in actual for value in row.values())


def test_a_step_waits_for_the_device_once(tiny, tmp_path, monkeypatch):
    _, products = products_of(tiny, 1)
    names = [name for name, _ in random_supernet(tiny).named_parameters()]
    waits = []
    copy = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: waits.append("cpu") or copy(self))
    for method in ("item", "tolist", "__float__", "__bool__"):
        monkeypatch.setattr(torch.Tensor, method, lambda self, m=method: waits.append(m))
    with Meter(names, tmp_path / "c.csv") as meter:
        meter.record(1, products)
    assert waits == ["cpu"]


def test_a_nan_in_one_layer_empties_that_layer_alone(tmp_path):
    ones = [torch.ones(2) for _ in NAMES]
    broken = [torch.full((2,), torch.nan) if i == 3 else g for i, g in enumerate(ones)]
    with Meter(NAMES, tmp_path / "c.csv") as meter:
        meter.record(1, merge(ones, broken, RECIPE.merge, project=False).products)
    (row,) = rows(tmp_path / "c.csv")
    assert [place for place, value in row.items() if not value] == ["all", "mb1.0", "mb1.0.shortcut.conv"]


@given(cut=st.integers(0, 400), resumed=st.integers(1, 6))
@settings(max_examples=40)
def test_after_a_kill_and_a_resume_the_file_is_that_of_an_uninterrupted_run(cut, resumed, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    products_of_steps = [merge(*_pair(step), RECIPE.merge, project=False).products for step in range(1, 8)]
    with Meter(NAMES, folder / "whole.csv") as meter:
        for step, products in enumerate(products_of_steps, 1):
            meter.record(step, products)
    whole = (folder / "whole.csv").read_bytes()
    ends = [i for i, byte in enumerate(whole) if byte == 10]
    kept = max(len(whole) - cut, ends[resumed] + 1)  # what a checkpoint flushed is there
    (folder / "cut.csv").write_bytes(whole[:kept])
    with Meter(NAMES, folder / "cut.csv", resume_step=resumed) as meter:
        for step, products in enumerate(products_of_steps[resumed:], resumed + 1):
            meter.record(step, products)
    assert (folder / "cut.csv").read_bytes() == whole


def _pair(step):
    torch.manual_seed(step)
    return [torch.randn(3) for _ in NAMES], [torch.randn(3) for _ in NAMES]


def test_a_file_of_another_network_is_not_continued(tmp_path):
    with Meter(NAMES, tmp_path / "c.csv"):
        pass
    with pytest.raises(TrainingError, match="other columns") as caught:
        Meter(NAMES[:-2], tmp_path / "c.csv", resume_step=3)
    one_line(caught)


def test_every_step_is_measured_at_first_and_rows_stay_few_forever(tmp_path):
    assert all(stride(step) == 1 for step in (1, 2, DENSE))
    assert stride(DENSE + 1) == 10
    measured = sum(1 for step in range(1, 50 * DENSE) if step % stride(step) == 0)
    assert measured < 3 * DENSE
    with Meter(NAMES, tmp_path / "c.csv") as meter:
        for step in range(DENSE - 1, DENSE + 21):
            meter.record(step, merge(*_pair(step), RECIPE.merge, project=False).products)
    assert [int(row["step"]) - DENSE for row in rows(tmp_path / "c.csv")] == [-1, 0, 10, 20]


def test_products_of_other_gradients_are_a_bug_not_a_row(tmp_path):
    largest, subnets = _pair(1)
    products = merge(largest[:3], subnets[:3], RECIPE.merge, project=False).products
    with Meter(NAMES, tmp_path / "c.csv") as meter, pytest.raises(ValueError, match="3 tensors"):
        meter.record(1, products)
