"""The time left of a real profile with a validation, as it was recorded (benchmarks/record_progress.py), and of faster and slower devices."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.cli.time_left import TimeLeft
from nasvit_edge.listening import PlannedStep
from nasvit_edge.profile import schedule
from nasvit_edge.profile.models import Models
from nasvit_edge.profile.protocol import PROTOCOLS
from nasvit_edge.space import load_space

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.json"))
CONVERTING = "converting"
AS_SHIPPED = dict(PROTOCOLS)  # before tests make `quick` brief


def known(path):
    recording = json.loads(path.read_text())
    return recording, [(at, done, total, what) for at, done, total, what in recording["events"]]


def plan_of(recording):
    models = Models(load_space(recording["space"]), recording["runtime"], Path(), precision="fp32")
    return schedule.steps(models, AS_SHIPPED[recording["protocol"]], validate=recording["validate"])


def estimates(plan, events):
    """(seconds since the start, what was said to be left, what was) after each event."""
    now = [0.0]
    left = TimeLeft(clock=lambda: now[0])
    left.plan(plan)
    for at, done, total, what in events[:-1]:
        now[0] = at
        left.progress(done, total, what)
        yield at, left.seconds(), events[-1][0] - at


def slower(events, factor):
    """As of a device on which timing takes `factor` times as long, and converting, which is done here, as before."""
    moved, last, now = [], 0.0, 0.0
    for at, *rest in events:
        now += (at - last) * (1 if rest[2].startswith(CONVERTING) else factor)
        last = at
        moved.append((now, *rest))
    return moved


def believable(said, true, factor=2.0):
    return true / factor - 5 <= said <= factor * true + 5


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_after_the_first_tenth_a_recorded_run_was_told_within_a_factor_of_two(path):
    recording, events = known(path)
    late = [row for row in estimates(plan_of(recording), events) if row[0] > 0.1 * events[-1][0]]
    assert len(late) > 50
    assert [row for row in late if not believable(*row[1:])] == []


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
@given(factor=st.floats(0.3, 20))
@settings(max_examples=20)
def test_a_faster_or_slower_device_is_told_as_well_once_a_tenth_of_its_timing_is_done(path, factor):
    recording, events = known(path)
    events = slower(events, factor)
    first = next(at for at, done, total, what in events if what == "measuring" and done > total / 10)
    late = [row for row in estimates(plan_of(recording), events) if row[0] > first]
    assert [row for row in late if not believable(*row[1:])] == []


def test_what_has_not_begun_is_not_told_by_the_pace_of_what_has():
    plan = [
        PlannedStep(name="a", kind="x", count=10, each_s=1.0),
        PlannedStep(name="b", kind="y", count=100, each_s=0.1),
    ]
    now = [0.0]
    left = TimeLeft(clock=lambda: now[0])
    left.plan(plan)
    for done in range(1, 11):
        left.progress(done, 10, "a")
        now[0] += 60.0  # a takes a minute each instead of a second
    assert left.seconds() == pytest.approx(10.0)
    left.progress(1, 100, "b, first pass")
    assert left.seconds() == pytest.approx(9.9)


def test_what_takes_longer_than_its_kind_was_thought_to_makes_later_ones_of_that_kind_longer():
    plan = [
        PlannedStep(name="a", kind="x", count=100, each_s=0.1),
        PlannedStep(name="b", kind="x", count=100, each_s=1.0),
    ]
    now = [0.0]
    left = TimeLeft(clock=lambda: now[0])
    left.plan(plan)
    for done in range(1, 101):
        left.progress(done, 100, "a")
        now[0] += 0.5
    assert 300 < left.seconds() <= 500


def test_a_step_that_was_left_out_is_not_waited_for():
    plan = [
        PlannedStep(name="a", kind="x", count=9, each_s=9.0),
        PlannedStep(name="b", kind="y", count=4, each_s=1.0),
    ]
    left = TimeLeft(clock=lambda: 0.0)
    left.plan(plan)
    left.progress(1, 4, "b")
    assert left.seconds() == pytest.approx(3.0)


def test_what_nobody_planned_is_told_by_its_pace_and_does_not_hide_what_comes():
    now = [0.0]
    left = TimeLeft(clock=lambda: now[0])
    left.plan([PlannedStep(name="b", kind="y", count=4, each_s=10.0)])
    left.progress(0, 10, "copying")
    assert left.seconds() is None
    now[0] = 5.0
    left.progress(5, 10, "copying more")
    assert left.seconds() == pytest.approx(5.0 + 40.0)
