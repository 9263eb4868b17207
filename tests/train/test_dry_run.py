"""The dry run: what can be counted is right, what cannot is measured by real steps, and time scales."""

from __future__ import annotations

import pytest
import torch
from conftest import one_line
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from nasvit_edge import ops
from nasvit_edge.errors import DataError, TrainingError
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.processes import LostProcessError
from nasvit_edge.train import trial
from nasvit_edge.train.estimate import estimate, shown
from nasvit_edge.train.recipe import load_recipe
from nasvit_edge.train.trial import Trial, bearable, scaled

RECIPE = load_recipe("nasvit").with_values(["run.batch_size=8", "run.epochs=3"])


@pytest.fixture(scope="module")
def found(tiny, tmp_path_factory):
    """A real estimate: a child process takes real steps."""
    return estimate(tiny, RECIPE, 100, threads=1, out=tmp_path_factory.mktemp("x") / "not" / "yet" / "there")


def test_counts_are_those_of_the_space(found, tiny):
    assert found.parameters == sum(p.numel() for p in Supernet(tiny).parameters())
    assert found.smallest_macs == ops.macs(tiny, tiny.smallest())
    assert found.largest_macs == ops.macs(tiny, tiny.largest())
    assert found.smallest_macs < found.mean_macs < found.largest_macs
    assert found.subnets_a_step == 4
    images = found.largest_macs + found.smallest_macs + 2 * found.mean_macs
    assert found.step_macs == pytest.approx(3 * 8 * images, rel=1e-4)


def test_steps_and_time_follow_from_the_recipe(found):
    assert found.steps == 3 * 12  # the last 4 of 100 images make no step
    assert found.measured_batch == 8
    assert found.step_s > 0
    assert found.run_s == pytest.approx(36 * found.step_s)
    assert found.images_per_s == pytest.approx(8 / found.step_s)


def test_the_memory_adds_up_to_a_measured_peak(found):
    parts = ("program", "weights", "gradients", "optimizer", "average", "activations")
    assert sum(getattr(found, f"{part}_bytes") for part in parts) == pytest.approx(found.peak_bytes)
    assert found.program_bytes > 50e6  # torch itself
    assert found.peak_bytes < 4e9
    assert found.weights_bytes == 4 * found.parameters
    assert found.checkpoint_bytes == found.weights_bytes * 4  # two moments and the average
    assert found.free_bytes > 0


def test_the_rows_say_what_is_measured_and_what_an_estimate(found):
    rows = dict(shown(found))
    assert "(measured)" in rows["memory"]
    assert "(measured)" in rows["a step"]
    assert "36 steps" in rows["the run"]
    assert "estimate" in rows["the run"]
    assert "scaled from batches of 2" in dict(shown(replace(found, measured_batch=2)))["a step"]
    assert "NOT ENOUGH" not in rows["memory"] + rows["disk"]
    assert "NOT ENOUGH" in dict(shown(replace(found, free_bytes=1)))["disk"]
    assert "NOT ENOUGH" in dict(shown(replace(found, memory_bytes=1)))["memory"]
    assert "busy" in dict(shown(replace(found, busy=True)))["the run"]


def trial_of(monkeypatch, **values):
    """Estimates without steps: what is counted."""
    measured = Trial(batch=0, seconds=2.0, before_bytes=10**8, peak_bytes=10**9)
    monkeypatch.setattr("nasvit_edge.train.estimate.measure", lambda *_, **how: [measured])
    monkeypatch.setattr("nasvit_edge.train.estimate.scaled", lambda *_: (2.0, 10**9))


def test_accumulation_and_processes_change_steps_and_time(tiny, monkeypatch):
    trial_of(monkeypatch)
    whole = estimate(tiny, RECIPE, 640, threads=1)
    parts = estimate(tiny, RECIPE.with_values(["run.parts=4"]), 640, threads=1)
    several = estimate(tiny, RECIPE, 640, threads=1, processes=4)
    assert parts.step_s == 4 * whole.step_s
    assert parts.peak_bytes > whole.peak_bytes
    assert (several.steps, whole.steps) == (60, 240)
    assert several.images_per_s == 4 * whole.images_per_s


def test_one_subnet_alone_and_sgd_need_less(tiny, monkeypatch):
    trial_of(monkeypatch)
    single = estimate(tiny, load_recipe("single"), 640, threads=1)
    assert single.subnets_a_step == 1
    assert single.step_macs == 3 * 64 * single.largest_macs
    sgd = estimate(tiny, load_recipe("alphanet"), 640, threads=1)
    assert sgd.average_bytes == 0
    assert sgd.checkpoint_bytes == 2 * sgd.weights_bytes


def test_fewer_images_than_a_step_takes_are_one_line(tiny):
    with pytest.raises(DataError, match="7 images are fewer than the 8 of one step") as caught:
        estimate(tiny, RECIPE, 7, threads=1)
    one_line(caught)


@given(batch=st.integers(2, 4096), macs=st.floats(1e3, 1e14))
def test_a_measured_batch_is_never_larger_than_the_recipe_s_and_takes_seconds(batch, macs):
    actual = bearable(batch, macs)
    assert min(4, batch) <= actual <= batch
    assert actual <= 4 or actual * macs <= 1.3e11


@given(
    half=st.integers(1, 50),
    batch=st.integers(100, 1000),
    fixed=st.integers(10**6, 10**9),
    each=st.integers(10**3, 10**7),
)
def test_scaling_follows_the_line_through_two_batches(half, batch, fixed, each):
    measured = [Trial(b, 0.01 * b, 0, fixed + each * b) for b in (half, 2 * half)]
    seconds, peak = scaled(measured, batch)
    assert seconds == pytest.approx(0.01 * batch)
    assert peak == pytest.approx(fixed + each * batch)


def test_a_batch_that_is_too_long_is_measured_in_two_smaller_ones(tiny, monkeypatch):
    asked = []
    monkeypatch.setattr(trial, "_steps", lambda given: asked.append(given[2]) or [Trial(4, 1.0, 0, 0)])
    monkeypatch.setattr(trial, "Pool", _InThisProcess)
    trial.measure(tiny, RECIPE, 4, 1, False, "cpu")
    trial.measure(tiny, RECIPE, 8, 1, False, "cpu")
    assert asked == [[2, 4], [8]]


class _InThisProcess:
    """A pool that calls at once."""

    def __init__(self, *_arguments, **_options) -> None:
        pass

    def map(self, function, items):
        return map(function, items)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "error", [LostProcessError("it was killed"), MemoryError(), torch.OutOfMemoryError("full")]
)
def test_what_does_not_fit_into_memory_is_one_line(tiny, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(trial, "_steps", fail)
    monkeypatch.setattr(trial, "Pool", _InThisProcess)
    with pytest.raises(TrainingError, match="does not fit into memory") as caught:
        trial.measure(tiny, RECIPE, 8, 1, False, "cpu")
    one_line(caught)
