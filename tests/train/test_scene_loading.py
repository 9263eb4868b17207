"""The loader of scenes: crops are what evaluation sees, moved; who makes a batch never changes what is in it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from conftest import TINY, edited, one_line, require_module, space_of
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from nasvit_edge.data_sets.scenes import IGNORE, SceneSet, in_memory, load_scenes
from nasvit_edge.errors import DataError, RecipeError
from nasvit_edge.train.making import Batch
from nasvit_edge.train.recipe import SceneCrops, load_recipe
from nasvit_edge.train.scene_loading import CropDraws, Cropper, SceneLoader, Span

v2 = require_module("torchvision.transforms.v2").functional
pytestmark = pytest.mark.usefixtures("one_thread")
PLAIN = SceneCrops(smallest_scale=1.0, largest_scale=1.0, flip=0.0, jitter=0.0, smallest_share=0.0)
SPACE = space_of(
    edited(
        TINY,
        ("[8, 12]", "[12, 24]"),
        ("classes = 4", "classes = 4\naspect = [4, 3]"),
        ("width = [16, 32]\nexpand_ratio = 2", 'kind = "mlp"\nwidth = [16]'),
    )
)
WHOLE = (24, 32)  # the largest images of the space
FOUR = np.array([[0, 1], [2, 3]], np.uint8)


def quarters(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """An image whose red tells the row of a class, and whose green its column: 0 or 200."""
    mask = np.kron(FOUR, np.ones((height // 2, width // 2), np.uint8))
    return np.stack([mask // 2 * 200, mask % 2 * 200, 0 * mask]), mask


@pytest.fixture(scope="module")
def scenes() -> SceneSet:
    """Noise; image i holds i in its upper left pixel."""
    rng = np.random.default_rng(0)
    pairs = []
    for i in range(23):
        size = WHOLE if i % 3 else (30, 50)
        image = rng.integers(0, 256, (3, *size), dtype=np.uint8)
        mask = rng.choice(np.array([0, 1, 2, 3, IGNORE], np.uint8), size)
        image[:, 0, 0], mask[0, 0] = i, i % 4
        pairs.append((image, mask))
    return in_memory("noise", pairs)


def loader(scenes, augment=None, **options) -> SceneLoader:
    rule = {"size": (16, 20), "batch_size": 4, "workers": 0} | options
    return SceneLoader(scenes, augment or SceneCrops(), SPACE, **rule)


def steps(scenes, first, last, augment=None, **options) -> list[list[Batch]]:
    with loader(scenes, augment, **options) as loading:
        return list(loading.steps(first, last))


def same(one: list[Batch], two: list[Batch]) -> bool:
    return len(one) == len(two) and all(
        torch.equal(a.images, b.images) and torch.equal(a.targets, b.targets)
        for a, b in zip(one, two, strict=True)
    )


def draws(seed: int):
    return CropDraws.make(1, np.random.default_rng(seed), slice(0, 1)).of(0)


def rows_and_columns(padding: torch.Tensor) -> tuple[int, int]:
    """How many of a crop show the image."""
    return int((~padding).any(1).sum()), int((~padding).any(0).sum())


def pixels_of(images: torch.Tensor) -> torch.Tensor:
    """Normalised images as bytes' values."""
    mean, std = (torch.tensor(x)[:, None, None] for x in (SPACE.mean, SPACE.std))
    return (images * std + mean) * 255


# -- crops ----------------------------------------------------------------------------------------------


def test_a_batch_has_the_promised_form(scenes):
    (batch,) = steps(scenes, 0, 1)[0]
    assert batch.images.shape == (4, 3, 16, 20)
    assert batch.images.dtype == torch.float32
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.targets.shape == (4, 16, 20)
    assert batch.targets.dtype == torch.int64
    assert set(batch.targets.unique().tolist()) <= {0, 1, 2, 3, IGNORE}


def test_without_augmentation_a_crop_is_what_evaluation_sees(scenes):
    some = scenes.take("of the largest size", [i for i in range(23) if i % 3])
    (batch,) = steps(some, 0, 1, PLAIN, size=WHOLE, batch_size=15)[0]
    for image, mask in zip(batch.images, batch.targets, strict=True):
        number = round(pixels_of(image)[0, 0, 0].item())
        (expected, truth), *_ = scenes.take("one", [number]).batches(SPACE, WHOLE[0])
        assert torch.allclose(image, expected[0], atol=1e-5)
        assert torch.equal(mask, truth[0])


@settings(max_examples=80)
@given(
    st.integers(0, 2**32),
    st.sampled_from([(24, 32), (48, 64), (30, 50), (120, 90), (6, 4)]),
    st.sampled_from([(24, 32), (16, 20), (40, 56), (5, 7)]),
    st.sampled_from([(0.5, 2.0), (1.0, 1.0), (0.3, 0.3), (3.0, 6.0)]),
)
def test_masks_go_where_their_pixels_go(seed, size, crop, scale):
    cropper = Cropper(
        structs.replace(PLAIN, smallest_scale=scale[0], largest_scale=scale[1], flip=0.5), SPACE, crop
    )
    image, mask = cropper(*quarters(*size), draws(seed))
    assert image.shape == (3, *crop)
    assert mask.shape == crop
    padding = mask == IGNORE
    assert not image[:, padding].any()  # the mean colour
    for channel, truth in zip(pixels_of(image), (mask // 2, mask % 2), strict=False):
        sure = ~padding & ((channel - 100).abs() > 20)  # not in the middle of a border
        assert torch.equal(channel[sure] > 100, truth[sure] == 1)
        assert sure.sum() > 0.7 * (~padding).sum() or min(rows_and_columns(padding)) < 10


@given(st.integers(1, 200), st.integers(1, 400), st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_a_span_stays_within_file_and_crop_and_keeps_the_scale(source, scaled, target, place):
    span = Span.make(source, scaled, target, place)
    assert 0 <= span.start < span.stop <= source
    assert 0 <= span.to_start < span.to_stop <= target
    assert span.to_stop - span.to_start == min(scaled, target)
    exact = (span.to_stop - span.to_start) * source / scaled
    assert abs((span.stop - span.start) - exact) <= max(0.5, 1 - exact)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_every_place_of_a_span_can_be_drawn(source, scaled, target):
    count = abs(scaled - target) + 1
    spans = [Span.make(source, scaled, target, (i + 0.5) / count) for i in range(count)]
    assert min(s.start for s in spans) == min(s.to_start for s in spans) == 0
    assert max(s.stop for s in spans) >= source - max(1, source / scaled)
    assert max(s.to_stop for s in spans) == target or scaled > target


def test_flipping_mirrors_image_and_mask(scenes):
    for (one,), (two,) in zip(
        steps(scenes, 0, 3, SceneCrops(flip=0.0)),
        steps(scenes, 0, 3, SceneCrops(flip=1.0)),
        strict=True,
    ):
        assert torch.equal(one.images.flip(-1), two.images)
        assert torch.equal(one.targets.flip(-1), two.targets)


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from([0.1, 0.4, 1.0]))
def test_jitter_is_torchvisions_in_turn(seed, jitter):
    rng = np.random.default_rng(seed)
    image = rng.integers(100, 156, (3, *WHOLE), dtype=np.uint8)  # far from where torchvision's steps clamp
    augment = structs.replace(PLAIN, jitter=jitter)
    drawn = draws(seed)
    factors = (1 + jitter * (2 * drawn[2] - 1)).tolist()
    result, _ = Cropper(augment, SPACE, WHOLE)(image, np.zeros(WHOLE, np.uint8), drawn)
    theirs = torch.from_numpy(image).float() / 1024  # floats clamp at 1
    for change, factor in zip(
        (v2.adjust_brightness, v2.adjust_contrast, v2.adjust_saturation), factors, strict=True
    ):
        theirs = change(theirs, factor)
    assert torch.allclose(pixels_of(result), (theirs * 1024).clamp(0, 255), atol=0.3)


def test_a_crop_without_labels_is_drawn_again():
    image, mask = np.zeros((3, 96, 128), np.uint8), np.full((96, 128), IGNORE, np.uint8)
    mask[:48] = 1
    cropper = Cropper(SceneCrops(smallest_scale=2.0, largest_scale=2.0, smallest_share=0.5), SPACE, (8, 8))
    shares = [(cropper(image, mask, draws(seed))[1] == 1).float().mean().item() for seed in range(200)]
    assert min(shares) >= 0.4  # rounded to pixels of the file
    nothing = np.full((96, 128), IGNORE, np.uint8)
    assert (cropper(image, nothing, draws(0))[1] == IGNORE).all()


def test_scales_and_places_are_spread_over_their_range():
    _, mask = quarters(96, 128)
    cropper = Cropper(structs.replace(PLAIN, smallest_scale=0.5, largest_scale=2.0), SPACE, WHOLE)
    many = CropDraws.make(1000, np.random.default_rng(0), slice(None)).windows
    spans = [cropper._window(mask, drawn)[0] for drawn in many]
    shares = [(s.stop - s.start) / 96 for s in spans]
    assert 0.5 <= min(shares) < 0.55
    assert 0.31 < sum(share == 1 for share in shares) / 1000 < 0.39  # scales 0.5 to 1 of 0.5 to 2
    assert {s.to_start for s in spans if s.to_stop - s.to_start < 16} >= {0, 5}
    assert {s.start > 10 for s in spans} == {True, False}


@pytest.mark.parametrize("value", ["smallest_scale=0.05", "largest_scale=0.5", "flip=1.5", "jitter=-0.1"])
def test_values_out_of_range_are_one_line(value):
    with pytest.raises(RecipeError) as caught:
        load_recipe("scenes").with_values([f"scenes.{value}"])
    one_line(caught)


# -- who makes a batch ----------------------------------------------------------------------------------


def test_every_pair_comes_once_an_epoch(scenes):
    augment = structs.replace(PLAIN)
    some = scenes.take("of the largest size", [i for i in range(23) if i % 3])
    orders = []
    with loader(some, augment, size=WHOLE) as loading:
        assert loading.steps_per_epoch == 3
        for epoch in range(2):
            seen = [
                round(n)
                for (batch,) in loading.steps(3 * epoch, 3 * epoch + 3)
                for n in pixels_of(batch.images)[:, 0, 0, 0].tolist()
            ]
            assert len(set(seen)) == len(seen) == 12
            orders.append(seen)
    assert orders[0] != orders[1]


@settings(max_examples=12)
@given(st.sampled_from([(1, 4), (2, 2), (4, 1)]), st.integers(0, 30))
def test_ranks_and_parts_see_the_same_slices(scenes, split, step):
    world, parts = split
    (whole,) = steps(scenes, step, step + 1, batch_size=3, parts=4)
    batches = []
    for rank in range(world):
        batches += steps(scenes, step, step + 1, batch_size=3, parts=parts, rank=rank, world=world)[0]
    assert same(whole, batches)


@settings(max_examples=10)
@given(st.integers(0, 14), st.integers(0, 4), st.integers(0, 2**70))
def test_resuming_at_any_step_gives_what_an_uninterrupted_run_gave(scenes, first, more, seed):
    whole = steps(scenes, 0, first + more, seed=seed)
    rest = steps(scenes, first, first + more, seed=seed)
    assert all(same(a, b) for a, b in zip(whole[first:], rest, strict=True))


def test_workers_do_not_change_what_is_in_a_batch(scenes):
    torch.set_num_threads(2)
    whole = steps(scenes, 0, 8, size=(100, 120), parts=2)
    batches = steps(scenes, 0, 8, size=(100, 120), parts=2, workers=2)
    assert all(same(a, b) for a, b in zip(whole, batches, strict=True))
    assert batches[0][0].images.is_contiguous(memory_format=torch.channels_last)


def test_another_seed_gives_other_batches_and_the_callers_random_numbers_stay(scenes):
    before = torch.get_rng_state()
    assert not same(steps(scenes, 0, 1)[0], steps(scenes, 0, 1, seed=1)[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_what_workers_are_given_can_be_pickled(scenes):
    loading = loader(scenes)
    again = pickle.loads(pickle.dumps(loading._slices))
    assert same([again[2, 0]], [loading._slices[2, 0]])


@pytest.mark.parametrize("workers", [0, 1])
def test_files_and_memory_give_the_same_batches_and_damage_is_one_line(tmp_path, monkeypatch, workers):
    pillow = require_module("PIL.Image")
    rng = np.random.default_rng(0)
    for kind, channels in (("images", (3,)), ("masks", ())):
        (tmp_path / "train" / kind).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 4, (24, 32, *channels), dtype=np.uint8)
            pillow.fromarray(pixels).save(tmp_path / "train" / kind / f"{i}.png")
    files = load_scenes(str(tmp_path), "train", SPACE)
    held = steps(files, 0, 3, workers=workers)
    monkeypatch.setattr("nasvit_edge.data_sets.scenes.MEMORY_BYTES", 0)
    assert all(same(a, b) for a, b in zip(held, steps(files, 0, 3, workers=workers), strict=True))
    for path in (tmp_path / "train" / "masks").iterdir():
        pillow.new("L", (32, 24), 9).save(path)
    with loader(files, workers=workers) as loading, pytest.raises(DataError, match="the value 9") as caught:
        list(loading.steps(0, 4))
    one_line(caught)


def test_fewer_pairs_than_a_step_takes_is_one_line(scenes):
    with pytest.raises(DataError, match="23 are fewer than the 24") as caught:
        loader(scenes, batch_size=12, parts=2)
    assert "'noise'" in one_line(caught)
