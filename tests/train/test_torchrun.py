"""`nasvit-edge train` on two ranks, as torchrun starts it."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, require_module
from ranks import Program
from safetensors.torch import load_file

NO_MIXING = ["--set", "augment.mixup=0", "--set", "augment.cutmix=0"]  # drawn for every part of a step
EXACT = ["--recipe", "nasvit", "--set", "merge.project_from_epoch=0", "--set", "run.warmup_epochs=0"]
SMOOTH = [
    "--set",
    "optimizer.kind=sgd",
    "--set",
    "optimizer.learning_rate=0.1",
]  # AdamW would enlarge rounding


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder with 4 classes of 20 small images, told apart by colour, and the space for them."""
    image = require_module("PIL.Image")
    folder = tmp_path_factory.mktemp("data")
    (folder / "tiny.toml").write_text(TINY)
    rng = np.random.default_rng(0)
    for label in range(4):
        (folder / "images" / f"class{label}").mkdir(parents=True)
        for index in range(20):
            pixels = rng.integers(0, 150, (12, 12, 3)) + np.array([0, 20 * label, 90 - 30 * label])
            image.fromarray(pixels.astype("uint8")).save(folder / "images" / f"class{label}" / f"{index}.png")
    return folder


def train(data: Path, out: Path, *more: str) -> list[str]:
    """The options of a short run of one thread."""
    where = ["--space", str(data / "tiny.toml"), "--data", str(data / "images"), "--out", str(out)]
    return ["train", *where, "--threads", "1", "--workers", "0", *EXACT, *NO_MIXING, *more]


def losses(out: Path) -> list[float]:
    with (out / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "supernet.safetensors")


@pytest.mark.parametrize(
    ("shared", "alone"),
    [([], ["--set", "run.parts=2"]), pytest.param(["--sync-bn"], [], marks=pytest.mark.slow)],
)
@pytest.mark.slow
def test_two_ranks_train_as_one_process_with_the_same_statistics_groups(data, tmp_path, shared, alone):
    two = Program(
        train(data, tmp_path / "two", "--epochs", "1", "--batch-size", "8", *SMOOTH, *shared), tmp_path
    )
    assert two.ended() == [0, 0], two.texts()
    one = Program(
        train(data, tmp_path / "one", "--epochs", "1", "--batch-size", "16", *SMOOTH, *alone), tmp_path, 1
    )
    assert one.ended() == [0], one.texts()
    assert len(losses(tmp_path / "two")) >= 4
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    reference = weights(tmp_path / "one")
    for name, value in weights(tmp_path / "two").items():
        assert torch.allclose(value, reference[name], atol=1e-4), name


def _started(program: Program, out: Path) -> None:
    """Wait for the first steps: the log is opened just before them."""
    deadline = time.monotonic() + 60
    while not (out / "log.csv").exists():
        assert time.monotonic() < deadline, program.texts()
        time.sleep(0.02)


@pytest.mark.slow
def test_sigterm_on_one_rank_stops_both_and_resuming_continues_bit_for_bit(data, tmp_path):
    options = ["--epochs", "8", "--batch-size", "8", "--validate-every", "0"]
    whole = Program(train(data, tmp_path / "whole", *options), tmp_path)
    assert whole.ended() == [0, 0], whole.texts()
    out = tmp_path / "out"
    stopped = Program(train(data, out, *options), tmp_path)
    _started(stopped, out)
    os.kill(stopped.processes[1].pid, signal.SIGTERM)
    assert 0 not in stopped.ended(), stopped.texts()
    steps = {text.split("stopped at step ")[1].split()[0] for text in stopped.texts()}
    assert len(steps) == 1
    resumed = Program(train(data, out, *options, "--resume"), tmp_path)
    assert resumed.ended() == [0, 0], resumed.texts()
    assert losses(out) == losses(tmp_path / "whole")
    assert all(torch.equal(value, weights(out)[name]) for name, value in weights(tmp_path / "whole").items())


@pytest.mark.slow
def test_a_signal_to_a_rank_that_waits_for_a_stuck_one_leaves_a_checkpoint_within_ten_seconds(data, tmp_path):
    out = tmp_path / "out"
    options = [
        "--epochs",
        "2000",
        "--batch-size",
        "8",
        "--validate-every",
        "0",
        "--checkpoint-minutes",
        "0.01",
    ]
    program = Program(train(data, out, *options), tmp_path)
    _started(program, out)
    while not list(out.glob("checkpoints/*.pt")):
        time.sleep(0.05)
    first, stuck = program.processes
    os.kill(stuck.pid, signal.SIGSTOP)
    time.sleep(1)
    os.kill(first.pid, signal.SIGTERM)
    first.join(10)
    stuck.kill()
    assert first.exitcode == 143, program.texts()[0]
    step = int(program.texts()[0].split("stopped at step ")[1].split()[0])
    assert max(int(path.stem.split("-")[1]) for path in out.glob("checkpoints/*.pt")) == step


@pytest.mark.slow
def test_a_killed_rank_ends_the_other_with_one_line(data, tmp_path):
    out = tmp_path / "out"
    program = Program(
        train(data, out, "--epochs", "200", "--batch-size", "8", "--validate-every", "0"), tmp_path
    )
    _started(program, out)
    program.processes[1].kill()
    assert program.ended()[0] == 1
    lines = [line for line in program.texts()[0].splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "rank 1 of 2" in lines[0]
    assert "Traceback" not in program.texts()[0]


@pytest.mark.slow
def test_torchrun_starts_it_and_only_the_first_rank_tells(data, tmp_path):
    options = train(data, tmp_path / "out", "--epochs", "1", "--batch-size", "8", "--sync-bn")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "-m", "nasvit_edge.cli", *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("validation accuracy") == 1
    assert (tmp_path / "out" / "supernet.safetensors").exists()
