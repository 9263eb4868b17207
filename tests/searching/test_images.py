"""Accuracies on images: of each subnet by itself, and kept."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from nasvit_edge import data_sets
from nasvit_edge.searching.images import ImageAccuracy, _stored
from nasvit_edge.space import load_space

NANO = load_space("nano")
CONFIGS = [
    structs.replace(NANO.sample(random.Random(seed)), resolution=NANO.resolutions[0]) for seed in range(5)
]


@pytest.fixture(scope="module")
def source():
    loaded = ImageAccuracy.load("nano", NANO, data_sets.BUNDLED, workers=1)
    loaded.validation = loaded.validation.take("few", slice(0, 100))
    return loaded


@pytest.fixture(scope="module")
def alone(source):
    """Each measured as if it were the only one."""
    accuracies = []
    for config in CONFIGS:
        source.measured.clear()
        accuracies.append(source(config))
    source.measured.clear()
    return accuracies


def test_no_statistics_leak_from_one_subnet_to_the_next(source, alone):
    assert source.many(CONFIGS[::-1]) == alone[::-1]


def test_what_was_measured_is_not_measured_again(source, alone, monkeypatch):
    source.many(CONFIGS)
    monkeypatch.setattr(ImageAccuracy, "_one", lambda self, config: pytest.fail("measured again"))
    assert source.many(CONFIGS) == alone


def test_a_store_survives_and_only_whole_lines_of_it_count(tmp_path, alone):
    store = tmp_path / "a" / "store.jsonl"
    result = ImageAccuracy.load("nano", NANO, data_sets.BUNDLED, workers=1).keeping(store)
    result.validation = result.validation.take("few", slice(0, 100))
    result.many(CONFIGS[:2])
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
