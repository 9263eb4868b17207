"""Curves of runs beside each other: every run and subnet is on the page, whatever it is called."""

from __future__ import annotations

import json

from commands import run as command
from conftest import require_module

from nasvit_edge.report import runs
from nasvit_edge.train.conflict_file import About, RecipeName
from nasvit_edge.train.run_logs import CurvePoint, Logs


def logs(name, value=0.5):
    points = [CurvePoint(float(epoch), value * epoch / 3) for epoch in (1, 3, 2)]
    return Logs(
        name=name,
        about=About(space="tiny", recipe=RecipeName(name="nano"), data="d"),
        accuracies={"smallest": points, "largest": points},
        losses={"largest": points},
    )


def test_a_row_has_the_last_and_the_best_accuracy_and_when_that_was():
    actual = runs.ends([logs("a"), logs("a", 0.9)])
    rows = [[cell.text for cell in row.cells] for row in actual.rows]
    assert rows[0] == ["a (1)", "nano", "smallest", "33.33%", "50.00%", "3"]
    assert rows[3][:1] + rows[3][3:] == ["a (2)", "60.00%", "90.00%", "3"]


def test_a_page_and_a_picture_hold_every_run(tmp_path):
    require_module("vl_convert")
    results = [logs("<script>x</script>"), logs("b")]
    runs.write_html(results, tmp_path / "p.html")
    runs.write_png(results, tmp_path / "p.png")
    page = (tmp_path / "p.html").read_text()
    assert "<script>x</script>" not in page
    assert "Accuracy over training" in page
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_that_validated_nothing_has_its_losses_alone():
    empty = Logs(name="a", about=About(), accuracies={}, losses={"largest": [CurvePoint(1.0, 2.0)]})
    assert [figure.title for figure in runs._figures([empty])] == ["Loss over training"]
    assert runs.ends([empty]).rows == ()


def test_the_command_prints_and_writes(tmp_path):
    folder = tmp_path / "r"
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps({"steps_per_epoch": 1}))
    (folder / "validation.csv").write_text("step,epoch,subnet,accuracy\n1,1,smallest,0.25\n")
    done = command("report", "runs", "r", "--html", "p.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "25.00%" in done.stdout
    content = json.loads(command("report", "runs", "r", "--json", cwd=tmp_path).stdout)
    assert content["runs"][0]["accuracies"]["smallest"] == [[1.0, 0.25]]
    missing = command("report", "runs", "absent", cwd=tmp_path)
    assert missing.returncode == 2
    assert "is no folder of a run" in missing.stderr
