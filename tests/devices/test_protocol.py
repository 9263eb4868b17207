"""One schema for all runners: it is valid, and what they really send and are sent is of it."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys

import jsonschema
import msgspec
import pytest
from conftest import require_module
from hypothesis import given
from hypothesis import strategies as st
from reference_coreml import DEVICES, SCHEMA, SPACE, faults

from nasvit_edge.profile.models import Item, Models
from nasvit_edge.records import content
from nasvit_edge.runtimes import RUNTIMES
from nasvit_edge.transport import answers as replies
from nasvit_edge.transport import job as jobs
from nasvit_edge.transport.publish import published
from nasvit_edge.transport.ssh_link import Started


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_every_reference_leads_somewhere_and_every_definition_is_used():
    used = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(SCHEMA)))
    assert used <= set(SCHEMA["$defs"])
    assert set(SCHEMA["$defs"]) - used <= {"request", "results", "bundle", "ssh_request", "ssh_answer"}


def test_flags_are_those_that_tables_know():
    assert set(SCHEMA["$defs"]["measurement"]["properties"]["flags"]["items"]["enum"]) == set(replies.FLAGS)


def test_a_job_needs_what_has_no_default():
    needed = {field.name for field in dataclasses.fields(jobs.Job) if field.default is dataclasses.MISSING}
    assert needed == set(SCHEMA["$defs"]["job"]["required"])


def test_units_are_those_of_runtimes():
    units = {runtime.units for runtime in RUNTIMES.values() if runtime.units is not None}
    assert units == set(SCHEMA["$defs"]["job"]["properties"]["units"]["enum"])


def test_a_runner_over_ssh_starts_with_what_the_record_holds():
    started = SCHEMA["$defs"]["started"]
    assert set(started["properties"]) == {field.name for field in msgspec.structs.fields(Started)} | {"id"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    require_module("onnxruntime")
    return Models(SPACE, "onnxruntime", tmp_path_factory.mktemp("models")).path(Item("empty"))[0]


def job(model, **changes):
    values = {
        "id": "m",
        "model": str(model),
        "runtime": "onnxruntime",
        "threads": 1,
        "cores": (),
        "runs": 5,
        "seconds": 0.01,
        "most_seconds": 0.1,
        "precision": 0.05,
        "seed": 0,
    }
    return jobs.Job(**values | changes)


def asked(*requests):
    """The answers of the host's runner to lines on its stdin."""
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    command = [sys.executable, str(DEVICES / "host" / "runner.py")]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_what_the_hosts_runner_is_asked_and_answers_is_of_the_protocol(model):
    about = {"id": "about", "ask": "about"}
    requests = [
        about,
        json.loads(json.dumps(job(model).request())),
        json.loads(json.dumps(job(model, sustained_s=1.2).request())),
        json.loads(json.dumps(job("missing.onnx").request())),
        json.loads(json.dumps(jobs.requests([job(model, id="a", detail=True), job("missing.onnx", id="b")]))),
        json.loads(json.dumps(jobs.requests([job(model, id="a"), job(model, id="b")]))),
    ]
    for request in requests:
        assert not faults(request, "request")
    answers = asked(*requests)
    kinds = ("description", "measurement", "measurement", "error", "answers", "answers")
    for answer, kind in zip(answers, kinds, strict=True):
        assert not faults(answer, kind)
        assert not faults(answer, "answer")
    for answer in answers[1:3]:
        assert content(replies.measurement(answer, "m")) == answer  # nothing is lost
    assert answers[2]["windows"]
    assert answers[0]["turns"] is True
    assert "error" in answers[4]["answers"][1]
    first, second = answers[5]["answers"]
    assert len(first["turns"]) == len(second["turns"])


def test_what_a_device_pulls_is_of_the_protocol(model):
    request, sources = published(job(model))
    assert not faults(json.loads(json.dumps(request | {"nonce": "n"})), "job")
    assert [path.read_bytes() for path in sources.values()] == [model.read_bytes()]


NUMBERS = st.one_of(st.floats(), st.integers(-2, 10**11), st.booleans(), st.none(), st.text(max_size=3))
STATE = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {},
        optional={
            "clocks_mhz": st.one_of(NUMBERS, st.lists(NUMBERS, max_size=3)),
            "hottest_c": NUMBERS,
            "thermal": st.one_of(st.text(max_size=50), NUMBERS),
            "more": NUMBERS,
        },
    ),
)
ANSWER = st.fixed_dictionaries(
    {
        "samples_us": st.one_of(
            NUMBERS, st.lists(st.floats(0.1, 1e6), max_size=4), st.lists(NUMBERS, max_size=3)
        ),
        "runtime_version": st.one_of(st.just("1.0"), NUMBERS),
    },
    optional={
        "id": st.just("other"),
        "inner": NUMBERS,
        "load_ms": NUMBERS,
        "first_ms": NUMBERS,
        "cpu_share": NUMBERS,
        "energy_mj": NUMBERS,
        "flags": st.one_of(NUMBERS, st.lists(st.sampled_from([*replies.FLAGS, "other"]), max_size=3)),
        "windows": st.one_of(NUMBERS, st.lists(st.lists(st.floats(0.1, 9), max_size=3), max_size=3)),
        "before": STATE,
        "after": STATE,
        "more": NUMBERS,
    },
)


@given(answer=ANSWER)
def test_whatever_a_device_answers_what_is_taken_of_it_is_of_the_protocol(answer):
    actual = replies.measurement(answer, "m")
    kind = "error" if isinstance(actual, replies.Failure) else "measurement"
    assert not faults(content(actual), kind)


@pytest.mark.parametrize("kind", ["job", "measurement", "error", "description", "results", "bundle"])
@given(value=st.dictionaries(st.text(max_size=3), NUMBERS, max_size=2))
def test_anything_else_is_not_of_the_protocol(kind, value):
    assert faults(value, kind)
