"""Latency tables and compositions: no silent zeros, no invented numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import configs, one_line, only_user_errors
from hypothesis import given
from hypothesis import strategies as st

import nasvit_edge as ne
from nasvit_edge import files
from nasvit_edge.errors import NasvitEdgeError, TableError
from nasvit_edge.latency import LatencyTable, load_table
from nasvit_edge.ops import all_ops, lower
from nasvit_edge.space import SubnetConfig, load_space

SPACE = load_space("nano")
KEYS = [op.key() for op in all_ops(SPACE)]
COMPOSITION = {"scale": 1.1, "per_op_ms": 0.01, "offset_ms": 0.02, "error": 0.1}
RAW = {
    "schema": 1,
    "device": "host",
    "runtime": "onnxruntime",
    "threads": 1,
    "precision": "fp32",
    "space": "nano",
    "ops": {key: {"median_ms": 0.01 + 0.001 * i} for i, key in enumerate(KEYS)},
    "call_ms": 0.002,
    "composition": COMPOSITION,
}


def write(folder, **changes):
    path = folder / "table.json"
    path.write_text(json.dumps(RAW | changes))
    return path


@given(config=configs(SPACE))
def test_a_prediction_is_the_composition_of_its_ops(tmp_path_factory, config):
    table = load_table(write(tmp_path_factory.mktemp("t")))
    keys = [op.key() for op in lower(SPACE, config)]
    total = sum(RAW["ops"][key]["median_ms"] - 0.002 for key in keys)
    prediction = table.predict(config)
    assert prediction.ms == pytest.approx(1.1 * total + 0.01 * len(keys) + 0.02)
    assert prediction.low_ms < prediction.ms < prediction.high_ms
    assert prediction.coverage == 1.0


@given(config=configs(SPACE), stage=st.integers(0, 3))
def test_one_more_block_never_predicts_less(tmp_path_factory, config, stage):
    depths = SPACE.stages[stage].depth
    at = depths.index(config.depth[stage])
    if at + 1 == len(depths):
        return
    deeper = config.to_dict()
    deeper["depth"][stage] = depths[at + 1]
    table = load_table(write(tmp_path_factory.mktemp("t")))
    assert table.predict(SPACE.config(**deeper)).ms >= table.predict(config).ms


def test_an_op_without_an_entry_is_an_error_that_says_what_to_run(tmp_path):
    missing = lower(SPACE, SPACE.smallest())[2].key()
    table = load_table(write(tmp_path, ops={k: v for k, v in RAW["ops"].items() if k != missing}))
    with pytest.raises(TableError) as caught:
        table.predict(SPACE.smallest())
    assert missing in one_line(caught)
    assert "nasvit-edge profile" in one_line(caught)


def test_without_a_composition_the_ops_are_added_and_no_interval_is_invented(tmp_path):
    prediction = load_table(write(tmp_path, composition=None)).predict(SPACE.smallest())
    assert prediction.low_ms is None
    assert prediction.high_ms is None


def test_a_table_of_another_space_is_refused(tmp_path):
    with pytest.raises(TableError, match="not 'nasvit'"):
        load_table(write(tmp_path), space="nasvit")


def test_a_device_without_a_table_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TableError, match="nasvit-edge profile --device host --runtime litert"):
        load_table("host", runtime="litert", space="nano")


def test_tables_of_the_working_directory_come_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latency_tables").mkdir()
    write(tmp_path).rename(tmp_path / "latency_tables" / "host-onnxruntime-1t-fp32-nano.json")
    assert isinstance(load_table("host", space="nano"), LatencyTable)


@given(
    key=st.sampled_from(sorted(RAW)),
    value=st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]), st.just({})
    ),
)
def test_a_damaged_table_gives_one_line_or_a_sound_table(tmp_path_factory, key, value):
    path = write(tmp_path_factory.mktemp("t"), **{key: value})
    table = only_user_errors(load_table, path)
    if isinstance(table, LatencyTable):
        assert table.predict(SPACE.largest()).ms > 0


@given(
    value=st.one_of(
        st.floats(max_value=0), st.just(float("nan")), st.just(float("inf")), st.none(), st.text(max_size=3)
    )
)
def test_a_latency_that_is_none_is_refused(tmp_path_factory, value):
    path = write(tmp_path_factory.mktemp("t"), ops=RAW["ops"] | {KEYS[0]: {"median_ms": value}})
    with pytest.raises(NasvitEdgeError):
        load_table(path)


@given(
    scale=st.floats(0.5, 3), per_op=st.floats(0, 0.05), offset=st.floats(0, 0.5), seed=st.integers(0, 1000)
)
def test_a_composition_recovers_a_linear_truth_despite_outliers(scale, per_op, offset, seed):
    rng = np.random.default_rng(seed)
    sums, counts = rng.uniform(1, 30, 40), rng.integers(10, 45, 40)
    measured = scale * sums + per_op * counts + offset
    measured[:2] *= 1.6  # a busy moment
    fitted = ne.fit_composition(sums, counts, measured).predict(sums, counts)
    assert np.abs(fitted.ms[2:] / measured[2:] - 1).max() < 0.02


def test_a_composition_covers_about_what_its_interval_says():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(30):
        sums, counts = rng.uniform(1, 30, 80), rng.integers(10, 45, 80)
        measured = (1.2 * sums + 0.01 * counts + 0.1) * np.exp(rng.normal(0, 0.03, 80))
        made = ne.fit_composition(sums[:40], counts[:40], measured[:40]).predict(sums[40:], counts[40:])
        inside += list((made.low_ms <= measured[40:]) & (measured[40:] <= made.high_ms))
    assert 0.85 <= np.mean(inside) <= 0.97


@pytest.mark.parametrize(
    "lists",
    [
        ([1], [1], [1]),
        ([1, 2, 3], [1, 2], [1, 2, 3]),
        ([1, 2, 3], [1, 2, 3], [1, 0, 3]),
        ([1, 2, float("nan")], [1, 2, 3], [1, 2, 3]),
    ],
)
def test_a_composition_refuses_what_it_cannot_fit(lists):
    with pytest.raises(NasvitEdgeError):
        ne.fit_composition(*lists)


def test_every_shipped_table_loads():
    for path in files.shipped("latency_tables").glob("*.json"):
        table = load_table(path)
        assert isinstance(table.space.smallest(), SubnetConfig)
        assert table.predict(table.space.smallest()).ms > 0
