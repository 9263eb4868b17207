"""Image folders: in memory or as files, and what is wrong with one is told before training starts."""

from __future__ import annotations

import io
import pickle
import shutil
from functools import partial

import image_folders
import numpy as np
import pytest
import torch
from conftest import one_line, only_user_errors, require_module
from hypothesis import given, settings
from hypothesis import strategies as st
from image_folders import ABCD

from nasvit_edge.data_sets import (
    FileSet,
    ImageSet,
    calibration_images,
    check,
    classes,
    folders,
    load_images,
    training_splits,
)
from nasvit_edge.errors import DataError

require_module("torchvision")


@pytest.fixture(scope="module")
def tiny(tiny):
    """With the class folders' names as its labels."""
    return tiny.with_labels(ABCD)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def too_large(monkeypatch):
    """Every set is too large for memory."""
    monkeypatch.setattr(folders, "MEMORY_BYTES", 0)


def test_images_of_the_spaces_size_are_taken_as_they_are(tmp_path):
    root = image_folders.make(tmp_path / "x")
    rows = image_folders.read(root, 12)
    assert rows.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert rows.name == "x (8 images)"
    for label, name in enumerate(ABCD):
        pixels = np.asarray(require_module("PIL.Image").open(root / name / "001.png")).transpose(2, 0, 1)
        assert np.array_equal(rows.pixels[2 * label + 1], pixels)


def test_a_set_that_does_not_fit_in_memory_stays_files_with_the_same_images(tmp_path, monkeypatch, tiny):
    root = image_folders.make(tmp_path / "x", side=15)
    in_memory = image_folders.read(root, 12)
    monkeypatch.setattr(folders, "MEMORY_BYTES", 8 * 3 * 12 * 12 - 1)
    files = image_folders.read(root, 12)
    assert isinstance(in_memory, ImageSet)
    assert isinstance(files, FileSet)
    assert (files.name, len(files)) == (in_memory.name, len(in_memory))
    assert torch.equal(files.labels, in_memory.labels)
    assert torch.equal(files.loaded().pixels, in_memory.pixels)
    chosen = torch.tensor([5, 0, 5])
    assert torch.equal(files.some(chosen), in_memory.pixels[chosen])
    assert [image.shape for image in files.some(chosen, whole=True)] == [(3, 15, 15)] * 3
    for part in (chosen, slice(2, 6)):
        taken = files.take("part", part)
        assert (taken.name, taken.preparation) == ("part", files.preparation)
        assert torch.equal(taken.loaded().pixels, in_memory.pixels[part])
    for (a, b), (c, d) in zip(
        files.batches(tiny, 8, size=3), in_memory.batches(tiny, 8, size=3), strict=True
    ):
        assert torch.equal(a, c)
        assert torch.equal(b, d)
    assert torch.equal(pickle.loads(pickle.dumps(files)).loaded().pixels, in_memory.pixels)


@pytest.mark.parametrize("size", [12, 112])  # below and above where threads are used
def test_a_damaged_image_is_told_of_before_training_starts(tmp_path, tiny, size):
    root = image_folders.make(tmp_path / "x", count=40)
    path = root / "c" / "031.png"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"031\.png.*cannot be read") as caught:
        image_folders.read(root, size)
    one_line(caught)
    with pytest.raises(DataError, match=r"031\.png"):
        training_splits(str(root), tiny)


def test_of_a_set_that_stays_files_a_sample_is_opened(tmp_path, tiny, too_large):
    root = image_folders.make(tmp_path / "x", count=3)
    check(str(root), tiny)
    (root / "d" / "002.png").write_bytes(b"no image")
    for function in (check, training_splits):
        with pytest.raises(DataError, match=r"002\.png") as caught:
            function(str(root), tiny)
        one_line(caught)


def test_an_empty_class_folder_is_named(tmp_path, tiny):
    root = image_folders.make(tmp_path / "x")
    (root / "bb").mkdir()
    (root / "bb" / "notes.txt").write_text("no image")
    for function in (check, training_splits):
        with pytest.raises(DataError, match="class folder 'bb' has no images") as caught:
            function(str(root), tiny)
        one_line(caught)


@pytest.mark.parametrize("content", ["nothing", "images without classes"])
def test_a_folder_without_classes_is_one_line(tmp_path, tiny, content):
    if content != "nothing":
        image_folders.make(tmp_path / "x")
        (tmp_path / "x" / "a" / "000.png").rename(tmp_path / "1.png")
        shutil.rmtree(tmp_path / "x")
    for function in (check, training_splits):
        with pytest.raises(DataError, match="one folder per class") as caught:
            function(str(tmp_path), tiny)
        one_line(caught)


def test_a_missing_folder_says_what_can_be_given(tmp_path, tiny):
    for function in (check, training_splits):
        with pytest.raises(DataError, match=r"fashion-mnist.*cifar10") as caught:
            function(str(tmp_path / "absent"), tiny)
        one_line(caught)


@pytest.mark.parametrize("names", ["xyz", "abcde"])
def test_fewer_or_more_other_classes_than_the_space_has_are_refused(tmp_path, tiny, names):
    root = image_folders.make(tmp_path / "x", list(names))
    for function in (check, training_splits):
        with pytest.raises(DataError, match=f"have {len(names)} classes; space 'tiny' has 4") as caught:
            function(str(root), tiny)
        one_line(caught)


@pytest.mark.parametrize("split", ["val", "test"])
def test_class_folders_that_training_has_not_are_named(tmp_path, tiny, split):
    image_folders.make(tmp_path / "train")
    image_folders.make(tmp_path / split, ["a", "b", "cat", "d"])
    with pytest.raises(DataError, match=f"'{split}' are none of those of 'train': cat") as caught:
        check(str(tmp_path), tiny)
    one_line(caught)
    with pytest.raises(DataError, match="cat"):
        load_images(str(tmp_path), "validation" if split == "val" else "test", tiny)


def test_class_names_are_the_sorted_folders(tmp_path):
    image_folders.make(tmp_path / "flat", ["b", "a", "C"])
    assert classes(str(tmp_path / "flat")) == ("C", "a", "b")
    image_folders.make(tmp_path / "split" / "train", ["x", "y"])
    assert classes(str(tmp_path / "split")) == ("x", "y")
    image_folders.make(tmp_path / "numbers", ["10", "9", "1"])
    assert classes(str(tmp_path / "numbers")) == ("1", "9", "10")


LAYOUTS = st.dictionaries(
    st.sampled_from(["", "train", "val", "validation", "test"]),
    st.dictionaries(
        st.sampled_from([*ABCD, ".hidden", "é"]), st.sampled_from(["empty", "text", "image", "bad"])
    ),
)


@settings(max_examples=40)
@given(LAYOUTS)
def test_any_layout_is_read_or_one_line(tmp_path_factory, tiny, layout):
    root = tmp_path_factory.mktemp("layout")
    content = {"text": b"notes", "image": _png(), "bad": _png()[:60]}
    for part, members in layout.items():
        (root / part).mkdir(exist_ok=True)
        for name, kind in members.items():
            (root / part / name).mkdir(exist_ok=True)
            for i in range(2 * (kind != "empty")):
                (root / part / name / f"{i}.{'txt' if kind == 'text' else 'png'}").write_bytes(content[kind])
    only_user_errors(check, str(root), tiny)
    only_user_errors(classes, str(root))
    outcome = only_user_errors(training_splits, str(root), tiny)
    assert isinstance(outcome, str) or all(len(part) for part in outcome)
    loads = [partial(load_images, str(root), split) for split in ("train", "validation", "test")]
    for load in (*loads, partial(calibration_images, str(root))):
        images = only_user_errors(load, tiny)
        assert isinstance(images, str) or images.pixels.shape[1:] == (3, 12, 12)


def _png() -> bytes:
    buffer = io.BytesIO()
    require_module("PIL.Image").new("RGB", (12, 12), (1, 2, 3)).save(buffer, "PNG")
    return buffer.getvalue()
