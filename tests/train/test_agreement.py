"""Agreement over many batches: noise averages out, a conflict stays."""

from __future__ import annotations

import statistics

import pytest
import torch

from nasvit_edge.model.checkpoint import random_supernet
from nasvit_edge.train.agreement import _cosines, _Group, agreements
from nasvit_edge.train.conflicts import ALL
from nasvit_edge.train.making import Batch
from nasvit_edge.train.recipe import load_recipe

RECIPE = load_recipe("nasvit")


def batches(count):
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        yield Batch(
            torch.randn(6, 3, 12, 12, generator=generator), torch.randint(0, 4, (6,), generator=generator)
        )


def test_sizes_go_up_by_four_to_what_was_asked(tiny):
    actual = agreements(random_supernet(tiny), RECIPE, batches(10), 6)
    assert [(each.batches, each.images, each.groups) for each in actual] == [
        (1, 6, 6),
        (4, 24, 1),
        (6, 36, 1),
    ]
    assert all(each.error > 0 for each in actual)
    for each in actual:
        assert next(iter(each.cosines)) == ALL
        assert {"stem", "attention", "MLP", "scaling", "norm", "classifier"} <= set(each.cosines)
        assert all(-1 <= value <= 1 for value in each.cosines.values())
    again = agreements(random_supernet(tiny), RECIPE, batches(10), 6, threads=2)
    assert [each.cosines[ALL] for each in again] == pytest.approx(
        [each.cosines[ALL] for each in actual], abs=1e-5
    )


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_noise_hides_the_sign_that_sums_of_many_show(direction):
    """Gradients of one direction and, or against, its like, each with noise a hundred times as large."""
    generator = torch.Generator().manual_seed(0)
    names, one = ["stem.conv.weight", "head.linear.weight"], torch.ones(50)
    singles, largest, subnets = [], torch.zeros(100), torch.zeros(100)
    for _ in range(4000):
        t, s = (
            sign * one.repeat(2) + 10 * torch.randn(100, generator=generator) for sign in (1.0, direction)
        )
        singles.append(_cosines([t[:50], t[50:]], [s[:50], s[50:]], names)[ALL])
        largest, subnets = largest + t, subnets + s
    many = _cosines([largest[:50], largest[50:]], [subnets[:50], subnets[50:]], names)
    assert abs(sum(singles) / len(singles)) < 0.05
    assert direction * many[ALL] > 0.9


def test_a_kind_without_gradients_on_one_side_is_left_out():
    actual = _cosines(
        [torch.ones(3), None], [torch.ones(3), torch.ones(2)], ["first_conv.conv.weight", "x.0.conv.weight"]
    )
    assert set(actual) == {ALL, "stem"}
    assert actual["stem"] == pytest.approx(1)


def test_the_error_of_a_single_group_is_about_the_spread_of_many():
    """Sums of 64 noisy gradients, 200 times: the errors that single groups tell are as large as the groups' deviation."""
    generator, names, spread, errors = torch.Generator().manual_seed(0), ["stem.conv.weight"], [], []
    for _ in range(200):
        group = _Group(64, 64, names)
        for done in range(1, 65):
            t, s = (0.3 + 3 * torch.randn(40, generator=generator) for _ in range(2))
            group.add(done, ([t], [s]))
        actual = group.agreement(1)
        spread.append(actual.cosines[ALL])
        errors.append(actual.error)
    assert statistics.mean(errors) == pytest.approx(statistics.stdev(spread), rel=0.25)
