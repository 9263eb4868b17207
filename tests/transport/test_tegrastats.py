"""tegrastats, nvpmodel and jetson_clocks: every generation that was seen is read, nothing else becomes a number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.transport.jetson import completed, conditions, flags
from nasvit_edge.transport.outputs import jetson
from nasvit_edge.transport.outputs.tegrastats import mean_power_mw, read_line, read_lines

ORIN_NANO = "07-29-2026 18:00:27 RAM 2272/7620MB (lfb 4x4MB) SWAP 221/3810MB (cached 0MB) CPU [0%@729,0%@1036,off] GR3D_FREQ 0% cpu@54.937C soc2@55.562C soc0@56.156C gpu@55.468C tj@56.656C soc1@56.656C VDD_IN 4673mW/4673mW VDD_CPU_GPU_CV 527mW/527mW VDD_SOC 1339mW/1339mW"
NANO = "RAM 1923/3964MB (lfb 2x2MB) SWAP 191/1982MB (cached 6MB) IRAM 0/252kB(lfb 252kB) CPU [5%@1224,4%@1224,3%@1224,6%@1224] EMC_FREQ 0%@1600 GR3D_FREQ 0%@76 APE 25 PLL@37C CPU@40C PMIC@50C GPU@40C AO@45C thermal@40C POM_5V_IN 1750/1628 POM_5V_GPU 0/0 POM_5V_CPU 366/406"
AGX_ORIN = "11-22-2023 10:00:00 RAM 5000/62800MB (lfb 10x4MB) SWAP 0/31400MB (cached 0MB) CPU [1%@2201,off,off,0%@2201] GR3D_FREQ 99%@[1300,1300] CV0@-256C CPU@48.4C Tboard@37C GPU@44.8C tj@48.4C VDD_GPU_SOC 8000mW/7900mW VDD_CPU_CV 1200mW/1100mW VIN_SYS_5V0 4400mW/4300mW"
SHOW = """SOC family:tegra210  Machine:NVIDIA Jetson Nano Developer Kit
Online CPUs: 0-1
cpu0: Online=1 Governor=schedutil MinFreq=921600 MaxFreq=921600 CurrentFreq=921600 IdleStates: WFI=1 c7=1
cpu2: Online=0 Governor=schedutil MinFreq=102000 MaxFreq=921600 CurrentFreq=921600 IdleStates: WFI=1 c7=1
GPU MinFreq=76800000 MaxFreq=614400000 CurrentFreq=460800000
EMC MinFreq=204000000 MaxFreq=1600000000 CurrentFreq=1600000000 FreqOverride=0
NV Power Mode: 5W
"""


def test_an_orin_nano_is_read():
    reading = read_line(ORIN_NANO)
    assert reading.power_mw == 4673
    assert reading.rails_mw == {"VDD_IN": 4673, "VDD_CPU_GPU_CV": 527, "VDD_SOC": 1339}
    assert reading.hottest_c == 56.656
    assert reading.core_mhz == (729, 1036)
    assert reading.gpu_share == 0


def test_an_older_line_without_date_and_units_is_read_and_the_pmic_is_no_temperature():
    reading = read_line(NANO)
    assert reading.power_mw == 1750
    assert reading.hottest_c == 45
    assert reading.gpu_mhz == 76


def test_a_board_without_a_rail_of_all_is_the_sum_and_a_sensor_that_is_off_is_none():
    reading = read_line(AGX_ORIN)
    assert reading.power_mw == 13600
    assert reading.hottest_c == 48.4
    assert (reading.gpu_share, reading.gpu_mhz) == (0.99, 1300)
    assert reading.core_mhz == (2201, 2201)


@pytest.mark.parametrize("line", ["", "RAM 1/2MB", "tegrastats: command not found", "CPU [0%@1]"])
def test_a_line_of_another_program_is_none(line):
    assert read_line(line) is None


def test_a_core_that_is_not_understood_leaves_the_clocks_out_and_nothing_else():
    reading = read_line(ORIN_NANO.replace("0%@729", "busy"))
    assert reading.core_mhz == ()
    assert reading.power_mw == 4673


@given(st.sampled_from([ORIN_NANO, NANO, AGX_ORIN]), st.integers(0, 400), st.integers(0, 40), st.text())
def test_a_damaged_line_gives_no_impossible_number(line, start, length, text):
    reading = read_line(line[:start] + text + line[start + length :])
    if reading is not None:
        assert reading.power_mw is None or 0 < reading.power_mw < 1e6
        assert reading.hottest_c is None or 0 < reading.hottest_c < 150
        assert reading.gpu_share is None or 0 <= reading.gpu_share <= 1
    assert read_lines([line, None, 3, "x"]) == [read_line(line)]


def test_energy_is_mean_power_for_the_median_latency():
    lines = [ORIN_NANO, ORIN_NANO.replace("VDD_IN 4673", "VDD_IN 5673")]
    answer = completed({"id": "m", "samples_us": [1000.0, 2000.0, 9000.0], "tegrastats": lines}, False)
    assert answer["power_mw"] == 5173
    assert answer["energy_mj"] == pytest.approx(5173 * 2000 / 1e6)
    assert answer["before"]["hottest_c"] == 56.656
    assert mean_power_mw(read_lines(lines[:1])) is None, "one reading is no mean"


def test_power_mode_and_clocks_are_read_by_name():
    assert jetson.power_mode("NV Power Mode: MAXN_SUPER\n2\n") == "MAXN_SUPER"
    clocks = jetson.clocks(SHOW)
    assert (clocks.cpu_mhz, clocks.gpu_mhz, clocks.memory_mhz) == (921.6, 614.4, 1600)
    assert clocks.locked is False, "the GPU may go down to 76.8 MHz"
    assert jetson.clocks(SHOW.replace("MinFreq=76800000", "MinFreq=614400000")).locked is True


@pytest.mark.parametrize(
    ("gpu", "cores", "locked"),
    [
        ("GPU MinFreq=614400000 MaxFreq=614400000 CurrentFreq=614400000", "921600", True),
        ("GPU MinFreq=76800000 MaxFreq=614400000 CurrentFreq=76800000", "921600", False),
        ("GPU MinFreq= MaxFreq= CurrentFreq=", "921600", None),  # its devfreq folder is missing
        ("", "921600", None),
        ("GPU MinFreq= MaxFreq= CurrentFreq=", "102000", False),  # whatever the GPU is, the cores are not
        ("", "102000", False),
    ],
)
def test_clocks_are_locked_where_those_of_all_cores_and_of_the_gpu_are_known_to_be(gpu, cores, locked):
    first, _, rest = SHOW.partition("GPU MinFreq=")
    text = first.replace("MinFreq=921600", f"MinFreq={cores}") + gpu + "\n" + rest.partition("\n")[2]
    assert jetson.clocks(text).locked is locked
    board = {"jetson_clocks": text}
    assert conditions(board).get("clocks_locked") is locked
    assert flags(board, conditions(board)) == ([] if locked else ["unlocked clocks"])


def test_conditions_say_what_is_not_told_and_unlocked_clocks_are_flagged():
    board = {"nvpmodel": "NV Power Mode: 15W\n0\n", "jetson_clocks": "sudo: a password is required"}
    facts = conditions(board | {"jetson_clocks_code": 1})
    assert facts["power_mode"] == "15W"
    assert "password" in facts["clocks"]
    assert flags(board, facts) == ["unlocked clocks"]
    assert flags(board, {"clocks_locked": True}) == []
    assert flags({}, {}) == [], "a board that is no Jetson"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0", "no"),
        ("50005", "under-voltage, throttled"),
        ("throttled=0x4", "throttled"),
        ("80008", "soft temperature limit"),
        ("throttled=0xf", "under-voltage, clock capped, throttled, soft temperature limit"),
        ("50000", "no"),
        ("80000", "no"),
    ],
)
def test_a_raspberry_pi_says_what_holds_it_back(text, said):
    assert conditions({"get_throttled": text})["throttled"] == said


@given(
    st.dictionaries(
        st.sampled_from(["nvpmodel", "jetson_clocks", "tegrastats", "get_throttled"]),
        st.text() | st.none() | st.integers() | st.lists(st.text()),
    ),
    st.text(),
)
def test_whatever_the_tools_print_conditions_are_plain_values(board, text):
    facts = conditions(board)
    assert all(isinstance(value, str | float | int | bool) for value in facts.values())
    jetson.clocks(SHOW[:50] + text + SHOW[50:])
