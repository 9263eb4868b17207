"""False alarms and power by simulation, and properties of the tests and intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nasvit_edge.benchmark.statistics import (
    compare,
    compare_overlaps,
    difference,
    estimate,
    false_discovery,
    smallest_change,
)
from nasvit_edge.data_sets.confusion import mean_iou

POSITIVE = st.floats(1e-3, 1e6)
PAIRS = st.lists(st.tuples(POSITIVE, POSITIVE), min_size=3, max_size=20)


@given(PAIRS)
def test_the_pooled_interval_holds_the_ratio_and_exchanging_the_sides_inverts_it(pairs):
    base, candidate = zip(*pairs, strict=True)
    there, back = compare(base, candidate), compare(candidate, base)
    assert there.ratio.low <= there.ratio.value * (1 + 1e-9)
    assert there.ratio.value <= there.ratio.high * (1 + 1e-9)
    assert there.ratio.value * back.ratio.value == pytest.approx(1)
    assert there.larger_p == pytest.approx(back.smaller_p, abs=1e-9)


@given(PAIRS, POSITIVE)
def test_the_unit_of_the_values_does_not_matter(pairs, factor):
    base, candidate = zip(*pairs, strict=True)
    scaled = compare([factor * b for b in base], [factor * c for c in candidate])
    assert scaled.ratio.value == pytest.approx(compare(base, candidate).ratio.value)


def test_the_chances_are_those_of_the_paired_t_test_of_scipy():
    rng = np.random.default_rng(1)
    base, candidate = (np.exp(0.05 * rng.normal(size=8)) for _ in range(2))
    comparison = compare(base, candidate)
    expected = stats.ttest_rel(np.log(candidate), np.log(base), alternative="greater")
    assert comparison.larger_p == pytest.approx(expected.pvalue)
    assert comparison.smaller_p == pytest.approx(1 - expected.pvalue)
    ends = stats.ttest_rel(np.log(candidate), np.log(base)).confidence_interval(0.98)
    assert (comparison.ratio.low, comparison.ratio.high) == pytest.approx(
        (math.exp(ends.low), math.exp(ends.high))
    )


@pytest.mark.parametrize("pairs", [1, 2])
def test_fewer_than_three_pairs_say_nothing(pairs):
    comparison = compare([1.0] * pairs, [2.0] * pairs)
    assert (comparison.larger_p, comparison.smaller_p) == (1.0, 1.0)
    assert (comparison.ratio.low, comparison.ratio.high) == (0.0, math.inf)


@pytest.mark.parametrize(("candidate", "larger", "smaller"), [(1.0, 1, 1), (1.1, 0, 1), (0.9, 1, 0)])
def test_values_without_noise_are_decided_by_themselves(candidate, larger, smaller):
    comparison = compare([1.0] * 8, [candidate] * 8)
    assert (comparison.larger_p, comparison.smaller_p) == (larger, smaller)
    assert comparison.ratio.low == pytest.approx(comparison.ratio.high)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_adjusted_chances_are_no_smaller_and_keep_the_order(chances):
    adjusted = false_discovery(chances)
    assert all(a >= p - 1e-12 for a, p in zip(adjusted, chances, strict=True))
    order = np.argsort(chances, kind="stable")
    assert all(
        b >= a - 1e-12 for a, b in zip(np.array(adjusted)[order], np.array(adjusted)[order][1:], strict=False)
    )


def test_one_chance_stays_as_it_is():
    assert false_discovery([0.013]) == [pytest.approx(0.013)]
    assert false_discovery([]) == []


@pytest.mark.parametrize("rounds", [5, 8, 12, 20])
def test_the_smallest_change_is_found_in_nine_of_ten(rounds):
    sd, trials = 0.03, 20_000
    change = smallest_change(sd, rounds)
    logs = math.log1p(change) + sd * np.random.default_rng(rounds).normal(size=(trials, rounds))
    t = logs.mean(1) / (logs.std(1, ddof=1) / math.sqrt(rounds))
    assert (stats.t.sf(t, rounds - 1) <= 0.01).mean() == pytest.approx(0.9, abs=0.01)


def test_more_rounds_find_smaller_changes():
    changes = [smallest_change(0.02, rounds) for rounds in (3, 5, 8, 12, 20)]
    assert changes == sorted(changes, reverse=True)
    assert smallest_change(0.02, 2) == math.inf


@given(st.lists(POSITIVE, min_size=3, max_size=20))
def test_an_interval_of_level_98_percent_is_wider_than_one_of_90(values):
    wide, narrow = estimate(values, 0.01), estimate(values, 0.05)
    assert wide.low <= narrow.low * (1 + 1e-9)
    assert narrow.high <= wide.high * (1 + 1e-9)


def test_a_difference_of_two_runs_is_welchs():
    rng = np.random.default_rng(2)
    before, after = np.exp(0.02 * rng.normal(size=8)), 1.1 * np.exp(0.05 * rng.normal(size=12))
    actual = difference(before, after)
    ends = stats.ttest_ind(np.log(after), np.log(before), equal_var=False).confidence_interval(0.98)
    assert (actual.low, actual.high) == pytest.approx((math.expm1(ends.low), math.expm1(ends.high)))


def scenes(rng, count, ious):
    """Pixels right and in the union of each scene and class, whose IoU scatters about these."""
    unions = rng.integers(100, 2000, (count, len(ious)))
    share = np.clip(np.asarray(ious) + 0.15 * rng.normal(size=(count, len(ious))), 0, 1)
    return np.stack([(share * unions).astype(np.int64), unions], axis=1)


def test_the_interval_of_a_difference_of_mean_iou_is_that_of_a_bootstrap():
    rng = np.random.default_rng(4)
    base, candidate = scenes(rng, 200, [0.5, 0.7, 0.2]), scenes(rng, 200, [0.5, 0.74, 0.2])
    change, larger, smaller = compare_overlaps(base, candidate)
    drawn = [rng.integers(0, 200, 200) for _ in range(4000)]
    differences = [mean_iou(candidate[d].sum(0)) - mean_iou(base[d].sum(0)) for d in drawn]
    assert change.value == pytest.approx(np.mean(differences), abs=1e-3)
    assert (change.low, change.high) == pytest.approx(np.quantile(differences, [0.01, 0.99]), abs=2e-3)
    assert larger + smaller == pytest.approx(1)


def test_segmenters_without_a_difference_are_told_apart_as_often_as_alpha_says():
    rng = np.random.default_rng(5)
    chances = [
        compare_overlaps(scenes(rng, 60, [0.5, 0.6, 0.1]), scenes(rng, 60, [0.5, 0.6, 0.1]))[1]
        for _ in range(2000)
    ]
    for alpha in (0.01, 0.05, 0.5):
        count = sum(chance <= alpha for chance in chances)
        assert stats.binomtest(count, 2000, alpha).pvalue > 1e-3, alpha


def test_a_segmenter_is_as_good_as_itself_and_two_scenes_say_nothing():
    overlaps = scenes(np.random.default_rng(6), 20, [0.5, 0.7])
    change, larger, smaller = compare_overlaps(overlaps, overlaps)
    assert (change.value, change.low, change.high, larger, smaller) == (0, 0, 0, 1, 1)
    worse = overlaps // [[2], [1]]
    assert compare_overlaps(overlaps, worse)[2] < 1e-6 < 0.9 < compare_overlaps(overlaps, worse)[1]
    assert compare_overlaps(overlaps[:2], worse[:2])[1:] == (1, 1)


def test_a_class_of_one_scene_only_is_left_out_with_it():
    overlaps = scenes(np.random.default_rng(7), 20, [0.5, 0.7])
    overlaps[1:, :, 1] = 0
    worse = overlaps.copy()
    worse[0, 0, 1] = 0
    change, larger, _ = compare_overlaps(overlaps, worse)
    assert change.low < change.value < 0 <= change.high
    assert 1 - larger > 0.01
