"""When top-1 fails a file: where even the near end of its loss is beyond what is allowed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.export.checks import GATE_ALPHA, Check
from nasvit_edge.export.formats import Threshold
from nasvit_edge.paired import compare_hits
from nasvit_edge.records import content

LIMIT = 0.01


def _checked(lost, won, images=2000, limit=LIMIT):
    base = np.zeros(images, bool)
    base[: images // 2] = True
    candidate = base.copy()
    candidate[:lost] = False
    candidate[images // 2 : images // 2 + won] = True
    change, _, _ = compare_hits(base, candidate, GATE_ALPHA)
    figures = {"error": None, "snr_db": 30.0, "inputs": 16, "real_images": 8, "reference": "supernet"}
    return Check(**figures, threshold=Threshold(top1_drop=limit), top1_change=change, images=images)


@pytest.mark.parametrize(("lost", "won"), [(21, 0), (30, 8), (45, 20)])
def test_a_few_images_too_many_raise_doubt_but_fail_nothing(lost, won):
    check = _checked(lost, won)
    assert check.top1_drop > LIMIT
    assert check.passed
    assert check.doubts()[0].endswith("(at most 1), which 2000 images do not settle")


@pytest.mark.parametrize(("lost", "won"), [(20, 0), (35, 15), (0, 30)])
def test_what_is_allowed_raises_no_doubt(lost, won):
    assert _checked(lost, won).doubts() == []


def test_a_loss_that_is_surely_too_large_fails_and_tells_its_interval():
    check = _checked(70, 5)
    assert check.doubts() == check.failures()
    assert "top-1 is 3.25 points lower on 2000 images, 2.5" in check.failures()[0]


@given(st.integers(0, 300), st.integers(0, 300), st.sampled_from([1000, 2000, 20000]))
def test_more_lost_images_never_save_a_file_and_a_failure_is_a_measured_loss(lost, won, images):
    check = _checked(lost, won, images)
    if not check.passed:
        assert check.top1_drop > LIMIT
        assert not _checked(lost + 1, won, images).passed
    assert json.loads(json.dumps(content(check.record()), allow_nan=False))["doubts"] == check.doubts()


def test_files_with_just_the_loss_that_is_allowed_fail_as_rarely_as_said():
    """Simulated: 2,000 images of which 3 % change, the loss being one point."""
    rng = np.random.default_rng(0)
    lost, won = rng.binomial(2000, [0.02, 0.01], (2000, 2)).T
    failed = np.mean([not _checked(int(a), int(b)).passed for a, b in zip(lost, won, strict=True)])
    assert failed == pytest.approx(GATE_ALPHA, abs=0.02)


def test_files_that_lose_three_points_fail():
    rng = np.random.default_rng(1)
    lost, won = rng.binomial(2000, [0.04, 0.01], (500, 2)).T
    assert np.mean([not _checked(int(a), int(b)).passed for a, b in zip(lost, won, strict=True)]) > 0.95
