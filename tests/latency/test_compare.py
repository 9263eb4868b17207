"""Comparing tables."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from conftest import one_line
from hypothesis import given
from hypothesis import strategies as st
from made_up import table_file

from nasvit_edge.errors import TableError
from nasvit_edge.latency.compare import compare
from nasvit_edge.latency.file import OpEntry
from nasvit_edge.latency.table import LatencyTable
from nasvit_edge.ops import all_ops
from nasvit_edge.space import load_space

SPACE = load_space("nano")


def table(factor=1.0, kinds=None, date="d"):
    rng = random.Random(0)
    ops = {}
    for op in all_ops(SPACE):
        kind = op.key().split("/")[0]
        ops[op.key()] = (0.01 + op.macs() / 1e7) * rng.uniform(0.9, 1.1) * factor * (kinds or {}).get(kind, 1)
    return of(ops, date=date)


def of(ops_ms, **more):
    entries = {key: OpEntry(median_ms=ms) for key, ms in ops_ms.items()}
    return LatencyTable.of(Path("t.json"), SPACE, table_file(SPACE, ops=entries, **more))


@given(factor=st.floats(0.2, 5))
def test_one_factor_is_found_and_said_to_explain_the_difference(factor):
    comparison = compare(table(), table(factor))
    assert comparison.ratio == pytest.approx(factor, rel=1e-3)
    assert comparison.one_factor
    assert comparison.tau == 1
    assert comparison.differs == ()


def test_kinds_that_moved_apart_are_told_apart():
    comparison = compare(table(), table(kinds={"transformer": 1.9}, date="e"))
    assert not comparison.one_factor
    assert comparison.kinds["transformer"].ratio == pytest.approx(1.9, rel=1e-3)
    assert comparison.kinds["mbconv"].ratio == pytest.approx(1)
    assert comparison.differs == ("date: 'd' and 'e'",)


def test_tables_without_a_common_op_cannot_be_compared():
    other = of({"x": 1.0})
    with pytest.raises(TableError) as caught:
        compare(table(), other)
    assert "no op in common" in one_line(caught)
