"""Over adb: heat, clocks, screen, old systems, Ctrl-C, the GPU, op profiles, sustained runs, and `devices check`."""

# ruff: noqa: F401, F811 - fixtures are imported by name

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from android_phone import heat
from conftest import one_line
from plugged import job, launches, model, models, phone, phone_of, processes, refused, server

from nasvit_edge.device import load_device
from nasvit_edge.errors import DeviceError
from nasvit_edge.flows.devices import op_times
from nasvit_edge.latency.file import State
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.transport.adb import check_adb
from nasvit_edge.transport.answers import Failure, Measurement
from nasvit_edge.transport.ways import Ways


def test_clocks_are_fixed_and_the_screen_kept_on_for_the_measurement_only(phone):
    with phone.runner(lock_clocks=True) as runner:
        assert (phone.state / "fixed").read_text() == "true\n"
        assert (phone.state / "stay_on_while_plugged_in").read_text() == "2\n"
        assert runner.about().conditions["clocks"] == "fixed performance mode"
    assert (phone.state / "fixed").read_text() == "false\n"
    assert (phone.state / "stay_on_while_plugged_in").read_text() == "3\n"


def test_a_phone_that_cannot_fix_its_clocks_is_flagged(phone, model):
    (phone.state / "no_fixed").touch()
    with phone.runner(lock_clocks=True) as runner:
        assert "unlocked clocks" in runner.measure(job(model)).flags
    assert any("no fixed performance mode" in note for note in phone.notes)


@pytest.mark.slow
def test_a_hot_phone_is_waited_for(phone, model):
    heat(phone.state, 2)

    def cool_once_it_is_waited_for():
        end = time.monotonic() + 20
        while time.monotonic() < end and not any("waiting" in note for note in phone.notes):
            time.sleep(0.02)
        heat(phone.state, 0)

    threading.Thread(target=cool_once_it_is_waited_for).start()
    with phone.runner(wait_s=20) as runner:
        assert "throttled" not in runner.measure(job(model)).flags
    assert any("thermal status 2 (moderate, skin 34.4 C): waiting" in note for note in phone.notes)


def test_a_phone_that_stays_hot_is_refused(phone, model):
    heat(phone.state, 3)
    with (
        pytest.raises(DeviceError, match=r"thermal status 3 .* did not cool down") as error,
        phone.runner(wait_s=0.5) as runner,
    ):
        runner.measure(job(model))
    one_line(error)


def test_a_model_during_which_the_phone_got_hot_is_measured_again(phone, model):
    with phone.runner(wait_s=1) as runner:
        (phone.state / "sequence").write_text("0\n0\n2\n0\n0\n0\n")
        assert "throttled" not in runner.measure(job(model)).flags
        assert runner.measure(job(model)).after.thermal == "0"


def test_a_phone_that_gets_hot_each_time_is_flagged(phone, model):
    with phone.runner(wait_s=1) as runner:
        (phone.state / "sequence").write_text("0\n0\n1\n" * 3 + "0\n")
        answer = runner.measure(job(model))
        assert "throttled" in answer.flags
        assert answer.after.thermal == "1"
        assert "throttled" not in runner.measure(job(model)).flags


def test_a_dark_screen_and_a_battery_saver_are_flagged_and_said_once(phone, model):
    (phone.state / "power").write_text("  mWakefulness=Dozing\n")
    (phone.state / "low_power").write_text("1\n")
    with phone.runner() as runner:
        for _ in range(2):
            assert {"screen off", "low power mode"} <= set(runner.measure(job(model)).flags)
    assert sum("its screen is off" in note for note in phone.notes) == 1


def test_a_phone_that_says_nothing_is_measured_all_the_same(phone, model):
    """Android before 10 has no thermal service, and before 7 no exit codes, taskset or sha256sum."""
    tools = phone.root / "tools"
    tools.mkdir()
    for name in ("sh", "cat", "grep", "rm", "rmdir", "mkdir", "mv", "chmod", "sleep", "df", "sed"):
        (tools / name).symlink_to(shutil.which(name))
    phone.adbd.path = str(tools)
    phone.adbd.shell_v2 = False
    with phone.runner() as runner:
        assert runner.cores(1) == ()
        assert runner.about().about["cores"] >= 1
        answer = runner.measure(job(model))
    assert len(answer.samples_us) == 3
    assert answer.before == State(clocks_mhz=(1500,) * 8)
    assert any("Android chooses the cores" in note for note in phone.notes)
    refused(phone, "its cores cannot be chosen", cores=(1,))


INTERRUPTED = """
import sys
from pathlib import Path
from nasvit_edge.device import parse_device
from nasvit_edge.files import read_toml
from nasvit_edge.listening import Listener
from nasvit_edge.transport.connect import connect
from nasvit_edge.transport.ways import Ways
from nasvit_edge.transport.job import Job
from nasvit_edge.transport.local import local_runner
path = Path(sys.argv[1])
with connect(parse_device(read_toml(path, "device"), path), Ways(lock_clocks=True), Listener(note=print)) as runner:
    print("ready", flush=True)
    while True:
        runner.measure(Job(id="m", model=sys.argv[2], runtime="litert", threads=1, cores=(), runs=10, seconds=0.03,
                           most_seconds=0.1, precision=0.02, seed=0))
"""


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_leaves_the_phone_as_it_was(phone, model, tmp_path, presses):
    toml = tmp_path / "phone.toml"
    toml.write_text(
        f'schema = 2\nname = "p"\nabout = "a"\ntransport = "adb"\nruntimes = ["litert"]\n'
        f'serial = "{phone.adbd.serial}"\ntool = "{phone.tool}"\n'
    )
    command = [sys.executable, "-c", INTERRUPTED, str(toml), str(model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.4)
        assert (phone.state / "fixed").read_text() == "true\n"
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
            time.sleep(0.1)
        try:
            process.wait(timeout=20)
        finally:
            process.kill()
    assert phone.left() == []
    assert (phone.state / "fixed").read_text() == "false\n"
    assert (phone.state / "stay_on_while_plugged_in").read_text() == "3\n"
    assert not processes(phone)


# -- GPU, op profile, sustained ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("generation", "does", "fine"),
    [
        ("percentiles", "whole", True),
        ("litert", "whole", True),
        ("percentiles", "partial", False),
        ("percentiles", "none", False),
        ("percentiles", "silent", False),
        ("litert", "partial", False),
        ("litert", "none", False),
        ("litert", "silent", False),
    ],
)
def test_a_gpu_counts_only_where_it_runs_the_whole_model(phone_of, model, generation, does, fine):
    phone = phone_of(generation)
    phone.adbd.environment["STAND_IN_GPU"] = does
    with phone.runner() as runner:
        answer = runner.measure(job(model, runtime="litert-gpu"))
    if fine:
        assert len(answer.samples_us) == 3
    else:
        assert "the GPU does not run the whole model" in answer.error


@pytest.mark.parametrize("generation", ["percentiles", "litert"])
def test_an_op_profile_lists_the_ops(phone_of, model, generation):
    with phone_of(generation).runner() as runner:
        rows = runner.op_profile(job(model))
    assert [row.kind for row in rows] == ["Convolution (NHWC, F32) IGEMM"] * 2
    assert all(row.avg_ms > 0 and row.share == 0.5 and row.times == 1 for row in rows)


def test_a_user_gets_the_op_profile_of_a_file(phone_of, model, monkeypatch):
    phone = phone_of("percentiles")
    rows = op_times(phone.device(), Path(model), None, None, SILENT)
    assert [row.kind for row in rows] == ["Convolution (NHWC, F32) IGEMM"] * 2
    with pytest.raises(DeviceError, match="no op profile"):
        op_times(load_device("host"), Path(model), None, None, SILENT)


@pytest.mark.slow
def test_a_sustained_run_has_a_window_about_every_second(phone, model):
    with phone.runner() as runner:
        answer = runner.measure(job(model, sustained_s=2.0))
    assert 1 <= len(answer.windows) <= 3  # a busy machine stretches them
    assert answer.windows[-1][0] >= 1
    assert all(0.3 < us / np.median(answer.samples_us) < 3 for _, us in answer.windows)


# -- check ---------------------------------------------------------------------------------------------------


def test_check_goes_step_by_step(phone):
    steps = list(check_adb(phone.device(), Ways()))
    assert all(step.good for step in steps), steps
    names = [step.name for step in steps]
    assert names[:2] == ["adb", "device"]
    assert {
        "system",
        "cores",
        "thermal status",
        "screen",
        "battery",
        "benchmark_model",
        "runs there",
        "free space",
    } <= set(names)
    assert phone.left() == []


def test_check_says_what_to_do(phone_of):
    phone = phone_of()
    heat(phone.state, 1)
    (phone.state / "power").write_text("mWakefulness=Asleep\n")
    bad = [step for step in check_adb(phone.device(tool=""), Ways()) if not step.good]
    assert [step.name for step in bad] == ["thermal status", "screen", "benchmark_model"]
    assert all(step.todo for step in bad)
    phone.adbd.drop()
    *_, last = check_adb(phone.device(), Ways())
    assert last.name == "device"
    assert not last.good
    assert last.todo
