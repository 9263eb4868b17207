"""Several processes compute what one does: with shared batch statistics, and with statistics of each."""

from __future__ import annotations

import functools
import random

import pytest
import torch
from conftest import TINY, space_of
from torch import Tensor, nn
from torch.nn import functional as F

from nasvit_edge.model.batch_norm import SharedBatchNorm, share_statistics
from nasvit_edge.model.checkpoint import random_supernet
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.train.merge import merge
from nasvit_edge.train.optimise import optimizer_for
from nasvit_edge.train.recipe import Recipe, load_recipe
from nasvit_edge.train.step import Gradient, Passes, sandwich
from nasvit_edge.train.world import World

STEPS, BATCH = 5, 24
ALONE = World()


def _recipe() -> Recipe:
    return load_recipe("nasvit").with_values(["merge.project_from_epoch=0", "optimizer.learning_rate=3e-3"])


def trained(world: World, shared: bool, parts: int = 1, steps: int = STEPS) -> list[list[Tensor]]:
    """The weights after every step of float64 training on this rank's share of each step's images."""
    supernet = random_supernet(space_of(TINY)).double().train()
    supernet.ranks = world if shared else None
    recipe = _recipe()
    passes, optimizer = Passes(supernet, recipe), optimizer_for(supernet, recipe.optimizer)
    weights = []
    for step in range(steps):
        _step(supernet, passes, optimizer, recipe, world, parts, step)
        weights.append([p.detach().clone() for p in passes.parameters])
    return weights


def _step(
    supernet: Supernet,
    passes: Passes,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    world: World,
    parts: int,
    step: int,
) -> None:
    images, targets = _batch(step)
    configs = sandwich(supernet.space, recipe.subnets, random.Random(step))
    groups = world.size * parts
    mine = range(world.rank * parts, (world.rank + 1) * parts)
    done = [passes(images.chunk(groups)[i], targets.chunk(groups)[i], configs) for i in mine]
    largest, subnets = (
        [_mean(g) for g in zip(*side, strict=True)]
        for side in ([d.largest for d in done], [d.subnets for d in done])
    )
    merged = merge(world.averaged(largest), world.averaged(subnets), recipe.merge, project=True)
    assert (merged.products.dot < 0).any()  # else the projection would have nothing to do
    for parameter, gradient in zip(passes.parameters, merged.gradient, strict=True):
        parameter.grad = gradient
    optimizer.step()


@functools.cache
def reference(parts: int) -> list[list[Tensor]]:
    return trained(ALONE, False, parts)


def _mean(gradients: tuple[Tensor | None, ...]) -> Tensor | None:
    present = [g for g in gradients if g is not None]
    return sum(present) / len(gradients) if present else None  # type: ignore[return-value]


def _batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(BATCH, 3, 12, 12, generator=generator, dtype=torch.float64)
    images += torch.linspace(-1, 1, BATCH, dtype=torch.float64)[:, None, None, None]  # ranks see other means
    return images, torch.randint(0, 4, (BATCH,), generator=generator)


def _furthest(left: list[Tensor], right: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(left, right, strict=True))


@pytest.mark.slow
def test_two_ranks_with_shared_statistics_match_one_process_on_the_whole_batch(pair):
    first, second = pair.call(trained, True)
    alone = reference(1)
    assert _furthest(first[-1], alone[-1]) < 1e-8
    assert _furthest(alone[0], alone[-1]) > 1e-3  # it did train
    assert all(
        torch.equal(a, b)
        for one, other in zip(first, second, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def test_two_ranks_with_own_statistics_match_one_process_that_accumulates_two_parts(pair):
    first, second = pair.call(trained, False)
    assert _furthest(first[-1], reference(2)[-1]) < 1e-8
    assert all(
        torch.equal(a, b)
        for one, other in zip(first, second, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def test_statistics_of_the_whole_batch_and_of_its_parts_differ_by_far_more(pair):
    assert _furthest(reference(1)[-1], reference(2)[-1]) > 1e-4


@pytest.mark.slow
def test_three_ranks_that_accumulate_match_one_process_with_all_parts(three):
    first, *_ = three.call(trained, False, 2, 2)
    assert _furthest(first[-1], trained(ALONE, False, parts=6, steps=2)[-1]) < 1e-8


SHARES = (1, 2, 5)  # images of each rank


def normalised(world: World, kind: torch.dtype, offset: float) -> tuple[Tensor, ...]:
    """Output and gradients of a shared batch norm over this rank's part of the images, of the summed loss."""
    x, weight, bias, target = _inputs(kind, offset)
    norm = SharedBatchNorm(6, 1e-5, world).to(kind)
    norm.load_state_dict({"weight": weight, "bias": bias})
    start = sum(SHARES[: world.rank])
    part = slice(start, start + SHARES[world.rank]) if world.size > 1 else slice(None)
    inputs = x[part].clone().requires_grad_()
    out = norm(inputs)
    ((out * target[part]).sin().sum()).backward()
    assert inputs.grad is not None
    assert norm.weight.grad is not None
    assert norm.bias.grad is not None
    return out.detach(), inputs.grad, norm.weight.grad, norm.bias.grad


def _inputs(kind: torch.dtype, offset: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(sum(SHARES), 6, 3, 5, generator=generator, dtype=torch.float64) + offset
    x += torch.arange(sum(SHARES))[:, None, None, None]  # the ranks' means differ
    weight, bias = (torch.rand(6, generator=generator, dtype=torch.float64) + 0.5 for _ in range(2))
    target = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    return x.to(kind), weight.to(kind), bias.to(kind), target.to(kind)


def _expected(kind: torch.dtype, offset: float) -> tuple[Tensor, ...]:
    """The same by torch in one process, in float64, from inputs rounded to `kind`."""
    x, weight, bias, target = (t.double() for t in _inputs(kind, offset))
    for tensor in (x, weight, bias):
        tensor.requires_grad_()
    out = F.batch_norm(x, None, None, weight, bias, True, 0.0, 1e-5)
    gradients = torch.autograd.grad((out * target).sin().sum(), (x, weight, bias))
    return (out.detach(), *gradients)


@pytest.mark.parametrize(
    ("kind", "offset", "error"), [(torch.float64, 0.0, 1e-12), (torch.float64, 1e4, 1e-8), (torch.float32, 0.0, 2e-5), (torch.float32, 300.0, 3e-3)]
)  # fmt: skip
def test_unequal_batches_are_normalised_as_one(three, kind, offset, error):
    answers = three.call(normalised, kind, offset)
    expected = _expected(kind, offset)
    for place in (0, 1):  # outputs and gradients of images, rank after rank
        assert torch.allclose(
            torch.cat([a[place] for a in answers]).double(), expected[place], rtol=error, atol=error
        )
    for place in (2, 3):  # of the parameters: every rank's own part
        assert torch.allclose(
            sum(a[place] for a in answers).double(), expected[place], rtol=error, atol=10 * error
        )


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_alone_a_shared_batch_norm_is_a_batch_norm(memory_format):
    x, weight, bias, _ = _inputs(torch.float64, 0.0)
    x = x.contiguous(memory_format=memory_format).requires_grad_()
    norm = SharedBatchNorm(6, 1e-5, ALONE).double()
    norm.load_state_dict({"weight": weight, "bias": bias})
    output = norm(x)
    theirs = F.batch_norm(x, None, None, norm.weight, norm.bias, True, 0.0, 1e-5)
    assert output.is_contiguous(memory_format=memory_format)
    assert torch.allclose(output, theirs, atol=1e-12)
    for inputs in (x, norm.weight, norm.bias):
        mine, other = (
            torch.autograd.grad(y.sin().sum(), inputs, retain_graph=True)[0] for y in (output, theirs)
        )
        assert torch.allclose(mine, other, atol=1e-11)


def test_its_gradient_is_the_numerical_one():
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    norm = SharedBatchNorm(2, 1e-5, ALONE).double()
    assert torch.autograd.gradcheck(norm, (x,))


def test_sharing_statistics_replaces_every_batch_norm_and_renames_nothing():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4, eps=1e-3)))
    names = set(dict(module.named_parameters()))
    share_statistics(module, ALONE)
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(isinstance(norm, SharedBatchNorm) for norm in norms)
    assert [norm.eps for norm in norms] == [1e-5, 1e-3]
    assert set(dict(module.named_parameters())) == names


def test_evaluation_does_not_share(tiny):
    supernet = random_supernet(tiny)
    images, config = torch.randn(2, 3, 8, 8), tiny.smallest()
    before = supernet(images, config)
    supernet.ranks = ALONE
    assert torch.equal(supernet(images, config), before)


def _flat(gradient: Gradient) -> Tensor:
    return torch.cat([g.flatten() for g in gradient if g is not None])


def _away(gradient: Gradient, exact: Gradient) -> float:
    return float((_flat(gradient) - _flat(exact)).norm() / _flat(exact).norm())


def test_bf16_passes_give_the_gradients_of_fp32_within_its_error(tiny):
    images, targets = (_batch(0)[0].float(), _batch(0)[1])
    configs = sandwich(tiny, _recipe().subnets, random.Random(0))
    rounded = random_supernet(tiny).train()
    rounded.load_state_dict({name: value.bfloat16() for name, value in rounded.state_dict().items()})
    exact = Passes(random_supernet(tiny).train(), _recipe())(images, targets, configs)
    half = Passes(random_supernet(tiny).train(), _recipe(), bf16=True)(images, targets, configs)
    yardstick = Passes(rounded, _recipe())(images.bfloat16().float(), targets, configs)
    for side in ("largest", "subnets"):
        full, coarse, allowed = (getattr(passed, side) for passed in (exact, half, yardstick))
        assert all(g is None or g.dtype == torch.float32 for g in coarse)
        assert [g is None for g in coarse] == [g is None for g in full]
        assert 0 < _away(coarse, full) < 3 * _away(allowed, full)  # what rounding the weights alone brings
        assert torch.cosine_similarity(_flat(coarse), _flat(full), dim=0) > 0.99


def half(world: World) -> tuple[float, list[Tensor]]:
    """The loss and the gradient of a shared batch norm under bf16 autocast."""
    supernet = random_supernet(space_of(TINY)).train()
    supernet.ranks = world
    images, targets = (t.chunk(2)[world.rank] for t in _batch(0))
    done = Passes(supernet, _recipe(), bf16=True)(images.float(), targets, [supernet.space.largest()])
    return float(done.loss), [g for g in world.averaged(done.largest) if g is not None]


def test_shared_statistics_work_under_bf16(pair, tiny):
    (_, gradient), _ = pair.call(half)
    images, targets = _batch(0)
    whole = Passes(random_supernet(tiny).train(), _recipe())(images.float(), targets, [tiny.largest()])
    assert torch.cosine_similarity(_flat(gradient), _flat(whole.largest), dim=0) > 0.99
