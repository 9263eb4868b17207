"""An emulated Arm board, from `devices check` to `search`, over its own sshd: whole commands, both runtimes, and what they say of the timings."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from commands import run
from conftest import TINIER
from transport.arm_board import running_board
from transport.sshd import wait_until

pytestmark = pytest.mark.slow
EMULATED = "emulated by qemu-aarch64"


@pytest.fixture(scope="module")
def board():
    with running_board() as running:
        yield running


@pytest.fixture
def work(board, tmp_path):
    """A folder with the board's file and a small space, where commands run."""
    board.device_file(tmp_path / "board.toml")
    (tmp_path / "small.toml").write_text(TINIER)
    return tmp_path


def profile(work, *options):
    done = run("profile", "--device", "board.toml", "--protocol", "quick", *options, cwd=work)
    assert done.returncode == 0, done.stderr
    return done


def tables(work):
    return {path.name: json.loads(path.read_text()) for path in (work / "latency_tables").glob("*.json")}


def left(board):
    """What is left of our folders on the board, whose home is in memory; onnxruntime leaves one of its own."""
    command = [
        "ssh",
        "-p",
        str(board.port),
        "-i",
        str(board.key),
        "root@127.0.0.1",
        "ls -d /root/.cache/nasvit-edge-*",
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_the_check_finds_both_runtimes_and_says_that_it_is_emulated(work):
    done = run("devices", "check", "board.toml", cwd=work)
    for name in ("ssh", "python", "folder", "device", "onnxruntime", "litert"):
        assert any(f" {name} " in line and "│ ok" in line for line in done.stdout.splitlines()), name
    assert any(
        "│ -" in line and "emulated" in line and "qemu-aarch64" in line for line in done.stdout.splitlines()
    )
    assert done.returncode == 1


def test_a_sample_of_nano_becomes_a_table_that_is_searched_as_what_it_is(board, work):
    options = ["--space", "nano", "--sample", "10%", "--sample-error", "99%", "--runtime", "onnxruntime"]
    done = profile(work, *options)
    assert f"the device is {EMULATED}" in done.stderr
    ((name, table),) = tables(work).items()
    assert table["fingerprint"]["architecture"] == "aarch64"
    assert EMULATED in table["fingerprint"]["soc"]
    assert table["fingerprint"]["emulated"].startswith("qemu-aarch64")
    assert len(table["ops"]) < 260
    assert left(board) == ""

    search = ["search", "--space", "nano", "--latency", "10s", "--generations", "2", "--population", "8"]
    refused = run(*search, "--device", "emulated-arm", cwd=work)
    assert refused.returncode == 2
    assert "under an emulator (qemu-aarch64" in refused.stderr
    searched = run(*search, "--table", f"latency_tables/{name}", cwd=work)
    assert searched.returncode == 0, searched.stderr
    assert "WARNING" in searched.stderr
    assert "under an emulator (qemu-aarch64" in searched.stderr


def test_both_runtimes_are_profiled_and_validated(board, work):
    profile(work, "--space", "small.toml", "--runtime", "all", "--validate", "4")
    both = tables(work).values()
    assert {table["runtime"] for table in both} == {"onnxruntime", "litert"}
    assert all(table["validation"]["count"] >= 4 for table in both)
    assert left(board) == ""


def test_a_profile_that_is_killed_goes_on_where_it_was(board, work):
    command = [
        sys.executable,
        "-c",
        "from nasvit_edge.cli import main; main()",
        "profile",
        "--device",
        "board.toml",
        "--space",
        "small.toml",
    ]
    process = subprocess.Popen(
        [*command, "--runtime", "onnxruntime", "--protocol", "quick"], cwd=work, stderr=subprocess.PIPE
    )
    journal = work / "latency_tables" / ".emulated-arm-onnxruntime-1t-fp32-tiny.partial.jsonl"
    wait_until(lambda: journal.exists() and journal.read_text().count("\n") > 8, "measuring", 300)
    process.kill()
    process.communicate()
    finished = journal.read_text().splitlines()[:-1]
    again = subprocess.Popen(
        [*command, "--runtime", "onnxruntime", "--protocol", "quick"], cwd=work, stderr=subprocess.PIPE
    )
    wait_until(lambda: journal.read_text().count("\n") > len(finished) + 3, "measuring more", 300)
    board.stop()
    board.start()
    _, said = again.communicate(timeout=600)
    assert again.returncode == 0, said
    assert b"was lost and is there again" in said or b"is away" in said
    assert len(finished) >= 8
    (table,) = tables(work).values()
    assert EMULATED in table["fingerprint"]["soc"]
    assert left(board) == ""
