"""Packed samples come back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.latency.samples import pack, unpack


@given(st.lists(st.floats(0.1, 1e7), min_size=1, max_size=200))
def test_samples_come_back_to_a_fiftieth_of_a_percent(samples):
    assert unpack(pack(samples)) == pytest.approx(np.array(samples), rel=2e-4)


@given(st.one_of(st.text(max_size=40), st.binary(max_size=40).map(lambda b: b.hex())))
def test_anything_else_is_a_value_error(text):
    try:
        unpack(text)
    except ValueError:
        return
    assert text == "" or isinstance(unpack(text), np.ndarray)
