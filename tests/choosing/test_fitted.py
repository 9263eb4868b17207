"""Minutes say how many subnets a predictor is fitted to, and a search with them ends."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import TINY, require_module
from made_up import table
from typer.testing import CliRunner

from nasvit_edge import cache, files, records
from nasvit_edge.choosing import fitted
from nasvit_edge.cli import app
from nasvit_edge.searching.fitting import FEWEST
from nasvit_edge.searching.images import ImageAccuracy
from nasvit_edge.searching.result import read_result
from nasvit_edge.space import load_space

WEIGHTS = ("--supernet", "random:1", "--space", "tiny.toml", "--data", "photos")
LIMITS = ("--latency", "10s", "--table", "table.json", "--generations", 1, "--population", 8)


def run(*arguments) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Images of four classes, a space, a table."""
    pillow, rng = require_module("PIL.Image"), np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 6)):
        for name in "0123":
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
                pillow.fromarray(pixels).save(tmp_path / "photos" / split / name / f"{i}.png")
    (tmp_path / "tiny.toml").write_text(TINY)
    records.write(tmp_path / "table.json", table(load_space(tmp_path / "tiny.toml")).file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cache, "root", lambda: tmp_path / "cache")
    return tmp_path


@pytest.fixture
def quick(monkeypatch):
    """Subnets as they are measured: accuracies take no time and rise with the subnet, and each moves the clock by a second."""
    measured = []

    def many(_self, configs):
        measured.extend(configs)
        return [0.1 + sum(c.width) / 1e4 + c.resolution / 1e3 for c in configs]

    monkeypatch.setattr(ImageAccuracy, "many", many)
    monkeypatch.setattr(fitted.time, "monotonic", lambda: float(len(measured)))
    return measured


def test_a_search_with_minutes_fits_a_predictor_and_keeps_it_beside_the_result(folder, quick):
    code, printed = run("search", *WEIGHTS, *LIMITS, "--minutes", 1, "--out", "s.json")
    assert code == 0, printed
    assert "good to" in printed
    predictor = json.loads((folder / "s.accuracy.json").read_text())
    assert FEWEST < predictor["validation"]["subnets"] <= len(quick) <= 60 + 8  # a batch more than fits
    setting = read_result(folder / "s.json").setting
    assert setting.accuracy == "s.accuracy.json"
    assert setting.accuracy_sha256 == files.sha256(folder / "s.accuracy.json")
    again = run("search", *WEIGHTS[2:4], "--accuracy", "s.accuracy.json", *LIMITS, "--out", "t.json")
    assert again[0] == 0, again[1]
    assert read_result(folder / "t.json").best.config == read_result(folder / "s.json").best.config


def test_the_second_half_of_the_minutes_goes_to_what_the_first_half_says_is_good_within_the_limits(
    folder, quick
):
    budget = 0.6 * table(load_space("tiny.toml")).predict(load_space("tiny.toml").largest()).ms
    code, printed = run(
        "search", *WEIGHTS, *LIMITS[2:], "--latency", f"{budget}ms", "--minutes", 1, "--out", "s.json"
    )
    assert code == 0, printed
    best = read_result(folder / "s.json").best.config
    assert best in quick[30:]
    latencies = table(load_space("tiny.toml"))
    assert all(latencies.predict(config).ms <= budget for config in quick[40:])


def test_an_impossible_budget_is_told_before_minutes_are_spent(folder, quick):
    code, printed = run("search", *WEIGHTS, *LIMITS[2:], "--latency", "0.001us", "--minutes", 1)
    assert code != 0
    assert "smallest reachable latency" in printed
    assert len(quick) < FEWEST  # of the report: what is nearest


def test_too_few_minutes_measure_as_many_as_a_fit_takes(folder, quick):
    code, printed = run("accuracy", "fit", *WEIGHTS, "--minutes", 0.1, "--out", "a.json")
    assert code == 0, printed
    assert FEWEST <= json.loads((folder / "a.json").read_text())["validation"]["subnets"] < FEWEST + 8


def test_a_budget_that_cannot_be_read_is_refused_before_minutes_are_spent(folder, quick):
    code, _ = run("search", *WEIGHTS, "--table", "table.json", "--latency", "fast", "--minutes", 1)
    assert code == 2
    assert quick == []


def test_minutes_without_anything_to_measure_are_refused(folder):
    code, printed = run("search", "--space", "tiny.toml", *LIMITS, "--minutes", 1)
    assert code == 2
    assert "add --supernet W --data D" in printed
