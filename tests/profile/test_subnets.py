"""A table's device is known by its name here, never by a path that the file has for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import one_line
from hypothesis import given
from hypothesis import strategies as st
from made_up import COMPOSITION, parsed_table, table

from nasvit_edge.device import device_names, load_device
from nasvit_edge.errors import DeviceError, NasvitEdgeError
from nasvit_edge.profile.subnets import device_of, measure_subnets
from nasvit_edge.profile.trust import fingerprint
from nasvit_edge.profile.validate import validate
from nasvit_edge.records import content
from nasvit_edge.space import load_space

MADE = table(load_space("nano"), 0, COMPOSITION)
LAB = """
schema = 2
name = "lab"
about = "a board"
transport = "local"
runtimes = ["onnxruntime"]
runner = "runner.py"
"""


def of(target="host", **more):
    return MADE.holding(**{"target": target, "fingerprint": fingerprint()} | more)


def lab(folder: Path) -> Path:
    """A device whose runner leaves a mark."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lab.toml").write_text(LAB)
    (folder / "runner.py").write_text(f"open({str(folder / 'started')!r}, 'w')")
    return folder / "lab.toml"


def test_a_table_s_own_device_is_found_by_its_name():
    assert device_of(of("host")).name == "host"


def test_a_path_is_no_device_even_where_it_leads_to_one(tmp_path, monkeypatch):
    path = lab(tmp_path)
    monkeypatch.chdir(tmp_path)
    for target in (str(path), "lab.toml", "./lab.toml"):
        with pytest.raises(DeviceError, match="no device is called") as error:
            measure_subnets(of(target), [MADE.space.smallest()], 0)
        assert "--device FILE.toml" in one_line(error)
        with pytest.raises(DeviceError, match="no device is called"):
            validate(of(target), 4)
    assert not (tmp_path / "started").exists()


def test_a_device_s_file_that_the_user_gives_is_taken(tmp_path):
    given = load_device(str(lab(tmp_path)))
    assert device_of(of("lab"), given) is given


def test_a_device_of_the_user_is_known_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    lab(tmp_path / "nasvit-edge" / "devices")
    assert device_of(of("lab")).runner == tmp_path / "nasvit-edge" / "devices" / "runner.py"


def test_another_program_does_not_answer_for_the_table_s(tmp_path):
    device = load_device(str(lab(tmp_path)))
    table = of("lab", program_sha256=device.program_sha256())
    assert device_of(table, device) is device
    (tmp_path / "runner.py").write_text("print(1)")
    with pytest.raises(DeviceError, match=r"its program was .* of one's own") as error:
        device_of(table, device)
    one_line(error)
    with pytest.raises(DeviceError, match="its program was the shipped one"):
        device_of(of("lab", program_sha256=None), device)
    assert device_of(of("lab"), device) is device  # an older table does not say


def test_shipped_devices_have_no_program_of_one_s_own():
    assert {name: load_device(name).program_sha256() for name in device_names()} == dict.fromkeys(
        device_names()
    )


def test_this_machine_is_compared_with_the_table_before_its_runner_starts(monkeypatch):
    monkeypatch.setattr("subprocess.Popen", None)
    with pytest.raises(DeviceError, match="cores 4096 there") as error:
        measure_subnets(of(fingerprint=fingerprint() | {"cores": 4096}), [MADE.space.smallest()], 0)
    one_line(error)


NAMES = ("device", "target", "runtime", "precision", "space")


@given(st.sampled_from(NAMES), st.sampled_from(["/x.toml", "../x", "-x", "a b", "$(x)", "", "a/b", 7]))
def test_what_is_no_name_is_refused_where_a_table_has_a_name(key, planted):
    raw = content(MADE.file)
    assert parsed_table(Path("t"), raw, None).space.name == "nano"
    with pytest.raises((NasvitEdgeError, ValueError), match=key):
        parsed_table(Path("t"), raw | {key: planted}, None)
