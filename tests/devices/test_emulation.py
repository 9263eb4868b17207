"""The host's runner finds out that a program computes its instructions, and says so wherever it says what it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from conftest import require_program
from hypothesis import given
from hypothesis import strategies as st
from reference_coreml import host

from nasvit_edge import files
from nasvit_edge.device import load_device
from nasvit_edge.transport.answers import Description
from nasvit_edge.transport.local import described

host()  # puts the folder on the path
emulation = pytest.importorskip("emulation")
machine = pytest.importorskip("machine")
RUNNER = files.shipped("devices") / "host" / "runner.py"
ARM = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n"
AMD = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\n"
INTEL = "processor\t: 0\nvendor_id\t: GenuineIntel\n"
APPLE = "processor\t: 0\nvendor_id\t: VirtualApple\n"


def test_a_machine_that_computes_itself_is_not_emulated():
    assert emulation.emulator() == ""
    assert "emulated" not in machine.about()


@pytest.mark.parametrize("name", ["qemu-aarch64-static", "box64", "FEXInterpreter", "rosetta"])
def test_the_program_that_really_runs_is_told(monkeypatch, name):
    """The system tells it for the thread; the emulator pretends only the process's own link."""
    real = os.readlink
    monkeypatch.setattr(
        os, "readlink", lambda path: f"/usr/bin/{name}" if "thread" in str(path) else real(path)
    )
    assert emulation.emulator() == name
    about = machine.about()
    assert about["emulated"] == name
    assert about["soc"].endswith(f"emulated by {name}")


@pytest.mark.parametrize(
    ("cpuinfo", "architecture", "emulated"),
    [
        (ARM, "aarch64", False),
        (AMD, "x86_64", False),
        (INTEL, "x86_64", False),
        ("", "arm64", False),
        (AMD, "aarch64", True),
        (INTEL, "armv7l", True),
        (APPLE, "x86_64", True),
    ],
)
def test_a_processor_of_another_kind_is_an_emulators(cpuinfo, architecture, emulated):
    assert bool(emulation._by_processor(cpuinfo, architecture)) == emulated


@given(st.text(), st.text(max_size=10))
def test_whatever_the_system_says_is_read(cpuinfo, architecture):
    assert isinstance(emulation._by_processor(cpuinfo, architecture), str)


def test_the_check_of_a_device_says_it_and_what_to_do():
    emulated = Description(about={"soc": "Cortex-A72 emulated by qemu-aarch64", "emulated": "qemu-aarch64"})
    steps = {step.name: step for step in described(emulated, load_device("host"))}
    assert not steps["emulated"].good
    assert "qemu-aarch64" in steps["emulated"].found
    assert steps["emulated"].todo
    plain = Description(about={"soc": "Cortex-A72"})
    assert "emulated" not in {step.name for step in described(plain, load_device("host"))}


@pytest.mark.slow
def test_a_real_qemu_is_found_out():
    """The runner, by this machine's own Python, whose instructions qemu computes."""
    qemu = require_program(f"qemu-{os.uname().machine}-static")
    asked = '{"id": "a", "ask": "about"}\n'
    done = subprocess.run(
        [qemu, sys.executable, str(RUNNER)], input=asked, capture_output=True, text=True, check=True
    )
    about = json.loads(done.stdout)["about"]
    assert about["emulated"].startswith("qemu-")
    assert "emulated by qemu-" in about["soc"]
