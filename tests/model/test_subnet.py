"""Standalone subnets: own storage, calibration, folding."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from conftest import configs, one_line
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.errors import DataError
from nasvit_edge.model.checkpoint import random_supernet
from nasvit_edge.model.subnet import Subnet, calibrate, fold, materialise, statistics
from nasvit_edge.model.supernet import Supernet


def _images(config, batch: int = 2, seed: int = 0) -> torch.Tensor:
    shape = (batch, 3, config.resolution, config.resolution)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _apart(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual - expected).abs().max() / expected.std())


def _places(module: torch.nn.Module) -> set[int]:
    tensors = [*module.parameters(), *module.buffers()]
    return {t.untyped_storage().data_ptr() for t in tensors if t.numel()}


@pytest.fixture
def supernet(nano) -> Supernet:
    return random_supernet(nano, 2)


@settings(max_examples=10)
@given(st.data())
def test_no_storage_is_shared(nano, data):
    supernet = random_supernet(nano, 2)
    config = data.draw(configs(nano))
    first, second = materialise(supernet, config), materialise(supernet, config)
    folded = fold(first)
    groups = [_places(module) for module in (supernet, first, second, folded)]
    assert len(set.union(*groups)) == sum(map(len, groups))


def test_every_tensor_is_sliced_and_contiguous(supernet, nano):
    subnet = materialise(supernet, nano.smallest())
    for tensor in subnet.state_dict().values():
        assert tensor.is_contiguous()
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_twenty_subnets_one_after_another_leave_each_others_output_as_it_was(supernet, nano):
    rng = random.Random(0)
    taken: list[tuple[Subnet, torch.Tensor]] = []
    with torch.no_grad():
        for _ in range(20):
            subnet = materialise(supernet, nano.sample(rng))
            taken.append((subnet, subnet(_images(subnet.config))))
        calibrate(taken[3][0], [_images(taken[3][0].config, 8)])
        for i, (subnet, output) in enumerate(taken):
            assert i == 3 or torch.equal(subnet(_images(subnet.config)), output)


def test_training_the_supernet_leaves_its_subnets_alone(supernet, nano):
    config = nano.largest()
    subnet = materialise(supernet, config)
    with torch.no_grad():
        before = subnet(_images(config))
        for parameter in supernet.parameters():
            parameter.add_(1)
        assert torch.equal(subnet(_images(config)), before)


def test_a_subnet_knows_where_it_is_from(supernet, nano):
    subnet = materialise(supernet, nano.smallest())
    for result in (subnet, fold(subnet)):
        assert result.config == nano.smallest()
        assert result.source["kind"] == "random"
        assert "RANDOM" in str(result.source["warning"])
        assert result.calibration is None
        assert not result.training
    subnet.source["kind"] = "changed"
    assert supernet.source["kind"] == "random"


def test_calibration_is_the_cumulative_average_of_the_batches(supernet, nano):
    config = nano.largest()
    subnet = materialise(supernet, config)
    batches = [_images(config, 6, seed) + seed for seed in range(3)]
    calibrate(subnet, batches, data="noise")
    stem = subnet.first_conv.body
    with torch.no_grad():
        outputs = [stem.conv(batch) for batch in batches]
    mean = torch.stack([o.mean((0, 2, 3)) for o in outputs]).mean(0)
    var = torch.stack([o.var((0, 2, 3)) for o in outputs]).mean(0)
    assert torch.allclose(stem.norm.running_mean, mean, atol=1e-5)
    assert torch.allclose(stem.norm.running_var, var, rtol=1e-4)
    assert subnet.calibration == {"data": "noise", "images": 18}
    assert not any(module.training for module in subnet.modules())


def test_calibration_does_not_depend_on_earlier_statistics(supernet, nano):
    config = nano.smallest()
    first, second = materialise(supernet, config), materialise(supernet, config)
    calibrate(second, [_images(config, 4, seed=9) * 5])
    for subnet in (first, second):
        calibrate(subnet, [_images(config, 4)])
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


@settings(max_examples=10)
@given(st.data())
def test_calibrated_statistics_mean_the_same_in_the_supernet(nano, data):
    supernet, config = random_supernet(nano, 2), data.draw(configs(nano))
    subnet = materialise(supernet, config)
    images = _images(config)
    with torch.no_grad():
        plain = subnet(images)
        calibrate(subnet, [_images(config, 8, seed) * 2 for seed in range(3)])
        expected = supernet(images, config, statistics(subnet))
        assert torch.equal(subnet(images), expected)
        assert torch.equal(supernet(images, config), plain)
        assert _apart(expected, plain) > 1e-3
        assert _apart(fold(subnet)(images), expected) < 1e-4
        assert _apart(fold(subnet, "NHWC")(images), expected) < 1e-4


def test_weights_are_not_touched_by_calibration(supernet, nano):
    subnet = materialise(supernet, nano.smallest())
    before = copy.deepcopy(dict(subnet.named_parameters()))
    calibrate(subnet, [_images(subnet.config, 4)])
    assert all(torch.equal(p, before[n]) for n, p in subnet.named_parameters())


def test_a_folded_subnet_cannot_be_calibrated(supernet, nano):
    folded = fold(materialise(supernet, nano.smallest()))
    with pytest.raises(DataError) as caught:
        calibrate(folded, [_images(folded.config)])
    assert "before folding" in one_line(caught)


def _no_images(_config):
    return iter(())


def _broken_images(config):
    yield _images(config, 4)
    raise KeyboardInterrupt


@pytest.mark.parametrize(("source", "raised"), [(_no_images, DataError), (_broken_images, KeyboardInterrupt)])
def test_a_calibration_that_fails_leaves_the_subnet_as_it_was(supernet, nano, source, raised):
    subnet = materialise(supernet, nano.smallest())
    with torch.no_grad():
        before = subnet(_images(subnet.config))
        with pytest.raises(raised):
            calibrate(subnet, source(subnet.config))
        assert torch.equal(subnet(_images(subnet.config)), before)
    assert subnet.calibration is None


def test_folding_leaves_no_norm_with_constants_and_the_original_as_it_was(supernet, nano):
    subnet = materialise(supernet, nano.largest())
    before = copy.deepcopy(subnet.state_dict())
    folded = fold(subnet)
    kinds = (torch.nn.BatchNorm2d, torch.nn.GroupNorm, torch.nn.LayerNorm)
    assert any(isinstance(m, kinds) for m in subnet.modules())
    assert not any(isinstance(m, kinds) for m in folded.modules())
    assert not any("scale" in name for name in folded.state_dict())
    assert all(torch.equal(v, before[n]) for n, v in subnet.state_dict().items())
    assert folded.folded
    assert not subnet.folded


def test_folding_twice_is_folding_once_with_storage_of_its_own(supernet, nano):
    once = fold(materialise(supernet, nano.smallest()))
    twice = fold(once)
    with torch.no_grad():
        assert torch.equal(twice(_images(once.config)), once(_images(once.config)))
    assert not _places(once) & _places(twice)


def test_a_folded_subnet_can_be_traced_for_export(supernet, nano):
    folded = fold(materialise(supernet, nano.largest()))
    images = _images(folded.config, 1)
    program = torch.export.export(folded, (images,))
    with torch.no_grad():
        assert _apart(program.module()(images), folded(images)) < 1e-5


def test_an_unfolded_subnet_can_be_trained(supernet, nano):
    subnet = materialise(supernet, nano.largest()).train()
    subnet(_images(subnet.config, 4)).square().sum().backward()
    assert all(p.grad is not None for p in subnet.parameters())
