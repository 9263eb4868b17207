"""Machines: what tells two apart, and what older files leave open."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.machines import Machine, differences, finer

KEYS = ("board", "soc", "architecture", "cores")
JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())
N1 = Machine("c6g", "Neoverse N1", "aarch64", 4)
COARSE = Machine("c6g", "aarch64", "aarch64", 4)


def test_a_machine_is_called_by_what_is_known_of_it():
    assert N1.name == "Neoverse N1 (c6g, 4 cores)"
    assert Machine(architecture="riscv64", cores=1).name == "riscv64 (1 core)"
    assert Machine(board="Board").name == "Board"
    assert Machine().name == "unknown machine"


@given(st.dictionaries(st.sampled_from([*KEYS, "os"]), JSON))
def test_whatever_a_device_tells_is_a_machine_that_equals_itself(about):
    machine = Machine.of(about)
    assert differences(machine, Machine.of(dict(about))) == []
    machine.name.encode()  # no half of a pair of surrogates
    assert len(machine.key) == len(KEYS)


@given(st.sampled_from(KEYS))
def test_each_field_tells_two_machines_apart_and_both_values_are_told(key):
    other = 8 if key == "cores" else "other"
    texts = differences(
        N1,
        Machine.of(
            {"board": "c6g", "soc": "Neoverse N1", "architecture": "aarch64", "cores": 4} | {key: other}
        ),
    )
    assert len(texts) == 1
    assert key in texts[0]
    assert repr(other) in texts[0]


def test_an_architecture_for_a_chip_is_told_to_be_an_older_name():
    assert "this may be the Neoverse N1 or any other" in finer(COARSE, N1)
    assert finer(COARSE, N1) == finer(N1, COARSE)
    assert differences(COARSE, N1) == ["soc 'aarch64' there and 'Neoverse N1' here", finer(COARSE, N1)]
    assert finer(COARSE, COARSE) == finer(N1, N1) == ""


def test_another_board_is_another_machine_however_its_chip_was_called():
    assert finer(COARSE, Machine("c7g", "Neoverse V1", "aarch64", 4)) == ""
