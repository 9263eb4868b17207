"""Augmentation: what comes out is of the image that went in, and depends on what was drawn alone."""

from __future__ import annotations

import pickle
import random
import re
from dataclasses import replace
from importlib import metadata
from typing import get_args

import numpy as np
import pytest
import torch
from conftest import require_module
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from nasvit_edge.data_sets import prepare
from nasvit_edge.preparation import Filter
from nasvit_edge.train.augment import Augmenter, Draws, moved
from nasvit_edge.train.policies import policies, seeded
from nasvit_edge.train.recipe import Augment, load_recipe, recipe_names

v2 = require_module("torchvision.transforms.v2")
PLAIN = Augment(crop="none", flip=0.0, randaugment_ops=0, erasing=0.0, mixup=0.0, cutmix=0.0)
STRONG = Augment(
    crop="padded", randaugment_ops=2, randaugment_magnitude=9, erasing=0.5, mixup=0.8, cutmix=1.0
)


def bytes_of(count: int, channels: int = 3, side: int = 12, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


def draws_of(augment: Augment, count: int, seed: int = 0) -> Draws:
    return Draws.make(augment, count, np.random.default_rng(seed), slice(0, count))


# -- shift and flip -------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.integers(1, 5), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(0, 5), st.integers(0, 99))
def test_moved_images_are_crops_of_the_padded_ones(count, channels, side, padding, seed):
    pixels = bytes_of(count, channels, side, seed)
    rng = np.random.default_rng(seed)
    shift = torch.from_numpy(rng.integers(0, 2 * padding + 1, (2, count)))
    flip = torch.from_numpy(rng.random(count) < 0.5)
    crops = moved(pixels, padding, shift, flip)
    for image, crop_of, (top, left), mirrored in zip(
        pixels, crops, shift.T.tolist(), flip.tolist(), strict=True
    ):
        padded = torch.nn.functional.pad(image, (padding,) * 4)
        crop = padded[:, top : top + side, left : left + side]
        assert torch.equal(crop_of, crop.flip(-1) if mirrored else crop)


def test_shifts_and_flips_are_drawn_evenly():
    augment = structs.replace(PLAIN, crop="padded", padding=2, flip=0.25)
    draws = draws_of(augment, 20_000)
    for axis in draws.shift:
        assert axis.bincount(minlength=5).min() > 3700
        assert axis.max() == 4
    assert draws.flip.float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_without_augmentation_images_are_only_normalised(tiny):
    pixels = bytes_of(6)
    prepared = Augmenter(PLAIN, tiny, 12).images(pixels, draws_of(PLAIN, 6))
    assert torch.equal(prepared, prepare(pixels, tiny))
    assert prepared.is_contiguous(memory_format=torch.channels_last)


def test_images_of_another_size_are_resized(tiny):
    pixels = torch.full((2, 1, 9, 9), 200, dtype=torch.uint8)
    prepared = Augmenter(PLAIN, tiny, 12).images(pixels, draws_of(PLAIN, 2))
    assert torch.allclose(prepared, prepare(pixels, tiny, 12), atol=1e-5)


@pytest.mark.parametrize("how", get_args(Filter))
def test_random_resized_crops_are_those_of_torchvision(tiny, how):
    augment = structs.replace(PLAIN, crop="resized", smallest_crop=0.2)
    pixels = [bytes_of(1, 3, side, side)[0] for side in (10, 30, 17)]
    draws = draws_of(augment, 3)
    crops = Augmenter(augment, replace(tiny, filter=how), 12).images(pixels, draws)
    mode = v2.InterpolationMode(how)
    crop = v2.RandomResizedCrop(12, scale=(0.2, 1.0), interpolation=mode, antialias=True)
    for image, crop_of, seed in zip(pixels, crops, draws.seeds[0], strict=True):
        with seeded(seed):
            assert torch.equal(crop_of, prepare(crop(image)[None], tiny)[0])


# -- RandAugment and AutoAugment ------------------------------------------------------------------------


def photographs(count=200, side=64):
    """Smooth colours with edges, (count, 3, side, side) bytes."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.integers(0, 256, (count, 3, 6, 6)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, side, mode="bicubic", align_corners=False)
    noise = torch.from_numpy(rng.normal(0, 6, smooth.shape).astype(np.float32))
    return (smooth + noise).clamp(0, 255).byte()


@pytest.mark.parametrize(
    ("name", "words"), [("nasvit", "rand-m1-n1-mstd0.5"), ("deit", "rand-m9-n2-mstd0.5-inc1")]
)
def test_the_published_recipes_randaugment_is_timm_s_own_transform(nasvit, name, words):
    """As timm's loader makes it, on 200 images."""
    auto_augment, image = require_module("timm.data.auto_augment"), require_module("PIL.Image")
    (policy,) = policies(load_recipe(name).augment, nasvit.mean, 64)
    fill = tuple(min(255, round(255 * value)) for value in nasvit.mean)
    options = {"translate_const": int(64 * 0.45), "img_mean": fill, "interpolation": image.Resampling.BICUBIC}
    transform, changed = auto_augment.rand_augment_transform(words, options), 0
    for seed, pixels in enumerate(photographs()):
        with seeded(seed):
            ours = policy(pixels)
        given = image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
        try:
            with seeded(seed):
                theirs = torch.from_numpy(np.array(transform(given))).permute(2, 0, 1)
        except ValueError:  # posterised to no bits, which Pillow 12 refuses: black
            assert ours.unique().numel() <= 2  # a second operation may move in the mean colour
            continue
        assert torch.equal(ours, theirs)
        changed += not torch.equal(ours, pixels)
    assert 0.25 < changed / 200 < 0.95


def test_what_varies_images_is_installed_with_the_package_as_calibration_needs_it_too():
    plain = {
        re.split(r"[^\w-]", need)[0] for need in metadata.requires("nasvit-edge") if "extra ==" not in need
    }
    assert {"timm", "torchvision"} <= plain


@pytest.mark.parametrize("ops", ["timm", "torchvision"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_varied_by_its_seed_alone(tiny, ops, channels):
    augment = structs.replace(PLAIN, ops=ops, randaugment_ops=2, randaugment_magnitude=9)
    pixels, draws = bytes_of(24, channels, 12), draws_of(augment, 24)
    prepared = Augmenter(augment, tiny, 12).images(pixels, draws)
    assert len({image.numpy().tobytes() for image in prepared}) == 24
    one = Draws(draws.shift[:, 3:4], draws.flip[3:4], draws.erase[3:4], [seeds[3:4] for seeds in draws.seeds])
    torch.rand(3), np.random.rand(), random.random()
    assert torch.equal(prepared[3:4], Augmenter(augment, tiny, 12).images(pixels[3:4], one))


def test_what_others_draw_goes_on_as_if_no_image_had_been_varied(tiny):
    augment = structs.replace(PLAIN, ops="timm", randaugment_ops=2, randaugment_magnitude=9, erasing=1.0)
    drawn = []
    for vary in (False, True):
        torch.manual_seed(0), np.random.seed(0), random.seed(0)
        if vary:
            Augmenter(augment, tiny, 12).images(bytes_of(4), draws_of(augment, 4))
        drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("policy", ["imagenet", "cifar10", "v0"])
def test_autoaugment_draws_for_each_image(tiny, policy):
    augment = structs.replace(PLAIN, autoaugment=policy)
    pixels = bytes_of(1).expand(24, -1, -1, -1)
    prepared = Augmenter(augment, tiny, 12).images(pixels, draws_of(augment, 24))
    assert len({image.numpy().tobytes() for image in prepared}) > 8


# -- erasing and mixing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", ["mean", "noise"])
def test_an_erased_image_is_unchanged_outside_one_rectangle(tiny, fill):
    augment = structs.replace(PLAIN, erasing=1.0, erasing_fill=fill)
    pixels = bytes_of(32).clamp(min=1, max=100)  # no value is the mean, which is 0 when normalised
    prepared = Augmenter(augment, tiny, 12).images(pixels, draws_of(augment, 32))
    whole = prepare(pixels, tiny)
    erased = (prepared != whole).all(1)  # (B, S, S)
    assert ((prepared[erased.unsqueeze(1).expand_as(prepared)] == 0).all().item()) == (fill == "mean")
    for before, after, gone in zip(whole, prepared, erased, strict=True):
        rows, columns = gone.any(1).nonzero()[:, 0], gone.any(0).nonzero()[:, 0]
        assert gone.sum() == len(rows) * len(columns) > 0
        assert torch.equal(after[:, ~gone], before[:, ~gone])


def test_erasing_is_as_frequent_as_asked(tiny):
    augment = structs.replace(PLAIN, erasing=0.1)
    assert draws_of(augment, 20_000).erase.float().mean().item() == pytest.approx(0.1, abs=0.01)


@settings(max_examples=40)
@given(st.floats(0.01, 8), st.floats(0.01, 8), st.sampled_from("mcb"), st.integers(0, 2**40))
def test_mixed_targets_sum_to_one_and_images_stay_between_theirs(tiny, mixup, cutmix, kind, seed):
    alphas = {"m": (mixup, 0.0), "c": (0.0, cutmix), "b": (mixup, cutmix)}[kind]
    augment = structs.replace(PLAIN, mixup=alphas[0], cutmix=alphas[1])
    augmenter = Augmenter(augment, tiny, 12)
    images = augmenter.images(bytes_of(8), draws_of(augment, 8))
    labels = torch.arange(8) % 4
    mixed, targets = augmenter.mixed(images, labels, seed)
    assert targets.shape == (8, 4)
    assert targets.dtype == torch.float32
    assert torch.allclose(targets.sum(1), torch.ones(8))
    assert (targets >= 0).all()
    low, high = (pick(images, images.roll(1, 0)) for pick in (torch.minimum, torch.maximum))
    assert ((mixed >= low - 1e-5) & (mixed <= high + 1e-5)).all()
    again, same = augmenter.mixed(images, labels, seed)
    assert torch.equal(again, mixed)
    assert torch.equal(same, targets)


def test_without_mixing_targets_are_the_labels(tiny):
    images, labels = torch.rand(4, 3, 12, 12), torch.arange(4)
    result, targets = Augmenter(PLAIN, tiny, 12).mixed(images, labels, 0)
    assert result is images
    assert targets is labels


# -- what it depends on ---------------------------------------------------------------------------------


@pytest.mark.parametrize("crop", ["padded", "resized", "none"])
def test_a_share_of_a_batch_is_varied_as_in_the_whole(tiny, crop):
    augment = structs.replace(STRONG, crop=crop, autoaugment="cifar10")
    augmenter, pixels = Augmenter(augment, tiny, 12), bytes_of(12)
    whole = augmenter.images(pixels, draws_of(augment, 12, seed=5))
    part = slice(4, 9)
    share = Draws.make(augment, 12, np.random.default_rng(5), part)
    assert torch.equal(augmenter.images(pixels[part], share), whole[part])


def test_the_callers_random_numbers_are_not_disturbed(tiny):
    augment = structs.replace(STRONG, crop="resized", autoaugment="imagenet")
    augmenter = Augmenter(augment, tiny, 12)
    torch.manual_seed(7)
    np.random.seed(7)
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    images = augmenter.images(bytes_of(8), draws_of(augment, 8))
    augmenter.mixed(images, torch.arange(8) % 4, 3)
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)


def test_grey_images_become_rgb(tiny):
    augmenter = Augmenter(STRONG, tiny, 12)
    prepared = augmenter.images(bytes_of(8, channels=1), draws_of(STRONG, 8))
    assert prepared.shape == (8, 3, 12, 12)
    assert torch.equal(prepared[:, 0], prepared[:, 2])  # tiny's mean and std are the same for all three


VARIED = {name: load_recipe(name).augment for name in recipe_names()}
VARIED |= {name: structs.replace(PLAIN, autoaugment=name) for name in ("v0", "imagenet", "cifar10")}


@pytest.mark.parametrize("name", VARIED)
def test_what_varies_images_goes_to_a_process_that_is_no_fork(tiny, name):
    """As on macOS, where what a process works with is pickled."""
    here = Augmenter(VARIED[name], tiny, 12)
    there = pickle.loads(pickle.dumps(here))
    pixels, draws = bytes_of(4), draws_of(VARIED[name], 4)
    assert torch.equal(there.images(pixels, draws), here.images(pixels, draws))
