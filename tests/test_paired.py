"""Two classifiers on the same images: the interval and the test."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.paired import compare_hits

BITS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=300)


@given(BITS)
def test_the_interval_of_a_difference_of_accuracies_holds_it(bits):
    base, candidate = np.array(bits, bool).T
    change, larger, smaller = compare_hits(base, candidate, 0.01)
    assert change.low <= change.value <= change.high
    assert change.value == pytest.approx(candidate.mean() - base.mean())
    assert 0 <= larger <= 1
    assert 0 <= smaller <= 1


def test_losing_images_is_a_loss_only_where_as_many_are_not_won():
    base = np.ones(1000, bool)
    candidate = base.copy()
    candidate[:20] = False
    assert compare_hits(base, candidate, 0.01)[2] < 1e-5
    base[500:520] = False
    assert compare_hits(base, candidate, 0.01)[2] > 0.5
