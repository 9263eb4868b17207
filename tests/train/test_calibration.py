"""Statistics as trained: batches of the pipeline that made the weights, and what is wrong with other images is told."""

from __future__ import annotations

import functools
from dataclasses import replace

import image_folders
import numpy as np
import pytest
import torch
from conftest import TINY, require_module, space_of
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge import data_sets
from nasvit_edge.data_sets import ImageSet
from nasvit_edge.model.accuracy import calibrated
from nasvit_edge.model.checkpoint import load_supernet, random_supernet
from nasvit_edge.model.subnet import calibrate, materialise, statistics
from nasvit_edge.space import load_space
from nasvit_edge.train import calibration as module
from nasvit_edge.train.calibration import Calibration, calibration_for, recipe_of
from nasvit_edge.train.initial import SETTLED, settle
from nasvit_edge.train.loading import Loader
from nasvit_edge.train.recipe import load_recipe, recipe_for, recipe_names

require_module("torchvision")
NANO = load_space("nano")
ALL_BATCHES = True


def images(count: int, side: int = 12, name: str = "noise") -> ImageSet:
    pixels = np.random.default_rng(count).integers(0, 256, (count, 3, side, side), np.uint8)
    return ImageSet(name, torch.from_numpy(pixels), torch.zeros(count, dtype=torch.int64))


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(module, "BATCHES", 4)


# -- the pipeline ---------------------------------------------------------------------------------------


def _range(space):
    """Black and white of a space whose channels have one mean and deviation, normalised."""
    return (0 - space.mean[0]) / space.std[0], (1 - space.mean[0]) / space.std[0]


def test_batches_are_those_of_the_training_loader(tiny, quick):
    some_images, recipe = images(100), load_recipe("nano").with_values(["augment.erasing=0.5"])
    batches = [x for x, _ in Calibration(some_images, recipe, tiny).batches(tiny, 12)]
    with Loader(some_images, recipe.augment, tiny, size=12, batch_size=64, workers=0) as loader:
        trained = [batch.images for (batch,) in loader.steps(0, 4)]
    assert [len(x) for x in batches] == [64] * 4
    for ours, theirs in zip(batches, trained, strict=True):
        kept = theirs.clamp(*_range(tiny))  # as bytes: the noise of erasing ends at black and white
        assert float((ours - kept).abs().max()) < 0.5 / 255 / min(tiny.std) + 1e-5


def test_they_are_resized_inside_as_the_supernet_does(tiny, quick):
    calibration = Calibration(images(64), load_recipe("nano"), tiny)
    (whole, _), (small, _) = (next(calibration.batches(tiny, r)) for r in (12, 8))
    expected = torch.nn.functional.interpolate(whole, (8, 8), mode="bicubic", align_corners=False)
    assert torch.equal(small, expected)


def test_every_process_and_every_subnet_gets_the_same_batches(tiny, quick):
    first, again = (Calibration(images(70), load_recipe("nasvit"), tiny) for _ in range(2))
    for _ in range(2):
        for (a, _), (b, _) in zip(first.batches(tiny, 8), again.batches(tiny, 8), strict=True):
            assert torch.equal(a, b)
    assert first.digest() == again.digest()


@pytest.mark.parametrize("count", [1, 2, 63, 65])
def test_few_images_are_drawn_again_and_again_in_whole_batches(tiny, count):
    sizes = [len(x) for x, _ in Calibration(images(count), load_recipe("nano"), tiny).batches(tiny, 8)]
    assert sizes == [min(count, 64)] * 64


@functools.cache
def untrained():
    return materialise(random_supernet(NANO), NANO.smallest())


@settings(max_examples=20)
@given(st.lists(st.integers(2, 9), min_size=1, max_size=5))
def test_a_batch_counts_for_its_images(sizes):
    """A last batch of one once counted as a whole one: 65 images gave 7.6 points less than 64."""
    subnet = untrained()
    parts = [torch.randn(n, 3, 20, 20) for n in sizes]
    calibrate(subnet, parts)
    stem = subnet.get_submodule("first_conv.body.conv")
    means = torch.stack([stem(x).mean((0, 2, 3)) for x in parts])
    share = torch.tensor(sizes)[:, None] / sum(sizes)
    actual = statistics(subnet)["first_conv.body.norm.running_mean"]
    assert torch.allclose(actual, (share * means).sum(0), atol=1e-4)


# -- whose recipe ---------------------------------------------------------------------------------------


def test_the_recipe_travels_with_the_weights():
    for name, erasing in (("nano", 0.01), ("nano-cifar10", 0.1)):
        supernet = load_supernet(name, load_space(name))
        assert recipe_of(supernet.source, supernet.space).augment.erasing == erasing
    recipe = load_recipe("nano").with_values(["augment.flip=0.25"])
    assert recipe_of({"recipe": recipe.to_dict()}, NANO) == recipe


@pytest.mark.parametrize("source", [{}, {"recipe": None}, {"recipe": {"name": "x", "of another": "version"}}])
def test_foreign_weights_have_the_recipe_of_their_space(source):
    names = {
        "nano": "nano",
        "nano-cnn": "nano",
        "nasvit": "nasvit",
        "alphanet": "alphanet",
        "nano-dense": "scenes",
    }
    for space, recipe in names.items():
        assert recipe_of(source, load_space(space)).name == recipe
    assert recipe_for(NANO.only(NANO.smallest())).name == "nano"


def test_every_recipe_can_calibrate(tiny, monkeypatch):
    monkeypatch.setattr(module, "BATCHES", 1)
    for name in recipe_names():
        recipe = load_recipe(name)
        if not name.endswith("scenes"):
            ((x, _),) = Calibration(images(8), recipe, tiny).batches(tiny, 8)
            assert x.shape == (8, 3, 8, 8)


def test_what_is_cropped_from_whole_files_in_training_is_here_too(tmp_path, tiny, quick):
    root = image_folders.make(tmp_path / "x", count=20, side=30)
    foreign = random_supernet(tiny)  # trained on files, for all that is known
    foreign.source["recipe"] = load_recipe("nasvit").to_dict()
    assert isinstance(calibration_for(foreign, str(root)).images, data_sets.FileSet)
    assert next(calibration_for(foreign, str(root)).batches(tiny, 8))[0].shape == (64, 3, 8, 8)
    foreign.source["images"] = 1000  # a set that was in memory
    assert isinstance(calibration_for(foreign, str(root)).images, ImageSet)


# -- what is told ---------------------------------------------------------------------------------------


def test_few_images_are_told_with_what_they_cost(tiny):
    for count, count_of in ((16, 1), (63, 1), (64, 0)):
        remarks = Calibration(images(count), load_recipe("nano"), tiny).remarks(random_supernet(tiny))
        assert len(remarks) == count_of
        assert all(f"{count} images are few" in line and "nano-cifar10" in line for line in remarks)


@pytest.fixture(scope="module")
def shipped():
    return load_supernet("nano", NANO)


CHANGED = {
    "black": lambda x: x * 0,
    "inverted": lambda x: 255 - x,
    "a quarter as bright": lambda x: x // 4,
    "noise": lambda x: torch.randint(
        0, 256, x.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    ),
}


def test_the_training_images_are_near_themselves(shipped):
    assert SETTLED in shipped.source
    assert calibration_for(shipped, "bundled").distance(shipped) < 0.06
    assert calibration_for(shipped, "bundled").remarks(shipped) == []


@pytest.mark.parametrize(
    "how", ["inverted", *(pytest.param(how, marks=pytest.mark.slow) for how in CHANGED if how != "inverted")]
)
def test_other_images_are_told_by_their_statistics(shipped, how):
    whole = data_sets.bundled("calibration", NANO)
    changed = ImageSet(how, CHANGED[how](whole.pixels), whole.labels)
    calibration = Calibration(changed, recipe_of(shipped.source, NANO), NANO)
    assert calibration.distance(shipped) > 0.3
    (line,) = calibration.remarks(shipped)
    assert f"statistics of {how} are far" in line


def test_weights_that_nobody_settled_on_the_pipeline_are_not_compared_with(tiny):
    assert Calibration(images(64), load_recipe("nano"), tiny).distance(random_supernet(tiny)) is None


def test_a_run_settles_its_weights_on_the_pipeline(tiny, quick):
    supernet = random_supernet(tiny)
    calibration = Calibration(images(64), load_recipe("nano"), tiny)
    settle(supernet, calibration)
    assert supernet.source[SETTLED] == calibration.name
    assert calibration.distance(supernet) < 0.02
    largest = calibrated(materialise(supernet, tiny.largest()), calibration)
    buffers = dict(supernet.named_buffers())
    assert all(torch.equal(buffers[name], value) for name, value in statistics(largest).items())


def test_a_stem_that_is_padded_as_tensorflow_does_it_is_compared_as_it_computes(quick):
    strided = TINY.replace(
        "stride = 1", "stride = 2", 1
    )  # of the stem: where nothing strides, all padding is even
    space = space_of(f'padding = "same"\n{strided}')
    plain = images(64)
    bright = ImageSet("bright", plain.pixels // 4 + 191, plain.labels)  # so that zeros around them count
    supernet, calibration = random_supernet(space), Calibration(bright, load_recipe("nano"), space)
    settle(supernet, calibration)
    assert calibration.distance(supernet) < 0.02


def test_other_images_or_another_recipe_are_another_calibration(tiny):
    one = Calibration(images(64), load_recipe("nano"), tiny)
    changed = images(64)
    changed.pixels[5, 0, 0, 0] ^= 1
    others = [
        Calibration(changed, load_recipe("nano"), tiny),
        Calibration(images(64), load_recipe("nasvit"), tiny),
        Calibration(images(64), load_recipe("nano"), replace(tiny, crop_share=0.5)),
        Calibration(images(64), load_recipe("nano"), replace(tiny, filter="bilinear")),
    ]
    assert len({c.key() for c in (one, *others)}) == 5
    assert len({c.digest() for c in (one, *others)}) == 2  # images are known by themselves
    named = Calibration(images(64, name="other name"), load_recipe("nano"), tiny)
    assert (named.key(), named.digest()) == (one.key(), one.digest())
