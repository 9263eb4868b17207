"""Quantisation-aware training: it computes what the folded subnet and its int8 export do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import TINY, configs, edited, one_line, space_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nasvit_edge import data_sets
from nasvit_edge.data_sets import ImageSet
from nasvit_edge.errors import TrainingError
from nasvit_edge.export import onnx, parity
from nasvit_edge.export.formats import Conversion
from nasvit_edge.model.accuracy import calibrated
from nasvit_edge.model.checkpoint import load_supernet, random_supernet
from nasvit_edge.model.narrow import narrowed
from nasvit_edge.model.subnet import fold, materialise
from nasvit_edge.train import quantised
from nasvit_edge.train.initial import settle
from nasvit_edge.train.quantised import MOST, QuantisedSupernet, rounded, rounded_weight

UNEVEN = edited(TINY, ("[16, 24]", "[16, 24, 40]"), ("expand_ratio = [1]", "expand_ratio = [1, 2]"))
SPACES = {"tiny": TINY, "uneven": UNEVEN}


def _images(space, count: int = 32, seed: int = 0) -> ImageSet:
    rng = torch.Generator().manual_seed(seed)
    side = max(space.resolutions)
    pixels = torch.randint(0, 256, (count, 3, side, side), generator=rng, dtype=torch.uint8)
    return ImageSet("noise", pixels, torch.randint(0, space.classes, (count,), generator=rng))


def _one(space, config) -> tuple[QuantisedSupernet, torch.Tensor]:
    """A quantised supernet of random weights, settled, and a batch for it."""
    narrow = narrowed(random_supernet(space), config)
    images = _images(space)
    settle(narrow, images)
    return QuantisedSupernet(narrow), next(iter(images.batches(narrow.space, config.resolution)))[0]


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=4)
@given(st.data())
def test_without_rounding_it_is_the_folded_subnet(name, data):
    space = space_of(SPACES[name])
    config = data.draw(configs(space))
    network, x = _one(space, config)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patched:
        for part in ("rounded", "rounded_weight"):
            patched.setattr(quantised, part, lambda values: values)
        exact = fold(materialise(network, config))(x)
        actual = network.train()(x, config)
    assert float((actual - exact).abs().max() / exact.std()) < 1e-4


@pytest.mark.parametrize("which", ["smallest", pytest.param("largest", marks=pytest.mark.slow)])
def test_rounding_costs_about_as_much_as_in_the_exported_file(which, nano, tmp_path):
    config = getattr(nano, which)()
    images = data_sets.bundled("calibration", nano)
    narrow = narrowed(load_supernet("nano", nano), config)
    settle(narrow, images)
    subnet = calibrated(materialise(narrow, config), images)
    x = next(iter(images.batches(nano, config.resolution, 256)))[0]
    path = tmp_path / "int8.onnx"
    recipe = Conversion(precision="int8", calibration=x.numpy())
    path.write_bytes(onnx.convert(fold(subnet), (1, 3, config.resolution, config.resolution), recipe))
    exported = onnx.runner(path)(x.numpy()[:64])
    result = QuantisedSupernet(narrow).train()
    with torch.no_grad():
        exact, actual = fold(subnet)(x).numpy(), result(x, config).numpy()
    noises = [parity.snr_db(a[:64], exact[:64]) for a in (actual, exported)]
    assert abs(noises[0] - noises[1]) < 2.5  # dB


@settings(max_examples=4)
@given(st.data())
def test_every_weight_that_is_used_gets_a_gradient(tiny, data):
    config = data.draw(configs(tiny))
    network, x = _one(tiny, config)
    network.train()(x, config).square().mean().backward()
    used = {n for n, p in materialise(network, config).named_parameters()}
    for name, parameter in network.named_parameters():
        if name in used:
            assert parameter.grad is not None
            assert torch.isfinite(parameter.grad).all()
    assert (
        sum(float(p.grad.abs().sum()) > 0 for p in network.parameters() if p.grad is not None)
        > len(used) * 0.8
    )


def test_a_few_steps_lower_the_loss_of_the_rounded_network(tiny):
    network, x = _one(tiny, tiny.smallest())
    labels = torch.arange(len(x)) % tiny.classes
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(network.train()(x, tiny.smallest()), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_eval_mode_is_the_plain_supernet_and_entries_are_its(tiny):
    config = tiny.largest()
    network, x = _one(tiny, config)
    plain = narrowed(random_supernet(tiny), config)
    assert list(network.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(network.eval()(x, config), plain(x, config))


def test_a_space_of_several_subnets_is_refused(tiny):
    with pytest.raises(TrainingError) as caught:
        QuantisedSupernet(random_supernet(tiny))
    assert f"has {tiny.size()} subnets" in one_line(caught)


@given(st.floats(-1e4, 1e4), st.floats(0, 1e4), st.integers(0, 2**31))
@settings(max_examples=40)
def test_rounded_values_are_on_256_steps_near_the_values_and_zero_stays(low, width, seed):
    values = torch.from_numpy(np.random.default_rng(seed).uniform(low, low + width, 50).astype(np.float32))
    values = torch.cat([values, torch.zeros(1)]).requires_grad_()
    actual = rounded(values)
    actual.sum().backward()
    assert torch.equal(values.grad, torch.ones(51))
    actual, values = actual.detach(), values.detach()
    step = float(max(values.max(), 0) - min(values.min(), 0)) / 255
    assert (actual - values).abs().max().item() <= 0.51 * step + 1e-6 + 1e-5 * abs(low)
    assert len(actual.unique()) <= 256
    assert actual[-1].item() == 0


@given(st.integers(1, 6), st.integers(0, 2**31))
@settings(max_examples=40)
def test_rounded_weights_have_a_scale_an_output_channel(channels, seed):
    rng = np.random.default_rng(seed)
    weight = torch.from_numpy(
        (rng.normal(size=(channels, 3, 3, 3)) * 10.0 ** rng.integers(-4, 4, (channels, 1, 1, 1))).astype("f4")
    )
    steps = weight.abs().flatten(1).amax(1) / MOST
    off = (rounded_weight(weight) - weight).abs().flatten(1).amax(1)
    assert bool((off <= 0.5001 * steps + 1e-8).all())
