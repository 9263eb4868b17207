"""The passes of a step: which subnets, what each learns from, and that running them side by side changes nothing."""

from __future__ import annotations

import copy
import random

import pytest
import torch

from nasvit_edge.model.checkpoint import random_supernet
from nasvit_edge.train.divergence import alpha_divergence, from_targets, kl
from nasvit_edge.train.initial import initialised
from nasvit_edge.train.recipe import Recipe, Subnets, load_recipe
from nasvit_edge.train.step import Passes, sandwich

RECIPE = load_recipe("nasvit")


def batch(count=8, side=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(count, 3, side, side, generator=generator),
        torch.randint(0, 4, (count,), generator=generator),
    )


def gradients(supernet, recipe, configs, threads=1, **options):
    passes = Passes(supernet, recipe, threads=threads, **options)
    try:
        return passes(*batch(), configs)
    finally:
        passes.close()


def equal(one, two):
    return all((a is None and b is None) or torch.equal(a, b) for a, b in zip(one, two, strict=True))


def close(one, two, rtol=1e-4, atol=1e-6):
    pairs = zip(one, two, strict=True)
    return all((a is None and b is None) or torch.allclose(a, b, rtol, atol) for a, b in pairs)


def test_the_sandwich_is_largest_smallest_then_random_ones(tiny):
    chosen = sandwich(tiny, Subnets(random=3), random.Random(0))
    assert chosen[:2] == [tiny.largest(), tiny.smallest()]
    assert len(chosen) == 5
    assert chosen == sandwich(tiny, Subnets(random=3), random.Random(0))
    assert chosen[2:] != sandwich(tiny, Subnets(random=3), random.Random(1))[2:]
    assert sandwich(tiny, Subnets(random=3), random.Random(0), single=True) == [tiny.largest()]
    assert tiny.smallest() not in sandwich(tiny, Subnets(smallest=False, random=1), random.Random(0))


def test_random_subnets_take_every_choice_of_every_gene(tiny):
    rng = random.Random(0)
    seen = [sandwich(tiny, Subnets(random=1), rng)[2] for _ in range(200)]
    assert {config.resolution for config in seen} == set(tiny.resolutions)
    assert {config.depth[1] for config in seen} == {1, 2, 3}


@pytest.mark.parametrize(("kind", "rule"), [("alpha", alpha_divergence), ("kl", kl)])
def test_the_largest_learns_from_labels_and_the_others_from_its_logits(tiny, kind, rule):
    supernet = random_supernet(tiny).train()
    recipe = RECIPE.with_values([f"loss.distillation={kind}", "loss.label_smoothing=0.1"])
    configs = sandwich(tiny, recipe.subnets, random.Random(0))
    passed = gradients(supernet, recipe, configs)
    images, labels = batch()
    parameters = list(supernet.parameters())
    teacher = supernet(images, configs[0])
    loss = from_targets(teacher, labels, 0.1)
    alone = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    students = [rule(supernet(images, config), teacher.detach()) for config in configs[1:]]
    others = torch.autograd.grad(sum(students), parameters, allow_unused=True)
    assert close(passed.largest, alone)
    assert close(passed.subnets, others)
    assert passed.loss.item() == pytest.approx(loss.item(), rel=1e-6)
    assert passed.distilled.item() == pytest.approx(sum(s.item() for s in students) / 3, rel=1e-5)


def test_a_teacher_takes_the_place_of_the_labels(tiny):
    supernet = random_supernet(tiny).train()
    images, labels = batch()
    probabilities = torch.rand(8, 4).softmax(-1)
    passes = Passes(supernet, RECIPE)
    taught = passes(images, labels, [tiny.largest(), tiny.smallest()], probabilities)
    assert taught.loss.item() == pytest.approx(
        from_targets(supernet(images, tiny.largest()), probabilities).item(), rel=1e-6
    )
    others = passes(images, (labels + 1) % 4, [tiny.largest(), tiny.smallest()], probabilities)
    assert equal(taught.largest, others.largest)


def test_side_by_side_the_gradients_are_those_of_one_after_another(tiny):
    supernet = random_supernet(tiny).train()
    for seed in range(2):
        configs = sandwich(tiny, RECIPE.subnets, random.Random(seed))
        one, two = (gradients(supernet, RECIPE, configs, threads) for threads in (1, 2))
        assert close(one.largest, two.largest)
        assert close(one.subnets, two.subnets)
        assert one.loss.item() == pytest.approx(two.loss.item(), rel=1e-6)


def test_side_by_side_results_repeat_bit_for_bit(tiny):
    supernet = initialised(tiny, 0).train()
    configs = sandwich(tiny, Subnets(random=4), random.Random(0))
    passes = [gradients(supernet, RECIPE, configs, 2) for _ in range(6)]
    assert all(equal(passes[0].subnets, other.subnets) for other in passes[1:])
    assert all(equal(passes[0].largest, other.largest) for other in passes[1:])


def test_channels_last_weights_give_the_same_gradients(tiny):
    plain = random_supernet(tiny).train()
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    images, labels = batch()
    configs = sandwich(tiny, RECIPE.subnets, random.Random(0))
    one = Passes(plain, RECIPE)(images, labels, configs)
    two = Passes(last, RECIPE)(images.contiguous(memory_format=torch.channels_last), labels, configs)
    assert close(one.largest, two.largest, 1e-3, 1e-5)
    assert close(one.subnets, two.subnets, 1e-3, 1e-5)


def test_an_error_in_a_pass_beside_others_is_the_callers(tiny):
    supernet = random_supernet(tiny).train()
    passes = Passes(supernet, RECIPE, threads=2)
    images, labels = batch()
    with pytest.raises(ValueError, match="batch"):
        passes(images, labels[:3], [tiny.largest(), tiny.smallest()])
    passes.close()


def test_drop_connect_is_of_the_largest_alone(tiny):
    supernet = random_supernet(tiny).train()
    recipe = RECIPE.with_values(["subnets.drop_connect=0.9", "loss.distillation=labels"])
    configs, plain = [tiny.largest(), tiny.smallest()], RECIPE.with_values(["loss.distillation=labels"])
    torch.manual_seed(0)
    dropped, whole = gradients(supernet, recipe, configs), gradients(supernet, plain, configs)
    assert not equal(dropped.largest, whole.largest)
    assert equal(dropped.subnets, whole.subnets)


def test_dropout_is_of_the_largest_alone(tiny):
    supernet = random_supernet(tiny).train()
    recipe = RECIPE.with_values(["subnets.dropout=0.5", "loss.distillation=labels"])
    images, labels = batch()
    passes = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        passes.append(Passes(supernet, recipe)(images, labels, [tiny.largest(), tiny.smallest()]))
    assert not equal(passes[0].largest, passes[1].largest)
    assert equal(passes[0].subnets, passes[1].subnets)


@pytest.mark.parametrize("scaling", ["switchable", "shared", "none"])
def test_layer_scaling_learns_in_the_rows_that_are_used(tiny, scaling):
    supernet = initialised(tiny, 0, scaling).train()
    names = [name for name, _ in supernet.named_parameters()]
    passed = gradients(supernet, Recipe(name="x"), [tiny.largest(), tiny.smallest()])
    banks = [g for n, g in zip(names, passed.largest, strict=True) if n.endswith("scale_attention")]
    assert banks
    for bank in banks:
        if scaling == "none":
            assert bank is None
            continue
        used = (bank != 0).any(-1)  # (depth, switches)
        grid = 3 * 3 % 8  # the largest's 12 pixels at strides 4
        where = [(0, 0)] if scaling == "shared" else [(max(tiny.stages[-1].depth), grid)]
        assert used.nonzero().tolist() == [list(place) for place in where]


def test_without_other_subnets_there_is_nothing_to_distil(tiny):
    passed = gradients(random_supernet(tiny).train(), load_recipe("single"), [tiny.largest()])
    assert passed.distilled == 0
    assert all(g is None for g in passed.subnets)
