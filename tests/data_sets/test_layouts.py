"""Splits however they are called, and what is meant where folders are laid out otherwise."""

from __future__ import annotations

from pathlib import Path

import image_folders
import numpy as np
import pytest
from conftest import one_line, require_module
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.data_sets import classes, folders, layouts, load_images, training_splits, unlabelled
from nasvit_edge.errors import DataError

pillow = require_module("PIL.Image")
NAMES = {
    "train": ["train", "Training"],
    "validation": ["valid", "VAL", "Validation", "dev"],
    "test": ["Test", "testing"],
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def made(root: Path, *folders: str) -> Path:
    """Folders with an image each."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        pillow.new("RGB", (12, 12)).save(root / folder / "0.png")
    return root


def refused(function, *arguments) -> str:
    with pytest.raises(DataError) as caught:
        function(*arguments)
    return one_line(caught)


@given(*(st.sampled_from(names) for names in NAMES.values()))
def test_splits_are_known_by_any_of_their_names(tmp_path_factory, train, validation, test):
    root = tmp_path_factory.mktemp("photos")
    for name in (train, validation, test):
        (root / name / "cat").mkdir(parents=True)
    for split, name in (("train", train), ("validation", validation), ("test", test)):
        assert layouts.split_folder(str(root), split) == root / name


def test_where_there_is_no_test_split_validation_stands_in(tmp_path):
    made(tmp_path / "x", "train/a", "Valid/a")
    assert layouts.split_folder(str(tmp_path / "x"), "test") == tmp_path / "x" / "Valid"


def test_two_folders_of_one_split_are_named(tmp_path):
    root = made(tmp_path / "x", "train/a", "val/a", "valid/a")
    text = refused(layouts.split_folder, str(root), "validation")
    assert "'val' and 'valid' are both folders of validation images" in text
    assert layouts.split_folder(str(root), "train") == root / "train"


def test_classes_that_are_called_like_splits_are_classes(tmp_path, tiny):
    """CIFAR-100 has a class `train`."""
    root = image_folders.make(tmp_path / "x", ["bus", "dev", "train", "tram"], 4)
    assert classes(str(root)) == ("bus", "dev", "train", "tram")
    assert len(load_images(str(root), "test", tiny.with_labels(classes(str(root))))) == 16


@pytest.mark.parametrize(
    "names",
    [
        ["train2017", "val2017"],
        ["images_train", "images_test"],
        ["train", "test"],
        ["Train"],
        ["Dev Set", "test"],
    ],
)
def test_classes_that_all_look_like_splits_are_refused(tmp_path, names):
    text = refused(classes, str(made(tmp_path / "x", *names)))
    assert "look like splits, not classes" in text
    assert "train/CLASS/IMAGE" in text


@pytest.mark.parametrize(
    "names", [["freight train", "passenger train"], ["test tube", "crash test"], ["training shoe"]]
)
def test_words_in_the_names_of_classes_do_not_make_them_splits(tmp_path, names):
    assert classes(str(made(tmp_path / "x", *names))) == tuple(sorted(names))


def test_a_split_without_class_folders_is_named_where_it_is_needed(tmp_path, tiny):
    """As of Kaggle: the test images have no labels."""
    root = image_folders.make(tmp_path / "x" / "train", "abcd", 20).parent
    made(root, "test")
    space = tiny.with_labels("abcd")
    assert len(training_splits(str(root), space)[0]) == 76
    assert "its folder 'test' has no class folders" in refused(load_images, str(root), "test", space)
    made(root, "val")
    assert "its folder 'val' has no class folders" in refused(training_splits, str(root), space)


@pytest.mark.parametrize(
    ("inside", "what"),
    [(["cat", "dog"], "classes"), (["train/cat", "val/cat"], "splits")],
    ids=["classes", "splits"],
)
def test_one_folder_too_many_says_which_to_give(tmp_path, inside, what):
    root = made(tmp_path / "photos", *(f"photos/{name}" for name in inside))
    text = refused(classes, str(root))
    assert "one folder too many" in text
    assert f"if these are the {what}, give {str(root / 'photos')!r}" in text
    assert len(classes(str(root / "photos"))) <= 2


def test_one_folder_too_many_in_a_split_is_named(tmp_path):
    text = refused(classes, str(made(tmp_path / "x", "train/train/cat", "train/train/dog")))
    assert "its only folder 'train' has no images of its own but the folders cat, dog" in text


def test_splits_inside_the_classes_are_refused(tmp_path):
    root = made(tmp_path / "x", "cat/train", "cat/test", "dog/Train", "dog/test")
    assert "class folders hold splits (Train, test, train); what is meant is train/CLASS/IMAGE" in refused(
        classes, str(root)
    )


def test_the_same_folders_in_every_class_are_told(tmp_path):
    root = made(tmp_path / "x", "2023/cat", "2023/dog", "2024/cat", "2024/dog")
    assert "each class folder holds the folders cat, dog" in folders.listing(root).told()
    assert "each class folder" not in folders.listing(made(tmp_path / "y", "cat/a", "dog/b")).told()
    assert "each class folder" not in folders.listing(made(tmp_path / "z", "cat", "cat/a", "dog/a")).told()


def test_images_without_class_folders_are_counted(tmp_path):
    root = made(tmp_path / "x", "")
    assert "its 1 images lie in no class folders; give a folder with one folder per class" in refused(
        classes, str(root)
    )


# -- images that need no labels -------------------------------------------------------------------------


def test_unlabelled_images_are_those_of_the_training_split_with_or_without_classes(tmp_path):
    for name, layout in {
        "flat": ["", "deep/er"],
        "classes": ["cat", "dog"],
        "splits": ["Train/cat", "Train/dog"],
        "flat split": ["train", "train/more"],
    }.items():
        root = made(tmp_path / name, *layout)
        if "split" in name:
            made(root, "val/cat", "test")
        (root / "empty").mkdir()
        actual = unlabelled(str(root))
        assert len(actual) == 2, name
        assert np.array_equal(actual.labels, [0, 0])
        assert (
            actual.name
            == f"{name}{' Train' if name == 'splits' else ' train' if 'split' in name else ''} (2 images)"
        )


def test_unlabelled_images_are_of_all_classes_where_one_is_called_train(tmp_path):
    assert len(unlabelled(str(made(tmp_path / "x", "bus", "train", "tram")))) == 3
    assert len(unlabelled(str(made(tmp_path / "y", "other", "train/a", "train/b")))) == 2


def test_unlabelled_images_are_told_without_classes(tmp_path):
    root = made(tmp_path / "x", "cat", "dog")
    (root / "cat" / "notes.txt").touch()
    assert unlabelled(str(root)).told() == "x (2 images); left out: .txt 1"


def test_no_images_at_all_are_one_line(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "notes.txt").touch()
    assert "there are no images that can be read; fill it or remove it (left out: .txt 1)" in refused(
        unlabelled, str(tmp_path)
    )
    assert "(cat) have no images that can be read" in refused(folders.listing, tmp_path)
    for gone in ("absent", "a\0b", "x" * 5000):
        assert "no such folder" in refused(unlabelled, gone)
