"""What masks hold is counted and told; those that cannot be right are named, and refused where nothing could be learned."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import scene_folders as made
from conftest import one_line, only_user_errors
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.data_sets import mask_check
from nasvit_edge.data_sets.mask_check import checked, counted
from nasvit_edge.data_sets.masks import IGNORE, mask_size, plain
from nasvit_edge.data_sets.scenes import Files, SceneSet, in_memory, load_scenes
from nasvit_edge.errors import DataError
from nasvit_edge.listening import Listener
from nasvit_edge.space import SearchSpace

FOUR, TWO = made.dense(4), made.dense(2)


def scenes(root: Path, *masks, space: SearchSpace = FOUR) -> SceneSet:
    """Mask files of these values, 8 x 12 pixels each, and no images, which are not looked at."""
    paths = [made.mask(root / f"{i}.png", values) for i, values in enumerate(masks)]
    names = np.array([str(path).encode() for path in paths])
    sizes = np.array([[8, 12]] * len(paths))
    coding = plain(space.classes, space.mask_values)
    return SceneSet("some", Files(names, names, sizes, coding), np.arange(len(paths)))


def layout(root: Path, space: SearchSpace, **options) -> list[str]:
    return checked(load_scenes(str(root), "train", space), space, **options)


def refused(function, *arguments, **options) -> str:
    with pytest.raises(DataError) as caught:
        function(*arguments, **options)
    return one_line(caught)


# -- counting -------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    st.lists(st.lists(st.sampled_from([0, 1, 2, 3, 255]), min_size=1, max_size=20), min_size=1, max_size=4)
)
def test_every_pixel_is_counted_once_from_files_and_in_memory(tmp_path_factory, masks):
    of_files = scenes(tmp_path_factory.mktemp("masks"), *masks)
    arrays = [np.resize(np.array(values, np.uint8), (8, 12)) for values in masks]
    in_ram = in_memory("some", [(np.zeros((3, 8, 12), np.uint8), array) for array in arrays])
    whole = np.stack(arrays)
    for some in (of_files, in_ram):
        counts = counted(some, FOUR)
        assert counts.per_class.tolist() == [int((whole == label).sum()) for label in range(4)]
        assert counts.unlabelled == pytest.approx((whole == IGNORE).mean())
        assert counts.empty == sum((array == IGNORE).all() for array in arrays)


def test_the_summary_has_every_class_and_what_has_none(tmp_path):
    space = dataclasses.replace(FOUR, labels=("sky", "road", "tree", "car"))
    some = scenes(tmp_path, [0, 0, 1, 2], [3, 255, 0, 255])
    assert checked(some, space, training=True)[0] == (
        "masks of some, 192 pixels: sky 37.5%, road 12.5%, tree 12.5%, car 12.5%, no class 25.0% (value 255)"
    )


def test_a_class_of_few_pixels_is_not_told_as_none(tmp_path):
    made.save(tmp_path / "0.png", np.array([[0] * 9999 + [1]], np.uint8))
    names = np.array([str(tmp_path / "0.png").encode()])
    some = SceneSet("some", Files(names, names, np.array([[1, 10_000]]), plain(2)), np.arange(1))
    assert "1 <0.1%" in checked(some, TWO)[0]


def test_progress_is_told_mask_by_mask(tmp_path):
    seen = []
    counted(scenes(tmp_path, *[[0, 1]] * 5), FOUR, Listener(progress=lambda *steps: seen.append(steps)))
    assert [steps[:2] for steps in seen] == [(i + 1, 5) for i in range(5)]
    assert "looking at the masks of some" in seen[0][2]


@pytest.mark.parametrize(("most", "count"), [(96 * 10, 10), (96 * 4, 4), (96 * 3 + 50, 3), (1, 1)])
def test_of_more_pixels_than_are_counted_masks_evenly_from_all_are_looked_at_and_this_is_told(
    tmp_path, monkeypatch, most, count
):
    monkeypatch.setattr(mask_check, "MOST_PIXELS", most)
    masks = [[i % 2] for i in range(10)]
    some = scenes(tmp_path, *masks)
    counts = counted(some, FOUR)
    assert (counts.masks, counts.total) == (count, 10)
    gaps = np.diff([*mask_check._some(some).places, 10])
    assert max(gaps) - min(gaps) <= 1
    assert ("masks evenly from all" in counts.summary()) == (count < 10)


def test_a_sample_says_that_a_class_was_not_in_the_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(mask_check, "MOST_PIXELS", 96 * 2)
    lines = checked(scenes(tmp_path, *[[0, 1, 3]] * 4), FOUR, training=True)
    assert "class '2' (value 2) occurs in none of the 2 masks that were looked at (4 in all)" in lines[1]


def test_a_damaged_mask_and_an_unknown_value_are_named(tmp_path):
    assert "1.png' holds the value 7" in refused(counted, scenes(tmp_path, [0, 1], [0, 7]), FOUR)
    assert "list these as mask_values" in refused(counted, scenes(tmp_path, [0, 1], [0, 7]), FOUR)
    some = scenes(tmp_path, [0, 1], [0, 2])
    (tmp_path / "1.png").write_bytes(b"x")
    assert "1.png' cannot be read" in refused(counted, some, FOUR)


# -- what cannot be right -------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("space", [TWO, FOUR, made.dense(11)])
def test_masks_of_only_255_are_an_error(tmp_path, training, space):
    text = refused(checked, scenes(tmp_path, [255], [255], space=space), space, training=training)
    assert "masks of some have no pixel with a class, only value 255" in text
    assert "mask_values" in text


def test_masks_of_only_255_in_memory_are_an_error_too():
    image, mask = np.zeros((3, 4, 4), np.uint8), np.full((4, 4), 255, np.uint8)
    assert "no pixel with a class" in refused(checked, in_memory("x", [(image, mask)]), FOUR)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("values", [[0, 255], [1, 255]])
def test_two_classes_of_which_one_is_255_are_told_which_option_makes_it_right(tmp_path, training, values):
    space = dataclasses.replace(TWO, labels=("background", "polyp"))
    text = refused(checked, scenes(tmp_path, values, space=space), space, training=training)
    never = space.label_names()[1 - values[0]]
    assert f"hold values {values[0]} and 255 alone" in text
    assert f"{never!r} is never seen" in text
    assert f"add mask_values = {values} to the space's TOML" in text


@pytest.mark.parametrize("values", [(0, 255), (255, 0)])
def test_with_that_option_255_is_a_class_and_the_masks_are_fine(tmp_path, values):
    space = dataclasses.replace(TWO, mask_values=values)
    some = scenes(tmp_path, [0, 0, 0, 255], space=space)
    shares = {0: "75.0%", 255: "25.0%"}
    text = f"masks of some, 96 pixels: 0 {shares[values[0]]}, 1 {shares[values[1]]}"
    assert checked(some, space, training=True) == [text]


def test_values_between_those_that_are_listed_are_no_class_and_told(tmp_path):
    space = dataclasses.replace(TWO, mask_values=(0, 255))
    lines = checked(scenes(tmp_path, [0, 255, 7, 250], space=space), space, training=True)
    assert lines == ["masks of some, 96 pixels: 0 25.0%, 1 25.0%, no class 50.0% (values 7 and 250)"]


def test_as_many_values_as_classes_with_255_among_them_are_told_where_it_may_be_a_class(tmp_path):
    lines = checked(scenes(tmp_path, [0, 1, 2, 255]), FOUR, training=True)
    assert "add mask_values = [0, 1, 2, 255] to the space's TOML" in lines[-1]
    assert not any("mask_values" in line for line in checked(scenes(tmp_path, [0, 1, 2, 3, 255]), FOUR))


def test_one_class_alone_can_be_judged_on_but_not_learned(tmp_path):
    some = scenes(tmp_path, [1, 1, 1, 255])
    text = refused(checked, some, FOUR, training=True)
    assert "one class alone, '1': there is nothing to learn" in text
    assert "value 1 75.0% and value 255 25.0%" in text
    assert "one class alone" in checked(some, FOUR)[1]


def test_a_class_that_never_occurs_is_named_where_it_is_to_be_learned(tmp_path):
    some = scenes(tmp_path, [0, 1, 3], [0, 1])
    lines = checked(some, FOUR, training=True)
    assert lines[1].startswith("WARNING: class '2' (value 2) occurs in none of the 2 masks")
    assert len(checked(some, FOUR)) == 1


def test_of_many_that_never_occur_some_are_named(tmp_path):
    space = made.dense(20)
    (line,) = checked(scenes(tmp_path, [0, 1], space=space), space, training=True)[1:]
    assert "classes '2' (value 2), '3' (value 3)" in line
    assert "and 13 more occur in none" in line


@pytest.mark.parametrize(
    ("values", "warned"), [([0, 1, 2, 3, 255, 255, 255], False), ([0, 1, 255, 255, 255], True)]
)
def test_more_than_half_without_a_class_is_told(tmp_path, values, warned):
    lines = checked(scenes(tmp_path, values), FOUR)
    assert any("of the pixels have no class" in line for line in lines) == warned


def test_masks_without_a_class_among_others_are_counted(tmp_path):
    lines = checked(scenes(tmp_path, [0, 1, 2, 3], [255], [255]), FOUR)
    assert "note: 2 of the 3 masks have no pixel with a class" in lines


def test_what_was_left_out_of_the_folders_is_told(tmp_path):
    root = made.plain(tmp_path / "city", train=2, val=1)
    (root / "train" / "images" / "notes.txt").write_text("x")
    assert layout(root, FOUR, training=True)[-1] == "left out of city train (2 images): .txt 1"


def test_ade20k_that_is_reduced_already_is_told_by_name(tmp_path):
    space = made.dense(150)
    root = made.ade20k(tmp_path / "published")
    assert len(layout(root, space, training=True)) == 1
    for folder in ("training", "validation"):
        for path in (root / "annotations" / folder).iterdir():
            made.mask(path, [*range(150), 255], mask_size(str(path))[0], 20)
    text = refused(layout, root, space, training=True)
    assert "are reduced already (0 to 149 are the classes and 255 none" in text
    moved = tmp_path / "moved"
    for kind, of in (("images", "images"), ("masks", "annotations")):
        for split, was in (("train", "training"), ("val", "validation")):
            (moved / split).mkdir(parents=True, exist_ok=True)
            (root / of / was).rename(moved / split / kind)
    assert len(layout(moved, space, training=True)) == 1, "what the message says to do makes it right"


@pytest.mark.parametrize("values", [[*range(19), 255], range(19), [0, 1, 2, 8, 10, 13]])
def test_train_ids_in_files_for_label_ids_are_told_by_name(tmp_path, values):
    space = made.dense(19)
    root = made.cityscapes(tmp_path, values=values)
    assert "hold train ids (0 to 18, and 255) in files called labelIds" in refused(layout, root, space)
    for path in root.rglob("*_labelIds.png"):
        path.rename(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
    assert "city" in layout(root, space)[0], "what the message says to do makes it right"


@pytest.mark.parametrize("values", [range(34), [0, 1, 3, 7, 8, 11, 21, 23, 26], [7, 8, 11, 12]])
def test_label_ids_are_not_taken_for_train_ids(tmp_path, values):
    assert layout(made.cityscapes(tmp_path, values=values), made.dense(19))


def test_who_lists_the_values_is_not_asked_about_them(tmp_path):
    space = dataclasses.replace(made.dense(19), mask_values=tuple(range(19)))
    assert layout(made.cityscapes(tmp_path, values=[*range(19), 255]), space, training=True)
    two = dataclasses.replace(TWO, mask_values=(0, 1))
    assert "one class alone" in checked(scenes(tmp_path / "x", [0, 255], space=two), two)[1]


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 255), min_size=1, max_size=6), min_size=1, max_size=3),
    st.integers(1, 12),
    st.booleans(),
    st.booleans(),
)
def test_whatever_masks_hold_is_lines_or_one_error(tmp_path_factory, masks, classes, listed, training):
    space = made.dense(classes)
    space = dataclasses.replace(space, mask_values=tuple(range(255, 255 - classes, -1)) if listed else ())
    some = scenes(tmp_path_factory.mktemp("any"), *masks, space=space)
    outcome = only_user_errors(checked, some, space, training=training)
    if not isinstance(outcome, str):
        assert all(line and "nan" not in line and "\n" not in line for line in outcome)
        assert counted(some, space).per_class.any()
