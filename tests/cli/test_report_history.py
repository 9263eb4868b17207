"""`nasvit-edge report history`, as a user meets it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import bench_results
import numpy as np
import pytest
from conftest import require_tool
from history_points import points
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from typer.testing import CliRunner

from nasvit_edge import records
from nasvit_edge.cli import app
from nasvit_edge.report import history_page
from nasvit_edge.report.history_line import BLOCKS, line_of, sparkline, summary

NASTY = "<b>[/x]\x1b[31m</script>|:smile:"


def call(path, *options):
    result = CliRunner().invoke(app, ["report", "history", *map(str, (path, *options))])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def written(path, *listed):
    lines = [json.dumps(records.content(point)) for points_of in listed for point in points_of]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def stepped(count=40, place=20, step=0.08, **changes):
    values = 10 * np.exp(np.random.default_rng(0).normal(0, 0.01, count))
    values[place:] *= 1 + step
    return points(values, **changes)


@pytest.fixture
def path(tmp_path):
    """A line with a step in its middle, a steady one of another device, and sizes."""
    steady = stepped(12, step=0.0, device="pixel-8", artifact=NASTY, git_sha=None)
    exact = {"metric": "size", "low": None, "high": None}
    return written(tmp_path / "h.jsonl", stepped(), steady, points([1.4e6] * 5 + [1.5e6] * 5, **exact))


def rows(result):
    """The cells of tables' bodies."""
    return [[c.strip() for c in line.split("│")[1:-1]] for line in result.stdout.splitlines() if "│" in line]


def test_a_line_is_a_summary_a_picture_and_a_row_a_level(path):
    result = call(path, "--device", "board")
    assert result.exit_code == 0
    name, text, picture, *_ = result.stdout.splitlines()
    assert name == "model.onnx on board: latency_p50 (onnxruntime, 1 thread, fp32)"
    assert re.fullmatch(
        r"40 runs, .* ms at first, .* ms at last; last step \+8\.\d % at 2026-01-01 20:00 \(14141414\)", text
    )
    assert set(picture) <= set(BLOCKS)
    assert len(picture) == 40
    first, second = rows(result)
    assert [first[:3], first[4:]] == [["2026-01-01 00:00", "00000000", "20"], ["", ""]]
    assert second[:3] == ["2026-01-01 20:00", "14141414", "20"]
    assert second[4].startswith("+8.")
    assert second[5] == "same file before and after"


def test_a_new_runtime_version_is_marked_where_it_came(tmp_path):
    listed = [
        replace(p, runtime_version="2" if i >= 20 else "1", sha256=str(i) * 8)
        for i, p in enumerate(stepped())
    ]
    first, second = rows(call(written(tmp_path / "h.jsonl", listed)))
    assert [first[5], second[5]] == ["", "runtime 1 -> 2"]
    listed = [replace(p, runtime_version="2" if i >= 8 else "1") for i, p in enumerate(listed)]
    first, second = rows(call(written(tmp_path / "h.jsonl", listed)))
    assert [first[5], second[5]] == ["runtime 1 -> 2 at 2026-01-01 08:00 (08080808)", ""]


SLOW = {"soc": "Slow chip", "cores": 2}


def series_of(path):
    """The series of a history as JSON."""
    return json.loads(call(path, "--json").stdout)["series"]


def test_a_changed_runner_is_marked_where_it_came_and_is_no_commits_step(tmp_path):
    listed = [replace(p, **SLOW) if i >= 20 else p for i, p in enumerate(stepped(step=0.7))]
    done = call(written(tmp_path / "h.jsonl", listed))
    assert "step +" not in done.stdout
    assert "by Chip (Board, 4 cores)" in done.stdout
    changed = "the runner changed from Chip (Board, 4 cores) to Slow chip (Board, 2 cores) at 2026-01-01 20:00 (14141414): not compared"
    assert changed in done.stdout
    before, after = rows(done)
    assert before[2:] == ["20", before[3]], "no step and nothing about it"
    assert after[2:] == ["20", after[3], "runner Chip (Board, 4 cores) -> Slow chip (Board, 2 cores)"]


@pytest.mark.parametrize("field", ["soc", "board", "cores", "architecture"])
def test_each_part_of_a_runners_identity_is_kept_apart(tmp_path, field):
    other = {field: 2 if field == "cores" else "other"}
    listed = [replace(p, **other) if i >= 20 else p for i, p in enumerate(stepped(step=0.7))]
    first, second = series_of(written(tmp_path / "h.jsonl", listed))
    assert (first["steps"], second["steps"], first["runner_changes"]) == ([], [], [])
    assert second["machine"] == first["machine"] | other
    assert second["runner_changes"] == [{"index": 0, "before": first["machine"]}]


@pytest.mark.parametrize("pattern", ["AB", "AAB", "ABBB", "AABBBABAAB"])
def test_two_runners_in_turns_give_no_step(tmp_path, pattern):
    listed = [
        replace(p, value=1.7 * p.value, low=1.7 * p.low, high=1.7 * p.high, **SLOW)
        if pattern[i % len(pattern)] == "B"
        else p
        for i, p in enumerate(stepped(60, step=0.0))
    ]
    path = written(tmp_path / "h.jsonl", listed)
    assert [series["steps"] for series in series_of(path)] == [[], []]
    text = call(path).stdout
    assert "step +" not in text
    assert text.count("in turns, each with a line of its own") == 2


def test_a_commits_step_is_still_found_on_each_of_two_runners_in_turns(tmp_path):
    listed = [replace(p, **SLOW) if i % 2 else p for i, p in enumerate(stepped(60, 30))]
    assert [series["steps"] for series in series_of(written(tmp_path / "h.jsonl", listed))] == [[15], [15]]


def test_what_is_the_files_own_stays_one_line_whoever_measured(tmp_path):
    listed = points([1.4e6] * 5 + [1.5e6] * 5, metric="size", low=None, high=None)
    path = written(tmp_path / "h.jsonl", [replace(p, **SLOW) if i % 2 else p for i, p in enumerate(listed)])
    (series,) = json.loads(call(path, "--json", "--metric", "size").stdout)["series"]
    assert series["steps"] == [5]


def test_lines_of_earlier_versions_are_a_runner_that_is_not_known(tmp_path):
    old = [records.content(p) | {"schema": 1} for p in stepped(10, step=0.0)]
    for line in old:
        for key in ("board", "soc", "architecture", "cores"):
            del line[key]
    new = stepped(30, step=0.7, place=0)[10:]
    path = tmp_path / "h.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [*old, *map(records.content, new)]))
    first, second = series_of(path)
    assert (first["steps"], second["steps"]) == ([], [])
    assert set(first["machine"].values()) == {None}
    assert "the runner changed from unknown machine to Chip (Board, 4 cores)" in call(path).stdout


def test_a_finer_name_of_an_arm_server_is_told_as_such(tmp_path):
    listed = [
        replace(p, soc="Neoverse N1" if i >= 20 else "aarch64", board=None) for i, p in enumerate(stepped())
    ]
    said = call(written(tmp_path / "h.jsonl", listed)).stdout
    assert "the runner changed from aarch64 (4 cores) to Neoverse N1 (4 cores)" in said
    assert "earlier versions called every Arm server 'aarch64'" in said


def test_the_last_runs_of_a_line_keep_the_marks_that_are_in_them(tmp_path):
    listed = [replace(p, **SLOW) if 20 <= i < 30 else p for i, p in enumerate(stepped(step=0.0))]
    path = written(tmp_path / "h.jsonl", listed)
    first, second = json.loads(call(path, "--json", "--last", "15").stdout)["series"]
    assert [change["index"] for change in first["runner_changes"]] == [5]
    assert [change["index"] for change in second["runner_changes"]] == [0]


def test_json_has_the_levels_and_every_point(path):
    result = call(path, "--json", "--metric", "size", "--metric", "latency_p50")
    content = json.loads(result.stdout)
    assert (content["schema"], content["kind"]) == (1, "benchmark history")
    assert [(s["device"], s["metric"], s["runs"], s["steps"]) for s in content["series"]] == [
        ("board", "latency_p50", 40, [20]),
        ("board", "size", 10, [5]),
        ("pixel-8", "latency_p50", 12, []),
    ]
    size = content["series"][1]
    assert [level["value"] for level in size["levels"]] == [1.4e6, 1.5e6]
    assert size["levels"][1]["since"] == size["points"][5]["utc"]
    assert len(size["points"]) == 10


@pytest.mark.parametrize(
    ("options", "runs"),
    [
        (["--device", "pix*"], [12]),
        (["--artifact", "model.*"], [40]),
        (["--last", "10"], [10, 10]),
        (["--last", "1"], [1, 1]),
        (["--last", "30", "--device", "board"], [30]),
    ],
)
def test_a_part_is_chosen_by_names_and_latest_runs(path, options, runs):
    content = json.loads(call(path, "--json", *options).stdout)["series"]
    assert [s["runs"] for s in content] == runs
    assert content[0]["points"][-1]["uuid"] == ("run-11" if runs == [12] else "run-39")
    assert call(path, *options).exit_code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--device", "jetson"], "--device 'jetson' --metric 'latency_p50' matches nothing"),
        (["--device", "jetson"], "devices 'board', 'pixel-8'"),
        (["--artifact", "other"], "'model.onnx'"),
        (["--metric", "top1"], "metrics 'latency_p50', 'size'"),
        (["--metric", "speed"], "'speed' is no metric; there are latency_p50"),
        (["--html", "/dev/null/h.html"], "cannot write"),
    ],
)
def test_what_is_not_there_is_one_line_that_says_what_is(path, options, said):
    result = call(path, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["none", "none.jsonl", "empty", "empty.jsonl"])
def test_no_history_is_one_line_that_says_how_one_begins(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.jsonl").touch()
    result = call(tmp_path / name)
    assert result.exit_code == 2
    assert ("is empty" if "empty" in name else "does not exist") in result.stderr
    assert "report bench benchmark.json --history" in result.stderr


def test_a_damaged_line_is_one_line(path):
    path.write_text(path.read_text() + "{}\n")
    result = call(path)
    assert result.exit_code == 2
    assert re.search(r"error: history '.*h\.jsonl', line 63: .*the line is damaged", result.stderr)


def test_names_cannot_speak_to_the_terminal(path):
    result = call(path, "--device", "pixel-8")
    assert "\x1b" not in result.stdout
    assert "<b>[/x]" in result.stdout
    assert ":smile:" in result.stdout


def test_runs_of_two_machines_are_two_lines_from_result_file_to_line(tmp_path):
    for seed in range(1, 13):
        content = bench_results.content(seed, ms=17 if seed % 2 else 10)
        content["device"]["about"]["soc"] = "Slow chip" if seed % 2 else "Chip"
        (tmp_path / f"{seed}.json").write_text(json.dumps(content))
        asked = ["report", "bench", str(tmp_path / f"{seed}.json"), "--history", str(tmp_path / "kept")]
        assert CliRunner().invoke(app, asked).exit_code in (0, 1)
    kept = series_of(tmp_path / "kept")
    assert [(s["machine"]["soc"], s["runs"], s["steps"]) for s in kept] == [
        ("Slow chip", 6, []),
        ("Chip", 6, []),
    ]


def test_what_report_bench_keeps_is_shown(tmp_path):
    for seed in range(1, 9):
        result = bench_results.write(tmp_path / f"{seed}.json", seed, ms=10 if seed < 5 else 13)
        content = CliRunner().invoke(
            app, ["report", "bench", str(result), "--history", str(tmp_path / "kept")]
        )
        assert content.exit_code in (0, 1), content.output
        assert "wrote" in content.stderr
    again = CliRunner().invoke(app, ["report", "bench", str(result), "--history", str(tmp_path / "kept")])
    assert "wrote" not in again.stderr
    (series,) = json.loads(call(tmp_path / "kept", "--json").stdout)["series"]
    assert (series["runs"], series["artifact"], len(series["steps"])) == (8, "model0.onnx", 1)
    assert series["levels"][1]["git_sha"] == f"{5:040x}"


@given(values=st.lists(st.floats(0, 1e12), min_size=1, max_size=200), width=st.integers(1, 80))
def test_a_picture_has_a_bar_for_each_value_or_is_as_wide_as_asked(values, width):
    picture = sparkline(values, width)
    assert len(picture) == min(len(values), width)
    assert set(picture) <= set(BLOCKS)


def test_the_picture_of_a_step_rises_though_one_run_is_far_off():
    picture = sparkline([10.0] * 30 + [1000.0] + [11.0] * 30, 61)
    assert picture[0] < picture[-1] <= picture[30]


def test_a_drift_and_single_runs_are_told():
    drifting = points(10 * np.exp(np.linspace(0, 0.3, 60) + np.random.default_rng(0).normal(0, 0.01, 60)))
    assert re.search(r"a drift of \+3\d\.\d %; no step", summary(line_of(drifting)))
    assert summary(line_of(points([3.0]))) == "1 run, 3.00 ms"


def test_changes_of_ops_and_accuracy_are_in_their_own_units():
    exact = {"low": None, "high": None}
    ops = line_of(points([0] * 5 + [3] * 5, metric="fallback_ops", **exact))
    assert "last step +3 at" in summary(ops)
    top1 = line_of(points([0.9] * 5 + [0.88] * 5, metric="top1", **exact))
    assert "last step -2.00 points at" in summary(top1)


@pytest.fixture
def page(path):
    pytest.importorskip("jinja2")
    pytest.importorskip("vl_convert")
    result = call(path, "--html", path.with_name("h.html"), "--metric", "latency_p50", "--metric", "size")
    assert result.exit_code == 0
    assert "wrote" in result.stderr
    return path.with_name("h.html")


def test_a_page_holds_all_it_needs(page):
    text = page.read_text()
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']?(?:https?:)?//", text)
    assert "<b>[/x]" not in text
    assert "&lt;b&gt;[/x]" in text


def test_a_page_marks_a_changed_runner(tmp_path):
    pytest.importorskip("jinja2")
    pytest.importorskip("vl_convert")
    listed = [replace(p, **SLOW) if i >= 20 else p for i, p in enumerate(stepped(step=0.7))]
    call(written(tmp_path / "h.jsonl", listed), "--html", tmp_path / "h.html")
    text = (tmp_path / "h.html").read_text()
    assert "The runner changed from Chip (Board, 4 cores) to Slow chip (Board, 2 cores)" in text
    assert "New level" not in text
    assert '"runners": [{"when"' in text or '"runners":[{"when"' in text


def test_a_browser_draws_a_page_of_a_history(page, tmp_path):
    chromium = shutil.which("chromium")
    require_tool("chromium", chromium is not None)
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
    options = (f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--dump-dom")
    done = subprocess.run(
        [chromium, *flags, *quiet, *options, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "<canvas" in done.stdout or "<svg" in done.stdout, done.stderr


def test_a_page_of_one_run_and_of_very_many_lines_is_written(tmp_path):
    pytest.importorskip("jinja2")
    pytest.importorskip("vl_convert")
    lines = [line_of(points([float(i + 1)], artifact=f"m{i}.onnx")) for i in range(45)]
    history_page.write_html(lines, tmp_path / "h.html")
    assert "the first 40 of 45 lines" in (tmp_path / "h.html").read_text()


def test_help_starts_with_an_example():
    result = CliRunner().invoke(app, ["report", "history", "--help"])
    assert "Example:  nasvit-edge report history" in result.stdout
