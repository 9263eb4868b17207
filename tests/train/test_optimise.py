"""The learning rate over a run, which tensors decay, and the averaged weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.model.supernet import Supernet
from nasvit_edge.train.optimise import Average, learning_rate, optimizer_for
from nasvit_edge.train.recipe import Optimizer, Run, load_recipe, recipe_names

RULE = Optimizer(learning_rate=3e-4, first_rate=5e-7, last_rate=5e-6, reference_batch=512)
RUN = Run(epochs=20, warmup_epochs=5)


def rates(images=512, rule=RULE, run=RUN, per_epoch=10):
    return [learning_rate(step, per_epoch, images, rule, run) for step in range(run.epochs * per_epoch)]


def test_the_rate_rises_over_the_warm_up_and_falls_as_a_cosine():
    actual = rates()
    assert actual[0] == 5e-7
    assert actual[50] == pytest.approx(3e-4)
    assert actual[:51] == sorted(actual[:51])
    assert actual[50:] == sorted(actual[50:], reverse=True)
    assert actual[125] == pytest.approx((3e-4 + 5e-6) / 2)
    assert actual[-1] == pytest.approx(5e-6, rel=0.05)


@given(st.integers(1, 4096))
def test_the_rate_scales_with_the_images_of_a_step(images):
    assert rates(images)[60] == pytest.approx(rates(512)[60] * images / 512)
    fixed = Optimizer(learning_rate=0.1, reference_batch=0)
    assert rates(images, fixed)[50] == pytest.approx(0.1)


def test_alphanet_s_rate_is_its_own_up_to_256_images_a_step_and_grows_above():
    rule = load_recipe("alphanet").optimizer
    for images in (2, 64, 256, 512, 2048):
        assert max(rates(images, rule)) == pytest.approx(0.1 * max(1.0, images / 256), rel=0.02)


def test_an_exponential_schedule_falls_in_steps_to_its_last_rate():
    rule = load_recipe("bignas").optimizer
    actual = rates(4096, rule, Run(epochs=400, warmup_epochs=5))
    assert actual[50] == pytest.approx(0.256 * 0.97**2)  # two times 2.4 epochs are over
    assert actual[1000] == pytest.approx(0.256 * 0.97**41)
    assert actual[-1] == pytest.approx(0.05 * 0.256)
    assert actual[50:] == sorted(actual[50:], reverse=True)


@given(st.integers(1, 30), st.floats(0, 40), st.integers(1, 20))
def test_a_rate_is_never_outside_its_limits(epochs, warmup, per_epoch):
    for rate in rates(512, RULE, Run(epochs=epochs, warmup_epochs=warmup), per_epoch):
        assert 5e-7 <= rate <= 3e-4


@pytest.mark.parametrize("name", ["nasvit", "alphanet", "bignas", "naive"])
def test_only_matrices_and_kernels_decay(tiny, name):
    rule = load_recipe(name).with_values(["optimizer.weight_decay=0.1"]).optimizer
    supernet = Supernet(tiny)
    groups = optimizer_for(supernet, rule).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert len(decay) == len(list(supernet.parameters()))
    for name, parameter in supernet.named_parameters():
        scaling = "scale_attention" in name or "scale_mlp" in name
        assert decay[id(parameter)] == (0.1 if parameter.dim() > 1 and not scaling else 0), name


def test_the_average_follows_the_weights_by_its_decay():
    weights = [torch.zeros(3), torch.ones(2, 2)]
    average = Average(weights, 0.9)
    expected = [w.clone() for w in weights]
    for step in range(5):
        for i, w in enumerate(weights):
            w += step
            expected[i] = 0.9 * expected[i] + 0.1 * w
        average.update(step + 1)
    for value, right in zip(average.weights, expected, strict=True):
        assert torch.allclose(value, right)


def test_without_a_decay_the_average_is_the_weights():
    weights = [torch.zeros(3)]
    average = Average(weights, 0.0)
    weights[0] += 2
    average.update(1)
    assert average.weights[0].tolist() == [2, 2, 2]
    assert average.state() == []


def test_an_average_that_ramps_up_forgets_where_a_short_run_began():
    """Of 2,226 steps with a decay of 0.999 the plain average is 11 % what it began with."""
    shares = {}
    for ramp in (False, True):
        weights = [torch.ones(1, dtype=torch.float64)]
        average = Average(weights, 0.999, ramp=ramp)
        weights[0].zero_()
        for step in range(1, 2227):
            average.update(step)
        shares[ramp] = average.weights[0].item()
    assert shares[False] == pytest.approx(0.999**2226)
    assert shares[False] > 0.1
    assert shares[True] < 1e-10


def test_the_published_recipes_do_not_ramp_up_and_the_short_ones_do():
    ramps = {name for name in recipe_names() if load_recipe(name).run.ema_ramp}
    assert ramps == {"nano", "scenes", "finetune", "finetune-int8", "finetune-scenes", "adopt"}
