"""Estimates of ops that were not measured."""

from __future__ import annotations

import numpy as np
import pytest

from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.latency.estimate import Estimator, cross_validated, estimate, features
from nasvit_edge.ops import all_ops
from nasvit_edge.space import load_space

OPS = all_ops(load_space("nasvit"))


def latency(op):
    """Something like a device: a rate for work, a fee, and a rounding up to tiles of 16 channels."""
    tiles = -(-op.out_shape()[0] // 16) * 16 / op.out_shape()[0]
    return 0.02 + op.macs() / 2e7 * tiles + 1e-7 * np.prod(op.in_shape())


def test_every_op_has_features_of_one_length_a_kind():
    lengths = {}
    for op in OPS:
        features_of = features(op)
        assert min(features_of.sizes) > 0
        assert min(features_of.work) >= 0
        assert lengths.setdefault(features_of.kind, (len(features_of.sizes), len(features_of.work))) == (
            len(features_of.sizes),
            len(features_of.work),
        )


def test_a_fifth_of_the_ops_tells_of_the_others():
    rng = np.random.default_rng(0)
    known = {features(op): latency(op) for op in OPS if rng.random() < 0.2}
    wanted = [op for op in OPS if features(op) not in known and features(op).kind in {f.kind for f in known}]
    estimates = estimate(known, [features(op) for op in wanted])
    pairs = [(e.ms, latency(op)) for e, op in zip(estimates, wanted, strict=True) if e is not None]
    errors = [abs(a / b - 1) for a, b in pairs]
    assert len(pairs) > 300
    assert np.mean(errors) < 0.05


def test_a_kind_without_measurements_stays_unknown():
    known = {features(op): latency(op) for op in OPS if features(op).kind == "mbconv"}
    assert estimate(known, [features(OPS[-1])]) == [None]


def test_three_entries_are_too_few():
    same = [op for op in OPS if features(op).kind == "head"][:3]
    with pytest.raises(NasvitEdgeError, match="needs 4"):
        Estimator([features(op) for op in same], [1.0, 2.0, 3.0])


def test_the_cross_validated_error_is_about_the_real_one():
    same = [op for op in OPS if features(op).kind == "mbconv-se"]
    rng = np.random.default_rng(1)
    ms = [latency(op) * np.exp(rng.normal(0, 0.05)) for op in same]
    error = cross_validated([features(op) for op in same[::3]], ms[::3])
    prediction = Estimator([features(op) for op in same[::3]], ms[::3]).predict(
        [features(op) for op in same[1::3]]
    )
    real = np.abs(prediction / np.array(ms[1::3]) - 1).mean()
    assert error == pytest.approx(real, rel=0.5)
