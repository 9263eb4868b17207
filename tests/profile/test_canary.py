"""Canaries tell drift of the machine, and only that."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from nasvit_edge.latency.file import State
from nasvit_edge.profile import canary
from nasvit_edge.profile.journal import Entry
from nasvit_edge.profile.protocol import load_protocol
from nasvit_edge.profile.summary import canary_report, flags_of, summaries
from nasvit_edge.space import load_space

PROTOCOL = load_protocol("default")


def entry(name, visit, reading, us):
    return Entry(id=name, visit=visit, reading=reading, samples_us=(us,) * 12, graph="g", runtime_version="1")


def readings(speeds):
    return [
        entry(f"{canary.PREFIX}{name}", i, i, base * speed)
        for name, base in (("a", 50.0), ("b", 900.0), ("c", 6000.0))
        for i, speed in enumerate(speeds)
    ]


def test_there_is_one_for_convolution_attention_and_memory():
    items = canary.canaries(load_space("nasvit"))
    assert [item.op is None for item in items] == [False, False, True]
    assert all(item.id.startswith(canary.PREFIX) for item in items)


@given(speeds=st.lists(st.floats(0.98, 1.02), min_size=3, max_size=9), slow=st.floats(1.2, 3))
def test_a_slow_spell_is_found_where_it_was(speeds, slow):
    speeds = [*speeds, *speeds]
    at = len(speeds) // 2
    factors = canary.factors(readings([*speeds[:at], slow, *speeds[at:]]))
    for reading in range(len(speeds)):
        near = reading in (at - 1, at)
        assert canary.drifted(entry("op", 0, reading, 1.0), factors, 0.05) == near


def test_what_was_measured_in_a_slow_spell_does_not_count():
    entries = readings([1, 1, 1, 1.5, 1, 1])
    entries += [entry("op", 0, 0, 10.0), entry("op", 1, 2, 15.0), entry("op", 2, 4, 10.2)]
    result = summaries(entries, PROTOCOL)["op"]
    assert result.visits == 2
    assert np.isclose(result.median_ms, 0.0101)
    assert result.flags == ()
    report = canary_report(entries, PROTOCOL)
    assert report.set_aside == 1
    assert report.measured == 3


def test_where_nothing_else_is_left_it_counts_and_says_so():
    entries = [*readings([1, 1, 1.5, 1]), entry("op", 0, 1, 15.0)]
    assert summaries(entries, PROTOCOL)["op"].flags == ("drift",)


def test_preempted_and_throttled_measurements_are_flagged():
    entries = [*readings([1, 1]), replace(entry("op", 0, 0, 10.0), cpu_share=0.5)]
    before, after = State(clocks_mhz=(2000,)), State(clocks_mhz=(1200,))
    entries[-1] = replace(entries[-1], before=before, after=after)
    assert summaries(entries, PROTOCOL)["op"].flags == ("preempted", "throttled")


@pytest.mark.parametrize(
    ("shares", "is_preempted"),
    [
        ({"cpu_share": 1.0, "waited_share": 0.0}, False),
        ({"cpu_share": 1.9, "waited_share": 0.5}, True),  # one of two threads shared its core
        ({"cpu_share": 7.5, "waited_share": 0.11}, True),
        ({"cpu_share": 7.9, "waited_share": 0.05}, False),
        ({"cpu_share": 0.5, "waited_share": 0.0}, True),  # taken by a hypervisor, whose doing no thread sees
        ({"cpu_share": 0.95}, False),
        ({}, False),
    ],
)
def test_preempted_is_what_waited_for_a_core_with_any_number_of_threads(shares, is_preempted):
    measured = replace(entry("op", 0, 0, 10.0), **shares)
    assert ("preempted" in flags_of(measured)) == is_preempted


@pytest.mark.parametrize(
    ("before", "after", "is_throttled"),
    [
        (State(clocks_mhz=(1800, 2400), cores=(3, 7)), State(clocks_mhz=(1200, 2400), cores=(3, 7)), True),
        (State(clocks_mhz=(1800, 2400), cores=(3, 7)), State(clocks_mhz=(1750, 2300), cores=(3, 7)), False),
        (State(clocks_mhz=(600, 2400), cores=(3, 7)), State(clocks_mhz=(1800, 2400), cores=(3, 7)), False),
        # whose cores are not known to have been busy: one that went idle is not throttled
        (State(clocks_mhz=(1800, 2400)), State(clocks_mhz=(600, 2400)), False),
        (State(clocks_mhz=(1800, 2400)), State(clocks_mhz=(1800, 1200)), True),
        # of other cores
        (State(clocks_mhz=(1800, 2400), cores=(3, 7)), State(clocks_mhz=(2400,), cores=(7,)), False),
        (State(clocks_mhz=(2400,), cores=(7,)), State(hottest_c=50.0), False),
        (None, State(clocks_mhz=(2400,)), False),
    ],
)
def test_throttling_is_judged_core_by_core(before, after, is_throttled):
    measured = replace(entry("op", 0, 0, 10.0), before=before, after=after)
    assert ("throttled" in flags_of(measured)) == is_throttled
