"""Class folders are a model's labels by what they are called; order decides only where the user says so."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from conftest import one_line
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.data_sets import labels
from nasvit_edge.data_sets.fashion import FASHION_LABELS
from nasvit_edge.data_sets.labels import (
    BY_ID,
    BY_NAME,
    BY_NUMBER,
    IN_ORDER,
    keeps_labels,
    matched,
    recognised,
)
from nasvit_edge.data_sets.names import ordered
from nasvit_edge.errors import DataError
from nasvit_edge.space import load_space

CIFAR10 = load_space("nano-cifar10")
NANO = load_space("nano")
IMAGENET = load_space("nasvit")
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=6)


def named(*names: str):
    return NANO.with_labels(names)


def numbered(count: int):
    """A space whose labels are no names, only places."""
    return replace(NANO, classes=count, labels="numbers")


@given(st.lists(WORDS, min_size=1, max_size=8, unique_by=lambda name: labels.key(name) or name), st.randoms())
def test_the_same_names_are_found_in_whatever_order_they_are(names, rng):
    space, folders = named(*names), list(names)
    rng.shuffle(folders)
    match = matched(folders, space, "photos")
    assert [names[place] for place in match.places] == folders


@given(
    st.lists(WORDS, min_size=1, max_size=8, unique=True), st.lists(WORDS, min_size=1, max_size=8, unique=True)
)
def test_whatever_the_names_each_folder_has_a_label_of_its_own_or_none_has(names, found):
    for in_order in (False, True):
        try:
            match = matched(ordered(found), named(*names), "photos", in_order=in_order)
        except DataError as error:
            one_line(error)
        else:
            assert len(set(match.places)) == len(match.places) == len(found)
            assert set(match.places) <= set(range(len(names)))
            for name, place in zip(ordered(found), match.places, strict=True):
                assert name not in names or names[place] == name or name.isdigit()


@pytest.mark.parametrize("seed", range(3))
def test_fashion_folders_named_as_a_file_system_allows_are_its_labels(seed):
    folders = [name.replace("/", "_").replace(" ", "-").upper() for name in FASHION_LABELS]
    random.Random(seed).shuffle(folders)
    match = recognised(folders, NANO)
    assert match.how == BY_NAME
    assert [FASHION_LABELS[place].upper()[:3] for place in match.places] == [name[:3] for name in folders]
    text = match.renamed(folders, NANO)
    assert "T-SHIRT_TOP = T-shirt/top" in text
    assert "BAG = Bag" in text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("C", "C++"),
        ("C#", "C++"),
        ("v1.0", "v10"),
        ("-5C", "5C"),
        ("t -5", "t 5"),
        ("कि", "की"),
        ("a+", "a-"),
    ],
)
def test_names_that_differ_in_what_says_something_are_not_the_same(one, other):
    assert labels.key(one) != labels.key(other)
    assert recognised([one], named(other, "x")) is None


@pytest.mark.parametrize("name", ["-1", "1.0", "...", "😀", "_", "10"])
def test_a_name_without_a_letter_is_only_itself(name):
    assert labels.key(name) == ""
    assert recognised([name], named("x", name)).places == (1,)


def test_names_that_are_alike_on_one_side_are_only_themselves():
    space = named("cat", "Cat", "dog")
    assert recognised(["cat", "dog"], space).places == (0, 2)
    assert recognised(["CAT", "dog"], space) is None
    assert recognised(["DOG", "Dog"], space) is None


# -- numbers --------------------------------------------------------------------------------------------


def test_numbers_are_labels_by_their_values():
    assert recognised(("1", "2", "10"), named("1", "10", "2")).places == (0, 2, 1)
    actual = ordered(["00", "01", "02", "10", "03", "04", "05", "06", "07", "08", "09"])
    assert recognised(actual, numbered(11)).places == tuple(range(11))
    assert recognised(("07",), named("6", "7", "8")) == labels.Match((1,), BY_NUMBER)


def test_as_many_other_numbers_are_in_the_order_of_their_values():
    match = recognised(("1", "2", "10"), numbered(3))
    assert match == labels.Match((0, 1, 2), IN_ORDER)
    assert match.renamed(("1", "2", "10"), numbered(3)) == "1 = 0, 2 = 1, 10 = 2"
    assert recognised(tuple(map(str, range(1, 11))), CIFAR10).places == tuple(range(10))
    assert recognised(tuple(map(str, range(10))), CIFAR10) == labels.Match(tuple(range(10)), BY_NUMBER)


def test_numbers_that_are_others_than_those_of_the_labels_are_not_guessed():
    digits = named(*map(str, range(10)))
    assert recognised(tuple(map(str, range(1, 11))), digits) is None  # is 10 a zero?
    assert recognised(("1", "2"), CIFAR10) is None
    assert recognised(("1", "01"), numbered(2)) is None
    with pytest.raises(DataError, match=r"1 = 0, 2 = 1.*10 = 9"):
        matched(tuple(map(str, range(1, 11))), digits, "photos")


# -- ImageNet -------------------------------------------------------------------------------------------


@pytest.fixture(params=["with timm's list", "without"])
def ids(request, monkeypatch):
    """The ids of ImageNet's classes, whether their list is installed or not."""
    listed = labels._imagenet_ids()
    if not listed:
        pytest.skip("timm is absent")
    if request.param == "without":
        monkeypatch.setattr(labels, "_imagenet_ids", list)
    return listed


def test_the_thousand_ids_of_imagenet_are_its_labels_in_their_order(ids):
    assert matched(sorted(ids), IMAGENET, "imagenet") == labels.Match(tuple(range(1000)), BY_ID)
    assert matched(sorted(ids), IMAGENET, "imagenet").renamed(sorted(ids), IMAGENET) == ""
    with pytest.raises(DataError, match="n00000001 is none of them"):
        matched(["n00000001"], IMAGENET, "photos")


def test_some_ids_are_found_by_timms_list():
    if not labels._imagenet_ids():
        pytest.skip("timm is absent")
    imagenette = ["n01440764", "n02102040", "n02979186", "n03394916"]
    places = matched(imagenette, IMAGENET, "imagenette").places
    names = IMAGENET.label_names()
    assert [names[place] for place in places] == [
        "tench",
        "English springer",
        "cassette player",
        "French horn",
    ]
    others = [f"n{i:08}" for i in range(1000)]
    assert recognised(others, IMAGENET) is None  # a thousand of ImageNet-21k's


def test_the_names_of_imagenets_classes_are_known_too():
    names = IMAGENET.label_names()
    if names[0] == "0":
        pytest.skip("torchvision is absent")
    assert matched(["goldfish", "English_springer"], IMAGENET, "x").places == (
        1,
        names.index("English springer"),
    )


# -- order ----------------------------------------------------------------------------------------------


def test_other_names_are_taken_in_order_only_where_that_is_confirmed():
    results = ["lorry", "pussycat", "whelp"]
    space = named("truck", "cat", "dog")
    with pytest.raises(DataError) as caught:
        matched(results, space, "photos")
    text = one_line(caught)
    assert "lorry = truck, pussycat = cat, whelp = dog" in text
    assert "--labels-in-order" in text
    match = matched(results, space, "photos", in_order=True)
    assert match == labels.Match((0, 1, 2), IN_ORDER)
    assert match.renamed(results, space) == "lorry = truck, pussycat = cat, whelp = dog"


def test_names_that_are_labels_stay_them_and_only_the_rest_is_in_order():
    space = named("truck", "cat", "dog")
    with pytest.raises(DataError, match=r"1 class folders .* lorry = truck \(folder"):
        matched(["cat", "dog", "lorry"], space, "photos")
    assert matched(["cat", "dog", "lorry"], space, "photos", in_order=True).places == (1, 2, 0)


def test_a_long_mapping_is_shortened():
    folders = [f"c{i:03}" for i in range(1000)]
    with pytest.raises(DataError) as caught:
        matched(folders, numbered(1000), "photos")
    text = one_line(caught)
    assert "c000 = 0, c001 = 1" in text
    assert "and 990 more" in text
    assert len(text) < 500


@pytest.mark.parametrize("in_order", [False, True])
def test_folders_that_are_no_labels_are_named_with_what_to_do(in_order):
    with pytest.raises(DataError) as caught:
        matched(["cat", "fox", "wolf"], CIFAR10, "photos", in_order=in_order)
    text = one_line(caught)
    assert "have 3 classes; space 'nano-cifar10' has 10" in text
    assert "fox, wolf are none of them" in text
    assert "finetune" in text


# -- training -------------------------------------------------------------------------------------------


def test_a_space_keeps_its_labels_where_the_classes_are_called_like_them():
    assert keeps_labels(sorted(FASHION_LABELS), NANO)
    assert keeps_labels([name.lower() for name in FASHION_LABELS], NANO)
    assert keeps_labels(("0", "1"), numbered(2))
    assert not keeps_labels(sorted(FASHION_LABELS)[1:], NANO)
    assert not keeps_labels(("1", "2"), numbered(2))  # their own numbers are better names
    assert not keeps_labels(tuple(map(str, range(10))), CIFAR10)
    assert not keeps_labels(tuple("abcdefghij"), CIFAR10)
