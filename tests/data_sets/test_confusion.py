"""The confusion counts as a loop over pixels does, and refuses what it cannot count."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import one_line, only_user_errors
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nasvit_edge.data_sets import confusion as module
from nasvit_edge.data_sets.confusion import Confusion
from nasvit_edge.data_sets.scenes import IGNORE
from nasvit_edge.errors import DataError

CLASSES = 4


@st.composite
def labelled(draw):
    """(labels, truth) of one shape."""
    shape = draw(arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6))
    kinds = st.sampled_from([np.int32, np.int64, np.uint8])
    labels = draw(arrays.arrays(draw(kinds), shape, elements=st.integers(0, CLASSES - 1)))
    known = st.sampled_from([*range(CLASSES), IGNORE])
    return labels, draw(arrays.arrays(draw(kinds), shape, elements=known))


def pixels(pairs) -> list[tuple[int, int]]:
    """(truth, label) of every labelled pixel."""
    flat = [(int(t), int(p)) for labels, truth in pairs for p, t in zip(labels.flat, truth.flat, strict=True)]
    return [(t, p) for t, p in flat if t != IGNORE]


def counted(pairs) -> Confusion:
    counts = Confusion(CLASSES)
    for labels, truth in pairs:
        counts.add(labels, truth)
    return counts


@settings(max_examples=30)
@given(st.lists(labelled(), max_size=4))
def test_it_counts_as_a_loop_over_pixels_does(pairs):
    counts, plain = counted(pairs), pixels(pairs)
    assert counts.counts.dtype == np.int64
    assert counts.pixels == len(plain)
    ious = []
    for c in range(CLASSES):
        assert counts.counts[c].tolist() == [plain.count((c, p)) for p in range(CLASSES)]
        union = sum(c in pixel for pixel in plain)
        if union:
            ious.append(plain.count((c, c)) / union)
            assert counts.ious[c] == ious[-1]
        else:
            assert math.isnan(counts.ious[c])
    if plain:
        assert counts.mean_iou == pytest.approx(sum(ious) / len(ious))
        assert counts.pixel_accuracy == pytest.approx(sum(t == p for t, p in plain) / len(plain))
    else:
        for judge in (lambda: counts.mean_iou, lambda: counts.pixel_accuracy, lambda: counts.figures("abcd")):
            assert "no pixel of these masks has a class" in only_user_errors(judge)


@settings(max_examples=30)
@given(st.lists(labelled(), max_size=3), st.lists(labelled(), max_size=3))
def test_the_sum_of_two_is_that_of_all_pixels(some, others):
    one, two = counted(some), counted(others)
    before = one.counts.copy()
    assert one + two == counted(some + others) == two + one
    assert np.array_equal(one.counts, before)


@settings(max_examples=30)
@given(labelled())
def test_many_pixels_are_counted_in_pieces(pair):
    whole = counted([pair])
    before, module._TOGETHER = module._TOGETHER, 3
    try:
        assert counted([pair]) == whole
    finally:
        module._TOGETHER = before


def test_counts_beyond_32_bits_are_exact():
    large = np.diag([2**40 + 1, 0, 0, 0])
    assert (Confusion(CLASSES, large) + Confusion(CLASSES, large)).counts[0, 0] == 2**41 + 2


@given(st.integers(-300, 300), st.booleans())
def test_a_value_that_is_no_class_is_one_line_and_counts_nothing(value, in_truth):
    labels, truth = np.zeros(3, int), np.ones(3, int)
    (truth if in_truth else labels)[1] = value
    counts = Confusion(CLASSES)
    result = only_user_errors(counts.add, labels, truth)
    if 0 <= value < CLASSES or (in_truth and value == IGNORE):
        assert counts.pixels == 3 - (in_truth and value == IGNORE)
    else:
        assert f"holds the class {value}" in result
        assert not counts.pixels


def test_what_does_not_fit_is_one_line():
    confusion = Confusion(CLASSES)
    for labels, truth in (
        (np.zeros((2, 3), int), np.zeros((3, 2), int)),
        (np.zeros(3), np.zeros(3, int)),
        (np.zeros(3, int), np.zeros(3, bool)),
    ):
        with pytest.raises(DataError) as caught:
            confusion.add(labels, truth)
        one_line(caught)
    for counts in (np.zeros((3, 3), int), np.zeros((4, 4)), np.full((4, 4), -1)):
        with pytest.raises(DataError, match="takes whole counts"):
            Confusion(CLASSES, counts)
    with pytest.raises(DataError, match="cannot be added"):
        confusion + Confusion(3)
