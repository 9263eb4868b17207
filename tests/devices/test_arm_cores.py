"""Arm processors are called by their cores, so that two kinds of them are never one machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transport.board_files import CPU, BoardFiles, orin

from nasvit_edge import files, host_code

HOST = files.shipped("devices") / "host"
core_names = host_code.machine().core_names
CORE = """processor\t: {}
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp
CPU implementer\t: 0x{:02x}
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0x{:03x}
CPU revision\t: 1

"""


def cpuinfo(*cores):
    """What the kernel prints of cores of these implementers and parts."""
    return "".join(CORE.format(number, *core) for number, core in enumerate(cores))


@pytest.mark.parametrize(
    ("implementer", "part", "name"),
    [
        (0x41, 0xD0C, "Neoverse N1"),
        (0x41, 0xD49, "Neoverse N2"),
        (0x41, 0xD40, "Neoverse V1"),
        (0x41, 0xD4F, "Neoverse V2"),
        (0x41, 0xD08, "Cortex-A72"),
        (0x41, 0xD0B, "Cortex-A76"),
        (0x41, 0xD42, "Cortex-A78AE"),
        (0x41, 0xC07, "Cortex-A7"),
        (0x4E, 0x003, "Denver 2"),
        (0x4E, 0x004, "Carmel"),
        (0x51, 0x803, "Kryo 3XX Silver"),
        (0x61, 0x023, "Firestorm (M1)"),
        (0x6D, 0xD49, "Azure Cobalt 100"),
        (0x48, 0xD01, "TaiShan v110"),
        (0x46, 0x001, "A64FX"),
        (0xC0, 0xAC3, "AmpereOne"),
        (0x41, 0xFFE, "Arm part 0xffe"),
        (0x99, 0x001, "implementer 0x99 part 0x001"),
    ],
)
def test_a_core_is_called_as_its_maker_calls_it(implementer, part, name):
    assert core_names(cpuinfo(*[(implementer, part)] * 4)) == name


def test_the_clusters_of_a_chip_are_told_in_their_order():
    cores = [(0x41, 0xD05)] * 4 + [(0x41, 0xD0B)] * 4
    assert core_names(cpuinfo(*cores)) == "Cortex-A55 + Cortex-A76"


@given(*[st.tuples(st.integers(0, 255), st.integers(0, 0xFFF))] * 2)
def test_two_parts_that_nobody_knows_are_two_names(one, other):
    known = host_code.machine().core_names.__globals__["IMPLEMENTERS"]
    names = [core_names(cpuinfo(core)) for core in (one, other)]
    unknown = all(part not in known.get(maker, ("", {}))[1] for maker, part in (one, other))
    assert (names[0] == names[1]) == (one == other) or not unknown


@given(st.text(), st.integers(0, 400))
def test_no_text_is_an_error(text, place):
    whole = cpuinfo((0x41, 0xD0C))
    assert isinstance(core_names(whole[:place] + text + whole[place:]), str)
    core_names(text)


def test_an_intel_processor_has_no_such_name():
    assert core_names("processor : 0\nmodel : 167\nmodel name : Intel(R) Xeon(R)\n") == ""


@pytest.mark.parametrize(
    ("tree", "text", "name"),
    [
        ("", cpuinfo((0x41, 0xD0C)), "Neoverse N1"),
        ("", cpuinfo((0x41, 0xD49)), "Neoverse N2"),
        ("linux,dummy-virt\0", cpuinfo((0x41, 0xD49)), "Neoverse N2"),
        ("radxa,rock-5b\0rockchip,rk3588\0", cpuinfo((0x41, 0xD05)), "rockchip,rk3588"),
        ("", "Hardware\t: BCM2835\n" + cpuinfo((0x41, 0xD03)), "BCM2835"),
        ("", "model name\t: ARMv7 Processor rev 3 (v7l)\n" + cpuinfo((0x41, 0xD08)), "Cortex-A72"),
        ("", "model name\t: Intel(R) Xeon(R)\nmodel name\t: other\n", "Intel(R) Xeon(R)"),
        ("", "Model\t: Some board\n", "Some board"),
        ("", "", platform.processor() or platform.machine()),
    ],
)
def test_a_processor_is_called_by_what_says_most_of_it(monkeypatch, tree, text, name):
    machine = host_code.machine()
    texts = {"/proc/device-tree/compatible": tree, "/proc/cpuinfo": text}
    monkeypatch.setattr(machine, "text_of", texts.__getitem__)
    assert machine.processor() == name


BIG_LITTLE = {0: ("schedutil", 408, 1800), 1: ("performance", 2208, 2400)}
READ = """
import json, os, sys, machine
cores = json.loads(sys.argv[1])
os.sched_setaffinity(0, cores)
print(json.dumps([machine.about(), machine.about([0]), machine.state(len(cores)), machine.state(0)]))
"""


@pytest.fixture
def read_on(tmp_path):
    """What a chip of a slow and a fast core tells a program that runs on some of them."""
    if not os.sched_getaffinity(0) >= {0, 1}:
        pytest.skip("needs cores 0 and 1")
    board = BoardFiles(tmp_path, orin())
    for core, (governor, now, most) in BIG_LITTLE.items():
        board.put(CPU / f"cpu{core}/cpufreq/scaling_governor", f"{governor}\n")
        board.put(CPU / f"cpu{core}/cpufreq/scaling_cur_freq", f"{now}000\n")
        board.put(CPU / f"cpu{core}/cpufreq/cpuinfo_max_freq", f"{most}000\n")

    def read(cores):
        environment = os.environ | board.environment() | {"PYTHONPATH": str(HOST)}
        words = [sys.executable, "-c", READ, json.dumps(cores)]
        return json.loads(
            subprocess.run(
                words, env=environment, capture_output=True, text=True, timeout=60, check=True
            ).stdout
        )

    return read


def test_clock_and_governor_are_those_of_the_cores_that_a_job_runs_on(read_on):
    on_fast, on_slow = read_on([1]), read_on([0])
    fast, slow = ("performance", 2400), ("schedutil", 1800)
    tell = ("governor", "highest_clock_mhz")
    assert tuple(on_fast[0][key] for key in tell) == fast
    assert tuple(on_slow[0][key] for key in tell) == slow
    assert tuple(on_fast[1][key] for key in tell) == slow, "of cores that are named"
    states = [{"clocks_mhz": [mhz], "cores": [core]} for core, mhz in ((1, 2208), (0, 408))]
    assert [{k: answers[2][k] for k in ("clocks_mhz", "cores")} for answers in (on_fast, on_slow)] == states


def test_of_all_cores_the_fastest_is_told_and_each_ones_clock(read_on):
    about, _, busy, idle = read_on([0, 1])
    assert (about["governor"], about["highest_clock_mhz"]) == ("performance", 2400)
    assert (busy["clocks_mhz"], busy["cores"]) == ([408, 2208], [0, 1])
    assert "cores" not in idle, "fewer threads than cores: nobody knows which were busy"


def test_a_device_of_chosen_cores_is_asked_of_those(tmp_path):
    from nasvit_edge.transport.local import local_runner

    program = Path(tmp_path / "runner.py")
    program.write_text(
        """import json, sys
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps({"id": "about", "about": {"asked": str(request.get("cores"))}}), flush=True)
"""
    )
    for cores, asked in (((2, 3), "[2, 3]"), ((), "None")):
        with local_runner(program, cores) as runner:
            assert runner.about().about == {"asked": asked}
