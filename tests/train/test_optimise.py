"""The learning rate over a run, which tensors decay, and the averaged weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.model.supernet import Supernet
from nasvit_edge.train.optimise import Average, learning_rate, optimizer_for
from nasvit_edge.train.recipe import Optimizer, Run, load_recipe

RULE = Optimizer(learning_rate=3e-4, first_rate=5e-7, last_rate=5e-6, reference_batch=512)
RUN = Run(epochs=20, warmup_epochs=5)


def rates(images=512, rule=RULE, run=RUN, per_epoch=10):
    return [learning_rate(step, per_epoch, images, rule, run) for step in range(run.epochs * per_epoch)]


def test_the_rate_rises_over_the_warm_up_and_falls_as_a_cosine():
    found = rates()
    assert found[0] == 5e-7
    assert found[50] == pytest.approx(3e-4)
    assert found[:51] == sorted(found[:51])
    assert found[50:] == sorted(found[50:], reverse=True)
    assert found[125] == pytest.approx((3e-4 + 5e-6) / 2)
    assert found[-1] == pytest.approx(5e-6, rel=0.05)


@given(st.integers(1, 4096))
def test_the_rate_scales_with_the_images_of_a_step(images):
    assert rates(images)[60] == pytest.approx(rates(512)[60] * images / 512)
    fixed = Optimizer(learning_rate=0.1, reference_batch=0)
    assert rates(images, fixed)[50] == pytest.approx(0.1)


@given(st.integers(1, 30), st.floats(0, 40), st.integers(1, 20))
def test_a_rate_is_never_outside_its_limits(epochs, warmup, per_epoch):
    for rate in rates(512, RULE, Run(epochs=epochs, warmup_epochs=warmup), per_epoch):
        assert 5e-7 <= rate <= 3e-4


@pytest.mark.parametrize("name", ["nasvit", "alphanet"])
def test_only_matrices_and_kernels_decay(tiny, name):
    rule = load_recipe(name).with_values(["optimizer.weight_decay=0.1"]).optimizer
    supernet = Supernet(tiny)
    groups = optimizer_for(supernet, rule).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert len(decay) == len(list(supernet.parameters()))
    for parameter in supernet.parameters():
        assert decay[id(parameter)] == (0.1 if parameter.dim() > 1 else 0)


def test_the_average_follows_the_weights_by_its_decay():
    weights = [torch.zeros(3), torch.ones(2, 2)]
    average = Average(weights, 0.9)
    expected = [w.clone() for w in weights]
    for step in range(5):
        for i, w in enumerate(weights):
            w += step
            expected[i] = 0.9 * expected[i] + 0.1 * w
        average.update()
    for value, right in zip(average.weights, expected, strict=True):
        assert torch.allclose(value, right)


def test_without_a_decay_the_average_is_the_weights():
    weights = [torch.zeros(3)]
    average = Average(weights, 0.0)
    weights[0] += 2
    average.update()
    assert average.weights[0].tolist() == [2, 2, 2]
    assert average.state() == []
