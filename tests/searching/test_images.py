"""Accuracies on images: of each subnet by itself, kept, and the same however many processes measure."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge import data_sets
from nasvit_edge.searching.images import ImageAccuracy, _stored
from nasvit_edge.space import load_space

NANO = load_space("nano")
CONFIGS = [NANO.sample(random.Random(seed)) for seed in range(5)]
RUN = """
import json, os, random, sys
from pathlib import Path
from nasvit_edge.searching.images import ImageAccuracy
from nasvit_edge.space import load_space
space = load_space("nano")
source = ImageAccuracy.load("nano", space, "bundled", workers=1)
source.validation = source.validation.take("few", slice(0, 100))
found = source.many([space.sample(random.Random(seed)) for seed in range(5)])
Path(sys.argv[1], os.environ["RANK"]).write_text(json.dumps([source.writes, found]))
"""


@pytest.fixture(scope="module")
def source():
    made = ImageAccuracy.load("nano", NANO, data_sets.BUNDLED, workers=1)
    made.validation = made.validation.take("few", slice(0, 100))
    return made


@pytest.fixture(scope="module")
def alone(source):
    """Each measured as if it were the only one."""
    found = []
    for config in CONFIGS:
        source.measured.clear()
        found.append(source(config))
    source.measured.clear()
    return found


def test_no_statistics_leak_from_one_subnet_to_the_next(source, alone):
    assert source.many(CONFIGS[::-1]) == alone[::-1]


def test_what_was_measured_is_not_measured_again(source, alone, monkeypatch):
    source.many(CONFIGS)
    monkeypatch.setattr(ImageAccuracy, "_one", lambda self, config: pytest.fail("measured again"))
    assert source.many(CONFIGS) == alone


def test_a_store_survives_and_only_whole_lines_of_it_count(tmp_path, alone):
    store = tmp_path / "a" / "store.jsonl"
    made = ImageAccuracy.load("nano", NANO, data_sets.BUNDLED, workers=1).keeping(store)
    made.validation = made.validation.take("few", slice(0, 100))
    made.many(CONFIGS[:2])
    with store.open("a") as out:
        out.write('{"config": {"resolution": 1}, "accuracy": 0.5}\n{"accuracy": 2}\n[]\n{"conf')
    again = ImageAccuracy.load("nano", NANO, data_sets.BUNDLED).keeping(store)
    assert again.measured == dict(zip(CONFIGS[:2], alone[:2], strict=True))


@given(
    junk=st.lists(
        st.text() | st.binary().map(repr) | st.sampled_from(["null", "1e999", "[" * 9999]), max_size=5
    )
)
@settings(max_examples=50)
def test_a_damaged_store_is_never_a_traceback_or_a_wrong_number(tmp_path_factory, junk):
    path = tmp_path_factory.mktemp("s") / "store.jsonl"
    path.write_text("\n".join(junk), errors="replace")
    assert list(_stored(path, NANO)) == []


@pytest.mark.slow
def test_more_processes_measure_the_same(source, alone):
    made = ImageAccuracy.load("nano", NANO, data_sets.BUNDLED, workers=2)
    several = made.many(CONFIGS)
    assert made.pool is not None
    assert several == ImageAccuracy.load("nano", NANO, data_sets.BUNDLED, workers=1).many(CONFIGS)
    made.close()


@pytest.mark.slow
def test_two_processes_under_torchrun_measure_their_parts_and_know_all(tmp_path, alone):
    script = tmp_path / "run.py"
    script.write_text(RUN)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            str(script),
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads((tmp_path / rank).read_text()) for rank in "01"]
    assert found == [[True, alone], [False, alone]]
