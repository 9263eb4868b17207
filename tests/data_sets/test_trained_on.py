"""Which images trained weights: known by their content, packed small, and never taken for what they are not."""

from __future__ import annotations

import copy
import json
import shutil

import image_folders
import numpy as np
import pytest
import torch
from conftest import one_line, only_user_errors, require_module
from hypothesis import given
from hypothesis import strategies as st
from scene_folder import write_scenes

from nasvit_edge import data_sets
from nasvit_edge.data_sets import ImageSet, TrainedOn, folders, overlap, split_to_judge, trained_on
from nasvit_edge.data_sets.scenes import in_memory, load_scenes
from nasvit_edge.data_sets.trained_on import FILES, PIXELS, Overlap, TrainingSet, from_json
from nasvit_edge.errors import DataError
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.records import content
from nasvit_edge.space import load_space

NANO = load_space("nano")
MARKS = st.sets(st.integers(0, 2**32 - 1), max_size=200).map(
    lambda values: np.array(sorted(values), np.uint32)
)


def _set(count=20, channels=1, seed=0, side=6):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, channels, side, side), generator=generator, dtype=torch.uint8)
    return ImageSet("noise", pixels, torch.arange(count) % 4)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return image_folders.make(tmp_path_factory.mktemp("photos"), count=20)


def _files(root):
    return folders.as_file_set(folders.listing(root), image_folders.rule(12))


def _same(one, other):
    return one.whole == other.whole and all(
        (a.name, a.kind, a.size) == (b.name, b.kind, b.size) and np.array_equal(a.marks, b.marks)
        for a, b in zip(one.parts, other.parts, strict=True)
    )


@given(marks=MARKS, name=st.text(), whole=st.booleans(), kind=st.sampled_from([FILES, PIXELS]))
def test_what_is_written_is_read(marks, name, whole, kind):
    size = None if kind == FILES else (28, 32)
    trained = TrainedOn((TrainingSet(name, kind, marks, size),), whole)
    assert _same(from_json(json.loads(json.dumps(content(trained.saved()))), "x"), trained)


def test_a_digest_takes_two_to_three_bytes():
    marks = np.unique(np.random.default_rng(0).integers(0, 2**32, 50_000, dtype=np.uint32))
    assert len(json.dumps(content(TrainedOn((TrainingSet("x", FILES, marks),)).saved()))) < 3.3 * len(marks)


GOOD = content(trained_on(_set(), None).saved())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(value=JSON)
def test_anything_else_is_one_line(value):
    assert isinstance(only_user_errors(from_json, value, "x"), TrainedOn | str)


@given(
    value=JSON | st.text("ABCD+/=", max_size=40),
    key=st.sampled_from(["name", "kind", "size", "images", "digests"]),
)
def test_a_damaged_entry_is_one_line(value, key):
    damaged = copy.deepcopy(GOOD)
    damaged["sets"][0][key] = value
    assert isinstance(only_user_errors(from_json, damaged, "x"), TrainedOn | str)


@pytest.mark.parametrize(
    ("key", "value"),
    [("images", 10**15), ("images", 19), ("images", True), ("digests", "!"), ("digests", ""), ("kind", "x")],
)
def test_a_wrong_entry_is_refused_and_named(key, value):
    damaged = copy.deepcopy(GOOD)
    damaged["sets"][0][key] = value
    with pytest.raises(
        DataError, match="weights 'w': the digests of the images that trained it are damaged"
    ) as caught:
        from_json(damaged, "weights 'w'")
    assert one_line(caught)


def test_copies_are_found_whatever_they_are_called_and_changed_files_are_not(photos, tmp_path):
    known = trained_on(_files(photos), TrainedOn())
    for i, path in enumerate(sorted(photos.rglob("*.png"))[:8]):
        (tmp_path / "abcd"[i % 4]).mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "abcd"[i % 4] / f"other name {i}.png")
    shared = overlap(known, _files(tmp_path))
    assert (shared.trained, shared.images, shared.of, shared.some, shared.whole) == (8, 8, 80, True, True)
    assert shared.told == "8 of 8 images trained these weights: this is no test accuracy"
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(path.read_bytes() + b"\0")
    shared = overlap(known, _files(tmp_path))
    assert (shared.trained, shared.some) == (0, False)
    assert "none of the 8 images is among the 80 that trained these weights" in shared.told


def test_decoded_images_are_known_by_their_files(photos):
    known = trained_on(_files(photos), TrainedOn())
    for side in (12, 8):
        images = folders.read(folders.listing(photos), image_folders.rule(side))
        part = images.take("some", torch.tensor([3, 5, 70]))
        assert (overlap(known, images).trained, overlap(known, part).trained) == (80, 3)
        assert _same(
            trained_on(images, TrainedOn()),
            TrainedOn((TrainingSet(images.name, FILES, known.parts[0].marks),)),
        )


@pytest.mark.parametrize("channels", [1, 3])
def test_images_without_files_are_known_by_their_pixels_as_they_are_stored(channels):
    images = _set(channels=channels)
    known = trained_on(images.take("some", slice(0, 7)), TrainedOn())
    assert overlap(known, images).trained == 7
    smaller = images.fitted(image_folders.rule(4))
    assert smaller.pixels.shape[-1] == 4
    assert overlap(known, smaller).trained == 7
    assert overlap(known, smaller.take("few", torch.tensor([1, 6, 9]))).trained == 2
    assert _same(trained_on(smaller, TrainedOn()), trained_on(images, TrainedOn()))
    assert overlap(known, _set(channels=channels, seed=1)).trained == 0


def test_a_folder_of_the_same_pixels_is_found_too(tmp_path):
    pillow, images = require_module("PIL.Image"), _set()
    known = trained_on(images, TrainedOn())
    for i, pixels in enumerate(images.pixels.numpy()):
        (tmp_path / str(i % 4)).mkdir(exist_ok=True)
        pillow.fromarray(pixels[0]).save(tmp_path / str(i % 4) / f"{i}.{'bmp' if i % 2 else 'png'}")
    pillow.new("L", (9, 9)).save(tmp_path / "0" / "of another size.png")
    shared = overlap(known, _files(tmp_path))
    assert (shared.trained, shared.images) == (20, 21)


def test_scenes_in_memory_are_known_by_their_pixels():
    rng = np.random.default_rng(0)
    pairs = [
        (rng.integers(0, 256, (3, 5, 7 + i), np.uint8), np.zeros((5, 7 + i), np.uint8)) for i in range(4)
    ]
    scenes = in_memory("scenes", pairs)
    assert overlap(trained_on(scenes.take("two", [0, 2]), TrainedOn()), scenes).trained == 2


def test_scenes_are_known_by_the_files_of_their_images_and_cut_as_for_training(tmp_path):
    dense, data = load_space("nano-dense"), str(write_scenes(tmp_path / "scenes", train=20))
    train, held = (load_scenes(data, split, dense) for split in ("train", "validation"))
    known = trained_on(train, TrainedOn())
    assert (known.parts[0].kind, len(known)) == (FILES, 18)
    assert (overlap(known, train).trained, overlap(known, held).trained) == (18, 0)
    split, text = split_to_judge(data, dense, known)
    assert split == "validation"
    assert "judged on those that training holds out of it" in text
    whole = str(write_scenes(tmp_path / "whole", train=4, test=2))
    assert split_to_judge(whole, dense, None) == ("test", "")


def test_sets_that_cannot_be_compared_are_told_as_unknown(photos):
    shared = overlap(trained_on(_files(photos), TrainedOn()), _set())
    assert (shared.trained, shared.whole, shared.of) == (None, False, 80)
    assert "not known" in shared.told
    assert overlap(None, _set()).trained is None


def test_what_trained_before_is_carried_on_and_what_is_not_known_of_it_told(photos):
    first = trained_on(_set(), TrainedOn())
    both = trained_on(_files(photos), first)
    assert [part.kind for part in both.parts] == [PIXELS, FILES]
    assert len(both) == 100
    assert _same(trained_on(_files(photos), both), both)  # again on the same
    later = trained_on(_files(photos), None)
    assert not later.whole
    assert "of those that trained them before, not all are known" in overlap(later, _set(seed=2)).told or (
        overlap(later, _set(seed=2)).trained is None
    )
    assert overlap(TrainedOn(), _set()).told == "no images trained these weights"


@given(images=st.integers(1, 100_000), trained=st.integers(0, 100_000), of=st.integers(0, 2_000_000))
def test_only_more_than_look_so_by_chance_are_told_of(images, trained, of):
    chance = images * of / 2**32
    actual = Overlap(images, min(trained, images), of, (), chance, True)
    if actual.some:
        assert actual.trained > chance
    if of and actual.trained > chance + 10 * (chance**0.5 + 1):
        assert actual.some


# -- which slice is judged on -----------------------------------------------------------------------------------------


def test_a_folder_of_classes_is_cut_as_for_training_unless_none_of_it_trained_the_weights(photos, tmp_path):
    data, space = str(photos), NANO.with_labels("abcd")
    train, held = data_sets.training_splits(data, space)
    known = trained_on(train, TrainedOn())
    split, text = split_to_judge(data, space, known)
    assert split == "validation"
    assert "76 of its 80 images trained these weights" in text
    assert "--split all" in text
    assert overlap(known, held).trained == 0
    assert split_to_judge(data, space, None)[0] == "validation"
    for other in (TrainedOn(), trained_on(_set(), TrainedOn())):
        assert split_to_judge(data, space, other) == ("test", "")
    assert split_to_judge(data, space, known, "all") == ("test", "")
    assert split_to_judge(data, space, known, "validation") == ("validation", "")


def test_a_copy_of_training_images_is_not_cut_since_that_spares_none(photos, tmp_path):
    whole = trained_on(_files(photos), TrainedOn())
    assert split_to_judge(str(photos), NANO.with_labels("abcd"), whole) == ("test", "")
    few = image_folders.make(tmp_path / "few", count=1)
    assert split_to_judge(str(few), NANO.with_labels("abcd"), None) == ("test", "")


def test_folders_with_splits_are_judged_on_their_test_images(tmp_path):
    for split in ("train", "val"):
        image_folders.make(tmp_path / split, count=3)
    space = NANO.with_labels("abcd")
    assert split_to_judge(str(tmp_path), space, None) == ("test", "")
    with pytest.raises(DataError, match="--split all is for a folder of classes alone"):
        split_to_judge(str(tmp_path), space, None, "all")
    shutil.rmtree(tmp_path / "val")
    split, text = split_to_judge(str(tmp_path), space, None)
    assert split == "validation"
    assert "has no test images of its own: judged on those that training holds out of it" in text
    with pytest.raises(DataError, match="folder 'train'"):
        split_to_judge(str(tmp_path), space, None, "all")


@pytest.mark.parametrize("asked", ["tset", "", "train"])
def test_another_split_is_one_line(photos, asked):
    with pytest.raises(DataError, match="it is test, validation or all"):
        split_to_judge(str(photos), NANO, None, asked)


@pytest.mark.parametrize("name", ["nano", "nano-cifar10"])
def test_shipped_weights_know_as_many_images_as_trained_them(name):
    supernet = load_supernet(name, load_space(name))
    count = supernet.source["images"]
    assert count - 3 <= len(supernet.trained_on) <= count  # some images are there twice
    assert supernet.trained_on.whole


def test_no_bundled_test_image_trained_the_shipped_weights_and_a_share_of_fashion_mnist_did():
    known = load_supernet("nano", NANO).trained_on
    for split in ("calibration", "validation", "test"):
        assert not overlap(known, data_sets.bundled(split, NANO)).some
    if data_sets.fashion.SYSTEM_FOLDER.is_dir():
        shared = overlap(known, data_sets.fashion_mnist(train=True).take("some", slice(0, 2000)))
        assert 0.95 < shared.trained / 2000 < 1
