"""Devices: every shipped one is sound, and a bad file names its key."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import one_line, only_user_errors
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge import files
from nasvit_edge.device import _OPTIONAL as OPTIONAL
from nasvit_edge.device import Device, device_names, load_device, parse_device
from nasvit_edge.errors import DeviceError, NasvitEdgeError

LINUX = files.shipped("devices") / "linux-ssh" / "device.toml"
TABLE = files.read_toml(LINUX, "device")


@pytest.mark.parametrize("name", device_names())
def test_every_shipped_device_loads_and_has_its_runner(name):
    device = load_device(name)
    assert device.runtimes
    if device.transport in ("local", "ssh"):
        assert device.runner.is_file()


def test_an_unknown_device_lists_what_there_is():
    with pytest.raises(DeviceError, match="host"):
        load_device("toaster")


@given(
    key=st.sampled_from([*TABLE, *OPTIONAL, "unknown"]),
    value=st.one_of(
        st.none(),
        st.integers(),
        st.booleans(),
        st.text(max_size=4),
        st.lists(st.integers(), min_size=1, max_size=2),
    ),
)
def test_a_changed_key_is_taken_or_named(key, value):
    made = only_user_errors(parse_device, TABLE | {key: value}, Path("d.toml"))
    if not isinstance(made, Device):
        assert key in made
        assert "d.toml" in made


@pytest.mark.parametrize("key", sorted({*TABLE} - {"address"}))
def test_a_missing_key_is_named(key):
    with pytest.raises(NasvitEdgeError) as caught:
        parse_device({k: v for k, v in TABLE.items() if k != key}, Path("d.toml"))
    assert f"key {key!r} is missing" in one_line(caught)


@pytest.mark.parametrize("key", ["address", "serial"])
def test_an_option_is_no_address(key):
    given = {"address": None, "serial": None} | {key: "-oProxyCommand=touch /tmp/x"}
    with pytest.raises(DeviceError, match="may not begin with '-'"):
        load_device("jetson").at(**given)


def test_a_user_s_device_goes_before_the_shipped_one_and_is_found_by_path_too(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    text = files.read_bytes(files.shipped("devices") / "raspberry-pi" / "device.toml", "device").decode()
    own = tmp_path / "nasvit-edge" / "devices" / "raspberry-pi.toml"
    own.parent.mkdir(parents=True)
    own.write_text(text.replace("raspberrypi.local", "10.0.0.7"))
    assert "raspberry-pi" in device_names()
    assert load_device("raspberry-pi").address == load_device(str(own)).address == "10.0.0.7"


def test_secrets_come_from_the_environment_and_stay_out_of_the_device(monkeypatch):
    device = parse_device(files.read_toml(LINUX, "device") | {"key": "$BOARD_KEY", "address": "board"}, LINUX)
    monkeypatch.delenv("BOARD_KEY", raising=False)
    with pytest.raises(DeviceError, match=r"BOARD_KEY.*is not set"):
        device.with_secrets()
    monkeypatch.setenv("BOARD_KEY", "/keys/board")
    assert device.with_secrets().key == "/keys/board"
    assert device.key == "$BOARD_KEY"
