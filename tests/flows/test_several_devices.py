"""Several devices, several runtimes: beside each other, and one's trouble is not the others'."""

from __future__ import annotations

import json
import threading
import time

import pytest
from conftest import TINIER, one_line

from nasvit_edge.errors import DeviceError, NasvitEdgeError
from nasvit_edge.flows import profile as flow
from nasvit_edge.listening import Listener

RUNNER = "import sys\nfor line in sys.stdin: print('nonsense', flush=True)\n"


def device(folder, name, runner, **changes):
    """A device of its own in a TOML file, measured as a child process."""
    values = {
        "schema": 2,
        "name": name,
        "about": "a test's",
        "transport": "local",
        "runtimes": ["onnxruntime", "litert"],
        "runner": str(runner),
    } | changes
    path = folder / f"{name}.toml"
    path.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items()))
    return str(path)


@pytest.fixture
def request_of(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "tiny.toml").write_text(TINIER)

    def made(**changes):
        values = {
            "space": str(tmp_path / "tiny.toml"),
            "protocol": "quick",
            "out": tmp_path / "tables",
        }
        return flow.Request(**values | changes)

    return made


def recorded():
    """Notes, and what each device's progress showed."""
    notes, shown, lock = [], {}, threading.Lock()

    def progress(name):
        def show(done, total, detail):
            with lock:
                shown.setdefault(name, []).append((done, total, detail))

        return Listener(note=notes.append, progress=show)

    return notes, shown, progress


@pytest.mark.slow
def test_two_devices_are_measured_beside_each_other_and_each_gets_its_table(tmp_path, request_of):
    real = flow.load_device("host").runner
    names = [device(tmp_path, name, real) for name in ("left", "right")]
    _, shown, progress = recorded()
    tables_of, failed = flow.profile_devices(request_of(device=names), progress)
    assert not failed
    assert {name: [t.file.device for t in tables] for name, tables in tables_of.items()} == {
        names[0]: ["left"],
        names[1]: ["right"],
    }
    assert set(shown) == set(names)
    assert sorted(p.name.split("-")[0] for p in (tmp_path / "tables").glob("*.json")) == ["left", "right"]


@pytest.mark.slow
def test_a_device_in_trouble_does_not_end_the_others(tmp_path, request_of):
    (tmp_path / "bad.py").write_text(RUNNER)
    names = [
        device(tmp_path, "bad", tmp_path / "bad.py"),
        device(tmp_path, "good", flow.load_device("host").runner),
    ]
    notes, _, progress = recorded()
    tables_of, failed = flow.profile_devices(request_of(device=names), progress)
    assert list(tables_of) == [names[1]]
    assert "does not answer" in one_line(failed[names[0]])
    assert any("bad" in text for text in notes)


@pytest.mark.slow
def test_one_connection_measures_several_runtimes_validates_and_sustains(tmp_path, request_of):
    pytest.importorskip("ai_edge_litert")
    *_, progress = recorded()
    request = request_of(runtime=["all"], validate=4, sustained="2s")
    tables_of, _ = flow.profile_devices(request, progress)
    tables = tables_of["host"]
    assert [t.file.runtime for t in tables] == ["onnxruntime", "litert"]
    for table in tables:
        assert table.file.validation.count == 4
        assert table.file.sustained.factor > 0


def test_what_does_not_fit_is_refused_before_anything_is_measured(tmp_path, request_of):
    two = ["host", device(tmp_path, "other", flow.load_device("host").runner)]
    for request, match in (
        (request_of(device=two, address="pi@board"), "are for one device"),
        (request_of(runtime=["tensorrt"]), "has no runtime 'tensorrt'; it has onnxruntime, litert"),
        (request_of(device=["toaster"]), "unknown device 'toaster'"),
        (request_of(precision="int4"), "unknown precision 'int4'"),
        (request_of(protocol="slow"), "unknown protocol 'slow'"),
    ):
        with pytest.raises(NasvitEdgeError, match=match) as caught:
            flow.profile_devices(request, recorded()[2])
        one_line(caught)
    assert not (tmp_path / "tables").exists()


def test_a_variable_that_is_not_set_is_named(tmp_path, request_of, monkeypatch):
    monkeypatch.delenv("NASVIT_EDGE_ADDRESS", raising=False)
    with pytest.raises(DeviceError, match=r"NASVIT_EDGE_ADDRESS.*--address"):
        flow.profile_devices(request_of(device=["linux-ssh"]), recorded()[2])


def test_stopping_ends_the_wait_for_a_device_that_is_away(tmp_path, request_of):
    """A phone that never comes would be waited for ten minutes."""
    names = [device(tmp_path, "here", flow.load_device("host").runner), "iphone"]

    def progress(name):
        def show(done, total, detail):
            if name == names[0]:
                raise KeyboardInterrupt

        return Listener(progress=show)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        flow.profile_devices(request_of(device=names, interface="127.0.0.1", wait="10m"), progress)
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_stopping_ends_every_device(tmp_path, request_of):
    real = flow.load_device("host").runner
    names = [device(tmp_path, name, real) for name in ("left", "right")]
    started = threading.Event()

    def progress(name):
        def show(done, total, detail):
            started.set()
            if name == names[0] and detail == "measuring":
                raise KeyboardInterrupt

        return Listener(progress=show)

    with pytest.raises(KeyboardInterrupt):
        flow.profile_devices(request_of(device=names), progress)
    assert started.is_set()
    assert not list((tmp_path / "tables").glob("*.json"))


@pytest.mark.slow
def test_every_step_of_a_profile_with_a_validation_was_planned(request_of):
    planned, shown = [], []
    listener = Listener(plan=planned.append, progress=lambda done, total, what: shown.append((total, what)))
    flow.profile_devices(request_of(runtime=["onnxruntime"], validate=4), lambda name: listener)
    (steps,) = planned
    names = [step.name for step in steps]
    assert list(dict.fromkeys(what.split(",")[0] for _, what in shown)) == names
    assert {what.split(",")[0]: total for total, what in shown}.items() >= {("validating", 8)}
