"""A choice that was given is met or refused with what there is; only what was left out is filled in, and told."""

from __future__ import annotations

import itertools
import json

import pytest
from conftest import one_line, only_user_errors
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.choosing.table import answering
from nasvit_edge.errors import NasvitEdgeError, TableError
from nasvit_edge.latency import PRECISIONS, load_table, table_name
from nasvit_edge.latency.selection import KEYS, Wanted, heading, named, shown, table_for
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.ops import all_ops
from nasvit_edge.requests.options import TableChoice
from nasvit_edge.runtimes import RUNTIMES
from nasvit_edge.space import load_space

SPACE = load_space("nano")
OPS = {op.key(): {"median_ms": 0.01} for op in all_ops(SPACE)}
CHOICES = {"runtime": ("litert", "litert-gpu", "onnxruntime"), "threads": (1, 2, 8), "precision": PRECISIONS}
OTHER = {"runtime": "litert-gpu", "threads": 8, "precision": "w8"}  # than ANDROID's
ANDROID = {"device": "android", "runtime": "litert", "threads": 1, "precision": "int8"}


def written(folder, *, space="nano", **text):
    """A table under `latency_tables`, where commands look for one."""
    (folder / "latency_tables").mkdir(exist_ok=True)
    raw = {"schema": 2, "space": space, "call_ms": 0.001, "composition": None, "ops": OPS, **text}
    path = folder / "latency_tables" / table_name(*(text[key] for key in ("device", *KEYS)), space)
    path.write_text(json.dumps(raw | {"provenance": "imported"}))
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(**given):
    return answering(TableChoice(**given), SPACE, SILENT)


def given_subsets():
    """Every set of options, each with another value than the table has, or all but one with its own."""
    for count in (1, 2, 3):
        for keys in itertools.combinations(KEYS, count):
            for wrong in keys:
                yield {key: OTHER[key] if key == wrong else ANDROID[key] for key in keys}


@pytest.mark.parametrize("given", list(given_subsets()), ids=str)
def test_no_option_that_was_given_is_answered_from_anothers_table(here, given):
    """The matrix: options, the device's text, and both; only a table of something else is there."""
    path = written(here, **ANDROID)
    with pytest.raises(TableError) as caught:
        asked(device="android", **given)
    assert path.stem in one_line(caught)
    text = ":".join(["android", *(f"{v}t" if k == "threads" else v for k, v in given.items())])
    with pytest.raises(TableError) as caught:
        asked(device=text)
    assert path.stem in one_line(caught)
    with pytest.raises(TableError):
        load_table("android", space="nano", **given)
    with pytest.raises(TableError, match="contradicts it"):
        asked(table=str(path), **given)


def test_another_device_or_space_is_not_answered_either(here):
    path = written(here, **ANDROID)
    with pytest.raises(TableError, match="no latency table"):
        asked(device="jetson")
    with pytest.raises(NasvitEdgeError, match="unknown device"):
        asked(device="pixel")
    with pytest.raises(TableError, match="'nano-cifar10'"):
        answering(TableChoice(device="android"), load_space("nano-cifar10"), SILENT)
    with pytest.raises(TableError, match="contradicts"):
        asked(table=str(path), device="host")


@pytest.mark.parametrize("count", range(4))
def test_what_was_left_out_is_filled_in_and_told(here, count):
    written(here, **ANDROID)
    for keys in itertools.combinations(KEYS, count):
        notes = []
        given = {key: ANDROID[key] for key in keys}
        answer = answering(TableChoice(device="android", **given), SPACE, Listener(note=notes.append))
        assert answer.filled == {key: ANDROID[key] for key in KEYS if key not in given}
        assert bool(notes) == bool(answer.filled)
        assert all(shown({key: value}) in notes[0] for key, value in answer.filled.items())


def test_several_tables_are_not_chosen_from_unless_one_is_the_devices_own(here):
    written(here, device="phone", runtime="litert", threads=1, precision="fp32")
    written(here, device="phone", runtime="litert", threads=2, precision="fp32")
    with pytest.raises(TableError, match="phone-litert-1t-fp32-nano, phone-litert-2t-fp32-nano"):
        asked(device="phone")
    assert asked(device="phone", threads=2).table.file.threads == 2
    written(here, device="android", runtime="litert", threads=1, precision="fp32")
    written(here, device="android", runtime="litert-gpu", threads=1, precision="fp16")
    usual = asked(device="android")  # devices/android/device.toml
    assert (usual.table.file.runtime, usual.table.file.precision) == ("litert", "fp32")


def test_a_device_that_is_left_out_is_the_usual_one_and_told(here):
    written(here, device="host", runtime="onnxruntime", threads=1, precision="fp32")
    written(here, **ANDROID)
    assert asked().filled == {"device": "host", "runtime": "onnxruntime", "threads": 1, "precision": "fp32"}
    assert asked(usual="android").filled["device"] == "android"
    path = written(here, **ANDROID)
    assert asked(table=str(path), usual="host").table.path == path  # a usual device is no choice


def test_a_table_is_what_its_name_says(here):
    path = written(here, **ANDROID)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"precision": "fp32"}))
    with pytest.raises(TableError, match="is called as one of precision int8, but holds"):
        asked(device="android")


@given(
    st.sampled_from(["host", "a-b", "x.y"]),
    st.sampled_from(sorted(RUNTIMES)),
    st.integers(1, 256),
    st.sampled_from(PRECISIONS),
    st.sampled_from(["nano", "nano-8c", "my-space"]),
)
def test_a_tables_name_is_read_back(device, runtime, threads, precision, space):
    from pathlib import Path

    fields = heading(Path(table_name(device, runtime, threads, precision, space)))
    assert list(fields.values()) == [device, runtime, threads, precision, space]


@given(st.permutations(["litert", "2t", "int8"]), st.integers(0, 3))
def test_parts_of_a_device_come_in_any_order(parts, count):
    actual = named(":".join(["host", *parts[:count]]))
    meaning = {"litert": ("runtime", "litert"), "2t": ("threads", 2), "int8": ("precision", "int8")}
    assert actual == {"device": "host", **dict(meaning[part] for part in parts[:count])}


@pytest.mark.parametrize("text", ["host:litert:onnxruntime", "host:1t:2t", "host:fp32:int8"])
def test_two_parts_of_one_kind_contradict_each_other(text):
    with pytest.raises(TableError, match="names two"):
        named(text)


@given(st.text(max_size=20))
def test_any_text_is_a_device_or_one_line(text):
    outcome = only_user_errors(named, text)
    assert isinstance(outcome, str) or outcome["device"] == text.split(":")[0]


def test_an_option_that_contradicts_the_devices_text_is_refused():
    for key, (text, other) in {
        "runtime": ("host:litert", "onnxruntime"),
        "threads": ("host:2t", 1),
        "precision": ("host:int8", "fp32"),
    }.items():
        with pytest.raises(TableError, match="contradicts it"):
            Wanted.of(text, **{key: other})
    assert Wanted.of("host:litert", runtime="litert").runtime == "litert"
    with pytest.raises(NasvitEdgeError, match="unknown runtime"):
        Wanted.of("host", runtime="gpu")


def test_nothing_is_selected_for_a_subnets_space_but_its_familys_table(here):
    written(here, **ANDROID)
    alone = SPACE.only(SPACE.smallest())
    assert table_for(Wanted(device="android"), alone).path.stem == "android-litert-1t-int8-nano"
