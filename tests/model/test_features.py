"""Stage outputs and pixel logits: the same from the supernet and from a standalone subnet, at any size."""

from __future__ import annotations

import random

import pytest
import torch
from conftest import configs
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.model.checkpoint import random_supernet
from nasvit_edge.model.subnet import PixelLabels, fold, materialise
from nasvit_edge.model.supernet import crop_positions
from nasvit_edge.ops import Labels, Lateral, lower
from nasvit_edge.space import load_space


@pytest.fixture(scope="module")
def dense():
    return load_space("nano-dense")


@pytest.fixture(scope="module")
def segmenter(dense):
    return random_supernet(dense, 0).eval()


def apart(actual, expected):
    """The largest difference, relative to the largest value."""
    return float((actual - expected).abs().max() / expected.abs().max())


def images(size, batch=1):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(sum(size)))


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("nasvit", (4, 8, 16, 32, 64)),
        ("alphanet", (4, 8, 16, 32)),
        ("nano", (2, 4, 8)),
        ("nano-dense", (8, 16, 32)),
    ],
)
def test_levels_have_the_strides_of_the_space(name, strides):
    assert load_space(name).strides == strides


@pytest.mark.parametrize("name", ["nano", "nano-dense"])
@settings(max_examples=10, deadline=None)
@given(st.data())
def test_features_of_supernet_and_subnet_agree_at_rectangular_sizes(name, data):
    space = load_space(name)
    supernet = random_supernet(space, 1).eval()
    config = data.draw(configs(space))
    size = tuple(data.draw(st.integers(1, 12)) * 8 + data.draw(st.integers(0, 7)) for _ in "hw")
    x = images(size)
    with torch.no_grad():
        values = supernet.features(x, config)
        alone = materialise(supernet, config, size).features(x)
        folded = fold(materialise(supernet, config, size)).features(x)
    assert len(values) == len(space.strides)
    for i, (a, b, c) in enumerate(zip(values, alone, folded, strict=True)):
        assert a.shape == (
            1,
            config.width[space.levels[i] + 1],
            *(-(-side // space.strides[i]) for side in size),
        )
        assert torch.equal(a, b)
        assert apart(c, a) < 1e-4


def test_features_of_nasvit_agree_at_a_rectangular_size(nasvit):
    supernet = random_supernet(nasvit, 0).eval()
    for config in (nasvit.smallest(), nasvit.sample(random.Random(3))):
        x = images((96, 160))
        with torch.no_grad():
            for a, b in zip(
                supernet.features(x, config),
                materialise(supernet, config, (96, 160)).features(x),
                strict=True,
            ):
                assert apart(b, a) < 1e-4


def test_features_at_the_own_size_lead_to_the_logits(segmenter, dense):
    """The decoder does what its ops say: convolve, resize, add, classify."""
    config = dense.smallest()
    x = images(dense.input_size(config.resolution), 2)
    subnet = materialise(segmenter, config)
    with torch.no_grad():
        total = 0
        for op, feature in zip(
            [op for op in subnet.ops if isinstance(op, Lateral)], subnet.features(x), strict=True
        ):
            total = total + subnet.get_submodule(op.name)(feature)
        logits = subnet.pixel_classifier(total)
    assert torch.equal(subnet(x), logits)


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_a_segmenter_computes_what_the_supernet_does_folded_or_not(segmenter, dense, data):
    config = data.draw(configs(dense))
    x = images(dense.input_size(config.resolution))
    with torch.no_grad():
        logits = segmenter(x, config)
        subnet = materialise(segmenter, config)
        assert torch.equal(subnet(x), logits)
        assert apart(fold(subnet)(x), logits) < 1e-4
        labels = PixelLabels(subnet)(x)
    assert labels.shape == (1, *dense.input_size(config.resolution))
    whole = torch.nn.functional.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)
    assert torch.equal(labels, whole.argmax(1).int())


@pytest.mark.parametrize("dropped", [0, 1, 2])
def test_every_lateral_matters(segmenter, dense, dropped):
    config = dense.smallest()
    x = images(dense.input_size(config.resolution))
    subnet = materialise(segmenter, config)
    with torch.no_grad():
        before = subnet(x)
        subnet.lateral[dropped].project.norm.weight.zero_()
        assert apart(subnet(x), before) > 1e-3


def test_a_crop_runs_at_its_own_size(segmenter, dense):
    config = dense.largest()
    with torch.no_grad():
        assert segmenter(images((96, 128)), config, size=(96, 128)).shape == (1, 11, 12, 16)
        assert segmenter(images((96, 128)), config).shape == (1, 11, 45, 60), "else at its resolution"


def test_labels_are_the_last_op_and_have_the_input_s_size(dense):
    for resolution in dense.resolutions:
        config = dense.from_choices([resolution, *(gene.choices[0] for gene in dense.genes[1:])])
        last = lower(dense, config)[-1]
        assert isinstance(last, Labels)
        assert last.out_shape() == (resolution, resolution * 4 // 3)


def test_weights_of_nano_fit_nano_dense_from_the_first_block_on(segmenter, nano):
    source, target = random_supernet(nano, 0).state_dict(), segmenter.state_dict()
    for name, value in source.items():
        if not name.startswith(("first_conv", "last_conv", "classifier")):
            assert target[name].shape == value.shape, name


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12))
def test_positions_are_cropped_along_one_axis_and_resized_along_the_other(height, width):
    window = 6
    side = 2 * window - 1
    table = torch.arange(side * side, dtype=torch.float32)[:, None]
    actual = crop_positions(table, height, width, 1).view(2 * height - 1, 2 * width - 1)
    middle = table.view(side, side)
    assert actual[height - 1, width - 1] == pytest.approx(float(middle[window - 1, window - 1]), abs=0.5)
    if max(height, width) <= window:
        rows = slice(window - height, side - window + height)
        columns = slice(window - width, side - window + width)
        assert torch.equal(actual, middle[rows, columns])
    elif height <= window:  # the rows of the middle are still a row of the table apart
        steps = actual[1:, width - 1] - actual[:-1, width - 1]
        assert torch.allclose(steps, torch.full_like(steps, side), atol=0.5)
