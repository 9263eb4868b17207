"""What an artifact gets right: it survives a result file, and nothing else is taken for it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nasvit_edge import records
from nasvit_edge.benchmark.accuracy import Hits, Overlaps, SavedAccuracy
from nasvit_edge.data_sets.confusion import Confusion

HITS = st.lists(st.booleans(), min_size=1, max_size=100).map(lambda hits: Hits("images", np.array(hits)))
SHAPES = st.tuples(st.integers(1, 6), st.just(2), st.integers(1, 5))
COUNTS = SHAPES.flatmap(lambda shape: arrays.arrays(np.int64, shape, elements=st.integers(0, 1000)))
OVERLAPS = COUNTS.filter(lambda counts: counts.any()).map(
    lambda counts: Overlaps("scenes", np.sort(counts, axis=1))  # what is right is in the union
)


def again(accuracy):
    """Written to JSON and read."""
    value = json.loads(json.dumps(records.content(accuracy.saved())))
    return records.parse(SavedAccuracy, value, "a file").opened()


@given(HITS)
def test_hits_survive_as_bits(hits):
    assert again(hits).hits.tolist() == hits.hits.tolist()


@given(OVERLAPS)
def test_overlaps_survive_as_counts(overlaps):
    kept = again(overlaps)
    assert kept.counts.tolist() == overlaps.counts.tolist()
    assert kept.value == overlaps.value == overlaps.saved().mean_iou


@given(st.integers(0, 2**32 - 1))
def test_the_mean_iou_of_overlaps_is_that_of_all_pixels(seed):
    rng = np.random.default_rng(seed)
    scenes, whole = [], Confusion(4)
    for _ in range(5):
        seen = Confusion(4, rng.integers(0, 50, (4, 4)) * (rng.random((4, 4)) < 0.5))
        scenes.append(seen.overlaps)
        whole += seen
    if whole.pixels:
        assert Overlaps("scenes", np.stack(scenes)).value == pytest.approx(whole.mean_iou, abs=1e-15)


@given(st.one_of(HITS, OVERLAPS), st.one_of(HITS, OVERLAPS))
def test_only_what_was_judged_on_the_same_images_is_compared(one, other):
    same = type(one) is type(other) and len(one) == len(other)
    if isinstance(one, Overlaps) and isinstance(other, Overlaps):
        same = one.counts.shape == other.counts.shape
    assert (one.change(other, 0.01) is not None) == same
    assert one.change(None, 0.01) is None
