"""Wherever a prediction is shown, the heading says what it holds for: device, machine, runtime, threads, precision and date."""

from __future__ import annotations

import html
import re
from pathlib import Path

import bench_results
import pytest
from commands import run
from made_up import COMPOSITION, SETTING, result_of, table
from msgspec.structs import replace

import nasvit_edge
from nasvit_edge import records
from nasvit_edge.benchmark.report import make_report
from nasvit_edge.benchmark.result import BenchmarkFile, read_result
from nasvit_edge.benchmark.verdicts import Rule
from nasvit_edge.cli import profile, tables
from nasvit_edge.latency.file import Validated
from nasvit_edge.latency.setting import TableSetting
from nasvit_edge.profile.validate import report as validation_of
from nasvit_edge.report import bench_page, quickstart_text
from nasvit_edge.report.bench_comment import comment
from nasvit_edge.report.search_text import title
from nasvit_edge.searching.saved import ResultFile
from nasvit_edge.space import load_space

NANO = load_space("nano")
FACTS = {
    "fingerprint": {"board": "Board Nine", "soc": "Chip 7", "cores": 6},
    "date": "2026-03-04T05:06:07+00:00",
    "runtime_version": "1.99.0",
    "threads": 2,
    "provenance": "measured",
    "precision": "int8",
}
LINE = "host (Board Nine, Chip 7, 6 cores), onnxruntime 1.99.0, 2 threads, int8, measured 2026-03-04"
TABLE = table(NANO, 0, COMPOSITION).holding(**FACTS)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A folder with a table, and a search of it."""
    folder = tmp_path_factory.mktemp("headings")
    records.write(folder / "t.json", TABLE.file)
    budget = f"{2 * TABLE.predict(NANO.smallest()).ms:.4f}ms"
    done = run(
        *("search", "--space", "nano", "--table", "t.json", "--latency", budget, "--html", "s.html"),
        *("--population", "20", "--generations", "3"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder, done


def flat(text):
    """Without line breaks, which a narrow table's title has."""
    return " ".join(text.split())


def test_a_search_says_it_above_the_winner_and_above_what_is_beside_it(searched):
    folder, done = searched
    assert flat(done.stdout).count(LINE) == 2
    page = flat((folder / "s.html").read_text())
    assert page.count(LINE) >= 2  # the page's title, the chart's axis
    result = records.read(ResultFile, folder / "search.json", "search result")
    assert result.setting.tables[0].setting == TABLE.setting


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_what_reads_a_result_says_it_above_each_table(searched, command):
    done = run(command, "search.json", "--table", "t.json", cwd=searched[0])
    assert done.returncode == 0, done.stderr
    assert flat(done.stdout).count(LINE) == {"predict": 1, "explain": 2}[command]


def test_an_impossible_search_says_it_before_what_is_nearest(searched):
    done = run("search", "--space", "nano", "--table", "t.json", "--latency", "0.001us", cwd=searched[0])
    assert done.returncode != 0
    assert LINE in done.stderr


def test_a_table_says_it_of_itself_and_of_its_ends(searched, capsys):
    folder, _ = searched
    shown = run("tables", "show", "t.json", "--space", "nano", cwd=folder)
    assert LINE in flat(shown.stdout)
    diff = run("tables", "diff", "t.json", "t.json", "--space", "nano", cwd=folder)
    assert flat(diff.stdout).count(LINE) == 2
    rows = [
        Validated(config={}, predicted_ms=1.0, low_ms=0.9, high_ms=1.1, measured_ms=(1.0, 1.01))
        for _ in range(4)
    ]
    profile._print(TABLE.holding(validation=validation_of(rows)))
    assert flat(capsys.readouterr().out).count(LINE) == 2
    tables.show_validation(validation_of(rows), TABLE.setting)
    assert LINE in flat(capsys.readouterr().out)


def test_a_list_of_tables_says_machine_and_date(tmp_path):
    (tmp_path / "latency_tables").mkdir()
    records.write(tmp_path / "latency_tables" / "host-onnxruntime-2t-int8-nano.json", TABLE.file)
    row = next(
        line for line in run("tables", "list", cwd=tmp_path).stdout.splitlines() if "host-onnx" in line
    )
    assert "2t-int8" in row
    assert "Board Nine, Chip 7, 6 cores" in row
    assert "2026-03-04" in row


def reported(folder):
    content = bench_results.content(0, (0.0,))
    for artifact in content["artifacts"]:
        artifact |= {"predicted_ms": [10.0, 9.0, 11.0], "predicted_by": records.content(TABLE.setting)}
    path = folder / "b.json"
    records.write(path, records.parse(BenchmarkFile, content, "benchmark"))
    return make_report([read_result(path)], Rule())


def test_a_benchmark_says_it_beside_each_prediction_in_markdown_and_page(tmp_path):
    report = reported(tmp_path)
    assert LINE in html.unescape(comment(report))
    bench_page.write_html(report, tmp_path / "b.html", [])
    assert flat((tmp_path / "b.html").read_text()).count(LINE) >= 2  # beside the file, below the chart


def test_quickstart_says_it_in_the_terminal_and_in_its_report():
    best = result_of(SETTING, NANO.smallest(), 1.0, 0.9).best
    artifact = quickstart_text.Timed(
        path="a",
        artifact="nano.onnx",
        runtime="onnxruntime",
        error=0.0,
        predicted_ms=1.0,
        bytes=1,
        correct=1,
        images=1,
        accuracy=1.0,
        measured_ms=1.0,
        p90_ms=1.0,
    )
    report = quickstart_text.QuickstartReport(
        budget_ms=1.0,
        budget_why="",
        machine={"soc": "Chip 7", "cores": 6},
        table="t",
        setting=TABLE.setting,
        best=best,
        evaluated=1,
        choice=quickstart_text.NearTop(
            subnets=1, last=1, images=1, correct=1, predicted=1, chance=1.0, replaced=False
        ),
        artifacts=(artifact,),
        seconds=1.0,
    )
    assert LINE in quickstart_text.title(report)
    assert LINE in quickstart_text.markdown(report)


def test_what_a_table_or_an_older_result_does_not_say_is_said_to_be_unknown():
    older = result_of(SETTING, NANO.smallest(), 1.0, 0.9)
    line = "host (machine unknown), onnxruntime, 1 thread, fp32, measured on an unknown day"
    assert line in title(older)
    imported = TableSetting(device="pixel-1", runtime="litert", threads=1, precision="fp32", imported=True)
    assert imported.line() == "pixel-1 (machine unknown), litert, 1 thread, fp32, imported on an unknown day"
    other = replace(SETTING.tables[0], setting=imported)
    assert imported.line() in title(result_of(replace(SETTING, tables=(other,)), NANO.smallest(), 1.0, 0.9))


def test_no_other_module_shows_predictions():
    """What shows some is walked through above; a new one has to be, too."""
    package = Path(nasvit_edge.__file__).parent
    showing = {
        path.relative_to(package).as_posix()
        for room in ("cli", "report")
        for path in (package / room).glob("*.py")
        if re.search(r'"predicted|f"predicted|predicted_ms|latency_ms', path.read_text())
    }
    assert showing == {
        "report/architecture.py",  # drawn on the page of a search
        "cli/profile.py",
        "cli/tables.py",
        "report/bench.py",
        "report/bench_charts.py",
        "report/explain_text.py",
        "report/front.py",
        "report/quickstart_text.py",
        "report/search_text.py",
    }
