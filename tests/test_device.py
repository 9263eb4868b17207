"""Devices: every shipped one is sound, and a bad file names its key."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import one_line

from nasvit_edge import files
from nasvit_edge.device import DeviceFile, device_names, load_device, parse_device
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


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("transport", "bluetooth", "key 'transport' is 'bluetooth'; possible are adb, local, pull, ssh"),
        ("runtimes", ["onx"], "key 'runtimes[0]' is 'onx'; possible are coreml, "),
        ("runtimes", [], "key 'runtimes' is a list of 0"),
        ("precision", "fp8", "possible are dynamic, fp16, fp32, int8, w8"),
        ("threads", 0, "key 'threads' is 0; a whole number from 1 to 256"),
        ("threads", True, "key 'threads' is True; a whole number from 1 to 256"),
        ("port", 65536, "a whole number from 0 to 65535"),
        ("cores", [0, -1], "key 'cores[1]' is -1; numbers of cores"),
        ("user", "-x", "key 'user' is '-x'; it may not begin with '-' nor hold control characters"),
        ("runner", "a\x00", "it may not begin with '-' nor hold control characters"),
        ("adress", "pi", "key 'adress' is unknown; possible are name, about, "),
        ("transport", "pull", "key 'client' is missing; transport 'pull' needs it: browser, iphone or mac"),
        ("schema", 1, "has schema 1; this version reads schema 2"),
    ],
)
def test_a_wrong_key_is_told_with_its_file_and_what_is_possible(key, value, told):
    with pytest.raises(NasvitEdgeError) as caught:
        parse_device(TABLE | {key: value}, Path("d.toml"))
    assert one_line(caught).startswith("device 'd.toml'")
    assert told in one_line(caught)


def test_every_key_is_in_the_docs():
    text = (Path(__file__).parent.parent / "docs" / "devices.md").read_text()
    for key in DeviceFile.__struct_encode_fields__:
        assert f"`{key}`" in text or f"\n{key} = " in text, key


@pytest.mark.parametrize("key", sorted({*TABLE} - {"address"}))
def test_a_missing_key_is_named(key):
    with pytest.raises(NasvitEdgeError) as caught:
        parse_device({k: v for k, v in TABLE.items() if k != key}, Path("d.toml"))
    assert f"key {key!r} is missing" in one_line(caught)


@pytest.mark.parametrize("key", ["address", "serial"])
def test_an_option_is_no_address(key):
    given = {"address": None, "serial": None} | {key: "-oProxyCommand=touch /tmp/x"}
    with pytest.raises(NasvitEdgeError, match=f"--{key}: it may not begin with '-'"):
        load_device("jetson").at(**given)


def test_a_user_s_device_goes_before_the_shipped_one_and_is_found_by_path_too(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    text = files.read_bytes(files.shipped("devices") / "raspberry-pi" / "device.toml", "device").decode()
    user_file = tmp_path / "nasvit-edge" / "devices" / "raspberry-pi.toml"
    user_file.parent.mkdir(parents=True)
    user_file.write_text(text.replace("raspberrypi.local", "10.0.0.7"))
    assert "raspberry-pi" in device_names()
    assert load_device("raspberry-pi").address == load_device(str(user_file)).address == "10.0.0.7"


def test_secrets_come_from_the_environment_and_stay_out_of_the_device(monkeypatch):
    device = parse_device(files.read_toml(LINUX, "device") | {"key": "$BOARD_KEY", "address": "board"}, LINUX)
    monkeypatch.delenv("BOARD_KEY", raising=False)
    with pytest.raises(DeviceError, match=r"BOARD_KEY.*is not set"):
        device.with_secrets()
    monkeypatch.setenv("BOARD_KEY", "/keys/board")
    assert device.with_secrets().key == "/keys/board"
    assert device.key == "$BOARD_KEY"
