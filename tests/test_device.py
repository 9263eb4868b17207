"""Devices: every shipped one is sound, and a bad file names its key."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import one_line, only_user_errors
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge import files
from nasvit_edge.device import Device, device_names, load_device, parse_device
from nasvit_edge.errors import DeviceError, NasvitEdgeError

HOST = files.shipped("devices") / "host" / "device.toml"
TABLE = files.read_toml(HOST, "device")


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
    key=st.sampled_from([*TABLE, "unknown"]),
    value=st.one_of(
        st.none(), st.integers(), st.text(max_size=4), st.lists(st.integers(), min_size=1, max_size=2)
    ),
)
def test_a_changed_key_is_taken_or_named(key, value):
    made = only_user_errors(parse_device, TABLE | {key: value}, Path("d.toml"))
    if not isinstance(made, Device):
        assert key in made
        assert "d.toml" in made


@pytest.mark.parametrize("key", sorted(set(TABLE)))
def test_a_missing_key_is_named(key):
    with pytest.raises(NasvitEdgeError) as caught:
        parse_device({k: v for k, v in TABLE.items() if k != key}, Path("d.toml"))
    assert f"key {key!r} is missing" in one_line(caught)
