"""Latencies as people type them."""

from __future__ import annotations

import math

import pytest
from conftest import one_line, only_user_errors
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.units import latency_ms, seconds, show_count, show_ms, show_seconds

REASONABLE_MS = st.floats(1e-5, 3e6)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        *[("20ms", 20.0), ("800us", 0.8), ("800µs", 0.8), ("800μs", 0.8), ("1.5s", 1500.0), (" 3 MS ", 3.0)],
        *[(".5ms", 0.5), ("1e1ms", 10.0), ("+2ms", 2.0)],
    ],
)
def test_a_latency_with_a_unit_is_read(text, ms):
    assert latency_ms(text) == pytest.approx(ms, rel=1e-12)


@pytest.mark.parametrize(
    "text", ["20", "", " ", "ms", "20 m", "20min", "20 ms ms", "20,5ms", "0x10ms", "٢٠ms"]
)
def test_a_latency_without_a_number_and_a_unit_shows_how_to_write_one(text):
    with pytest.raises(NasvitEdgeError) as caught:
        latency_ms(text)
    assert repr(text) in one_line(caught)
    assert "20ms" in one_line(caught)


@pytest.mark.parametrize("text", ["inf", "nan", "infms", "nanms", "-infms", "Infinity ms", "NaN s"])
def test_infinity_and_nan_are_no_latencies(text):
    with pytest.raises(NasvitEdgeError, match="number with a unit"):
        latency_ms(text)


@pytest.mark.parametrize(
    "text", ["0ms", "-1ms", "-0.0s", "1e-9us", "3601s", "1e300s", "1e999ms", "9" * 400 + "s"]
)
def test_a_latency_of_nothing_or_beyond_sense_is_out_of_range(text):
    with pytest.raises(NasvitEdgeError) as caught:
        latency_ms(text)
    assert "out of range" in one_line(caught)


@given(REASONABLE_MS)
def test_milliseconds_round_trip_exactly(ms):
    assert latency_ms(f"{ms!r}ms") == ms


@given(REASONABLE_MS)
def test_all_units_agree(ms):
    assert latency_ms(f"{ms / 1e3!r}s") == pytest.approx(ms, rel=1e-12)
    assert latency_ms(f"{ms * 1e3!r}us") == pytest.approx(ms, rel=1e-12)


@given(st.floats(1e-3, 3e6))
def test_a_shown_latency_reads_back_within_its_digits(ms):
    assert latency_ms(show_ms(ms)) == pytest.approx(ms, rel=0.06)


@given(st.text() | st.from_regex(r"[+-]?[0-9.eE+-]{0,12} ?(us|ms|s|m)?", fullmatch=True))
def test_any_text_is_a_positive_number_or_one_line(text):
    result = only_user_errors(latency_ms, text)
    assert isinstance(result, str) or (math.isfinite(result) and result > 0)


@pytest.mark.parametrize(
    ("count", "text"),
    [(189_789_040, "189.8 M"), (1_881_708_502, "1.9 G"), (12_345, "12.3 k"), (999, "999"), (0, "0")],
)
def test_counts_are_shown_with_their_factor(count, text):
    assert show_count(count) == text


@pytest.mark.parametrize(("text", "value"), [("10m", 600), ("90s", 90), ("1.5h", 5400), (" 2 min ", 120)])
def test_durations_have_a_unit(text, value):
    assert seconds(text) == value


@given(st.text(max_size=8))
def test_any_text_is_a_duration_or_one_line(text):
    outcome = only_user_errors(seconds, text)
    assert isinstance(outcome, str) or 0 < outcome <= 86_400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (45, "45 s"),
        (600, "10 min"),
        (3600 * 3 + 1200, "3 h 20 min"),
        (86_400 * 12.2, "12 days 5 h"),
    ],
)
def test_durations_are_short_text(seconds, text):
    assert show_seconds(seconds) == text


@given(st.floats(0, 1e9))
def test_a_duration_never_has_more_minutes_than_an_hour_or_hours_than_a_day(seconds):
    numbers = [int(word) for word in show_seconds(seconds).split() if word.isdigit()]
    text = show_seconds(seconds)
    if "h" in text and "min" in text:
        assert numbers[1] < 60
    if "days" in text:
        assert numbers[1] < 24
