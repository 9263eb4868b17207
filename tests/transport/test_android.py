"""What Android says of itself: values, or None; nothing guessed."""

from __future__ import annotations

import os
import subprocess

import pytest
from android_phone import BATTERY, THERMAL
from conftest import require_program
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.transport import android as transport_android
from nasvit_edge.transport.android import Phone, state_of
from nasvit_edge.transport.outputs import android


def test_only_what_the_hardware_says_now_counts():
    heat = android.thermal(THERMAL.format(status=2))
    assert (heat.status, heat.skin_c, heat.hottest_c) == (2, 34.351, 41.5)
    cached = THERMAL.format(status=0).partition("Current temperatures from HAL:")[0]
    assert android.thermal(cached) == android.Thermal(0)


@pytest.mark.parametrize(
    ("old", "new", "field", "value"),
    [
        ("Thermal Status: 0", "Thermal Status: 7", "status", None),
        ("Thermal Status: 0", "Thermal Status: hot", "status", None),
        ("mValue=34.351", "mValue=3435.1", "skin_c", None),
        ("mValue=34.351", "mValue=NaN", "skin_c", None),
        ("mValue=34.351", "mValue=Infinity", "skin_c", None),
        ("mValue=34.351", "mValue=NaN", "hottest_c", 41.5),
        ("mValue=41.5, mType=0", "mValue=41.5, mType=7", "hottest_c", 34.351),
        ("mValue=34.351, mType=3", "mValue=34.351, mType=4", "skin_c", None),
        ("\n", "\r\n", "skin_c", 34.351),
    ],
)
def test_a_temperature_that_cannot_be_is_none(old, new, field, value):
    text = THERMAL.format(status=0)
    assert old in text
    assert getattr(android.thermal(text.replace(old, new)), field) == value


def test_a_device_without_the_service_says_nothing():
    for text in ("", "Can't find service: thermalservice"):
        assert android.thermal(text) == android.Thermal()
        assert android.battery(text) == android.Battery()
        assert android.awake(text) is None


def test_the_battery_is_in_tenths_of_a_degree():
    assert android.battery(BATTERY) == android.Battery(83, 31.2, True)
    assert android.battery(BATTERY.replace("USB powered: true", "USB powered: false")).powered is False
    assert android.battery(BATTERY.replace("level: 83", "level: 830")).level is None


def test_the_screen_is_on_only_while_awake():
    assert android.awake("  mWakefulness=Awake\n") is True
    assert android.awake("  mWakefulnessChanging=false\n  mWakefulness=Dozing\r\n") is False


def test_clocks_are_kilohertz_by_core():
    text = "/sys/devices/system/cpu/cpu10/cpufreq/scaling_cur_freq:2400000\r\n/x/cpu2/cpufreq/scaling_cur_freq:\n/x/cpu3/cpufreq/y:0\n"
    assert android.clocks_mhz(text) == {10: 2400}


def test_adb_lists_devices_with_their_states():
    text = (
        "* daemon not running; starting now at tcp:5037\n* daemon started successfully\nList of devices attached\n"
        "emulator-5554\tdevice\n0123 45\tunauthorized\nABC\tno permissions (missing udev rules?); see [http://x]\nx:1\toffline\n\n"
    )
    assert [(one.serial, one.state) for one in android.listed(text)] == [
        ("emulator-5554", "device"),
        ("0123 45", "unauthorized"),
        ("ABC", "no permissions"),
        ("x:1", "offline"),
    ]


def test_free_space_is_the_column_before_the_per_cent():
    text = "Filesystem     1K-blocks    Used Available Use% Mounted on\n/dev/block/dm-5 112345678 5432100 106913578   5% /data\n"
    assert android.free_bytes(text) == 106913578 * 1024
    assert android.free_bytes("df: no such file") is None


def test_sections_are_divided_by_the_mark_alone():
    text = "junk\nMARK a 1\none\n MARK b\r\ntwo\nMARKS\nxMARK c\n"
    assert android.sections(text, "MARK") == {"a 1": "one\n", "b": "two\nMARKS\n", "c": ""}


@pytest.mark.parametrize(
    ("clocks", "threads", "cores"),
    [
        ({0: 1800, 1: 1800, 2: 2400, 3: 2400}, 1, (3,)),
        ({0: 3000, 1: 1800, 2: 2400, 3: 2400}, 2, (0, 3)),
        ({0: 1800, 1: 1800}, 2, ()),
        ({}, 1, ()),
    ],
)
def test_the_fastest_cores_are_taken_the_last_of_equals(clocks, threads, cores):
    phone = Phone(None, fastest_mhz=clocks, taskset=True)
    assert phone.cores(threads) == cores
    phone.taskset = False
    assert phone.cores(threads) == ()


_LINES = [
    *THERMAL.format(status=1).splitlines(),
    *BATTERY.splitlines(),
    "mWakefulness=",
    "List of devices attached",
    "a\tdevice",
]
_ANY = st.one_of(
    st.text(max_size=200),
    st.lists(st.one_of(st.sampled_from(_LINES), st.text(max_size=30)), max_size=12).map("\n".join),
)


@given(_ANY)
def test_any_text_gives_values_that_can_be_or_none(text):
    thermal, battery = android.thermal(text), android.battery(text)
    assert thermal.status is None or 0 <= thermal.status <= 6
    for celsius in (thermal.hottest_c, thermal.skin_c, battery.celsius):
        assert celsius is None or -40 <= celsius <= 150
    assert battery.level is None or 0 <= battery.level <= 100
    assert all(mhz > 0 for mhz in android.clocks_mhz(text).values())
    (
        android.awake(text),
        android.listed(text),
        android.free_bytes(text),
        android.hashes(text),
        android.properties(text),
    )
    state = state_of(android.sections(text, "a"), "before")
    assert state.flags() == set()


def test_a_core_whose_clock_does_not_answer_has_none_and_the_others_do(tmp_path, monkeypatch):
    """By the shell's own means, as on a phone."""
    require_program("timeout")
    for core in (0, 1, 2):
        (tmp_path / f"cpu{core}" / "cpufreq").mkdir(parents=True)
        if core != 1:
            (tmp_path / f"cpu{core}" / "cpufreq" / "scaling_cur_freq").write_text("1800000\n")
    os.mkfifo(tmp_path / "cpu1" / "cpufreq" / "scaling_cur_freq")
    monkeypatch.setattr(transport_android, "_CPU", str(tmp_path))
    script = transport_android.clocks_script()
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert android.clocks_mhz(done.stdout) == {0: 1800, 2: 1800}
