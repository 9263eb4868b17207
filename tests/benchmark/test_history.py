"""The history: whole lines or none, whoever is killed or writes beside; damage as one line."""

from __future__ import annotations

import collections
import json
import multiprocessing
import os
import random
import resource
import signal
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import bench_results
import pytest
from conftest import one_line, only_user_errors
from filelock import FileLock
from history_points import points
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from nasvit_edge.benchmark import history
from nasvit_edge.benchmark.history import Point, append, read_history, series
from nasvit_edge.benchmark.report import BenchmarkReport, make_report
from nasvit_edge.benchmark.result import read_result
from nasvit_edge.benchmark.verdicts import Rule
from nasvit_edge.errors import NasvitEdgeError


def report(folder: Path, *seeds: int, effects=(0.0,), **options) -> BenchmarkReport:
    """A report of one made-up run a seed."""
    paths = [bench_results.write(folder / f"r{seed}.json", seed, effects, **options) for seed in seeds]
    return make_report([read_result(path) for path in paths], Rule())


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> BenchmarkReport:
    return report(tmp_path_factory.mktemp("results"), 1, effects=(0.0, 0.1))


@pytest.fixture(scope="module")
def lines(made, tmp_path_factory) -> bytes:
    """A file of one run."""
    path = tmp_path_factory.mktemp("history") / "h.jsonl"
    append(path, made)
    return path.read_bytes()


def test_what_was_appended_is_read_again_with_value_and_interval(made, tmp_path):
    path = tmp_path / "deep" / "h.jsonl"
    assert append(path, made) == [path]
    actual = {(p.artifact, p.metric): p for p in read_history(path)}
    assert len(actual) == len(made.cells) == len(path.read_text().splitlines())
    for cell in made.cells:
        point = actual[cell.artifact.name, cell.metric.name]
        assert (point.value, point.low, point.high) == (cell.value.value, cell.value.low, cell.value.high)
        assert (point.runtime_version, point.threads, point.sha256) == ("1.30.0", 1, "0" * 64)
        run = made.results[0].run
        assert (point.uuid, point.utc, point.git_sha) == (run.uuid, run.utc, run.git_sha)


def test_baselines_of_the_run_are_not_kept(made, lines):
    assert {json.loads(line)["artifact"] for line in lines.splitlines()} == {"model0.onnx", "model1.onnx"}
    assert all(json.loads(line)["schema"] == 2 for line in lines.splitlines())


def test_figures_of_invalid_measurements_are_not_kept(tmp_path):
    broken = report(tmp_path, 3, within=0.5)
    assert {cell.verdict for cell in broken.cells if cell.metric.name == "latency_p50"} == {"invalid"}
    append(tmp_path / "h.jsonl", broken)
    assert {point.metric for point in read_history(tmp_path / "h.jsonl")} == {"size"}


def test_an_interval_without_bounds_is_null(tmp_path):
    append(tmp_path / "h.jsonl", report(tmp_path, 3, rounds=2))
    (point,) = [p for p in read_history(tmp_path / "h.jsonl") if p.metric == "latency_p50"]
    assert (point.low, point.high) == (None, None)


def test_a_run_is_kept_once_and_nothing_is_written_then(made, tmp_path):
    append(tmp_path / "h.jsonl", made)
    before = (tmp_path / "h.jsonl").read_bytes()
    assert append(tmp_path / "h.jsonl", made) == []
    assert (tmp_path / "h.jsonl").read_bytes() == before


def test_a_run_is_known_though_it_is_reported_together_with_a_new_one(tmp_path):
    path = tmp_path / "h.jsonl"
    append(path, report(tmp_path, 1))
    assert append(path, report(tmp_path, 1, 2)) == [path]
    kept_points = read_history(path)
    assert (
        len(kept_points)
        == len(set(kept_points))
        == 2 * len([p for p in kept_points if p.uuid == kept_points[0].uuid])
    )


def test_a_folder_has_a_file_for_each_device(tmp_path):
    names = ("board", "a/b", "a b", "../x", "ä" * 300, ".")
    paths = [bench_results.write(tmp_path / f"{i}.json", i, device=name) for i, name in enumerate(names)]
    result = make_report([read_result(path) for path in paths], Rule())
    written = append(tmp_path / "h", result)
    assert len(set(written)) == len(names)
    assert sorted(written) == sorted((tmp_path / "h").glob("[!.]*"))
    assert (tmp_path / "h" / "board.jsonl") in written
    assert {point.device for point in read_history(tmp_path / "h")} == set(names)
    assert append(tmp_path / "h", result) == []


def test_a_missing_path_is_an_empty_history(tmp_path):
    assert read_history(tmp_path / "none") == read_history(tmp_path / "none.jsonl") == []
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.jsonl").touch()
    assert read_history(tmp_path / "empty") == read_history(tmp_path / "empty.jsonl") == []


@pytest.mark.parametrize("cut", [1, 2, 12, 13, 40, 200, -1])
def test_half_a_line_of_a_killed_process_hurts_nothing(made, lines, tmp_path, cut):
    path, (first, *rest) = tmp_path / "h.jsonl", lines.splitlines(keepends=True)
    path.write_bytes(lines + first[:cut])
    whole = read_history(path)
    assert len(whole) == len(rest) + 1
    append(path, report(tmp_path, 2))
    assert read_history(path)[: len(whole)] == whole
    assert len(read_history(path)) > len(whole)


def test_what_a_killed_process_did_not_write_of_a_run_is_added(made, lines, tmp_path):
    path, whole = tmp_path / "h.jsonl", lines.splitlines(keepends=True)
    path.write_bytes(b"".join(whole[:3]) + whole[3][:50])
    assert append(path, made) == [path]
    assert path.read_bytes() == lines


def test_zeros_after_a_loss_of_power_are_no_line(made, lines, tmp_path):
    (tmp_path / "h.jsonl").write_bytes(lines + b"\0" * 77)
    append(tmp_path / "h.jsonl", report(tmp_path, 2))
    assert (tmp_path / "h.jsonl").read_bytes().startswith(lines + b"{")


def test_a_last_line_that_only_lacks_its_end_is_kept(lines, tmp_path):
    (tmp_path / "h.jsonl").write_bytes(lines.rstrip(b"\n"))
    before = read_history(tmp_path / "h.jsonl")
    append(tmp_path / "h.jsonl", report(tmp_path, 2))
    assert (tmp_path / "h.jsonl").read_bytes().startswith(lines)
    assert read_history(tmp_path / "h.jsonl")[: len(before)] == before


def test_another_file_is_never_written_to(made, tmp_path):
    for name in ("h.jsonl", "notes.txt"):
        (tmp_path / name).write_bytes(b"dear diary")
        with pytest.raises(NasvitEdgeError) as caught:
            append(tmp_path / name, made)
        one_line(caught)
        assert (tmp_path / name).read_bytes() == b"dear diary"
    (tmp_path / "folder.jsonl").mkdir()
    assert "cannot write" in str(only_user_errors(append, tmp_path / "folder.jsonl", made))
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "not a regular file" in str(only_user_errors(append, tmp_path / "pipe.jsonl", made))
    assert "a\\x00b" in str(only_user_errors(append, tmp_path / "a\0b", made))


def test_a_full_disk_leaves_no_part_of_a_run(made, lines, tmp_path):
    """The limit of a file's size stands for the disk: the kernel writes what fits, then refuses."""
    path = tmp_path / "h.jsonl"
    path.write_bytes(lines)
    content, second = path.read_bytes(), report(tmp_path, 2)
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) + 500, before[1]))
    try:
        with pytest.raises(NasvitEdgeError, match="cannot write history") as caught:
            append(path, second)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    one_line(caught)
    assert path.read_bytes() == content


def _write_many(path: Path, folder: Path, seeds: list[int]) -> None:
    for seed in seeds:
        append(path, report(folder, seed))


def test_processes_that_append_at_once_lose_nothing(tmp_path):
    """Each run is given by two processes, so that they also have to agree on who writes it."""
    path, groups = tmp_path / "h.jsonl", [[1, 2, 3, 4], [4, 3, 2, 1], [5, 6, 7], [7, 6, 5]]
    context = multiprocessing.get_context("fork")
    for i in range(len(groups)):
        (tmp_path / str(i)).mkdir()
    running = [
        context.Process(target=_write_many, args=(path, tmp_path / str(i), group))
        for i, group in enumerate(groups)
    ]
    for process in running:
        process.start()
    for process in running:
        process.join()
        assert process.exitcode == 0
    kept_points = read_history(path)
    assert len({p.uuid for p in kept_points}) == 7
    assert len(path.read_bytes().splitlines()) == len(kept_points)
    assert {sum(p.uuid == u for p in kept_points) for u in {p.uuid for p in kept_points}} == {
        len(kept_points) // 7
    }


def test_who_holds_the_lock_is_waited_for(made, tmp_path):
    path = tmp_path / "h.jsonl"
    lock = FileLock(tmp_path / ".h.jsonl.lock", thread_local=False)
    with lock:
        process = multiprocessing.get_context("fork").Process(target=append, args=(path, made))
        process.start()
        time.sleep(0.3)
        assert not path.exists()
    process.join()
    assert len(read_history(path)) == len(made.cells)


def test_who_holds_the_lock_for_too_long_is_not_waited_for(made, tmp_path, monkeypatch):
    monkeypatch.setattr(history, "_LOCK_S", 0.2)
    path = tmp_path / "h.jsonl"
    held = pytest.raises(NasvitEdgeError, match=r"h\.jsonl.*another process has held it for 0\.2 s")
    with FileLock(tmp_path / ".h.jsonl.lock", thread_local=False), held as caught:
        append(path, made)
    one_line(caught)
    assert read_history(path) == []


def _append_forever(path: Path, written: BenchmarkReport, name: str) -> None:
    (result,) = written.results
    for number in range(10**6):
        run = structs.replace(result.run, uuid=f"{name}-{number}")
        append(path, replace(written, results=(replace(result, run=run),)))


def test_a_kill_at_any_moment_leaves_whole_runs(made, tmp_path):
    path, rng, context = tmp_path / "h.jsonl", random.Random(0), multiprocessing.get_context("fork")
    for turn in range(8):
        process = context.Process(target=_append_forever, args=(path, made, f"turn{turn}"))
        process.start()
        time.sleep(0.05 + 0.2 * rng.random())
        process.kill()
        process.join()
    counts = collections.Counter(point.uuid for point in read_history(path))
    assert set(counts.values()) == {len(made.cells)}
    before = len(counts)
    assert append(path, made) == [path]
    assert len({point.uuid for point in read_history(path)}) == before + 1


def _changed(line: bytes, **changes) -> bytes:
    entry = json.loads(line) | changes
    return json.dumps({k: v for k, v in entry.items() if v != "gone"}, sort_keys=True).encode() + b"\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"value": float("nan")}, "NaN is not a number"),
        ({"value": float("inf")}, "Infinity is not a number"),
        ({"low": float("-inf")}, "-Infinity is not a number"),
        ({"value": -1.0}, "key 'value' is -1.0; a number that is not negative"),
        ({"value": True}, "key 'value' is True"),
        ({"value": "10"}, "key 'value' is '10'"),
        ({"value": 10**400}, "key 'value' is 1000"),
        ({"low": None}, "the interval has one end"),
        ({"low": 1e9}, "is not between its ends"),
        ({"metric": "speed"}, "key 'metric' is 'speed'; possible are latency_p50"),
        ({"metric": ["size"]}, "key 'metric' is a list of 1"),
        ({"threads": 0}, "key 'threads' is 0"),
        ({"threads": 1.0}, "key 'threads' is 1.0"),
        ({"cores": 0}, "key 'cores' is 0"),
        ({"soc": ["Chip"]}, "key 'soc' is a list of 1"),
        ({"device": ""}, "key 'device' is ''; a text of 1 to 4096 characters"),
        ({"device": "\ud800"}, "key 'device' is '\\ud800'"),
        ({"git_sha": 7}, "key 'git_sha' is 7"),
        ({"utc": "yesterday"}, "key 'utc' is 'yesterday'; a moment from 1970 to 2100"),
        ({"utc": "0001-01-01T00:00:00+23:00"}, "key 'utc' is"),
        ({"utc": "9999-12-31T23:59:59-23:00"}, "key 'utc' is"),
        ({"schema": 0}, "has schema 0; this version reads schema 2"),
        ({"schema": "1"}, "has schema '1'"),
        ({"schema": True}, "has schema True"),
        ({"note": 1}, "key 'note' is unknown"),
        ({"sha256": "gone"}, "key 'sha256' is missing"),
    ],
)
def test_damage_names_file_and_line(lines, tmp_path, change, said):
    first, *rest = lines.splitlines(keepends=True)
    (tmp_path / "h.jsonl").write_bytes(first + _changed(rest[0], **change) + b"".join(rest[1:]))
    with pytest.raises(NasvitEdgeError, match=r"h\.jsonl', line 2.* damaged.*delete the line") as caught:
        read_history(tmp_path / "h.jsonl")
    assert said in one_line(caught)


@pytest.mark.parametrize("text", [b"[]\n", b"null\n", b"x\n", b"\xff\n", b"[" * 5000 + b"\n", b"\0\n"])
def test_a_line_that_is_no_object_is_damage(lines, tmp_path, text):
    (tmp_path / "h.jsonl").write_bytes(lines + text)
    number = len(lines.splitlines()) + 1
    said = only_user_errors(read_history, tmp_path / "h.jsonl")
    assert f"line {number}" in said
    assert "delete the line" in said


def test_a_newer_schema_is_named(lines, tmp_path):
    (tmp_path / "h.jsonl").write_bytes(_changed(lines.splitlines()[0], schema=3, new=[1]) + lines)
    said = only_user_errors(read_history, tmp_path / "h.jsonl")
    assert "line 1 has schema 3, this version reads 2; update nasvit-edge" in said


def test_lines_that_a_merge_left_twice_count_once(lines, tmp_path):
    (tmp_path / "h.jsonl").write_bytes(lines + b"\n" + lines)
    assert len(read_history(tmp_path / "h.jsonl")) == len(lines.splitlines())


@given(seed=st.integers(0, 2**31), changes=st.integers(0, 4), cut=st.booleans())
@settings(max_examples=200)
def test_a_damaged_history_is_points_or_one_line(made, lines, tmp_path_factory, seed, changes, cut):
    rng, content = random.Random(seed), bytearray(lines)
    for _ in range(changes):
        content[rng.randrange(len(content))] = rng.choice(b'0123456789,-.eE\n \x00\xff{}[]":nullNaN')
    path = tmp_path_factory.getbasetemp() / "damaged.jsonl"
    path.write_bytes(content[: rng.randrange(len(content))] if cut else content)
    outcome = only_user_errors(read_history, path)
    if not isinstance(outcome, str):
        for line in series(outcome).values():
            history.steps(line)
    only_user_errors(append, path, made)
    if not isinstance(outcome, str):
        assert set(outcome) <= set(read_history(path))


@given(content=st.binary(max_size=100))
def test_any_other_file_is_one_line_or_nothing(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "foreign.jsonl"
    path.write_bytes(content)
    outcome = only_user_errors(read_history, path)
    assert isinstance(outcome, str) or outcome == []


@given(
    when=st.lists(
        st.datetimes(
            min_value=datetime(1971, 1, 1),
            max_value=datetime(2099, 1, 1),
        ),
        max_size=12,
    ),
    seed=st.integers(0, 99),
)
def test_series_hold_every_point_once_in_order_of_time(when, seed):
    rng = random.Random(seed)
    hours = [rng.choice(["", "Z", "+05:30", "-08:00"]) for _ in when]
    listed = [
        structs.replace(
            p, utc=f"{w.isoformat()}{hour}", artifact=rng.choice("ab"), runtime_version=rng.choice("12")
        )
        for p, w, hour in zip(points([1.0] * len(when)), when, hours, strict=True)
    ]
    actual = series(listed)
    assert sorted(p.uuid for line in actual.values() for p in line) == sorted(p.uuid for p in listed)
    for key, line in actual.items():
        assert {p.key for p in line} == {key}
        assert [p.moment for p in line] == sorted(p.moment for p in line)
    assert len(actual) == len({p.artifact for p in listed})


def test_a_point_is_what_others_build_on():
    names = "utc git_sha uuid device runtime runtime_version threads precision artifact metric value low high sha256 board soc architecture cores"
    assert list(Point.__struct_fields__) == ["schema", *names.split()]
