"""The adb transport: the real adb client, a small adbd, and a benchmark_model that times the pushed models."""

# ruff: noqa: F401, F811 - fixtures are imported by name

from __future__ import annotations

import dataclasses
import json
import random
import shlex
import signal
from pathlib import Path

import numpy as np
import pytest
from adbd import Adbd, Server
from conftest import one_line, require_program, space_of
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from plugged import (
    GENERATIONS,
    TEXT,
    job,
    launches,
    model,
    models,
    phone,
    phone_of,
    processes,
    refused,
    server,
    sha256,
)

from nasvit_edge import files
from nasvit_edge.device import load_device
from nasvit_edge.errors import DeviceError
from nasvit_edge.latency import load_table
from nasvit_edge.latency.file import State
from nasvit_edge.latency.samples import pack
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.profile.run import Choice, measure_table
from nasvit_edge.profile.validate import validate
from nasvit_edge.transport.adb_client import Adb
from nasvit_edge.transport.answers import Broken, Failure, Measurement
from nasvit_edge.transport.local import local_runner


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_model_is_timed_in_several_launches_by_each_generation(phone_of, models, generation):
    phone = phone_of(generation)
    with phone.runner() as runner:
        assert runner.cores(2) == (6, 7)
        runner.bring([models["small"], models["large"]], SILENT)
        small = runner.measure(job(models["small"], cores=(6, 7)))
        large = runner.measure(job(models["large"], cores=(6, 7)))
    assert isinstance(small, Measurement), small
    assert len(small.samples_us) == len(large.samples_us) == 3
    assert small.inner >= 10
    assert np.median(small.samples_us) < np.median(large.samples_us)
    assert small.runtime_version.startswith(
        "benchmark_model (litert" if generation == "litert" else "benchmark_model (classic"
    )
    assert small.before == State(clocks_mhz=(1500, 1500), cores=(6, 7), hottest_c=41.5, thermal="0")
    assert set(small.flags) <= {"coarse clock"}
    assert set((phone.state / "masks").read_text().split()) == {"c0"}
    assert phone.left() == []


def host_us(model):
    with local_runner(load_device("host").runner) as runner:
        return float(np.median(runner.measure(job(model, seconds=0.03, most_seconds=0.1)).samples_us))


@pytest.mark.slow
@pytest.mark.parametrize("generation", GENERATIONS)
def test_its_figure_is_that_of_the_host_for_the_same_model(phone_of, model, generation):
    """Measured in turns: a unit that was taken for another, or the warm-up for the runs, would show."""
    phone = phone_of(generation)
    with phone.runner() as runner:
        there, here = 1e9, 1e9
        for _ in range(8):  # other work only slows: the minima come closer with every turn
            there, here = min(there, *runner.measure(job(model)).samples_us), min(here, host_us(model))
            if 0.6 < there / here < 1.7:
                return
    pytest.fail(f"{there} us on the phone, {here} us on the host")


def profiled(phone, text, folder, validated):
    """The table, made in two goes: the phone is unplugged for good in the first."""
    space, toml, seen = space_of(text), folder / "tiny.toml", []
    toml.write_text(text)

    def unplug(done, total, what):
        seen.append(done)
        if what == "measuring" and done == 5:
            phone.adbd.drop()

    choice = Choice(protocol="quick")
    with (
        pytest.raises(DeviceError, match="finished measurements are kept"),
        phone.runner(wait_s=0.5) as runner,
    ):
        measure_table(space, phone.device(), runner, choice, out=folder, listener=Listener(progress=unplug))
    kept = next(folder.glob(".*.partial.jsonl")).read_text().splitlines()[1:]
    phone.adbd.plug()
    with phone.runner() as runner:
        path = measure_table(space, phone.device(), runner, choice, out=folder)
        latencies = load_table(path, space=toml)
        report = validate(latencies, 12, runner=runner) if validated else None
    packed = [entry.samples for entry in (*latencies.file.ops.values(), *latencies.file.subnets)]
    first = [e for e in map(json.loads, kept) if not e["id"].startswith("canary:")]
    assert len(first) >= 5
    assert all(
        any(pack(e["samples_us"]) in samples for samples in packed) for e in first if e["id"] != "empty"
    )
    return latencies, report


def check_table(phone, text, tmp_path, record, validated=False):
    """The phone's table against one of this machine, measured right after it."""
    table, report = profiled(phone, text, tmp_path, validated)
    space, target = space_of(text), structs.replace(load_device("host"), runtimes=("litert",))
    with local_runner(target.runner) as runner:
        path = measure_table(space, target, runner, Choice(protocol="quick"), out=tmp_path)
    host = load_table(path, space=tmp_path / "tiny.toml")
    configs = [space.smallest(), space.largest(), *(space.sample(random.Random(i)) for i in range(10))]
    ratios = [table.predict(config).ms / host.predict(config).ms for config in configs]
    record("phone / host", f"{np.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    record("validation", report and (report.mape, report.within_10, report.repeat_mape))
    assert 0.5 < np.median(ratios) < 2
    assert report is None or report.mape < 0.3
    for whole in table.file.subnets:
        assert 0.5 < table.predict(space.config(**whole.config)).ms / whole.median_ms < 2
    assert table.file.runtime_version.startswith("benchmark_model (")
    assert table.file.conditions["benchmark_model_sha256"] == sha256(phone.tool)
    assert table.file.fingerprint["soc"] == "Acme A1000"
    assert table.file.cores == (7,)
    assert table.file.transport == "adb"
    assert phone.left() == []


@pytest.mark.parametrize(
    "generation",
    [pytest.param(name, marks=pytest.mark.slow) for name in ("old", "percentiles", "litert")],
)
def test_a_table_of_the_phone_predicts_as_one_of_the_host_does(
    phone_of, tmp_path, generation, record_property
):
    check_table(phone_of(generation), TEXT, tmp_path, record_property)


@pytest.mark.slow
def test_a_table_of_nano_predicts_as_one_of_the_host_does(phone_of, tmp_path, record_property):
    text = files.data("spaces", "nano.toml").read_text()
    check_table(phone_of("litert"), text, tmp_path, record_property, validated=True)


HOSTILE = """/data/local/tmp/a 'b"; touch pwned; $(touch pwned) `touch pwned` | & *"""


def test_a_folder_or_a_file_of_any_name_is_never_executed(phone, model, tmp_path):
    odd = tmp_path / "m '\"; touch pwned; $(touch pwned).tflite"
    odd.write_bytes(model.read_bytes())
    with phone.runner(folder=HOSTILE) as runner:
        runner.bring([odd], SILENT)
        assert isinstance(runner.measure(job(odd)), Measurement)
        assert phone.left()
    assert phone.left() == []
    assert not list(tmp_path.rglob("pwned"))
    assert not Path("pwned").exists()


@given(
    st.text(st.characters(exclude_characters="\0\n\r/", exclude_categories=["Cs"]), min_size=1, max_size=20)
)
def test_what_is_quoted_arrives_as_it_is(echo, text):
    assert echo(text) == text


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    """A text through `Adb.shell`, quoted, and back; with a server of its own, which knows no other device."""
    require_program("adb")
    folder = tmp_path_factory.mktemp("echo")
    with Server(folder) as server, Adbd(folder) as adbd:
        server.adb("connect", adbd.serial)
        adb = Adb(adbd.serial, 1.0, SILENT, adbd.serial)

        def through(text):
            with pytest.MonkeyPatch.context() as port:
                port.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
                return adb.shell(f"printf %s {shlex.quote(text)}")[1]

        yield through


@pytest.mark.parametrize("folder", ["relative", "/", "/data/../..", "/sdcard/../"])
def test_a_folder_that_cannot_be_ours_is_an_error(phone, folder):
    with pytest.raises(DeviceError, match="absolute path") as error, phone.runner(folder=folder):
        pass
    one_line(error)


def test_what_else_is_in_the_folder_stays(phone, model):
    kept = phone.root / "data/local/tmp/mine"
    kept.write_text("precious")
    with phone.runner(folder="/data/local/tmp") as runner:
        assert isinstance(runner.measure(job(model)), Measurement)
    assert phone.left() == ["data/local/tmp/mine"]


def test_a_model_that_cannot_be_read_is_an_error_and_the_next_one_works(phone, model, tmp_path):
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"nothing")
    with phone.runner() as runner:
        assert "Failed to load" in runner.measure(job(bad)).error
        assert "No such file" in runner.measure(job(tmp_path / "none.tflite")).error
        assert isinstance(runner.measure(job(model)), Measurement)


def test_a_model_that_hangs_is_given_up_and_leaves_no_process(phone, model):
    phone.adbd.environment["STAND_IN_HANG"] = "60"
    with phone.runner() as runner:
        runner.bring([model], SILENT)
        assert "no answer in 1 s" in runner.measure(job(model), timeout_s=1.0).error
        assert not processes(phone)
        phone.adbd.environment.pop("STAND_IN_HANG")
        assert isinstance(runner.measure(job(model)), Measurement)


def test_a_tool_that_dies_of_a_signal_is_told_with_it_and_the_next_model_works(phone, model):
    phone.adbd.environment["STAND_IN_CRASH"] = str(int(signal.SIGSEGV))
    with phone.runner() as runner:
        answer = runner.measure(job(model))
        assert isinstance(answer, Broken)
        assert "benchmark_model crashed (SIGSEGV)" in answer.error
        assert "no kernel for this processor" in answer.error
        phone.adbd.environment.pop("STAND_IN_CRASH")
        assert isinstance(runner.measure(job(model)), Measurement)


# -- away ----------------------------------------------------------------------------------------------------


def test_unplugged_in_mid_push_it_goes_on(phone, models):
    phone.adbd.bytes_left, phone.adbd.away_s = models["large"].stat().st_size // 2 + 20_000, 0.5
    with phone.runner() as runner:
        runner.bring([models["large"], models["small"]], SILENT)
        assert isinstance(runner.measure(job(models["large"])), Measurement)
    assert any("is back" in note for note in phone.notes)
    assert phone.left() == []


def test_unplugged_in_mid_run_the_model_is_measured_again(phone, model):
    phone.adbd.drop_at, phone.adbd.away_s = "--graph", 0.5
    with phone.runner() as runner:
        answer = runner.measure(job(model))
    assert len(answer.samples_us) == 3
    assert any("is back" in note for note in phone.notes)
    assert phone.left() == []


def measured_while_away(runner, phone, model):
    runner.bring([model], SILENT)
    phone.adbd.drop()
    runner.measure(job(model))


@pytest.mark.slow
def test_unplugged_for_good_it_says_so_after_the_wait(phone, model):
    with (
        pytest.raises(DeviceError, match=r"did not come back in 1 s") as error,
        phone.runner(wait_s=1) as runner,
    ):
        measured_while_away(runner, phone, model)
    one_line(error)
    assert any("could not clean up; once it is back run: adb -s" in note for note in phone.notes)


# -- which device --------------------------------------------------------------------------------------------


def test_a_phone_that_has_not_allowed_this_computer(phone_of):
    assert "Allow USB debugging" in refused(phone_of(authorised=False), "has not allowed")


def test_no_device(phone, server):
    server.adb("disconnect", phone.adbd.serial)
    assert "USB debugging" in refused(phone, "no Android device", serial="")


def test_a_device_that_is_not_there(phone):
    refused(phone, r"'emulator-5554' is not connected", serial="emulator-5554")


def test_two_devices_are_listed(phone, server, tmp_path, monkeypatch, model):
    with Adbd(tmp_path / "second") as second:
        for one in (phone.adbd, second):
            server.adb("connect", one.serial)
        text = refused(phone, "several devices", serial="")
        assert phone.adbd.serial in text
        assert second.serial in text
        monkeypatch.setenv("ANDROID_SERIAL", phone.adbd.serial)
        with phone.runner(serial="") as runner:
            assert isinstance(runner.measure(job(model)), Measurement)
        server.adb("disconnect", second.serial)


def test_a_device_that_is_offline(phone, server, monkeypatch):
    server.adb("connect", phone.adbd.serial)
    phone.adbd.drop()
    assert "plug it in again" in refused(phone, "is offline|not connected", serial="")


def test_adb_that_is_not_installed(phone, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(phone, "apt install adb")


def test_a_phone_is_measured_by_one_process_at_a_time(phone):
    with phone.runner():
        refused(phone, "another nasvit-edge is measuring")


def brought_to_a_full_phone(runner, phone, model):
    phone.adbd.room = 100
    runner.bring([model], SILENT)


def test_a_full_phone(phone, model):
    with pytest.raises(DeviceError, match=r"is full: no space left") as error, phone.runner() as runner:
        brought_to_a_full_phone(runner, phone, model)
    one_line(error)


def test_a_phone_without_room_for_all_models_gets_them_one_by_one(phone, models):
    (phone.root / "bin/df").write_text("#!/bin/sh\necho /dev/x 100 96 4 96% /data\n")
    (phone.root / "bin/df").chmod(0o755)
    with phone.runner() as runner:
        runner.bring(list(models.values()), SILENT)
        for model in models.values():
            assert isinstance(runner.measure(job(model)), Measurement)
            assert not [name for name in phone.left() if name.endswith(".tflite")]


# -- the tool ------------------------------------------------------------------------------------------------


def test_a_missing_tool_names_the_page_to_get_it_from(phone):
    for tool in ("", "/nowhere/benchmark_model"):
        assert "https://ai.google.dev/edge/litert" in refused(phone, "download it", tool=tool)


def test_another_tool_than_the_pinned_one_is_refused(phone):
    refused(phone, "has sha256", tool_sha256="0" * 64)
    with phone.runner(tool_sha256=sha256(phone.tool).upper()):
        pass


@pytest.mark.parametrize("content", [b"\x7fELF nothing", b"#!/bin/sh\necho hello\n", b""])
def test_a_tool_that_does_not_run_there_is_refused(phone, content):
    phone.tool.write_bytes(content)
    refused(phone, "does not run on the device")
    assert phone.left() == []


def test_a_tool_without_a_flag_that_is_needed_is_refused(phone):
    phone.tool.write_text("#!/bin/sh\nprintf -- '\\t--graph=\\tstring\\n\\t--num_threads=1\\tint\\n'\n")
    refused(phone, "has no flag --num_runs: too old")
