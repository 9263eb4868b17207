"""Logs of a run: whole rows whatever happens, and nothing beyond the checkpoint after a resume."""

from __future__ import annotations

import csv
import os
import resource
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from conftest import one_line, only_user_errors, require_module
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.errors import MissingExtraError, TrainingError
from nasvit_edge.train.logs import Rows, RunLog, StepRecord

RECORD = StepRecord(
    step=1,
    epoch=0,
    loss=2.25,
    distilled=0.125,
    learning_rate=5e-7,
    norm_largest=3.5,
    norm_subnets=1e-3,
    negative=0.4375,
    images_per_s=411.0,
    waited=0.0625,
)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def write(out: Path, first: int, last: int, **options) -> None:
    with RunLog(out, **options) as log:
        for step in range(first, last + 1):
            log.step(replace(RECORD, step=step, epoch=step // 4))
            if step % 4 == 0:
                log.validation(step, step // 4, {"smallest": step / 100, "largest": 0.5})


def test_a_row_holds_the_record_and_columns_are_its_fields(tmp_path):
    write(tmp_path, 1, 3)
    first, *_, last = read(tmp_path / "log.csv")
    assert list(first) == [field.name for field in fields(StepRecord)]
    assert {name: float(value) for name, value in first.items()} == {
        field.name: getattr(RECORD, field.name) for field in fields(StepRecord)
    }
    assert last["step"] == "3"


def test_validation_has_a_row_a_subnet_and_is_there_at_once(tmp_path):
    with RunLog(tmp_path) as log:
        log.validation(8, 2, {"smallest": 0.25, 'odd, "name"\nof two lines': 1.0})
        rows = read(tmp_path / "validation.csv")
    assert [row["accuracy"] for row in rows] == ["0.25", "1"]
    assert rows[1] == {"step": "8", "epoch": "2", "subnet": 'odd, "name" of two lines', "accuracy": "1"}


def test_numbers_that_are_none_are_written_as_such(tmp_path):
    with RunLog(tmp_path) as log:
        log.step(replace(RECORD, loss=float("nan"), norm_subnets=float("inf")))
    (row,) = read(tmp_path / "log.csv")
    assert (row["loss"], row["norm_subnets"]) == ("nan", "inf")


@given(resumed=st.integers(1, 12), cut=st.integers(0, 300))
@settings(max_examples=40)
def test_a_resumed_run_ends_with_the_logs_of_an_uninterrupted_one(resumed, cut, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "logs"

    write(folder / "cut", 1, 12)
    for name in ("log.csv", "validation.csv"):
        whole = (folder / "whole" / name).read_bytes()
        flushed = _until(whole, resumed)
        (folder / "cut" / name).write_bytes(whole[: max(flushed, len(whole) - cut)])
    write(folder / "cut", resumed + 1, 12, resume_step=resumed)
    for name in ("log.csv", "validation.csv"):
        assert (folder / "cut" / name).read_bytes() == (folder / "whole" / name).read_bytes()


@pytest.fixture(autouse=True, scope="module")
def _folders(tmp_path_factory):
    for name in ("whole", "cut"):
        (tmp_path_factory.getbasetemp() / "logs" / name).mkdir(parents=True)
    write(tmp_path_factory.getbasetemp() / "logs" / "whole", 1, 12)


def _until(whole: bytes, step: int) -> int:
    """Where the rows up to a step end: a checkpoint has flushed them."""
    lines = whole.splitlines(keepends=True)
    return len(lines[0]) + sum(len(line) for line in lines[1:] if int(line.split(b",")[0]) <= step)


def test_a_new_run_starts_its_logs_anew(tmp_path):
    write(tmp_path, 1, 9)
    write(tmp_path, 1, 2)
    assert [row["step"] for row in read(tmp_path / "log.csv")] == ["1", "2"]
    assert read(tmp_path / "validation.csv") == []


@given(content=st.one_of(st.binary(max_size=60), st.text(alphabet="step,os\n1\x00é").map(str.encode)))
@settings(max_examples=60)
def test_any_file_in_the_way_of_a_resume_is_one_line_or_continued(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "foreign.csv"
    path.write_bytes(content)
    outcome = only_user_errors(Rows, path, ("step", "loss"), 5)
    if isinstance(outcome, str):
        assert path.read_bytes() == content
    else:
        outcome.add((6, 0.5))
        outcome.close()
        assert path.read_text().startswith("step,loss\n")
        assert path.read_text().endswith("\n6,0.5\n")


CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from nasvit_edge.train import logs
logs._FLUSH_S = 0.0
rows = logs.Rows(Path(sys.argv[1]), ("step", "text"))
print("on", flush=True)
for step in range(1, 10_000_000):
    rows.add((step, "x" * (step % 5000)))
"""


def test_a_killed_process_leaves_whole_rows(tmp_path):
    path = tmp_path / "k.csv"
    command = [sys.executable, "-c", CHILD, str(path), str(Path(__file__).parents[2])]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        while path.stat().st_size < 1_000_000:
            assert child.poll() is None
        child.send_signal(signal.SIGKILL)
    Rows(path, ("step", "text"), 10**9).close()
    rows = read(path)
    assert [int(row["step"]) for row in rows] == list(range(1, len(rows) + 1))
    assert all(len(row["text"]) == int(row["step"]) % 5000 for row in rows)


def test_without_room_the_error_is_one_line_and_the_file_whole(tmp_path):
    rows = Rows(tmp_path / "f.csv", ("step", "text"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        rows.add((1, "short"))
        rows.flush()
        rows.add((2, "x" * 200))
        with pytest.raises(TrainingError, match=r"cannot write '.*f\.csv': File too large") as caught:
            rows.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    one_line(caught)
    rows.close()
    assert (tmp_path / "f.csv").read_text() == "step,text\n1,short\n"


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(TrainingError) as caught:
        RunLog(tmp_path / "absent")
    one_line(caught)


def test_closing_twice_is_closing_once(tmp_path):
    log = RunLog(tmp_path)
    log.step(RECORD)
    log.close()
    log.close()
    assert len(read(tmp_path / "log.csv")) == 1


def test_tensorboard_reads_what_was_logged_and_not_what_a_resume_cut(tmp_path):
    accumulator = require_module("tensorboard.backend.event_processing.event_accumulator")
    write(tmp_path, 1, 6, tensorboard=True)
    write(tmp_path, 4, 5, tensorboard=True, resume_step=3)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5]
    assert [event.value for event in events.Scalars("train/negative")] == [0.4375] * 5
    assert events.Scalars("validation/smallest")[-1].value == pytest.approx(0.04)


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"nasvit-edge\[train\]") as caught:
        RunLog(tmp_path, tensorboard=True)
    one_line(caught)
    assert os.listdir(tmp_path) == []  # noqa: PTH208
