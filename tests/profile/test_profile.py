"""Profiling: complete, resumable at any moment, and never a number that was not measured."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import TINY, one_line, only_user_errors, space_of
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.errors import MeasurementError, NasvitEdgeError
from nasvit_edge.latency import load_table
from nasvit_edge.latency.samples import unpack
from nasvit_edge.listening import Listener
from nasvit_edge.ops import all_ops
from nasvit_edge.profile import run as profiling
from nasvit_edge.profile.graphs import graph_hash
from nasvit_edge.profile.journal import Entry, Journal, locked
from nasvit_edge.profile.models import composition_subnets, op_module
from nasvit_edge.profile.protocol import PROTOCOLS, load_protocol
from nasvit_edge.space import load_space

pytest.importorskip("onnxruntime")
SPACE = space_of(TINY)
SHIPPED = dict(PROTOCOLS)  # before tests make `quick` quicker
SCRIPT = """
import sys
from pathlib import Path
from nasvit_edge.profile.run import profile
from nasvit_edge.space import load_space
profile(load_space(sys.argv[1]), protocol="default", out=Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    return profiling.profile(SPACE, protocol="quick", out=folder)


def test_a_table_has_every_op_once_with_its_provenance(profiled):
    raw = json.loads(profiled.read_text())
    assert sorted(raw["ops"]) == sorted(op.key() for op in all_ops(SPACE))
    assert raw["protocol"] == dataclasses.asdict(PROTOCOLS["quick"])
    assert raw["fingerprint"]["soc"]
    assert {"date", "runtime_version", "threads", "cores", "tool_version", "seed", "code"} <= set(raw)
    for entry in raw["ops"].values():
        assert 0 < entry["median_ms"] <= entry["p90_ms"]
        assert entry["runs"] >= 10
        assert len(entry["graph"]) == 24
        visits = [unpack(text) / 1e3 for text in entry["samples"]]
        assert sum(map(len, visits)) >= 10
        middle = np.median([np.median(visit) for visit in visits])
        assert middle == pytest.approx(entry["median_ms"], rel=1e-3)  # packed to 0.02 %


def test_the_canaries_are_in_the_table(profiled):
    canaries = json.loads(profiled.read_text())["canaries"]
    assert len(canaries["models"]) == 3
    assert len(canaries["readings"]) >= 2
    assert canaries["measured"] >= len(all_ops(SPACE))


def test_no_journal_or_lock_is_left(profiled):
    assert [path.name for path in profiled.parent.iterdir() if path.suffix != ".lock"] == [profiled.name]


def test_a_prediction_is_near_what_was_measured_whole(profiled):
    """Loose on purpose: test machines are busy."""
    table = load_table(profiled, space=_toml(profiled.parent.parent))
    for whole in table.file.subnets:
        predicted = table.predict(SPACE.config(**whole.config)).ms
        assert 0.3 < predicted / whole.median_ms < 3


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, 5])
def test_killed_again_and_again_it_still_measures_every_op_exactly_once(tmp_path, kills):
    toml = _toml(tmp_path)
    out = tmp_path / "tables"
    journal = out / ".host-onnxruntime-1t-fp32-tiny.partial.jsonl"
    rng = random.Random(0)
    finished: list[str] = []
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(toml), str(out)], start_new_session=True
        )
        known = len(finished)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (
            not journal.exists() or len(journal.read_bytes().splitlines()) < known + 3
        ):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.6))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        lines = journal.read_bytes().split(b"\n")[:-1]  # the last one may be half written
        now = [(e["id"], e["visit"]) for e in map(json.loads, lines[1:])]
        assert now[: len(finished)] == finished, "a finished measurement was lost or made again"
        assert len(set(now)) == len(now)
        finished = now
    subprocess.run([sys.executable, "-c", SCRIPT, str(toml), str(out)], check=True)
    raw = json.loads((out / "host-onnxruntime-1t-fp32-tiny.json").read_text())
    assert sorted(raw["ops"]) == sorted(op.key() for op in all_ops(SPACE))
    assert raw["canaries"]["set_aside"] or all(entry["visits"] == 3 for entry in raw["ops"].values())


def test_two_profiles_of_one_table_do_not_mix(tmp_path):
    lock = tmp_path / ".t.lock"
    with locked(lock), pytest.raises(NasvitEdgeError, match="another nasvit-edge profile"), locked(lock):
        pass


def entry(name, us):
    return Entry(id=name, visit=0, reading=0, samples_us=(us,), runtime_version="1")


def test_a_journal_of_the_same_setup_continues_whatever_json_makes_of_it(tmp_path):
    """Tuples come back as lists: the cores that a profile is pinned to are one."""
    setup = {"plan": {"cores": (1, 3), "seed": 0}}
    Journal(tmp_path / "j.jsonl", setup).add(entry("op", 1.0))
    assert Journal(tmp_path / "j.jsonl", setup).done == {("op", 0)}
    assert not (tmp_path / "j.old").exists()


def test_a_journal_of_another_setup_is_kept_aside(tmp_path):
    path = tmp_path / "j.jsonl"
    Journal(path, {"runtime": "1"}).add(entry("a", 1.0))
    assert Journal(path, {"runtime": "1"}).done == {("a", 0)}
    assert Journal(path, {"runtime": "2"}).done == set()
    assert path.with_suffix(".old").exists()


@given(cut=st.integers(0, 400), garbage=st.binary(max_size=20))
def test_a_journal_cut_anywhere_keeps_its_whole_lines(tmp_path_factory, cut, garbage):
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    journal = Journal(path, {"s": 1})
    for i in range(5):
        journal.add(entry(f"op{i}", 1.0 + i))
    content = path.read_bytes()
    path.write_bytes(content[:cut] + garbage)
    again = only_user_errors(Journal, path, {"s": 1})
    whole = content[:cut].count(b"\n") - 1
    assert len(again.done) >= min(5, max(0, whole))
    assert again.done <= journal.done


def test_an_op_that_fails_is_named_and_the_others_are_kept(tmp_path, monkeypatch):
    alone = SPACE.only(SPACE.smallest(), name="tiny")
    broken = all_ops(alone)[3].key()
    real = profiling.Models.path

    def path(models, item):
        path_made, lowering = real(models, item)
        if item.id == broken:
            path_made = tmp_path / "broken.onnx"
            path_made.write_bytes(b"not a model")
        return path_made, lowering

    monkeypatch.setattr(profiling.Models, "path", path)
    with pytest.raises(MeasurementError) as caught:
        profiling.profile(alone, protocol="quick", out=tmp_path / "t")
    assert broken in one_line(caught)
    journal = tmp_path / "t" / ".host-onnxruntime-1t-fp32-tiny.partial.jsonl"
    assert len(journal.read_text().splitlines()) > len(all_ops(alone))


def test_the_named_protocols_measure_ever_more():
    protocols = list(SHIPPED.values())
    assert list(SHIPPED) == ["quick", "default", "thorough"]
    for less, more in itertools.pairwise(protocols):
        assert less.visits < more.visits
        assert less.visits * less.most_seconds < more.visits * more.most_seconds
        assert less.subnets < more.subnets
    assert all(protocol.precision == 0.02 for protocol in protocols)
    with pytest.raises(NasvitEdgeError, match="quick, default, thorough"):
        load_protocol("slow")


@pytest.mark.slow
def test_a_sample_is_measured_and_the_rest_estimated(tmp_path):
    nano = load_space("nano")
    notes = []
    path = profiling.profile(
        nano,
        protocol="quick",
        out=tmp_path,
        sample=profiling.Sample(share=0.2, error=0.9),
        listener=Listener(note=notes.append),
    )
    table = load_table(path)
    file = table.file
    assert 0.2 * len(all_ops(nano)) - 1 <= len(file.ops) < 0.5 * len(all_ops(nano))
    assert set(file.ops) | set(file.estimates) == {op.key() for op in all_ops(nano)}
    assert not set(file.ops) & set(file.estimates)
    assert file.sampling.measured == len(file.ops)
    assert 0 < file.sampling.error <= 0.9
    assert table.predict(nano.largest()).coverage < 1
    assert any("cross-validated error" in text for text in notes)


def test_a_full_disk_is_said_so_and_finished_ops_are_kept(tmp_path):
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000));"
        "sys.argv[1:] = sys.argv[1:]; from nasvit_edge.cli import main; main()"
    )
    toml = _toml(tmp_path)
    arguments = ["profile", "--space", str(toml), "--protocol", "quick", "--out", str(tmp_path / "t")]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()[-1]
    assert "cannot write" in line
    left = list((tmp_path / "t").glob("*.json"))
    assert left == []


def test_the_composition_subnets_span_the_space():
    space = load_space("nasvit")
    chosen = composition_subnets(space, 24, seed=0)
    assert {space.smallest(), space.largest()} <= set(chosen)
    assert 20 <= len(chosen) <= 24
    assert chosen == composition_subnets(space, 24, seed=0)


def test_the_hash_of_a_lowering_changes_with_what_is_computed():
    ops = all_ops(SPACE)
    hashes = {graph_hash(op_module(op), (1, *op.in_shape())) for op in ops}
    assert len(hashes) == len(ops)
    again = {graph_hash(op_module(op), (1, *op.in_shape())) for op in ops}
    assert again == hashes


@pytest.mark.slow
def test_litert_measures_the_space_too(tmp_path):
    pytest.importorskip("litert_torch")
    path = profiling.profile(SPACE, runtime="litert", protocol="quick", out=tmp_path)
    assert json.loads(path.read_text())["runtime"] == "litert"


def _toml(folder):
    path = folder / "tiny.toml"
    path.write_text(TINY)
    return path
