"""Accuracies on images are the same however many processes measure, and outlive one that is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from conftest import one_line
from searching.test_images import CONFIGS, NANO, alone, source

from nasvit_edge import data_sets
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.searching.images import ImageAccuracy

# fixtures are imported by name
__all__ = ["alone", "source"]
ALL_BATCHES = True  # as the processes beside this one have
RUN = """
import json, os, random, sys
from pathlib import Path
from msgspec.structs import replace
from nasvit_edge.searching.images import ImageAccuracy
from nasvit_edge.space import load_space
space = load_space("nano")
source = ImageAccuracy.load("nano", space, "bundled", workers=1)
source.validation = source.validation.take("few", slice(0, 100))
accuracies = source.many([replace(space.sample(random.Random(seed)), resolution=space.resolutions[0]) for seed in range(5)])
Path(sys.argv[1], os.environ["RANK"]).write_text(json.dumps([source.writes, accuracies]))
"""


@pytest.mark.slow
def test_more_processes_measure_the_same():
    loaded = ImageAccuracy.load("nano", NANO, data_sets.BUNDLED, workers=2)
    several = loaded.many(CONFIGS)
    assert loaded.pool is not None
    assert several == ImageAccuracy.load("nano", NANO, data_sets.BUNDLED, workers=1).many(CONFIGS)
    loaded.close()


@pytest.mark.slow
def test_a_process_that_is_lost_is_one_line_and_the_next_subnets_are_measured_all_the_same():
    loaded = ImageAccuracy.load("nano", NANO, data_sets.BUNDLED, workers=2)
    configs = [NANO.sample(random.Random(seed)) for seed in range(100, 140)]

    def kill() -> None:
        while loaded.pool is None or len(loaded.pool.processes) < 2:
            time.sleep(0.05)
        os.kill(loaded.pool.processes[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.raises(
        NasvitEdgeError, match=r"measures subnets \(--workers.*was killed \(kill -9\)"
    ) as caught:
        loaded.many(configs)
    one_line(caught)
    loaded.validation = loaded.validation.take("few", slice(0, 100))
    assert len(loaded.many(configs[:2])) == 2
    loaded.close()


LOST = """
import os, random
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.searching import images
from nasvit_edge.space import load_space
space = load_space("nano")
source = images.ImageAccuracy.load("nano", space, "bundled", workers=1)
source.validation = source.validation.take("few", slice(0, 100))
if images._ranks().rank == 1:
    os._exit(9)
try:
    source.many([space.sample(random.Random(seed)) for seed in range(5)])
except NasvitEdgeError as error:
    print(error)
os._exit(0)
"""


@pytest.mark.slow
def test_a_process_under_torchrun_that_is_lost_is_one_line_of_the_others(tmp_path):
    (tmp_path / "run.py").write_text(LOST)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    variables = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "GLOO_SOCKET_IFNAME": "lo",
    }
    started = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "run.py")],
            env=os.environ | variables | {"RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    text, _ = started[0].communicate(timeout=120)
    assert started[1].wait(60) == 9
    assert text.startswith("the measuring of subnets stopped: rank 1 of 2")
    assert text.count("\n") == 1


@pytest.mark.slow
def test_two_processes_under_torchrun_measure_their_parts_and_know_all(tmp_path, alone):
    script = tmp_path / "run.py"
    script.write_text(RUN)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            str(script),
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads((tmp_path / rank).read_text()) for rank in "01"]
    assert results == [[True, alone], [False, alone]]
