"""What a machine says of itself is read whatever its drivers answer: a fault is told, and never ends the work."""

from __future__ import annotations

import ast
import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from transport.board_files import CPU, FAULTS, BoardFiles, orin

from nasvit_edge import files, host_code
from nasvit_edge.profile.trust import fingerprint

HOST = files.shipped("devices") / "host"
WHY = {
    "EAGAIN": "Resource temporarily unavailable",
    "EINVAL": "Invalid argument",
    "ENODATA": "No data available",
    "EIO": "Input/output error",
    "ENXIO": "No such device or address",
    "EACCES": "Permission denied",
    "HANG": "no answer in 2 s",
    "DIRECTORY": "Is a directory",
}
READ = "import json, machine; print(json.dumps([machine.about(), machine.state(), machine.unreadable()]))"


@pytest.fixture
def reading(monkeypatch):
    """The module by itself, which has met no fault yet."""
    monkeypatch.syspath_prepend(HOST)
    monkeypatch.delitem(sys.modules, "reading", raising=False)
    import reading

    yield reading
    del sys.modules["reading"]


def _shown(path):
    return "/".join(path.parts[-3:])


def on(board, code=READ):
    """What a program in the host's folder prints on a board."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | board.environment() | {"PYTHONPATH": str(HOST)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_an_orin_with_gated_units_tells_what_it_can_and_what_it_cannot(tmp_path):
    about, state, conditions = on(BoardFiles(tmp_path, orin()))
    assert about["board"] == "NVIDIA Jetson Orin NX Engineering Reference Developer Kit"
    assert (about["soc"], about["governor"], about["highest_clock_mhz"]) == (
        "nvidia,tegra234",
        "schedutil",
        1984,
    )
    assert state == {"clocks_mhz": [729, 729], "hottest_c": 47.312}
    assert "thermal_zone1/temp" in conditions["not_readable"]
    assert "and 2 more (Resource temporarily unavailable)" in conditions["not_readable"]


@pytest.mark.parametrize("fault", [*FAULTS, "DIRECTORY"])
def test_whatever_every_file_of_a_board_answers_the_rest_is_told(tmp_path, fault):
    """One of each kind of file is at fault."""
    board = BoardFiles(
        tmp_path,
        orin(cpu=f"!{fault}", gpu="44000", cv0="44000", cv1="44000", cv2="44000")
        | {
            CPU / "cpu1/cpufreq/scaling_cur_freq": f"!{fault}",
            Path("/proc/device-tree/model"): f"!{fault}",
        },
    )
    started = time.monotonic()
    about, state, conditions = on(board, f"import reading; reading.LONGEST_S = 0.3; {READ}")
    assert state == {"clocks_mhz": [729], "hottest_c": 47.312}
    assert "NVIDIA" not in about.get("board", "")
    assert about["soc"] == "nvidia,tegra234"
    assert conditions["not_readable"].count(WHY[fault]) == 1
    assert "proc/device-tree/model, thermal/thermal_zone0/temp and 1 more" in conditions["not_readable"]
    assert time.monotonic() - started < 3, "three that hang, each waited for once"


def test_a_file_that_is_empty_or_absent_is_not_told_as_a_fault(tmp_path):
    board = BoardFiles(tmp_path, orin(cpu="", gpu="", cv0="", cv1="", cv2=""))
    for core in (0, 1):
        board.at(CPU / f"cpu{core}/cpufreq/scaling_governor").unlink()
    about, state, conditions = on(board)
    assert "governor" not in about
    assert state["hottest_c"] == 47.312
    assert conditions == {}


@pytest.mark.parametrize(
    ("kind", "text", "hottest"),
    [
        ("PMIC-Die", "100000", None),
        ("pmic-die", "50000", None),
        ("soc", "88000", None),
        ("socd", "12000", None),
        ("pm8150b-vbat-lvl0", "4100", None),
        ("pm8150b-ibat-lvl0", "1500", None),
        ("pm8150b-bcl-lvl0", "0", None),
        ("soc-thermal", "51000", 51.0),
        ("soc2-thermal", "51000", 51.0),
        ("bcm2835-thermal", "51000", 51.0),
        ("CPU-therm", "-256000", None),
        ("CPU-therm", "0", None),
        ("CPU-therm", "150000", None),
        ("CPU-therm", "45500", 45.5),
        ("CPU-therm", "nan", None),
        ("CPU-therm", "²", None),
        ("CPU-therm", "9" * 400, None),
    ],
)
def test_only_what_measures_a_temperature_is_one(tmp_path, monkeypatch, kind, text, hottest):
    machine, zone = host_code.machine(), tmp_path / "thermal_zone0"
    monkeypatch.setattr(machine, "_THERMAL", tmp_path)
    zone.mkdir()
    (zone / "type").write_text(f"{kind}\n")
    (zone / "temp").write_text(f"{text}\n")
    assert machine.state().get("hottest_c") == hottest


def test_a_file_that_never_answers_is_waited_for_once(reading, tmp_path):
    path = tmp_path / "sensor"
    os.mkfifo(path)
    started = time.monotonic()
    assert [reading.text_of(path) for _ in range(5)] == [""] * 5
    assert 1.9 < time.monotonic() - started < 3
    assert reading.unread() == f"{_shown(path)} (no answer in 2 s)"
    with path.open("w"):  # the thread that was left behind ends
        pass


JOBS = """
import os, sys, time
import machine, reading, runner
from pathlib import Path
machine._THERMAL = Path(sys.argv[1])
reading.LONGEST_S = 1.0
runner.RUNTIMES["none"] = lambda path, threads, seed: (lambda: None, "1")
job = {"id": "m", "runtime": "none", "model": "", "threads": 1, "seed": 0, "runs": 1, "seconds": 0, "most_seconds": 0.1, "precision": 9}
started = time.monotonic()
answers = [runner.isolated(job) for _ in range(4)]
print([time.monotonic() - started, [answer["samples_us"] != [] for answer in answers]])
"""


def test_a_sensor_that_never_answers_is_waited_for_once_and_not_at_every_job(tmp_path):
    (tmp_path / "thermal_zone0").mkdir()
    os.mkfifo(tmp_path / "thermal_zone0" / "temp")
    command = [sys.executable, "-c", JOBS, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(HOST)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    seconds, measured = ast.literal_eval(done.stdout)
    assert measured == [True] * 4
    assert 1.0 < seconds < 3.5, "four waits would be four seconds"


def test_files_that_are_there_again_are_no_longer_told(reading, tmp_path):
    path = tmp_path / "sensor"
    path.mkdir()
    assert reading.first_line(path) == ""
    assert reading.unread() == f"{_shown(path)} (Is a directory)"
    path.rmdir()
    path.write_text("12\n13\n")
    assert reading.first_line(path) == "12"
    assert reading.unread() == ""


@pytest.mark.parametrize(
    "path", ["", "a\0b", "/nowhere/at/all", "/proc/self/mem", "/etc/passwd/x", "x" * 5000]
)
def test_no_path_raises(reading, path):
    assert reading.text_of(path) == ""


def test_threads_that_cannot_be_started_are_a_fault_like_others(reading, tmp_path, monkeypatch):
    path = tmp_path / "sensor"
    path.write_text("12")

    def refused(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    assert reading.text_of(path) == ""
    assert "can't start new thread" in reading.unread()


def test_a_folder_that_cannot_be_listed_is_told_and_has_nothing(reading, tmp_path, monkeypatch):
    def refused(path):
        raise OSError(errno.EIO, "Input/output error", str(path))

    (tmp_path / "zone1").mkdir()
    assert reading.matching(tmp_path, "zone*") == [tmp_path / "zone1"]
    monkeypatch.setattr(os, "scandir", refused)
    assert reading.matching(tmp_path, "zone*") == []
    assert "Input/output error" in reading.unread()


def test_a_large_file_is_read_to_an_end(reading):
    assert 0 < len(reading.text_of("/dev/zero")) <= 1 << 21


def test_a_program_that_does_not_end_is_given_up_with_what_it_started(reading, tmp_path):
    """A script that waits for a program which holds its output open, as jetson_clocks does where `cat` hangs."""
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho begun\nsleep 20\necho ended\n")
    tool.chmod(0o755)
    started = time.monotonic()
    code, text = reading.said_by([str(tool)], 0.3)
    assert time.monotonic() - started < 2
    assert (code, text) == (127, f"{tool} did not end in 0.3 s")


@pytest.mark.parametrize(
    ("script", "code", "text"),
    [
        ("echo good", 0, "good\n"),
        ("echo bad >&2; exit 3", 3, "bad\n"),
        ("printf '\\377'", 0, "\ufffd"),
        ("", 0, ""),
    ],
)
def test_what_a_program_says_is_told_with_its_code(reading, script, code, text):
    assert reading.said_by(["/bin/sh", "-c", script]) == (code, text)


def test_a_program_that_is_not_there_is_told(reading):
    code, text = reading.said_by(["/nowhere/tool"])
    assert code == 127
    assert "No such file" in text


def test_here_the_machine_is_read_by_the_same_code(monkeypatch):
    """And the modules' plain names are left to others."""
    monkeypatch.setitem(sys.modules, "machine", "somebody else's")
    names, path = set(sys.modules), list(sys.path)
    host_code._module.cache_clear()
    assert fingerprint() == host_code.machine().about()
    assert sys.modules["machine"] == "somebody else's"
    assert ("reading" in sys.modules) == ("reading" in names)
    assert sys.path == path
