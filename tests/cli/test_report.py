"""`nasvit-edge report`, as a user meets it."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from nasvit_edge.cli.report import report
from nasvit_edge.train.logs import Rows

APP = typer.Typer()
APP.add_typer(report, name="report")  # as the program has it: a group, though of one command


@pytest.fixture
def runs(tmp_path):
    """Two runs: in the first every layer is in conflict, in the second none."""
    for name, value in (("hybrid", -0.25), ("cnn", 0.5)):
        (tmp_path / name).mkdir()
        rows = Rows(tmp_path / name / "conflicts.csv", ["step", "all", "mb1.0", "mb1.0.norm", "classifier"])
        for step in range(1, 31):
            rows.add([step, value, value, value, ""])
        rows.close()
    (tmp_path / "hybrid" / "recipe.json").write_text(json.dumps({"steps_per_epoch": 10, "space": "nano"}))
    return tmp_path


def call(*arguments):
    result = CliRunner().invoke(APP, ["report", "conflicts", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_one_run_is_a_table_of_shares(runs):
    result = call(runs / "hybrid")
    assert result.exit_code == 0
    row = next(line for line in result.stdout.splitlines() if "mb1 norm" in line)
    assert row.replace("│", " ").split() == ["mb1", "norm", "1", "100.0", "%", "-0.250"]
    assert "all parameters" in result.stdout
    assert "space nano" in result.stderr
    assert "30 measured" in result.stderr


def test_several_runs_stand_side_by_side(runs):
    result = call(runs / "hybrid", runs / "cnn")
    row = next(line for line in result.stdout.splitlines() if "mb1 norm" in line)
    assert row.replace("│", " ").split()[2:] == ["1", "100.0", "%", "-0.250", "1", "0.0", "%", "+0.500"]


def test_json_has_the_same_numbers_and_nothing_else_on_stdout(runs):
    result = call(runs / "hybrid", runs / "cnn", "--json", "--steps", "11:20")
    first, second = json.loads(result.stdout)["runs"]
    assert (first["all"]["negative"], second["all"]["negative"]) == (1.0, 0.0)
    assert (first["first_step"], first["last_step"], first["steps"]) == (11, 20, 10)
    assert first["groups"][0]["mean_cosine"] == -0.25


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        (["--steps", "5:"], [5, 30]),
        (["--steps", ":7"], [1, 7]),
        (["--from-epoch", "1"], [11, 30]),
        (["--from-epoch", "1", "--to-epoch", "1"], [11, 20]),
        (["--to-epoch", "0", "--steps", "4:20"], [4, 10]),
    ],
)
def test_a_part_of_the_training_is_chosen_by_steps_or_epochs(runs, options, steps):
    (summary,) = json.loads(call(runs / "hybrid", "--json", *options).stdout)["runs"]
    assert [summary["first_step"], summary["last_step"]] == steps


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--steps", "many"], "--steps 1000:5000"),
        (["--steps", "9:3"], "ends before it starts"),
        (["--steps", "100:"], "ends before it starts"),
        (["--steps", "100:200"], "it has 1 to 30"),
        (["--from-epoch", "7"], "it has 1 to 30"),
    ],
)
def test_a_part_that_is_not_there_is_one_line(runs, options, said):
    result = call(runs / "hybrid", *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_run_without_the_meter_is_one_line(runs):
    result = call(runs)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: run ")
    assert result.stderr.count("\n") == 1


def test_page_and_picture_are_written_where_they_are_asked_for(runs):
    pytest.importorskip("jinja2")
    pytest.importorskip("vl_convert")
    result = call(runs / "hybrid", "--html", runs / "c.html", "--png", runs / "c.png")
    assert result.exit_code == 0
    assert (runs / "c.html").read_text().startswith("<!doctype html>")
    assert (runs / "c.png").read_bytes().startswith(b"\x89PNG")
    assert f"wrote {runs / 'c.html'}" in result.stderr


def test_a_page_that_cannot_be_written_is_one_line(runs):
    pytest.importorskip("jinja2")
    pytest.importorskip("vl_convert")
    result = call(runs / "hybrid", "--png", runs)
    assert result.exit_code == 2
    assert "cannot write" in result.stderr
