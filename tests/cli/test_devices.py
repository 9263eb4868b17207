"""`devices` and the device options of `profile`, as a user meets them."""

from __future__ import annotations

import json

import pytest
from conftest import TINY
from test_cli import one_error, run


def test_the_list_has_every_shipped_device_and_the_user_s_own(tmp_path):
    desk = tmp_path / "nasvit-edge" / "devices" / "desk.toml"
    desk.parent.mkdir(parents=True)
    desk.write_text(
        'schema = 2\nname = "desk"\nabout = "mine"\ntransport = "ssh"\nruntimes = ["litert"]\naddress = "pi@desk"\n'
    )
    (desk.parent / "broken.toml").write_text("schema = [")
    result = run("devices", "list", "--json", XDG_CONFIG_HOME=str(tmp_path))
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert {"host", "jetson", "raspberry-pi", "linux-ssh", "android", "iphone", "mac", "browser"} <= set(rows)
    assert rows["desk"]["transport"] == "ssh"
    assert "not valid TOML" in rows["broken"]["error"]
    text = run("devices", "list", XDG_CONFIG_HOME=str(tmp_path))
    assert "desk" in text.stdout
    assert "broken.toml" in text.stderr


def test_a_check_of_this_machine_finds_its_runtimes():
    pytest.importorskip("onnxruntime")
    result = run("devices", "check", "host", "--json")
    steps = {step["name"]: step for step in json.loads(result.stdout)}
    assert steps["onnxruntime"]["good"]
    assert result.returncode == (0 if all(step["good"] for step in steps.values()) else 1)


def test_a_check_that_fails_says_what_to_do_and_ends_with_one():
    result = run("devices", "check", "linux-ssh", NASVIT_EDGE_ADDRESS="")
    assert result.returncode == 1
    assert "NASVIT_EDGE_ADDRESS" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["devices", "show", "toaster"], "unknown device 'toaster'"),
        (["devices", "show", "./missing.toml"], "missing.toml"),
        (["profile", "--device", "toaster"], "unknown device 'toaster'"),
        (["profile", "--runtime", "tensorrt"], "has no runtime 'tensorrt'"),
        (["profile", "--sustained", "ten"], "for example: 10m"),
        (["profile", "--device", "jetson", "--device", "mac", "--address", "a"], "for one device"),
        (["profile", "--device", "jetson", "--address", "-oProxyCommand=x"], "may not begin with '-'"),
        (["search", "--latency", "20ms", "--steady", "--table", "t.json"], "t.json"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_two(arguments, says, tmp_path):
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert says in one_error(result)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_sustained_profile_says_both_values_and_search_keeps_the_steady_one(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "tiny.toml").write_text(TINY)
    options = ["--space", "tiny.toml", "--protocol", "quick", "--sustained", "2s"]
    result = run("profile", *options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "in the first minute" in result.stderr
    (path,) = (tmp_path / "latency_tables").glob("*.json")
    assert json.loads(path.read_text())["sustained"]["steady_ms"] > 0
