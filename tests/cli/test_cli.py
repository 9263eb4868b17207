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
from commands import run

from nasvit_edge import files

PROGRAM = [sys.executable, "-m", "nasvit_edge.cli"]


def program(*arguments, cwd=None, **environment):
    """The program itself, in a process of its own: what takes seconds a command."""
    process = subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | environment,
        timeout=300,
    )
    assert "Traceback" not in process.stderr, process.stderr
    return process


def one_error(result):
    """The only line of a failed command's stderr that is not progress."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


def table_of(space_name, path, each_ms=1.0):
    """A latency table file in which every op takes `each_ms`: for everything but what is measured."""
    from nasvit_edge.ops import all_ops
    from nasvit_edge.space import load_space

    ops = {op.key(): {"median_ms": each_ms} for op in all_ops(load_space(space_name))}
    table = {
        "schema": 2,
        "device": "host",
        "runtime": "onnxruntime",
        "precision": "fp32",
        "space": space_name,
    }
    path.write_text(json.dumps(table | {"threads": 1, "ops": ops, "call_ms": 0.0, "composition": None}))
    return path


def test_help_comes_fast():
    """In 0.3 s; where the machine is slow, in twice what Python and typer take by themselves."""
    program("--help")
    took, bare = [], []
    for _ in range(5):
        start = time.perf_counter()
        assert program("--help").returncode == 0
        middle = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import typer, rich.console"], check=True)
        took.append(middle - start)
        bare.append(time.perf_counter() - middle)
    assert min(took) < max(0.3, 2 * min(bare)), (took, bare)


@pytest.mark.parametrize(
    "command",
    [
        "quickstart",
        "profile",
        "search",
        "predict",
        "export",
        "verify",
        "evaluate",
        "train",
        "tables list",
        "tables show",
        "tables diff",
        "tables validate",
        "tables import",
        "explain",
        "accuracy fit",
    ],
)
def test_each_help_starts_with_a_worked_example(command):
    assert f"Example:  nasvit-edge {command}" in run(*command.split(), "--help").stdout


@pytest.mark.parametrize("latency", ["20", "-3ms", "0ms", "1e30s", "nanms", "infms", "ms", "20 parsecs", ""])
def test_a_latency_that_is_none_is_refused(latency, tmp_path):
    process = run("search", f"--latency={latency}", cwd=tmp_path)
    assert process.returncode == 2
    assert "latency" in one_error(process)


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
    process = run("search", "--latency", "20ms", option, "nothing", cwd=tmp_path)
    assert process.returncode == 2
    assert "'nothing'" in one_error(process)
    assert possible in one_error(process)


def test_an_impossible_budget_names_the_smallest_reachable_latency(tmp_path):
    table = table_of("nasvit", tmp_path / "t.json")
    start = time.perf_counter()
    process = run("search", "--latency", "0.01ms", "--table", table, cwd=tmp_path)
    assert process.returncode == 1
    assert "smallest reachable latency here is 22.0 ms" in one_error(process)
    assert "nearest: r:" in process.stderr
    assert time.perf_counter() - start < 10
    content = json.loads(
        run("search", "--latency", "0.01ms", "--table", table, "--json", cwd=tmp_path).stdout
    )
    assert content["status"] == "infeasible"
    assert content["limits"][0]["best"] == 22


def test_limits_of_several_kinds_are_kept_to(tmp_path):
    table, other = (table_of("nasvit", tmp_path / f"{n}.json", ms) for n, ms in (("a", 1.0), ("b", 2.0)))
    process = run(
        *("search", "--table", table, "--latency", "40ms", "--max-params", "11M", "--max-macs", "0.6G"),
        *("--max-size", "60MB", "--max-memory", "6MB", "--resolution", "192,224", "--gene", "mb4.depth=3,4"),
        *("--exclude", "mb7.width=224", "--min-accuracy", "78%", "--method", "exact", "--json"),
        cwd=tmp_path,
    )
    assert process.returncode == 0, process.stderr
    content = json.loads(process.stdout)
    best = content["best"]
    assert best["latency_ms"] <= 40
    assert best["parameters"] <= 11e6
    assert best["macs"] <= 6e8
    assert best["bytes"] <= 60e6
    assert best["peak_bytes"] <= 6e6
    assert best["accuracy"] >= 0.78
    assert best["config"]["resolution"] <= 224
    assert best["config"]["depth"][3] <= 4
    assert best["config"]["width"][7] != 224
    assert content["genes"]["resolution"] == [192, 224]
    process = run("search", "--latency", "a=40ms", "--latency", "b=5ms", "--table", other, cwd=tmp_path)
    assert process.returncode == 2
    assert "--table is for one device" in one_error(process)


def test_several_devices_are_searched_at_once(tmp_path):
    folder = tmp_path / "latency_tables"
    folder.mkdir()
    for name, ms in (("one", 1.0), ("two", 3.0)):
        path = table_of("nasvit", folder / f"{name}-onnxruntime-1t-fp32-nasvit.json", ms)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"device": name}))
    options = ("--generations", "3", "--json")
    process = run("search", "--latency", "one=60ms", "--latency", "two=90ms", *options, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    content = json.loads(process.stdout)
    assert content["best"]["latencies_ms"] == [30.0, 90.0]
    assert [table["name"] for table in content["setting"]["tables"]] == ["one", "two"]


def test_a_search_ends_in_a_page_a_picture_and_an_explanation(tmp_path):
    table = table_of("nasvit", tmp_path / "t.json")
    pictures = ("--html", "s.html", "--png", "s.png")
    process = run("search", "--latency", "30ms", "--table", table, *pictures, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "accuracy (%) over predicted latency (ms)" in process.stdout
    assert "the winner is the exact optimum" in process.stderr
    assert (tmp_path / "s.html").stat().st_size > 100_000
    assert (tmp_path / "s.png").stat().st_size > 10_000
    process = run("explain", "search.json", "--table", table, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "mb5 depth" in process.stdout
    assert "with more time first" in process.stderr
    content = json.loads(run("explain", "search.json", "--table", table, "--json", cwd=tmp_path).stdout)
    assert len(content["stages"]) == 9


def test_nano_is_searched_without_measuring(tmp_path):
    table = table_of("nano", tmp_path / "t.json")
    start = time.perf_counter()
    process = run("search", "--space", "nano", "--latency", "12ms", "--table", table, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "predictor nano" in process.stderr
    assert time.perf_counter() - start < 10
    assert "other weights" not in process.stderr


def test_a_predictor_of_other_weights_is_told(tmp_path):
    table = table_of("nano", tmp_path / "t.json")
    options = ("--space", "nano", "--latency", "12ms", "--table", table, "--generations", 2)
    process = run("search", *options, "--accuracy", "nano", "--supernet", "nano-cifar10", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "other weights than nano-cifar10" in " ".join(process.stderr.split())


@pytest.mark.slow
def test_a_killed_search_goes_on_to_the_same_result(tmp_path):
    table = table_of("nasvit", tmp_path / "t.json")
    common = ("search", "--latency", "30ms", "--table", table, "--generations", "1500", "--population", "400")
    process = subprocess.Popen(
        [*PROGRAM, *map(str, common), "--out", "a.json"],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    partial = tmp_path / "a.json.partial"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not partial.exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert partial.exists(), "the search was over before it could be killed"
    again = run(*common, "--out", "a.json", cwd=tmp_path)
    assert "continuing an interrupted search after generation" in again.stderr
    run(*common, "--out", "b.json", cwd=tmp_path)
    results = [json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json")]
    for result in results:
        result.pop("command")
    assert results[0] == results[1]
    assert not partial.exists()


@pytest.mark.slow
def test_a_predictor_is_fitted_and_searched_with(tmp_path):
    process = run("accuracy", "fit", "--space", "nano", "--samples", "20", "--out", "p.json", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "error on subnets left out" in process.stdout
    assert files.sha256(files.data("weights", "nano.safetensors")) in (tmp_path / "p.json").read_text()
    table = table_of("nano", tmp_path / "t.json")
    options = ("--space", "nano", "--accuracy", "p.json", "--latency", "12ms", "--table", table)
    assert run("search", *options, cwd=tmp_path).returncode == 0
    process = run("accuracy", "fit", "--space", "nano", "--samples", "5", cwd=tmp_path)
    assert process.returncode == 2
    assert "too few" in one_error(process)


def test_a_search_writes_a_result_and_the_same_seed_the_same_one(tmp_path):
    table = table_of("nasvit", tmp_path / "t.json")
    results = []
    for name in ("a.json", "b.json"):
        process = run(
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
        assert process.returncode == 0, process.stderr
        results.append(json.loads((tmp_path / name).read_text()))
        assert json.loads(process.stdout) == results[-1]
    commands = [result.pop("command") for result in results]
    assert commands[1][:2] == ["nasvit-edge", "search"]
    assert commands[1][commands[1].index("--out") + 1] == "b.json"
    assert results[0] == results[1]
    assert results[0]["best"]["latency_ms"] <= 30
    assert results[0]["setting"]["runtime"] == "onnxruntime"


def test_a_result_without_weights_says_what_to_add(tmp_path):
    table = table_of("nasvit", tmp_path / "t.json")
    run("search", "--latency", "30ms", "--table", table, "--generations", 1, cwd=tmp_path)
    process = run("export", "search.json", "--format", "onnx", cwd=tmp_path)
    assert process.returncode == 2
    assert "--supernet CHECKPOINT and --calibrate DATA" in one_error(process)


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
        process = run(*arguments, cwd=tmp_path)
        assert process.returncode == 2
        assert "bad.json" in one_error(process)


def test_a_file_that_is_not_there_gives_one_line(tmp_path):
    for arguments in (
        ("verify", "m.onnx"),
        ("evaluate", "m.tflite"),
        ("export", "r.json"),
        ("verify", "m.gif"),
    ):
        process = run(*arguments, cwd=tmp_path)
        assert process.returncode == 2
        one_error(process)


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
    process = run(*explicit, cwd=tmp_path)
    assert process.returncode == 2
    assert "--calibrate DATA" in one_error(process)
    assert not (tmp_path / "m.onnx").exists()
    process = run(*explicit, "--uncalibrated", "--json", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "RANDOM WEIGHTS" in process.stderr
    assert json.loads(process.stdout)["passed"]


def test_a_read_only_folder_is_named_before_work_is_spent(tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way")  # also root cannot write below a file
    for arguments in (
        ("profile", "--space", "nano", "--out", file / "tables"),
        ("search", "--latency", "20ms", "--out", file / "s.json"),
        ("quickstart", "--out", file / "q"),
    ):
        process = run(*arguments, cwd=tmp_path)
        assert process.returncode == 2
        assert "cannot write" in one_error(process)


@pytest.mark.slow
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


def test_a_name_that_is_no_text_is_printed_on_stdout():
    code = "import nasvit_edge.cli as cli; cli.app = lambda: print('caf\\udce9'); cli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"caf\\udce9\n"), done.stderr


def test_the_program_runs_as_a_module():
    assert Path(__file__).exists()
    assert program("--version").stdout.strip()
    process = program("search", "--latency", "20")
    assert process.returncode == 2
    assert "latency" in one_error(process)


def test_a_table_that_does_not_say_where_it_was_measured_is_refused_unless_named(tmp_path):
    (tmp_path / "latency_tables").mkdir()
    table = table_of("nasvit", tmp_path / "latency_tables" / "host-onnxruntime-1t-fp32-nasvit.json")
    process = run("search", "--latency", "90ms", cwd=tmp_path)
    assert process.returncode == 2
    assert "does not say where it was measured" in one_error(process)
    assert "nasvit-edge profile" in one_error(process)
    process = run("search", "--latency", "90ms", "--table", table, "--generations", "2", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "WARNING" in process.stderr
    assert "not validated" in process.stderr


def test_predict_takes_a_result_or_a_config(tmp_path):
    table = table_of("nasvit", tmp_path / "t.json")
    assert (
        run("search", "--latency", "90ms", "--table", table, "--generations", "2", cwd=tmp_path).returncode
        == 0
    )
    process = run("predict", "search.json", "--table", table, "--json", cwd=tmp_path)
    content = json.loads(process.stdout)
    assert content["ms"] == len(content["ops"])
    assert content["coverage"] == 1
    (tmp_path / "c.json").write_text(json.dumps(content["config"]))
    again = json.loads(run("predict", "c.json", "--table", table, "--json", cwd=tmp_path).stdout)
    assert again["ms"] == content["ms"]
    process = run("predict", "c.json", "--device", "nothing", cwd=tmp_path)
    assert process.returncode == 2
    assert "unknown device 'nothing'" in one_error(process)


def test_tables_are_listed_shown_and_compared(tmp_path):
    folder = tmp_path / "latency_tables"
    folder.mkdir()
    table_of("nano", folder / "host-onnxruntime-1t-fp32-nano.json")
    table_of("nano", folder / "other-onnxruntime-1t-fp32-nano.json", each_ms=2.0)
    (folder / "broken-onnxruntime-1t-fp32-nano.json").write_text("{}")
    process = run("tables", "list", cwd=tmp_path)
    assert "host-onnxruntime-1t-fp32-nano" in process.stdout
    assert "broken" in process.stderr
    shown = json.loads(run("tables", "show", "host", "--space", "nano", "--json", cwd=tmp_path).stdout)
    assert shown["measured"] == 260
    assert any("does not say where" in text for text in shown["concerns"])
    names = [f"{device}-onnxruntime-1t-fp32-nano" for device in ("host", "other")]
    content = json.loads(run("tables", "diff", *names, "--json", cwd=tmp_path).stdout)
    assert content["ratio"] == 2
    assert content["one_factor"]
    process = run("tables", "diff", *names, cwd=tmp_path)
    assert "one factor explains the difference" in process.stderr
    assert "no whole subnets" in one_error(run("tables", "refit", *names, cwd=tmp_path))


def test_a_table_is_fitted_anew(tmp_path):
    name = "intel-xeon-6-167-onnxruntime-1t-fp32-nano"
    raw = json.loads((files.shipped("latency_tables") / f"{name}.json").read_text())
    file = files.writable_folder(tmp_path / "latency_tables") / f"{name}.json"
    files.write_json(file, raw | {"composition": raw["composition"] | {"scale": 3.0}})
    process = run("tables", "refit", name, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "intervals" in process.stdout
    assert json.loads(file.read_text())["composition"]["scale"] == pytest.approx(raw["composition"]["scale"])


def test_a_phone_s_table_is_imported_and_searched(tmp_path):
    from nn_meter_table import small_table

    (tmp_path / "lut.json").write_text(json.dumps(small_table()))
    process = run("tables", "import", "nn-meter", "lut.json", "--device", "pixel-1", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "missing" in process.stderr
    process = run("search", "--device", "pixel-1", "--latency", "900ms", cwd=tmp_path)
    assert process.returncode == 2
    assert "--interpolate" in one_error(process)
    process = run(
        "search",
        "--device",
        "pixel-1",
        "--latency",
        "900ms",
        "--interpolate",
        "--generations",
        "2",
        cwd=tmp_path,
    )
    assert process.returncode == 0, process.stderr
    assert "imported" in process.stderr
    for arguments in (
        ("other", "lut.json", "--device", "p"),
        ("nn-meter", "lut.json", "--device", "host"),
        ("nn-meter", "nothing.json", "--device", "p"),
    ):
        process = run("tables", "import", *arguments, cwd=tmp_path)
        assert process.returncode == 2
        assert one_error(process)


@pytest.mark.parametrize("sample", ["0%", "101%", "20", "x%"])
def test_a_sample_that_is_none_is_refused(sample, tmp_path):
    process = run("profile", "--space", "nano", f"--sample={sample}", cwd=tmp_path)
    assert process.returncode == 2
    assert "percentage" in one_error(process)
