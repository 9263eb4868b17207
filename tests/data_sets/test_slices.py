# ruff: noqa: PTH103, PTH104, PTH118
"""The labels of a folder's images are places among the model's, whichever images there are; what is to be said is said."""

from __future__ import annotations

import os
import shutil
import unicodedata

import image_folders
import numpy as np
import pytest
import torch
from conftest import one_line, require_module
from hypothesis import given, settings
from hypothesis import strategies as st
from image_folders import ABCD

from nasvit_edge.data_sets import bundled, check, load_images, training_splits
from nasvit_edge.errors import DataError
from nasvit_edge.listening import Listener

pillow = require_module("PIL.Image")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def abcd(tiny):
    return tiny.with_labels(ABCD)


def coloured(root, names, count: int = 2):
    """A folder a class, whose images are of one colour: class i of `names` of value 10 (i + 1)."""
    for place, name in enumerate(names):
        folder = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(folder)
        for i in range(count):
            pixels = np.full((12, 12, 3), 10 * (place + 1), np.uint8)
            pillow.fromarray(pixels).save(os.fsdecode(os.path.join(folder, b"%d.png" % i)))
    return root


def meaning(images) -> dict[int, set[int]]:
    """Label -> the colours (over 10, less 1) of its images."""
    by_name: dict[int, set[int]] = {}
    for pixels, label in zip(images.pixels, images.labels.tolist(), strict=True):
        by_name.setdefault(label, set()).add(int(pixels.max()) // 10 - 1)
    return by_name


@settings(max_examples=10)
@given(st.permutations(["alpha", "beta", "T-shirt/top", "é"]))
def test_labels_are_places_among_the_models_whatever_the_order_of_its_labels(tmp_path_factory, tiny, labels):
    root = tmp_path_factory.mktemp("x")
    folders = ["T-shirt_top", "Alpha", "beta", unicodedata.normalize("NFD", "é")]
    names = ["T-shirt/top", "alpha", "beta", "é"]
    for part in ("train", "val", "test"):
        coloured(root / part, folders)
    space = tiny.with_labels(labels)
    for images in (*training_splits(str(root), space), load_images(str(root), "test", space)):
        assert meaning(images) == {labels.index(name): {place} for place, name in enumerate(names)}


def test_folders_that_carry_the_labels_of_nano_have_the_labels_of_its_own_images(tmp_path, nano):
    images, names = bundled("test", nano).take("some", slice(0, 60)), nano.label_names()
    for i, (pixels, label) in enumerate(zip(images.pixels, images.labels.tolist(), strict=True)):
        folder = tmp_path / names[label].replace("/", "_")
        folder.mkdir(exist_ok=True)
        pillow.fromarray(pixels[0].numpy()).save(folder / f"{i:02}.png")
    actual = load_images(str(tmp_path), "test", nano)
    pixels = {
        image.numpy().tobytes(): label
        for image, label in zip(images.pixels, images.labels.tolist(), strict=True)
    }
    assert len(actual) == 60
    for image, label in zip(actual.pixels, actual.labels.tolist(), strict=True):
        assert pixels[image[:1].numpy().tobytes()] == label


def test_validation_is_the_same_slice_whatever_the_order_of_the_labels(tmp_path, tiny):
    image_folders.make(tmp_path, count=40)
    first, second = (
        training_splits(str(tmp_path), tiny.with_labels(names))[1] for names in (ABCD, ABCD[::-1])
    )
    assert torch.equal(first.pixels, second.pixels)
    assert torch.equal(first.labels, 3 - second.labels)


def test_numbers_train_and_are_judged_in_the_order_of_their_values(tmp_path, tiny):
    names = ["1", "2", "10", "11"]
    for part in ("train", "val"):
        coloured(tmp_path / part, names)
    for space in (tiny, tiny.with_labels(names)):
        assert all(
            meaning(images) == {i: {i} for i in range(4)} for images in training_splits(str(tmp_path), space)
        )


def test_numbers_that_are_missing_in_validation_do_not_move_the_others(tmp_path, tiny):
    coloured(tmp_path / "train", ["1", "2", "3", "4"])
    coloured(tmp_path / "val", ["1", "2", "3"])
    train, validation = training_splits(str(tmp_path), tiny)
    assert meaning(validation) == {0: {0}, 1: {1}, 2: {2}}
    assert meaning(train)[3] == {3}


def test_order_is_that_of_the_training_folders_also_where_validation_lacks_one(tmp_path, tiny):
    coloured(tmp_path / "train", ["p", "q", "r", "s"])
    shutil.copytree(tmp_path / "train" / "q", tmp_path / "val" / "q")
    shutil.copytree(tmp_path / "train" / "s", tmp_path / "test" / "s")
    with pytest.raises(DataError, match=r"p = 0, q = 1, r = 2, s = 3.*--labels-in-order") as caught:
        load_images(str(tmp_path), "validation", tiny)
    one_line(caught)
    said: list[str] = []
    assert meaning(
        load_images(
            str(tmp_path),
            "validation",
            tiny,
            in_order=True,
            listener=Listener(note=said.append),
        )
    ) == {1: {1}}
    assert meaning(load_images(str(tmp_path), "test", tiny, in_order=True)) == {3: {3}}
    assert any("p = 0, q = 1, r = 2, s = 3" in line for line in said)


def test_an_empty_folder_among_the_training_images_keeps_its_place_in_the_order(tmp_path, tiny):
    coloured(tmp_path, ["p", "r", "s"])
    (tmp_path / "q").mkdir()
    assert meaning(load_images(str(tmp_path), "test", tiny, in_order=True)) == {0: {0}, 2: {1}, 3: {2}}


# -- classes without images -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["absent", "empty", "only notes"])
def test_a_class_without_validation_images_is_no_reason_to_stop(tmp_path, abcd, how):
    image_folders.make(tmp_path / "train", count=3)
    image_folders.make(tmp_path / "val", ["a", "b", "d"], seed=1)
    if how != "absent":
        (tmp_path / "val" / "c").mkdir()
    if how == "only notes":
        (tmp_path / "val" / "c" / "notes.txt").touch()
    check(str(tmp_path), abcd)
    said: list[str] = []
    _, validation = training_splits(str(tmp_path), abcd, listener=Listener(note=said.append))
    assert sorted(set(validation.labels.tolist())) == [0, 1, 3]
    assert any("no images of c; accuracy is over the other 3 of 4 classes" in line for line in said)
    assert torch.equal(load_images(str(tmp_path), "test", abcd).labels, validation.labels)


def test_a_class_of_one_image_has_none_held_out_and_that_is_told(tmp_path, abcd):
    image_folders.make(tmp_path, ["a", "b", "c"], count=20)
    image_folders.make(tmp_path, ["d"], count=1)
    said: list[str] = []
    train, validation = training_splits(str(tmp_path), abcd, listener=Listener(note=said.append))
    assert (len(train), len(validation)) == (58, 3)
    assert any("no images of d" in line for line in said)


def test_an_empty_class_folder_stops_training_and_nothing_else(tmp_path, abcd):
    image_folders.make(tmp_path, ["a", "b", "c"], count=20)
    (tmp_path / "d").mkdir()
    with pytest.raises(DataError, match="class folder 'd' has no images") as caught:
        training_splits(str(tmp_path), abcd)
    one_line(caught)
    for split, count in (("train", 57), ("validation", 3), ("test", 60)):
        assert len(load_images(str(tmp_path), split, abcd)) == count


def test_some_of_the_models_classes_are_judged_by_name(tmp_path, abcd):
    said: list[str] = []
    images = load_images(
        str(coloured(tmp_path / "x", ["d", "B"])),
        "test",
        abcd,
        listener=Listener(note=said.append),
    )
    assert meaning(images) == {3: {0}, 1: {1}}
    assert any("no images of a, c" in line for line in said)
    assert any("B = b" in line for line in said)


# -- what is said ---------------------------------------------------------------------------------------


def test_classes_are_told_with_their_counts_and_what_was_left_out(tmp_path, abcd):
    image_folders.make(tmp_path / "x", count=2)
    for i in range(10):
        (tmp_path / "x" / "a" / f"{i}.dng").touch()
    (tmp_path / "x" / "b" / "._1.png").touch()
    said: list[str] = []
    load_images(str(tmp_path / "x"), "test", abcd, listener=Listener(note=said.append))
    assert said == ["x (8 images), 4 classes: a 2, b 2, c 2, d 2; left out: .dng 10, ._* 1"]


def test_of_many_classes_the_extremes_are_told(tmp_path, tiny):
    names = [f"c{i:02}" for i in range(30)]
    image_folders.make(tmp_path / "x", names, count=2)
    (tmp_path / "x" / "c07" / "001.png").unlink()
    said: list[str] = []
    load_images(
        str(tmp_path / "x"),
        "test",
        tiny.with_labels(names),
        listener=Listener(note=said.append),
    )
    assert said == ["x (59 images), 30 classes with 1 (c07) to 2 (c00) images"]


def test_names_that_are_no_text_are_read_and_shown(tmp_path, abcd):
    root = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    coloured(root, [b"a", b"b", b"c", b"d"], count=20)
    for i, folder in enumerate((b"a", b"b")):
        place = os.path.join(root, folder)
        os.rename(os.path.join(place, b"0.png"), os.path.join(place, b"\xff%d.png" % i))
    said: list[str] = []
    train, validation = training_splits(os.fsdecode(root), abcd, listener=Listener(note=said.append))
    assert (len(train), len(validation)) == (76, 4)
    assert train.name == "caf\\xe9 (76 images)"
    "".join(said).encode()


def test_a_class_folder_whose_name_is_no_text_is_shown_where_it_is_no_label(tmp_path, abcd):
    coloured(tmp_path, [b"a", b"b", b"c", b"caf\xe9"])
    with pytest.raises(DataError, match=r"caf\\xe9 = d") as caught:
        load_images(str(tmp_path), "test", abcd)
    one_line(caught).encode()
    assert meaning(load_images(str(tmp_path), "test", abcd, in_order=True)) == {i: {i} for i in range(4)}
