"""Offline bundles: the session's jobs as a zip, and results that make the table, partial ones in any order."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import random
import shlex
import shutil
import zipfile
from pathlib import Path

import pytest
from commands import run
from conftest import TINIER, one_line, only_user_errors, require_module
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import parsed_table
from reference_coreml import BRIEF, SPACE, brief, bundle, faults, mac, measured, open_model

from nasvit_edge.device import load_device
from nasvit_edge.errors import DeviceError, MeasurementError, NasvitEdgeError
from nasvit_edge.flows import profile as profiling
from nasvit_edge.hints import PROGRAM
from nasvit_edge.listening import SILENT
from nasvit_edge.ops import all_ops
from nasvit_edge.profile import canary, offline, protocol
from nasvit_edge.profile.canary import canaries
from nasvit_edge.profile.offline import items_of, sealed, session_order, write_bundle
from nasvit_edge.profile.results import read_results
from nasvit_edge.profile.run import Choice, Sample

require_module("coremltools")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return bundle(tmp_path_factory)


@pytest.fixture(scope="module")
def jobs(made):
    with zipfile.ZipFile(made[0]) as archive:
        return json.loads(archive.read("jobs.json"))


@pytest.fixture(scope="module")
def results(tmp_path_factory, made):
    return json.loads(measured(tmp_path_factory).read_text())


@pytest.fixture
def folder(made, tmp_path):
    """A folder that waits for the bundle."""
    shutil.copytree(made[1], tmp_path / "t")
    return tmp_path / "t"


def written(value, folder):
    path = folder.parent / "result.json"
    path.write_text(json.dumps(value))
    return path


def test_every_op_and_subnet_is_asked_in_every_visit_between_canaries(jobs):
    order = list(session_order(items_of(SPACE, BRIEF, Choice(protocol="quick")), canaries(SPACE), BRIEF, 0))
    assert [job["id"] for job in jobs["jobs"]] == [asked.item.id for asked in order]
    ops = {job["id"] for job in jobs["jobs"]}
    assert {op.key() for op in all_ops(SPACE)} | {"empty"} <= ops
    assert sum(name.startswith("subnet:") for name in ops) == BRIEF.subnets
    assert len({job["nonce"] for job in jobs["jobs"]}) == len(jobs["jobs"])


@given(
    visits=st.integers(1, 4), count=st.integers(1, 200), seconds=st.floats(0.01, 2), seed=st.integers(0, 9)
)
def test_canaries_are_read_before_and_after_everything(visits, count, seconds, seed):
    class Asked:
        def __init__(self, name):
            self.id = name

    plan = protocol.Protocol(name="p", visits=visits, runs=1, seconds=seconds, most_seconds=1, subnets=1)
    items, between = [Asked(str(i)) for i in range(count)], [Asked(canary.PREFIX + c) for c in "ab"]
    order = list(session_order(items, between, plan, seed))
    pairs = [(a.item.id, a.visit) for a in order]
    assert len(set(pairs)) == len(pairs) == visits * count + 2 * (max(a.reading for a in order) + 1)
    assert {(str(i), v) for i in range(count) for v in range(visits)} <= set(pairs)
    reading, since = -1, 0.0
    for asked in order:
        is_canary = asked.item.id.startswith(canary.PREFIX)
        reading = asked.visit if is_canary else reading
        since = 0.0 if is_canary else since + seconds
        assert asked.reading == reading
        assert since <= max(plan.canary_seconds, seconds) + 1e-6
    assert order[-1].item.id.startswith(canary.PREFIX)


def test_the_bundle_holds_exactly_the_files_of_its_jobs_and_jobs_are_of_the_protocol(made, jobs):
    assert not faults(jobs, "bundle")
    with zipfile.ZipFile(made[0]) as archive:
        held = {name: archive.read(name) for name in archive.namelist() if name != "jobs.json"}
    listed = {f["sha256"]: f["bytes"] for job in jobs["jobs"] for f in job["files"]}
    assert {f"files/{digest}" for digest in listed} == set(held)
    for name, content in held.items():
        digest = name.removeprefix("files/")
        assert hashlib.sha256(content).hexdigest() == digest
        assert len(content) == listed[digest]


def test_inputs_are_those_of_the_models(jobs):
    shapes = {job["id"]: job["input"]["shape"] for job in jobs["jobs"]}
    for op in all_ops(SPACE):
        assert shapes[op.key()] == [1, *op.in_shape()]
    assert shapes["empty"] == [1, 8]


def test_the_same_command_writes_the_same_bundle_and_keeps_what_was_read(jobs, tmp_path, tmp_path_factory):
    device, choice = load_device("iphone"), Choice(protocol="quick")
    with brief(tmp_path_factory):
        first = write_bundle(SPACE, device, choice, tmp_path / "a.zip", out=tmp_path)
        (state,) = tmp_path.glob(".*.offline.json")
        state.write_text("kept")
        again = write_bundle(SPACE, device, choice, tmp_path / "b.zip", out=tmp_path)
    assert first.uuid == again.uuid
    assert first.jobs == again.jobs == len(jobs["jobs"])
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert state.read_text() == "kept"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([state.name, "a.zip", "b.zip"])


def test_results_make_the_table_and_nothing_is_left_over(folder, results):
    table = read_results(written(results, folder), SPACE, out=folder)
    assert (
        [path.name for path in folder.iterdir() if path.suffix != ".lock"]
        == [table.name]
        == ["iphone-coreml-1t-fp16-tiny.json"]
    )
    raw = json.loads(table.read_text())
    loaded = parsed_table(table, raw, SPACE)
    assert set(loaded.ops_ms) == {op.key() for op in all_ops(SPACE)}
    assert loaded.predict(SPACE.smallest()).ms < loaded.predict(SPACE.largest()).ms
    assert raw["fingerprint"] == results["description"]["about"]
    assert raw["target"] == "iphone"
    assert raw["runtime_version"] == results["description"]["runtimes"]["coreml"]
    assert len(raw["canaries"]["readings"]) >= 2
    assert all(entry["graph"] for entry in raw["ops"].values())


@given(cuts=st.lists(st.floats(0, 1), min_size=1, max_size=4), seed=st.integers(0, 99))
@settings(max_examples=8)
def test_partial_results_add_up_in_any_order_to_the_same_table(made, results, tmp_path_factory, cuts, seed):
    folder = tmp_path_factory.mktemp("partial") / "t"
    shutil.copytree(made[1], folder)
    answers = list(results["answers"])
    bounds = [0, *sorted(round(cut * len(answers)) for cut in cuts), len(answers)]
    parts = [answers[a:b] for a, b in itertools.pairwise(bounds)]
    random.Random(seed).shuffle(parts)
    table = None
    for part in parts:
        path = written(results | {"answers": part}, folder)
        try:
            table = read_results(path, SPACE, out=folder)
        except NasvitEdgeError as error:
            one_line(error)
        if table is not None:
            break
    assert table is not None  # the last needed part makes it; canaries alone may be missing
    raw = json.loads(table.read_text())
    for key, entry in raw["ops"].items():
        (answer,) = [a for a in answers if a["id"] == key]
        assert entry["runs"] == len(answer["samples_us"]) * answer["inner"]


def test_missing_answers_are_counted_and_named_and_the_others_kept(folder, results):
    first, *_ = [a for a in results["answers"] if a["id"].startswith("mbconv")]
    failing = [
        {"id": a["id"], "nonce": a["nonce"], "error": "out of\nmemory"} if a is first else a
        for a in results["answers"]
    ]
    with pytest.raises(MeasurementError) as caught:
        read_results(written(results | {"answers": failing}, folder), SPACE, out=folder)
    text = one_line(caught)
    total = len([a for a in results["answers"] if not a["id"].startswith(canary.PREFIX)])
    assert f"1 of {total} measurements are missing ({first['id']}: out of memory)" in text
    assert f"{total - 1} are kept" in text
    assert read_results(written(results | {"answers": [first]}, folder), SPACE, out=folder).exists()


def test_results_of_another_device_or_system_are_not_mixed(folder, results):
    half = results["answers"][: len(results["answers"]) // 2]
    with pytest.raises(MeasurementError):
        read_results(written(results | {"answers": half}, folder), SPACE, out=folder)
    about = results["description"]["about"] | {"board": "iPhone99,9"}
    other = results | {"description": results["description"] | {"about": about}}
    with pytest.raises(DeviceError, match="board 'iPhone99,9' here") as caught:
        read_results(written(other, folder), SPACE, out=folder)
    one_line(caught)
    assert read_results(written(results, folder), SPACE, out=folder).exists()


def test_an_answer_of_another_runtime_version_is_not_mixed_in(folder, results):
    changed = [dict(a, runtime_version="iOS 1") if a["id"] == "empty" else a for a in results["answers"]]
    with pytest.raises(MeasurementError, match="empty: measured with 'iOS 1'"):
        read_results(written(results | {"answers": changed}, folder), SPACE, out=folder)


def test_results_nobody_waits_for_are_refused(folder, results):
    for value in (
        results | {"uuid": "00000000-0000-0000-0000-000000000000"},
        results | {"uuid": results["uuid"][:8] + "*"},
        results | {"uuid": None},
        {"schema": 1},
        {"schema": 2} | results,
        results | {"description": {}},
    ):
        value = {"schema": 1} | value if "schema" not in value else value
        if value == results:
            continue
        with pytest.raises(NasvitEdgeError) as caught:
            read_results(written(value, folder), SPACE, out=folder)
        one_line(caught)
    table = read_results(written(results, folder), SPACE, out=folder)
    with pytest.raises(NasvitEdgeError, match="does not wait for"):
        read_results(written(results, folder), SPACE, out=folder)
    assert table.exists()


def test_a_bundle_of_another_space_is_refused(folder, results, nano):
    with pytest.raises(NasvitEdgeError, match="another space 'tiny'"):
        read_results(written(results, folder), nano, out=folder)


@given(data=st.data())
@settings(max_examples=60)
def test_a_damaged_state_is_said_so(made, results, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("state") / "t"
    shutil.copytree(made[1], folder)
    (state,) = folder.glob(".*.offline.json")
    content = bytearray(state.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))
    state.write_bytes(bytes(content))
    outcome = only_user_errors(read_results, written(results, folder), SPACE, out=folder)
    if isinstance(outcome, str):
        assert not list(folder.glob("[!.]*"))


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just(1e9)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(data=st.data())
@settings(max_examples=80)
def test_no_change_of_a_result_file_is_a_traceback_or_a_number_that_was_not_measured(
    made, results, tmp_path_factory, data
):
    folder = tmp_path_factory.mktemp("fuzz") / "t"
    shutil.copytree(made[1], folder)
    value = json.loads(json.dumps(results))
    where = data.draw(st.sampled_from(["top", "description", "answer", "samples", "whole"]))
    if where == "whole":
        value = data.draw(JSON)
    elif where == "top":
        value[data.draw(st.sampled_from(sorted(value)))] = data.draw(JSON)
    elif where == "description":
        value["description"][data.draw(st.sampled_from(sorted(value["description"])))] = data.draw(JSON)
    else:
        answer = value["answers"][data.draw(st.integers(0, len(value["answers"]) - 1))]
        if where == "samples":
            answer["samples_us"][0] = data.draw(st.one_of(JSON, st.just(-5.0), st.just(0)))
        else:
            answer[data.draw(st.sampled_from([*sorted(answer), "windows", "before", "energy_mj"]))] = (
                data.draw(JSON)
            )
    outcome = only_user_errors(read_results, written(value, folder), SPACE, out=folder)
    if not isinstance(outcome, str):
        raw = json.loads(outcome.read_text())
        assert all(0 < entry["median_ms"] < 1e7 for entry in raw["ops"].values())
        assert set(raw["ops"]) == {op.key() for op in all_ops(SPACE)}


def test_a_sample_is_measured_and_the_rest_estimated(tmp_path, tmp_path_factory, results):
    choice = Choice(protocol="quick", sample=Sample(share=0.8))
    with brief(tmp_path_factory):
        done = write_bundle(SPACE, load_device("iphone"), choice, tmp_path / "s.zip", out=tmp_path / "t")
    with zipfile.ZipFile(tmp_path / "s.zip") as archive:
        asked = json.loads(archive.read("jobs.json"))["jobs"]
    known = {}
    for answer in results["answers"]:
        known[answer["id"]] = answer
    answers = [known[job["id"]] | {"nonce": job["nonce"]} for job in asked]
    value = results | {"uuid": done.uuid, "answers": answers}
    raw = json.loads(read_results(written(value, tmp_path / "t"), SPACE, out=tmp_path / "t").read_text())
    assert set(raw["ops"]) | set(raw["estimates"]) == {op.key() for op in all_ops(SPACE)}
    assert raw["sampling"]["share"] == 0.8


def test_devices_and_files_that_take_no_bundle_are_one_line(tmp_path):
    with pytest.raises(DeviceError, match="iphone and mac do") as caught:
        write_bundle(SPACE, load_device("host"), Choice(), tmp_path / "out.zip", out=tmp_path)
    one_line(caught)
    with pytest.raises(NasvitEdgeError, match="is a folder"):
        write_bundle(SPACE, load_device("iphone"), Choice(), tmp_path, out=tmp_path)


def test_a_zip_that_cannot_be_written_leaves_nothing(made, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(NasvitEdgeError, match="cannot write") as caught:
        offline._write_zip(blocked / "out.zip", {}, {})
    one_line(caught)
    with pytest.raises(NasvitEdgeError):
        offline._write_zip(tmp_path / "out.zip", {}, {"0" * 64: tmp_path / "missing"})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("key", "planted"),
    [
        ("device", "../../elsewhere"),
        ("device", "/elsewhere"),
        ("space", "a/b"),
        ("precision", "-x"),
        ("threads", "/../x"),
        ("target", "shared/lab.toml"),
    ],
)
def test_a_state_that_would_lead_the_table_elsewhere_is_refused_though_it_is_sealed(
    results, folder, key, planted
):
    """The seal is a hash of the content, which anybody can make."""
    (kept,) = folder.glob(".*.offline.json")
    state = json.loads(kept.read_text())
    (state if key == "target" else state["plan"])[key] = planted
    kept.write_text(json.dumps(sealed(state)))
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(NasvitEdgeError, match=key) as error:
        read_results(written(results, folder), SPACE, out=folder)
    one_line(error)
    assert sorted({*folder.parent.rglob("*")} - {folder.parent / "result.json"}) == before


def test_what_a_device_says_of_itself_is_short_plain_text(results, folder):
    copied = copy.deepcopy(results)
    copied["description"]["about"]["board"] = "x\x1b[2J" + "y" * 1000
    copied["description"]["conditions"] = {"a\nb": "c\u202ed", "deep": {"e": "f"}}
    raw = json.loads(read_results(written(copied, folder), SPACE, out=folder).read_text())
    assert raw["fingerprint"]["board"].isprintable()
    assert len(raw["fingerprint"]["board"]) <= 300
    assert raw["conditions"] == {"a b": "c d"}


def test_a_bundle_names_the_command_that_takes_its_results(tmp_path_factory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(TINIER)
    request = profiling.Request(space="tiny.toml", device=["iphone"], protocol="quick", out=Path("my tables"))
    with brief(tmp_path_factory):
        said = profiling.bundle(request, Path("out.zip"), SILENT)
    assert mac().main(["--offline", "out.zip", "--out", "result.json"], open_model) == 0
    words = shlex.split(said[said.index(PROGRAM) :])
    assert run(*words[1:]).returncode == 0
    assert list(Path("my tables").glob("iphone-*.json"))
