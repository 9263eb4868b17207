"""Limits as they are typed: units are required, devices are named, nothing is guessed."""

from __future__ import annotations

from typing import get_args

import pytest
from conftest import TINY, one_line, only_user_errors, space_of
from hypothesis import given
from hypothesis import strategies as st
from made_up import COMPOSITION, table

from nasvit_edge.choosing.limits import check, choices, devices, limits, tail_factor
from nasvit_edge.errors import NasvitEdgeError, TableError
from nasvit_edge.latency.file import SubnetEntry, Sustained
from nasvit_edge.requests.search import Request
from nasvit_edge.searching.limits import TIMES, Kind, Limit, Quantity, SavedLimit

SPACE = space_of(TINY)
TABLE = table(SPACE, 0, COMPOSITION)
BESIDE = tuple(SubnetEntry(config={}, median_ms=1.0, p90_ms=1.0 + i / 100) for i in range(5))
WARM = Sustained(seconds=600.0, minute1_ms=1.0, steady_ms=1.25, factor=1.25)


def spread(result):
    return result.holding(subnets=BESIDE)


def test_each_option_becomes_one_limit():
    wanted = Request(
        device="host",
        latency=["20ms", "phone=5ms"],
        latency_p90=["25ms"],
        max_size="20MB",
        max_params="10M",
        max_macs="500M",
        max_memory="8MiB",
        min_accuracy="80%",
    )
    check(wanted)
    assert devices(wanted) == ["host", "phone"]
    actual = limits(wanted, [spread(TABLE)] * 2)
    assert [(SavedLimit.of(limit).quantity, limit.bound) for limit in actual] == [
        ("latency 0", 20.0),
        ("latency 1", 5.0),
        ("latency 0", 25.0),
        ("bytes", 2e7),
        ("parameters", 1e7),
        ("macs", 5e8),
        ("peak", 8 * 2**20),
        ("accuracy", 0.8),
    ]
    assert actual[2].factor == pytest.approx(1.02)
    assert [limit.name for limit in actual[:3]] == ["--latency", "--latency phone", "--latency-p90"]


def test_confidence_limits_the_upper_end_of_the_interval():
    actual = limits(Request(latency=["20ms"], confidence="90%"), [TABLE])
    assert actual[0].factor == pytest.approx(1.1)
    estimated = table(SPACE, 0, COMPOSITION, estimated=0.5)
    actual = limits(Request(latency=["20ms"], confidence="90%"), [estimated])
    assert actual[0].quantity == Quantity("high", 0)
    with pytest.raises(TableError, match="knows no interval"):
        limits(Request(latency=["20ms"], confidence="90%"), [table(SPACE)])


def test_a_warm_device_tightens_budgets_by_what_it_slows_down():
    warm = TABLE.holding(sustained=WARM)
    (limit,) = limits(Request(latency=["20ms"], steady=True), [warm])
    assert limit.factor == 1.25
    (limit,) = limits(Request(latency=["20ms"]), [warm])
    assert limit.factor == 1.0
    with pytest.raises(TableError, match="no sustained run"):
        limits(Request(latency=["20ms"], steady=True), [TABLE])
    with pytest.raises(NasvitEdgeError, match="give --latency as well"):
        check(Request(max_size="1MB", steady=True))


def test_a_table_without_whole_subnets_does_not_say_how_runs_spread():
    assert tail_factor(spread(TABLE)) == pytest.approx(1.02)
    with pytest.raises(TableError, match="use --latency"):
        tail_factor(TABLE)


@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        (Request(), "nothing is limited; give a budget: --latency 20ms"),
        (Request(latency=["=5ms"]), "names no device"),
        (Request(latency=["host="]), "latency ''"),
        (Request(max_size="20"), "for example: 20MB"),
        (Request(max_macs="-5M"), "for example: 500M"),
        (Request(max_params="0"), "out of range"),
        (Request(min_accuracy="0.8"), "percentage"),
        (Request(latency=["5ms"], confidence="80%"), "give --confidence 90%"),
        (Request(max_size="5MB", confidence="90%"), "give --latency as well"),
    ],
)
def test_what_is_no_limit_is_refused(wanted, match):
    with pytest.raises(NasvitEdgeError, match=match) as error:
        check(wanted)
    one_line(error)


@given(text=st.text(max_size=30) | st.from_regex(r"[a-z0-9:=.]{0,20}(ms|MB|M|%)?", fullmatch=True))
def test_any_text_is_a_limit_or_one_line(text):
    for field in ("max_size", "max_params", "max_macs", "max_memory", "min_accuracy", "confidence"):
        only_user_errors(check, Request(latency=["5ms"], **{field: text}))
    only_user_errors(check, Request(latency=[text]))
    only_user_errors(choices, [text], "--gene")


def test_genes_are_named_with_their_choices():
    assert choices(["mb4.depth=3,4", "resolution=192"], "--gene") == {
        "mb4.depth": [3, 4],
        "resolution": [192],
    }
    with pytest.raises(NasvitEdgeError, match=r"for example: mb4\.depth=3,4"):
        choices(["mb4.depth"], "--gene")


@given(st.sampled_from(get_args(Kind)), st.integers(0, 99), st.floats(1e-6, 1e9), st.floats(1, 2))
def test_a_limit_is_written_and_read_as_it_was(kind, table, bound, factor):
    quantity = Quantity(kind, table if kind in TIMES else 0)
    limit = Limit(quantity, bound, "--x", factor)
    assert SavedLimit.of(limit).limit() == limit
