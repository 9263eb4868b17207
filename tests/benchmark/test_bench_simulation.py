"""The simulation of benchmarks/false_alarms.py, in full: false alarms and power of what `report bench` decides."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_PATH = Path(__file__).parents[2] / "benchmarks" / "false_alarms.py"
_SPEC = importlib.util.spec_from_file_location("false_alarms", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
simulation = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(simulation)


@pytest.mark.parametrize("rounds", [8, 12])
def test_false_alarms_are_as_rare_as_promised(rounds):
    assert simulation.rate(simulation.ours, rounds, 0.0, 4000) <= 0.015


@pytest.mark.parametrize(("rounds", "power"), [(8, 0.88), (12, 0.97)])
def test_five_percent_more_are_found(rounds, power):
    assert simulation.rate(simulation.ours, rounds, 0.05, 4000) >= power


def test_false_alarms_are_as_rare_without_a_smallest_effect(monkeypatch):
    monkeypatch.setattr(simulation, "MIN_EFFECT", 0.0)
    assert simulation.rate(simulation.ours, 8, 0.0, 4000) <= 0.015


def test_a_test_on_pooled_samples_would_be_wrong_a_third_of_the_time():
    assert simulation.rate(simulation.pooled, 8, 0.0, 500) > 0.25


def test_pairs_of_whole_blocks_would_find_less():
    actual = simulation.rate(simulation.blocks, 8, 0.05, 1000)
    assert actual < 0.75 < simulation.rate(simulation.ours, 8, 0.05, 1000)
