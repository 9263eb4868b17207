"""The supernet: config in, no state."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import TINY, configs, edited, one_line, space_of
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from nasvit_edge.errors import CheckpointError
from nasvit_edge.model.blocks import build
from nasvit_edge.model.checkpoint import random_supernet
from nasvit_edge.model.subnet import fold, materialise
from nasvit_edge.model.supernet import Supernet, _connected, crop_positions
from nasvit_edge.ops import MBConv, TransformerBlock, lower
from nasvit_edge.space import SearchSpace

STEM_OF_FOUR = edited(
    TINY, ("resolutions = [8, 12]", "resolutions = [32, 40]"), ("3\nstride = 1", "5\nstride = 4")
)
UNEVEN = edited(
    TINY, ("width = [8]\n", "width = [6, 10]\n"), ("[8, 16]", "[10, 15, 20]"), ("[8, 12]", "[9, 13, 15]")
)
CANCELLED = ("attention.key.bias", "mix_logits.bias")  # the softmax over keys cancels them
SPACES = {"tiny": TINY, "stem-of-four": STEM_OF_FOUR, "uneven": UNEVEN}


def images_for(config, batch: int = 2, seed: int = 0) -> torch.Tensor:
    shape = (batch, 3, config.resolution, config.resolution)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def apart(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference over the standard deviation of what is expected."""
    return float((actual - expected).abs().max() / expected.std())


@pytest.fixture(scope="module")
def supernet(nano) -> Supernet:
    return random_supernet(nano, 1)


@settings(max_examples=40)
@given(st.data())
def test_a_subnet_computes_what_the_supernet_does(supernet, nano, data):
    config = data.draw(configs(nano))
    images, subnet = images_for(config), materialise(supernet, config)
    with torch.no_grad():
        expected = supernet(images, config)
        assert torch.equal(subnet(images), expected)
        assert apart(fold(subnet)(images), expected) < 1e-4


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=25)
@given(st.data())
def test_so_it_does_in_spaces_of_ones_own(name, data):
    space = space_of(SPACES[name])
    supernet, config = random_supernet(space), data.draw(configs(space))
    images, subnet = images_for(config), materialise(supernet, config)
    with torch.no_grad():
        expected = supernet(images, config)
        assert expected.shape == (2, space.classes)
        assert torch.equal(subnet(images), expected)
        assert apart(fold(subnet)(images), expected) < 1e-4


def test_a_stem_of_stride_four_quarters_the_grid():
    space = space_of(STEM_OF_FOUR)
    assert [lower(space, space.smallest(), (size, size))[0].out_shape()[1:] for size in (32, 33)] == [
        (8, 8),
        (9, 9),
    ]


def test_images_of_another_size_are_resized_bicubically(supernet, nano):
    config = nano.smallest()
    images = torch.rand(2, 3, 28, 28)
    size = (config.resolution, config.resolution)
    resized = torch.nn.functional.interpolate(images, size, mode="bicubic", align_corners=False)
    with torch.no_grad():
        assert torch.equal(supernet(images, config), supernet(resized, config))


@pytest.mark.parametrize("which", ["smallest", "largest"])
def test_a_batch_of_one_keeps_its_axis(supernet, nano, which):
    config = getattr(nano, which)()
    images, subnet = images_for(config, batch=3), materialise(supernet, config)
    with torch.no_grad():
        for run in (lambda x: supernet(x, config), subnet, fold(subnet)):
            assert run(images[:1]).shape == (1, nano.classes)
            assert apart(torch.cat([run(image[None]) for image in images]), run(images)) < 1e-4


def test_train_mode_uses_the_batch_and_leaves_no_trace(nano):
    supernet = random_supernet(nano, 1)
    before, config = copy.deepcopy(supernet.state_dict()), nano.largest()
    images = images_for(config, batch=4)
    with torch.no_grad():
        evaluated = supernet(images, config)
        supernet.train()
        trained = supernet(images, config)
        reference = materialise(supernet, config).train()(images)
    assert apart(trained, reference) < 1e-5
    assert apart(trained, evaluated) > 0.01
    after = supernet.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    with torch.no_grad():
        assert torch.equal(supernet.eval()(images, config), evaluated)


def test_no_call_changes_another(supernet, nano):
    configs_ = [nano.smallest(), nano.largest(), nano.smallest()]
    with torch.no_grad():
        first, _, again = (supernet(images_for(c), c) for c in configs_)
    assert torch.equal(first, again)


def test_gradients_reach_every_used_parameter_and_no_other(tiny):
    supernet = random_supernet(tiny, 1).train()
    for config in (tiny.largest(), tiny.smallest()):
        supernet.zero_grad()
        supernet(images_for(config, batch=4), config).square().sum().backward()
        used = {f"{op.name}.{n}" for op in lower(tiny, config) for n, _ in build(op).named_parameters()}
        names = {n for n, p in supernet.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert {n for n in used - names if not n.endswith(CANCELLED)} == set()
        assert names - used == set()


def test_the_smallest_subnet_only_touches_leading_slices(tiny):
    supernet = random_supernet(tiny, 1).train()
    config = tiny.smallest()
    supernet(images_for(config, batch=4), config).square().sum().backward()
    grad = supernet.get_parameter("mb2.0.project.conv.weight").grad
    assert grad[16:].abs().sum() == 0
    assert grad[:, 16:].abs().sum() == 0  # E = 8 * 2
    kernel = supernet.get_parameter("mb1.0.depthwise.conv.weight").grad
    assert kernel[:, :, 0].abs().sum() == kernel[..., 4].abs().sum() == 0
    assert kernel[:, :, 1:4, 1:4].abs().sum() > 0


@pytest.mark.parametrize(
    ("gene", "value"),
    [
        *[
            ("depth", (2, 3, 3, 9)),
            ("width", (16, 24, 32, 40, 64, 300)),
            ("width", (16, 24, 32, 40, 72, 224)),
        ],
        *[("kernel_size", (7, 5, 3, 3)), ("expand_ratio", (1, 3, 3, 6))],
    ],
)
def test_a_config_of_another_space_is_refused(supernet, nano, gene, value):
    config = structs.replace(nano.largest(), **{gene: value})
    for take in (lambda: supernet(images_for(config), config), lambda: materialise(supernet, config)):
        with pytest.raises(CheckpointError, match="the supernet of space 'nano'") as caught:
            take()
        one_line(caught)


def test_positions_are_cropped_about_the_centre():
    table = torch.arange(35 * 35.0)[:, None].expand(-1, 4)
    for side in (3, 5, 18):
        cropped = crop_positions(table, side, side, 2)
        assert cropped.shape == ((2 * side - 1) ** 2, 2)
        centre = cropped.view(2 * side - 1, 2 * side - 1, 2)[side - 1, side - 1]
        assert centre.tolist() == [17 * 35 + 17] * 2


def test_larger_grids_resize_the_position_table():
    y, x = torch.meshgrid(torch.arange(7.0), torch.arange(7.0), indexing="ij")
    table = (y + 10 * x).reshape(49, 1)
    grown = crop_positions(table, 6, 6, 1).view(11, 11)
    assert grown[5, 5] == pytest.approx(33, abs=1e-4)
    assert bool((grown.diff(dim=1) > 0).all())


def test_grids_beyond_the_window_work_all_the_way():
    space = space_of(
        edited(TINY, ("window = 4", "window = 2"), ("resolutions = [8, 12]", "resolutions = [8, 20]"))
    )
    supernet, config = random_supernet(space), space.largest()
    assert any(isinstance(op, TransformerBlock) and op.height > 2 for op in lower(space, config))
    images, subnet = images_for(config), materialise(supernet, config)
    with torch.no_grad():
        assert torch.equal(subnet(images), supernet(images, config))


def _names(space: SearchSpace) -> set[str]:
    return {op.name for op in lower(space, space.largest())}


def test_a_supernet_has_one_block_for_each_place(supernet, nano):
    assert set(supernet.ops) == _names(nano)


def test_drop_connect_leaves_out_what_late_blocks_add_to_their_shortcuts(nano):
    """With a share of nearly 1 (of block i of n: i/n of it) an output is with and without each such block, as often as the share says."""
    supernet, config = random_supernet(nano).train(), nano.smallest()
    ops = lower(nano, config)
    dropped = supernet._dropped(ops, 0.5)
    last = {stage.name for stage in nano.stages[-2:]}
    assert {name.split(".")[0] for name in dropped} == last
    assert all(0 < share < 0.5 for share in dropped.values())
    assert list(dropped.values()) == sorted(dropped.values())
    images = images_for(config, 4)
    with torch.no_grad():
        whole = supernet(images, config)
        torch.manual_seed(0)
        assert not torch.equal(supernet(images, config, drop_connect=0.5), whole)
        supernet.eval()
        assert torch.equal(supernet(images, config, drop_connect=0.5), supernet(images, config))


@settings(max_examples=20)
@given(st.floats(0.05, 0.9), st.integers(0, 1000))
def test_a_sample_keeps_a_block_whole_and_scaled_or_not_at_all(tiny, share, seed):
    op = next(op for op in lower(tiny, tiny.largest()) if isinstance(op, MBConv) and op.shortcut)
    block = build(op).eval()
    x = torch.randn(64, op.in_channels, op.height, op.width, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        out, shortcut = block(x), block.shortcut(x)
        torch.manual_seed(seed)
        result = _connected(out, x, block, dict(block.state_dict()), share)
    added = (result - shortcut) * (1 - share)
    for sample, whole in zip(added, out - shortcut, strict=True):
        none, all_of_it = (torch.allclose(sample, other, atol=1e-4) for other in (0 * whole, whole))
        assert none or all_of_it
