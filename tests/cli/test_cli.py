"""The program as a user meets it: one line for an error, the right exit code, nothing lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-m", "nasvit_edge.cli"]


def run(*arguments, cwd=None, **environment):
    made = subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | environment,
        timeout=300,
    )
    assert "Traceback" not in made.stderr, made.stderr
    return made


def one_error(made):
    """The only line of a failed command's stderr that is not progress."""
    lines = [line for line in made.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, made.stderr
    return lines[0]


def table_of(space_name, path, each_ms=1.0):
    """A latency table file in which every op takes `each_ms`: for everything but what is measured."""
    from nasvit_edge.ops import all_ops
    from nasvit_edge.space import load_space

    ops = {op.key(): {"median_ms": each_ms} for op in all_ops(load_space(space_name))}
    table = {
        "schema": 1,
        "device": "host",
        "runtime": "onnxruntime",
        "precision": "fp32",
        "space": space_name,
    }
    path.write_text(json.dumps(table | {"threads": 1, "ops": ops, "call_ms": 0.0, "composition": None}))
    return path


def test_help_comes_fast():
    run("--help")
    took = []
    for _ in range(5):
        start = time.perf_counter()
        assert run("--help").returncode == 0
        took.append(time.perf_counter() - start)
    assert min(took) < 0.3


@pytest.mark.parametrize(
    "command", ["quickstart", "profile", "search", "export", "verify", "evaluate", "train"]
)
def test_each_help_starts_with_a_worked_example(command):
    assert f"Example:  nasvit-edge {command}" in run(command, "--help").stdout


@pytest.mark.parametrize("latency", ["20", "-3ms", "0ms", "1e30s", "nanms", "infms", "ms", "20 parsecs", ""])
def test_a_latency_that_is_none_is_refused(latency, tmp_path):
    made = run("search", f"--latency={latency}", cwd=tmp_path)
    assert made.returncode == 2
    assert "latency" in one_error(made)


@pytest.mark.parametrize(
    ("option", "possible"),
    [
        ("--device", "host"),
        ("--space", "nano"),
        ("--runtime", "onnxruntime"),
        ("--precision", "fp32"),
        ("--accuracy", "nasvit"),
    ],
)
def test_an_unknown_name_lists_what_there_is(option, possible, tmp_path):
    made = run("search", "--latency", "20ms", option, "nothing", cwd=tmp_path)
    assert made.returncode == 2
    assert "'nothing'" in one_error(made)
    assert possible in one_error(made)


def test_an_impossible_budget_names_the_smallest_reachable_latency(tmp_path):
    table = table_of("nasvit", tmp_path / "t.json")
    start = time.perf_counter()
    made = run("search", "--latency", "0.01ms", "--table", table, cwd=tmp_path)
    assert made.returncode == 1
    assert "smallest reachable latency here is 22.0 ms" in one_error(made)
    assert time.perf_counter() - start < 10


def test_a_search_writes_a_result_and_the_same_seed_the_same_one(tmp_path):
    table = table_of("nasvit", tmp_path / "t.json")
    results = []
    for name in ("a.json", "b.json"):
        made = run(
            "search",
            "--latency",
            "30ms",
            "--table",
            table,
            "--out",
            name,
            "--generations",
            8,
            "--json",
            cwd=tmp_path,
        )
        assert made.returncode == 0, made.stderr
        results.append(json.loads((tmp_path / name).read_text()))
        assert json.loads(made.stdout) == results[-1]
    assert results[0] == results[1]
    assert results[0]["best"]["latency_ms"] <= 30
    assert results[0]["setting"]["runtime"] == "onnxruntime"


def test_a_result_without_weights_says_what_to_add(tmp_path):
    table = table_of("nasvit", tmp_path / "t.json")
    run("search", "--latency", "30ms", "--table", table, "--generations", 1, cwd=tmp_path)
    made = run("export", "search.json", "--format", "onnx", cwd=tmp_path)
    assert made.returncode == 2
    assert "--supernet CHECKPOINT and --calibrate DATA" in one_error(made)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema": 1}', '{"schema": 99}', "\x00\x01"])
def test_a_corrupt_file_gives_one_line(content, tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_text(content)
    for arguments in (
        ("export", bad, "--format", "onnx"),
        ("search", "--latency", "20ms", "--table", bad),
        ("export", "--space", "nano", "--supernet", "nano", "--config", bad),
        ("search", "--latency", "20ms", "--accuracy", bad),
    ):
        made = run(*arguments, cwd=tmp_path)
        assert made.returncode == 2
        assert "bad.json" in one_error(made)


def test_a_file_that_is_not_there_gives_one_line(tmp_path):
    for arguments in (
        ("verify", "m.onnx"),
        ("evaluate", "m.tflite"),
        ("export", "r.json"),
        ("verify", "m.gif"),
    ):
        made = run(*arguments, cwd=tmp_path)
        assert made.returncode == 2
        one_error(made)


def test_an_uncalibrated_export_is_refused_with_the_way_out(tmp_path):
    from nasvit_edge.space import load_space

    config = tmp_path / "c.json"
    config.write_text(json.dumps(load_space("nano").smallest().to_dict()))
    explicit = (
        "export",
        "--space",
        "nano",
        "--supernet",
        "random",
        "--config",
        config,
        "--format",
        "onnx",
        "--out",
        "m.onnx",
    )
    made = run(*explicit, cwd=tmp_path)
    assert made.returncode == 2
    assert "--calibrate DATA" in one_error(made)
    assert not (tmp_path / "m.onnx").exists()
    made = run(*explicit, "--uncalibrated", "--json", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "RANDOM WEIGHTS" in made.stderr
    assert json.loads(made.stdout)["passed"]


def test_a_read_only_folder_is_named_before_work_is_spent(tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way")  # also root cannot write below a file
    for arguments in (
        ("profile", "--space", "nano", "--out", file / "tables"),
        ("search", "--latency", "20ms", "--out", file / "s.json"),
        ("quickstart", "--out", file / "q"),
    ):
        made = run(*arguments, cwd=tmp_path)
        assert made.returncode == 2
        assert "cannot write" in one_error(made)


def test_ctrl_c_is_one_line_and_130(tmp_path):
    process = subprocess.Popen(
        [*PROGRAM, "profile", "--space", "nano"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # shells ignore it for background jobs
    )
    journal = tmp_path / "latency_tables" / ".host-onnxruntime-1t-fp32-nano.partial.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (
        journal.exists() and len(journal.read_text().splitlines()) > 5
    ):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: parent and child
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert "interrupted" in stderr
    assert len(journal.read_text().splitlines()) > 5


def test_the_program_runs_as_a_module():
    assert Path(__file__).exists()
    assert run("--version").stdout.strip()
