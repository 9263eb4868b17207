"""A board whose drivers fail, as an Orin's do while its units have no power: behind a real ssh server, all is measured all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from conftest import TINY, edited, space_of
from made_up import parsed_table
from transport.board_files import FAULTS, BoardFiles, orin
from transport.sshd import interpreter, running_sshd
from transport.test_ssh import QUICK, job, once, told

from nasvit_edge.ops import all_ops
from nasvit_edge.profile.models import Item, Models
from nasvit_edge.profile.run import Choice, measure_table
from nasvit_edge.transport.answers import Measurement
from nasvit_edge.transport.connect import check
from nasvit_edge.transport.ways import Ways

pytest.importorskip("onnxruntime")
assert once  # a fixture of every test here too
SPACE = space_of(
    edited(
        TINY,
        ("resolutions = [8, 12]", "resolutions = [8]"),
        (
            "width = [8, 16]\ndepth = [1, 2]\nkernel_size = [3, 5]",
            "width = [8]\ndepth = [1]\nkernel_size = [3]",
        ),
        ("width = [16, 24]\ndepth = [1, 2, 3]", "width = [16]\ndepth = [1]"),
        ("width = [16, 32]", "width = [16]"),
        ("expand_ratio = [2, 3]", "expand_ratio = [2]"),
    )
)


@pytest.fixture(scope="module")
def server():
    with running_sshd() as started:
        yield started


def board(server, name, **temperatures):
    """A device whose runner finds an Orin's files."""
    root = server.root / name
    root.mkdir()
    files = BoardFiles(root, orin(**temperatures))
    python = server.program(f"python-{name}", files.script(interpreter(server.user)))
    return server.device(python=str(python), runtimes=["onnxruntime", "litert"])


@pytest.mark.parametrize("runtime", ["onnxruntime", pytest.param("litert", marks=pytest.mark.slow)])
def test_a_space_is_measured_whole_though_three_zones_answer_eagain(server, tmp_path, runtime):
    if runtime == "litert":
        pytest.importorskip("litert_torch")
    device = board(server, f"orin-{runtime}")
    with told(server, device) as (runner, _):
        choice = Choice(protocol=QUICK.protocol, runtime=runtime)
        path = measure_table(SPACE, device, runner, choice, out=tmp_path)
    raw = json.loads(path.read_text())
    parsed_table(path, raw, SPACE)
    assert sorted(raw["ops"]) == sorted(op.key() for op in all_ops(SPACE))
    assert raw["fingerprint"]["soc"] == "nvidia,tegra234"
    assert "Resource temporarily unavailable" in raw["conditions"]["not_readable"]
    assert raw["conditions"]["hottest_c"] == 47.312
    assert server.left() == []


def test_whatever_the_sensors_answer_the_check_is_whole_and_tells_it(server, tmp_path):
    device = board(server, "all", **{f"x{fault}": f"!{fault}" for fault in FAULTS})
    started = time.monotonic()
    steps = {step.name: step for step in check(device, Ways())}
    assert steps["device"].found.startswith("NVIDIA Jetson Orin NX")
    assert steps["hottest_c"].found == "47.312"
    assert "Resource temporarily unavailable" in steps["not_readable"].found
    assert "Invalid argument" in steps["not_readable"].found
    with told(server, device) as (runner, _):
        model, _ = Models(SPACE, "onnxruntime", tmp_path).path(Item("empty"))
        answer = runner.measure(job(model))
    assert isinstance(answer, Measurement)
    assert answer.after.hottest_c == 47.312
    assert time.monotonic() - started < 20


def test_the_host_is_measured_on_such_a_machine_too(tmp_path):
    files = BoardFiles(tmp_path, orin())
    done = subprocess.run(
        [sys.executable, "-m", "nasvit_edge.cli", "devices", "check", "host", "--json"],
        env=os.environ | files.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    steps = {step["name"]: step for step in json.loads(done.stdout)}
    assert "Orin NX" in steps["device"]["found"]
    assert "Resource temporarily unavailable" in steps["not_readable"]["found"]
