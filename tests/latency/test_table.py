"""Latency tables: no silent zeros, no invented numbers."""

from __future__ import annotations

import json
import random

import pytest
from conftest import configs, one_line, only_user_errors
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge import files
from nasvit_edge.errors import NasvitEdgeError, TableError
from nasvit_edge.latency import LatencyTable, load_table
from nasvit_edge.ops import all_ops, lower
from nasvit_edge.space import SubnetConfig, load_space

SPACE = load_space("nano")
KEYS = [op.key() for op in all_ops(SPACE)]
COMPOSITION = {"scale": 1.1, "per_op_ms": 0.01, "offset_ms": 0.02, "error": 0.1}
RAW = {
    "schema": 2,
    "device": "host",
    "runtime": "onnxruntime",
    "threads": 1,
    "precision": "fp32",
    "space": "nano",
    "ops": {key: {"median_ms": 0.01 + 0.001 * i} for i, key in enumerate(KEYS)},
    "call_ms": 0.002,
    "composition": COMPOSITION,
    "context": None,
    "estimates": {},
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


def test_inside_a_network_kinds_count_by_their_factors_and_weights_spill(tmp_path):
    context = {"factors": {"transformer": 1.5}, "fits": 0.1, "spill_ms": 0.2}
    latencies = load_table(write(tmp_path, context=context))
    parts = latencies.parts(SPACE.largest())
    total = 1.5 * parts.ms["transformer"] + sum(ms for k, ms in parts.ms.items() if k != "transformer")
    assert parts.weights > 0.1
    expected = 1.1 * (total + 0.2 * (parts.weights - 0.1)) + 0.01 * parts.count + 0.02
    assert latencies.predict(SPACE.largest()).ms == pytest.approx(expected)


@given(share=st.floats(0.3, 0.9), seed=st.integers(0, 20))
@settings(max_examples=5)
def test_interpolated_ops_are_reported_and_widen_the_interval(tmp_path_factory, share, seed):
    ops = {op.key(): {"median_ms": 0.005 + op.macs() / 1e7} for op in all_ops(SPACE)}
    kept = {k: v for k, v in ops.items() if random.Random(f"{seed}{k}").random() < share}
    folder = tmp_path_factory.mktemp("t")
    whole = load_table(write(folder, ops=ops)).predict(SPACE.largest())
    table = only_user_errors(load_table, write(folder, ops=kept), interpolate=True)
    if isinstance(table, str):
        assert "too few entries" in table
        return
    prediction = table.predict(SPACE.largest())
    missing = [op.key() for op in lower(SPACE, SPACE.largest()) if op.key() not in kept]
    assert (prediction.coverage < 1) == bool(missing)
    assert prediction.ms == pytest.approx(whole.ms, rel=0.1)
    assert prediction.high_ms / prediction.ms >= whole.high_ms / whole.ms - 1e-9
    assert set(table.estimates) == set(ops) - set(kept)


def test_a_device_names_its_table_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latency_tables").mkdir()
    fields = {"runtime": "litert", "threads": 2, "precision": "int8"}
    (write(tmp_path, **fields)).rename(tmp_path / "latency_tables" / "host-litert-2t-int8-nano.json")
    assert load_table("host:litert:2t:int8", space="nano").path.name == "host-litert-2t-int8-nano.json"
    with pytest.raises(TableError, match="'gpu' is no runtime"):
        load_table("host:gpu", space="nano")


def test_a_device_with_but_one_table_needs_no_more_than_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latency_tables").mkdir()
    fields = {"device": "phone", "runtime": "litert"}
    write(tmp_path, **fields).rename(tmp_path / "latency_tables" / "phone-litert-1t-fp32-nano.json")
    assert load_table("phone", space="nano").path.name == "phone-litert-1t-fp32-nano.json"
    (tmp_path / "latency_tables" / "phone-litert-2t-fp32-nano.json").write_text("{}")
    with pytest.raises(TableError, match="phone-litert-1t-fp32-nano, phone-litert-2t-fp32-nano"):
        load_table("phone", space="nano")


def test_an_older_schema_says_what_to_run(tmp_path):
    with pytest.raises(TableError, match=r"schema 1.*nasvit-edge profile"):
        load_table(write(tmp_path, schema=1))


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


def test_every_shipped_table_loads():
    for path in files.shipped("latency_tables").glob("*.json"):
        table = load_table(path)
        assert isinstance(table.space.smallest(), SubnetConfig)
        assert table.predict(table.space.smallest()).ms > 0
