"""From whole subnets to the composition of a table."""

from __future__ import annotations

import pytest
from conftest import configs
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import table

from nasvit_edge.profile.summary import composed


@settings(max_examples=10)
@given(st.data(), st.floats(1e-3, 1e3))
def test_a_space_of_one_subnet_predicts_what_was_measured_with_a_wide_interval(tiny, data, measured_ms):
    config = data.draw(configs(tiny))
    alone = tiny.only(config)
    latencies = table(alone)
    context, composition = composed(latencies, [(alone.largest(), measured_ms)])
    predicted = latencies.holding(composition=composition, context=context).predict(alone.largest())
    assert predicted.ms == pytest.approx(measured_ms)
    assert predicted.low_ms == pytest.approx(measured_ms / 2)
