"""Importing nn-Meter's tables: what is there, what is not, and never a number of something else."""

from __future__ import annotations

import json

import pytest
from conftest import one_line, only_user_errors
from hypothesis import given, settings
from hypothesis import strategies as st
from nn_meter_table import small_table

from nasvit_edge import records
from nasvit_edge.errors import TableError
from nasvit_edge.latency import load_table, nn_meter
from nasvit_edge.latency.table import LatencyTable, parsed
from nasvit_edge.ops import MBConv, TransformerBlock, all_ops
from nasvit_edge.space import load_space

SPACE = load_space("nasvit")


def write(folder, table):
    path = folder / "lut.json"
    path.write_text(json.dumps(table))
    return path


def test_a_block_of_a_transformer_is_one_attention_and_two_mlps():
    op = next(op for op in all_ops(SPACE) if isinstance(op, TransformerBlock))
    ms = 0.01 + op.macs() / 1e6
    assert nn_meter.op_ms(small_table(), op) == pytest.approx(1.5 * ms)


def test_what_is_missing_is_named_and_nothing_is_taken_for_it(tmp_path):
    content, missing = nn_meter.imported(nn_meter.read(write(tmp_path, small_table())), SPACE, "phone")
    odd = [op.key() for op in all_ops(SPACE) if isinstance(op, MBConv) and op.height % 2]
    assert sorted(missing["mbconv"]) == sorted(odd)
    assert content.provenance == "imported"
    assert {"threads", "delegate"} <= set(content.unknown)
    assert not set(odd) & set(content.ops)
    table = parsed(tmp_path / "t.json", content, SPACE)
    with pytest.raises(TableError, match="--interpolate"):
        table.predict(SPACE.largest())


def test_interpolated_it_predicts_every_subnet_and_says_how_much_was_there(tmp_path):
    content, _ = nn_meter.imported(nn_meter.read(write(tmp_path, small_table())), SPACE, "phone")
    table = parsed(tmp_path / "t.json", content, SPACE).interpolated()
    for config in (SPACE.smallest(), SPACE.largest()):
        prediction = table.predict(config)
        assert 0.5 < prediction.coverage < 1
        assert prediction.low_ms is None


@given(
    st.dictionaries(
        st.text(max_size=12),
        st.one_of(st.floats(), st.integers(), st.text(max_size=3), st.none()),
        max_size=4,
    )
)
def test_another_file_is_refused_in_one_line(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("t")
    outcome = only_user_errors(nn_meter.read, write(folder, content))
    assert isinstance(outcome, str)


@settings(max_examples=20)
@given(value=st.one_of(st.floats(max_value=0), st.just(float("inf")), st.booleans(), st.none(), st.just("1")))
def test_a_latency_that_is_none_is_refused(tmp_path_factory, value):
    path = write(tmp_path_factory.mktemp("t"), small_table() | {"conv_8_8_8_1_1_swish_3_se": value})
    with pytest.raises(Exception) as caught:
        nn_meter.read(path)
    assert one_line(caught)


@given(
    st.from_regex(
        r"(conv|nasvit_se_transds|nasvit_transattn|mbpool|firstconv)(_\d{1,4}){2,6}(_swish)?(_\d_se|_ln)?",
        fullmatch=True,
    )
)
def test_any_key_has_sound_features_or_none(key):
    result = nn_meter.key_features(key)
    if result is not None:
        assert min(result.sizes) > 0
        assert min(result.work) >= 0


def test_the_imported_table_is_one_of_ours(tmp_path):
    content, _ = nn_meter.imported(small_table(), SPACE, "phone")
    records.write(tmp_path / "t.json", content)
    assert isinstance(load_table(tmp_path / "t.json", space=SPACE), LatencyTable)
    assert json.loads((tmp_path / "t.json").read_text())["import"]["entries"] == len(content.ops)
