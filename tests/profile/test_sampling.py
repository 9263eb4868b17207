"""Samples of ops: every kind, the ends of every kind, and an honest error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.latency.estimate import features
from nasvit_edge.ops import all_ops
from nasvit_edge.profile import sampling
from nasvit_edge.space import load_space

OPS = all_ops(load_space("nasvit"))


@given(count=st.integers(1, len(OPS)))
def test_each_kind_is_sampled_from_smallest_to_largest(count):
    chosen = sampling.stratified(OPS, count)
    assert len(set(chosen)) == len(chosen)
    for kind in {features(op).kind for op in OPS}:
        same = sorted((op for op in OPS if features(op).kind == kind), key=lambda op: (op.macs(), op.key()))
        picked = [op for op in chosen if features(op).kind == kind]
        assert len(picked) >= min(len(same), 8)
        assert {same[0], same[-1]} <= set(picked)


def test_a_larger_sample_holds_the_smaller_one():
    assert set(sampling.stratified(OPS, 100)) <= set(sampling.stratified(OPS, 200))


def test_estimates_fill_what_was_not_measured():
    chosen = {op.key(): 0.02 + op.macs() / 1e7 for op in sampling.stratified(OPS, 110)}
    result = sampling.estimates(OPS, chosen)
    assert set(result) | set(chosen) == {op.key() for op in OPS}
    report = sampling.cross_validation(OPS, chosen)
    real = [
        abs(result[op.key()].median_ms / (0.02 + op.macs() / 1e7) - 1) for op in OPS if op.key() in result
    ]
    assert sum(real) / len(real) < 0.03
    assert report.error < 0.05


def test_nothing_left_out_has_no_error():
    assert sampling.cross_validation(OPS, {op.key(): 1.0 for op in OPS}) == sampling.Errors(
        error=0.0, kinds={}
    )


@pytest.mark.parametrize("count", [1, 2, 3, 17])
def test_any_beginning_of_the_order_is_spread(count):
    order = sorted(range(count), key=lambda i: (sampling._corput(i, count), i))
    assert sorted(order) == list(range(count))
    assert set(order[:2]) == {0, count - 1}
