"""Waiting for images: shared memory is looked at before, a loss says how, a stall ends, and a signal is heard."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, one_line, only_user_errors, require_module, require_program, require_tool
from hypothesis import given, settings
from hypothesis import strategies as st
from test_loading import PLAIN, VARIED, _files, _workers, loader

from nasvit_edge.data_sets import ImageSet
from nasvit_edge.errors import DataError
from nasvit_edge.train import shared_memory
from nasvit_edge.train.loading import Patience
from nasvit_edge.train.stopping import CalledAway, beside

require_module("torchvision")


@pytest.fixture(scope="module")
def noise() -> ImageSet:
    pixels = torch.randint(0, 256, (32, 3, 12, 12), dtype=torch.uint8)
    return ImageSet("noise", pixels, torch.arange(32) % 4)


@pytest.fixture
def hanging(noise, tiny, tmp_path):
    """Images in files, of which those of step 2 and later do not answer: pipes into which nobody writes."""
    result = _files(noise, tmp_path)
    with loader(result, tiny, PLAIN) as order:
        later = {int(i) for step in (2, 3) for i in order._slices.chosen(step, slice(0, 8))}
    for i in later:
        (tmp_path / f"{i}.png").unlink()
        os.mkfifo(tmp_path / f"{i}.png")
    return result


# -- shared memory --------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(st.integers(1, 16), st.sampled_from([PLAIN, VARIED]))
def test_what_a_batch_takes_is_known_before_it_is_made(tiny, noise, batch_size, augment):
    with loader(noise, tiny, augment, batch_size=batch_size) as loading:
        ((batch,),) = loading.steps(0, 1)
        assert loading._slices.batch_bytes() == batch.nbytes
        assert batch.nbytes == sum(t.untyped_storage().nbytes() for t in (batch.images, batch.targets))


@given(st.integers(1, 2**50), st.integers(1, 1000), st.sampled_from(["", "1", "8", "x"]))
def test_batches_either_fit_into_what_is_free_or_are_one_line_with_both_ways_out(
    tmp_path_factory, size, batches, local
):
    folder = tmp_path_factory.getbasetemp()
    free = shutil.disk_usage(folder).free
    needed = size * batches * (8 if local == "8" else 1)
    refused = only_user_errors(shared_memory.check, size, batches, folder, {"LOCAL_WORLD_SIZE": local})
    if refused is None:
        assert needed < free + 2**30  # others write meanwhile
        return
    assert needed > free - 2**30
    assert "--workers 0" in refused
    assert int(refused.rpartition("--shm-size=")[2].removesuffix("g")) * 2**30 >= needed


def test_systems_without_that_folder_have_no_such_limit(tmp_path):
    shared_memory.check(2**60, 8, tmp_path / "none")


SHORT = """
import contextlib, torch
from nasvit_edge.data_sets import ImageSet
from nasvit_edge.errors import DataError
from nasvit_edge.space import load_space
from nasvit_edge.train.loading import Loader
from nasvit_edge.train.recipe import Augment

def train(size):
    images = ImageSet("x", torch.zeros(64, 3, 28, 28, dtype=torch.uint8), torch.zeros(64, dtype=torch.int64))
    with Loader(images, Augment(), load_space("nano"), size=28, batch_size=size, workers=1) as loader:
        for step, _ in enumerate(loader.steps(0, 99)):
            print("step", step, flush=True)
            if size == 8:
                fill()

def fill():  # as somebody else may
    with contextlib.suppress(OSError), open("/dev/shm/full", "ab", buffering=0) as full:
        while True:
            full.write(bytes(4096))

for size in (64, 8):
    try:
        train(size)
    except DataError as error:
        print("DataError", error, flush=True)
"""


@pytest.mark.slow
def test_short_shared_memory_ends_a_run_before_it_starts_and_on_the_way(tmp_path):
    """As in a container: /dev/shm is a small file system of its own."""
    unshare = require_program("unshare")
    mount = "mount -t tmpfs -o size=700k tmpfs /dev/shm"
    able = (
        subprocess.run([unshare, "-m", "sh", "-c", mount], capture_output=True, check=False).returncode == 0
    )
    require_tool("unshare -m with mount (root)", able)
    (tmp_path / "short.py").write_text(SHORT)
    script = f"{mount} && exec {sys.executable} {tmp_path / 'short.py'}"
    done = subprocess.run(
        [unshare, "-m", "sh", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    before, *steps, on_the_way = done.stdout.splitlines()
    assert before.startswith("DataError worker processes need 1.81 MB of shared memory"), done.stderr
    assert before.endswith("use --workers 0, or give a container more: docker run --shm-size=1g")
    assert steps
    assert on_the_way.startswith("DataError a batch of 75584 bytes found no room in shared memory")
    assert "--workers 0" in on_the_way
    assert "Traceback" not in done.stderr


# -- workers that are lost ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGKILL, "memory had run out"),
        (signal.SIGBUS, "/dev/shm"),
        (signal.SIGSEGV, "segmentation fault"),
        (signal.SIGQUIT, "SIGQUIT"),
    ],
)
def test_a_lost_worker_is_an_error_that_names_its_reason(tiny, noise, number, reason, capfd):
    before = signal.getsignal(signal.SIGQUIT)
    signal.signal(
        signal.SIGQUIT, signal.SIG_DFL
    )  # a shell's background jobs ignore it, and their children do
    with loader(noise, tiny, workers=2) as loading:
        taken = loading.steps(0, 10**6)
        next(taken)
        signal.signal(signal.SIGQUIT, before)
        os.kill(loading._making.processes[1].pid, number)
        with pytest.raises(DataError, match=reason) as caught:
            list(taken)
    assert "--workers" in one_line(caught)
    assert not _workers()
    capfd.readouterr()  # torch has a worker say something of its own


# -- images that do not come ----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stall_ends_after_its_time_with_a_line_and_no_process_left(tiny, hanging, workers):
    started = time.monotonic()
    with loader(hanging, tiny, PLAIN, workers=workers) as loading:
        taken = loading.steps(0, 4, Patience(stalled_s=1.0))
        assert next(taken)
        assert next(taken)
        with pytest.raises(DataError, match="no batch for step 3 in 1 s") as caught:
            next(taken)
    assert "'files'" in one_line(caught)
    assert time.monotonic() - started < 9
    assert not _workers()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_is_heard_while_nothing_comes(tiny, hanging, workers):
    stop: list[int] = []
    with loader(hanging, tiny, PLAIN, workers=workers) as loading:
        taken = loading.steps(0, 4, Patience(stop=lambda: bool(stop)))
        assert next(taken)
        stop.append(15)
        assert next(taken)  # it is there already, or will be at once
        started = time.monotonic()
        with pytest.raises(CalledAway):
            next(taken)
    assert time.monotonic() - started < 5
    assert not _workers()


def test_after_a_signal_a_batch_may_take_as_long_as_others_are_waited_for(tiny, hanging):
    with loader(hanging, tiny, PLAIN, workers=0) as loading:
        taken = loading.steps(2, 4, Patience(stop=lambda: True, after_stop_s=1.0))
        started = time.monotonic()
        with pytest.raises(CalledAway):
            next(taken)
    assert time.monotonic() - started >= 1


def test_what_is_done_beside_gives_its_value_its_error_or_way_to_a_signal(tmp_path):
    assert beside(lambda: 3, lambda: True) == 3
    with pytest.raises(ZeroDivisionError):
        beside(lambda: 1 // 0, lambda: False)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CalledAway):
        beside((tmp_path / "pipe").read_bytes, lambda: True, 0.1)


# -- whole runs -----------------------------------------------------------------------------------------

PROGRAM = """
import nasvit_edge.data_sets.folders as folders
folders.MEMORY_BYTES = 0  # as for a set that is too large for memory
from nasvit_edge.cli import main
main()
"""


class Run:
    """`nasvit-edge train` on image files that are read anew at every step."""

    def __init__(self, folder: Path, *more: str) -> None:
        self.folder, self.out, self.errors = folder, folder / "out", folder / "errors.txt"
        self._write()
        where = ["--space", str(folder / "tiny.toml"), "--data", str(folder / "data"), "--out", str(self.out)]
        options = ["--epochs", "500", "--checkpoint-minutes", "0.01", "--threads", "1"]
        sets = ["--set", "run.batch_size=16", "--set", "run.warmup_epochs=1", "--set", "augment.padding=1"]
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, "train", *where, *options, *sets, *more],
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )

    def _write(self) -> None:
        image = require_module("PIL.Image")
        (self.folder / "tiny.toml").write_text(TINY)
        rng = np.random.default_rng(0)
        for split, count in (("train", 40), ("val", 4)):
            for label in range(4):
                (self.folder / "data" / split / f"class{label}").mkdir(parents=True)
                for i in range(count):
                    pixels = rng.integers(0, 256, (12, 12, 3)).astype(np.uint8)
                    image.fromarray(pixels).save(self.folder / "data" / split / f"class{label}" / f"{i}.png")

    def hang(self, split: str = "train") -> None:
        """Once it has trained a while, no image answers any more."""
        end = time.monotonic() + 60
        while not self.checkpoints() and time.monotonic() < end:
            assert self.process.poll() is None, self.errors.read_text()
            time.sleep(0.02)
        for path in (self.folder / "data" / split).rglob("*.png"):
            os.mkfifo(path.with_suffix(".pipe"))
            path.with_suffix(".pipe").replace(path)

    def checkpoints(self) -> list[int]:
        return sorted(int(path.stem.split("-")[1]) for path in self.out.glob("checkpoints/step-*.pt"))

    def children(self) -> list[int]:
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def ended(self, seconds: float) -> tuple[int, str]:
        """Exit code and last line."""
        try:
            self.process.wait(seconds)
        finally:
            self.process.kill()
        return self.process.returncode, self.errors.read_text().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "number"),
    [
        ("1", signal.SIGTERM),
        pytest.param("0", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("2", signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_a_signal_during_a_stalled_loader_leaves_a_checkpoint_and_ends_within_ten_seconds(
    tmp_path, workers, number
):
    run = Run(tmp_path, "--workers", workers, "--validate-every", "0")
    run.hang()
    time.sleep(1)
    children = run.children()
    assert len(children) == int(workers)
    run.process.send_signal(number)
    code, line = run.ended(10)
    assert code == 128 + number
    step = int(line.split("stopped at step ")[1].split()[0])
    assert run.checkpoints()[-1] == step > 0
    assert "--resume" in line
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


@pytest.mark.slow
def test_a_signal_during_a_stalled_validation_leaves_a_checkpoint_and_ends_within_ten_seconds(tmp_path):
    run = Run(tmp_path, "--workers", "1")
    run.hang("val")
    time.sleep(4)
    run.process.send_signal(signal.SIGTERM)
    code, line = run.ended(10)
    assert code == 143
    assert f"stopped at step {run.checkpoints()[-1]} of" in line


@pytest.mark.slow
def test_a_stalled_run_ends_by_itself_with_a_line_and_a_checkpoint(tmp_path):
    run = Run(tmp_path, "--workers", "1", "--validate-every", "0", "--stall-minutes", "0.1")
    run.hang()
    code, line = run.ended(30)
    assert code == 2
    assert "in 6 s" in line
    assert "--stall-minutes" in line
    assert f"no batch for step {run.checkpoints()[-1] + 1} " in line


@pytest.mark.slow
def test_a_killed_run_leaves_no_worker_that_waits_for_images(tmp_path):
    run = Run(tmp_path, "--workers", "2", "--validate-every", "0")
    run.hang()
    time.sleep(1)
    children = run.children()
    run.process.kill()
    run.process.wait(10)
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


@pytest.mark.slow
def test_no_thread_that_waits_keeps_the_program_after_its_error(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    script = f"""
import concurrent.futures, sys
from nasvit_edge import cli
def program():
    concurrent.futures.ThreadPoolExecutor(1).submit(open, {str(tmp_path / "pipe")!r})
    print("told")
    sys.exit(2)
cli.app = program
cli.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert done.stdout == "told\n"
