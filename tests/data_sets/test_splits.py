"""Slices: validation never trains, the test set is not touched, search and training see the same images."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import image_folders
import numpy as np
import pytest
import torch
from conftest import one_line, require_module, require_tool
from hypothesis import given, settings
from hypothesis import strategies as st
from image_folders import ABCD

from nasvit_edge import data_sets
from nasvit_edge.data_sets import calibration_images, chosen, load_images, slices, training_splits
from nasvit_edge.errors import DataError
from nasvit_edge.space import SearchSpace, load_space

require_module("torchvision")
CIFAR_ZIP = Path(__file__).resolve().parents[3] / "shared" / "data" / "cifar10-jpg.zip"


@pytest.fixture(scope="module")
def tiny(tiny):
    """With the class folders' names as its labels."""
    return tiny.with_labels(ABCD)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def contents(images) -> set[bytes]:
    return {image.numpy().tobytes() for image in images.pixels}


@settings(max_examples=50)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_a_fixed_twentieth_of_every_class_is_held_out(counts, random):
    labels = np.repeat(np.arange(len(counts)), counts)
    random.shuffle(order := list(labels))
    labels = np.array(order)
    held = slices.held_out(labels)
    assert len(set(held.tolist())) == len(held) <= 0.05 * len(labels) + len(counts)
    assert np.array_equal(held, slices.held_out(labels))
    for label, count in enumerate(counts):
        expected = max(int(0.05 * count), min(1, count - 1))
        assert (labels[held] == label).sum() == expected


@pytest.mark.parametrize("of_a_class", [[300_000, 100_000], [30] * 12_000])
def test_no_more_than_ten_thousand_are_held_out(of_a_class):
    held = slices.held_out(np.repeat(np.arange(len(of_a_class)), of_a_class))
    assert 9_900 <= len(held) <= 10_000


@pytest.mark.parametrize("layout", ["flat", "train", "train and test", "train and val", "all"])
def test_validation_is_neither_trained_on_nor_the_test_set(tmp_path, tiny, layout):
    parts = {"flat": [""], "all": ["train", "val", "test"]}.get(layout, layout.split(" and "))
    for seed, part in enumerate(parts):
        image_folders.make(tmp_path / part, count=20, seed=seed)
    train, validation = training_splits(str(tmp_path), tiny)
    assert not contents(train) & contents(validation)
    assert contents(calibration_images(str(tmp_path), tiny)) <= contents(train)
    if "val" in parts:
        assert (len(train), len(validation)) == (80, 80)
        assert contents(validation) == contents(image_folders.read(tmp_path / "val"))
    else:
        assert (len(train), len(validation)) == (76, 4)
        assert validation.labels.sort().values.tolist() == [0, 1, 2, 3]
    if "test" in parts:
        test = contents(load_images(str(tmp_path), "test", tiny))
        assert test == contents(image_folders.read(tmp_path / "test"))
        assert not test & (contents(train) | contents(validation))


@pytest.mark.parametrize("with_val", [False, True])
def test_search_and_training_see_the_same_slices(tmp_path, tiny, with_val):
    image_folders.make(tmp_path / "train", count=25)
    if with_val:
        image_folders.make(tmp_path / "val", count=5, seed=1)
    for split, images in zip(("train", "validation"), training_splits(str(tmp_path), tiny), strict=True):
        again = load_images(str(tmp_path), split, tiny)
        assert again.name == images.name
        assert torch.equal(again.pixels, images.pixels)
        assert torch.equal(again.labels, images.labels)


def test_calibration_images_are_a_fixed_choice_of_those_that_train(tmp_path, tiny):
    image_folders.make(tmp_path, count=20)
    train, _ = training_splits(str(tmp_path), tiny)
    actual = calibration_images(str(tmp_path), tiny, 10)
    assert len(actual) == 10
    assert contents(actual) < contents(train)
    assert "10 of them" in actual.name
    for again in (chosen(train, 10), calibration_images(str(tmp_path), tiny, 10, whole=True).loaded()):
        assert (again.name, again.pixels.tolist()) == (actual.name, actual.pixels.tolist())
    assert len(calibration_images(str(tmp_path), tiny)) == len(train)


def test_calibration_needs_no_labels(tmp_path, tiny):
    """A flat folder, one of other classes, one with empty ones."""
    image_folders.make(tmp_path / "other", names=("x", "y"), count=3)
    image_folders.make(tmp_path / "some empty", count=3)
    (tmp_path / "some empty" / "e").mkdir()
    for i, path in enumerate(sorted((tmp_path / "other").glob("*/*.png"))):
        (tmp_path / "flat").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "flat" / f"{i}.png")
    counts = {
        name: len(calibration_images(str(tmp_path / name), tiny)) for name in ("other", "some empty", "flat")
    }
    assert counts == {"other": 4, "some empty": 8, "flat": 6}  # one of each class may be held out
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="nothing") as caught:
        calibration_images(str(tmp_path / "nothing"), tiny)
    one_line(caught)


def test_a_set_that_stays_files_has_the_same_slices(tmp_path, tiny, monkeypatch):
    image_folders.make(tmp_path, count=20)
    in_memory = training_splits(str(tmp_path), tiny)
    monkeypatch.setattr(data_sets.folders, "MEMORY_BYTES", 0)
    train, validation = training_splits(str(tmp_path), tiny)
    assert torch.equal(train.loaded().pixels, in_memory[0].pixels)
    assert torch.equal(validation.loaded().pixels, in_memory[1].pixels)


def test_classes_of_one_image_leave_nothing_to_hold_out(tmp_path, tiny):
    with pytest.raises(DataError, match=r"too few.*'val'") as caught:
        training_splits(str(image_folders.make(tmp_path / "x", count=1)), tiny)
    one_line(caught)


def test_a_split_that_a_folder_has_not_is_one_line(tmp_path, tiny):
    image_folders.make(tmp_path / "one" / "train")
    image_folders.make(tmp_path / "two" / "test")
    with pytest.raises(DataError, match="no folder 'test'") as caught:
        load_images(str(tmp_path / "one"), "test", tiny)
    one_line(caught)
    assert len(load_images(str(tmp_path / "two"), "test", tiny)) == 8
    with pytest.raises(DataError, match="no folder 'train'"):
        training_splits(str(tmp_path / "two"), tiny)


def test_the_bundled_images_do_not_train(nano, tiny):
    for function in (lambda: training_splits("bundled", nano), lambda: load_images("bundled", "train", nano)):
        with pytest.raises(DataError, match=r"no train images are bundled.*fashion-mnist") as caught:
            function()
        one_line(caught)
    assert data_sets.classes("bundled") == data_sets.FASHION_LABELS
    with pytest.raises(DataError, match="10 classes"):
        training_splits("fashion-mnist", tiny)


# -- CIFAR-10 as JPEG -----------------------------------------------------------------------------------


@pytest.fixture
def cifar10(tmp_path) -> Path:
    """The test half of the data set, its classes' first 300 images as training images."""
    require_tool(str(CIFAR_ZIP), CIFAR_ZIP.is_file())
    with zipfile.ZipFile(CIFAR_ZIP) as archive:
        archive.extractall(tmp_path, [n for n in archive.namelist() if n.startswith("test/")])
    for folder in sorted((tmp_path / "test").iterdir()):
        (tmp_path / "train" / folder.name).mkdir(parents=True)
        for path in sorted(folder.iterdir())[:300]:
            shutil.move(path, tmp_path / "train" / folder.name / path.name)
    return tmp_path


@pytest.mark.slow
def test_cifar_jpegs_are_taken_pixel_by_pixel(cifar10):
    from dataclasses import replace

    from PIL import Image

    space: SearchSpace = replace(load_space("nano-cifar10"), resolutions=(24, 32))
    train, validation = training_splits(str(cifar10), space)
    assert (len(train), len(validation)) == (2850, 150)
    assert train.labels.bincount().tolist() == [285] * 10
    assert data_sets.classes(str(cifar10))[:2] == ("airplane", "automobile")
    test = load_images(str(cifar10), "test", space)
    assert len(test) == 7000
    first = np.asarray(Image.open(cifar10 / "test" / "airplane" / "0300.jpg")).transpose(2, 0, 1)
    assert np.array_equal(test.pixels[0], first)
