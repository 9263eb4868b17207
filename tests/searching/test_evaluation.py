"""Gathered values are those of the subnets themselves."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import TINY, space_of
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import COMPOSITION, predictor, table

import nasvit_edge as ne
from nasvit_edge import sizes
from nasvit_edge.errors import TableError
from nasvit_edge.latency import Context
from nasvit_edge.ops import lower, macs
from nasvit_edge.searching.evaluation import Evaluator
from nasvit_edge.searching.population import genes
from nasvit_edge.space import load_space

TINY_SPACE = space_of(TINY)
NASVIT = load_space("nasvit")


@given(
    space=st.sampled_from([TINY_SPACE, NASVIT, load_space("alphanet")]),
    seed=st.integers(0, 100),
    composed=st.booleans(),
    spill=st.sampled_from([0.0, 3.0]),
    estimated=st.sampled_from([0.0, 0.3]),
)
@settings(max_examples=8)
def test_every_value_is_that_of_the_subnet(space, seed, composed, spill, estimated):
    context = Context({"transformer": 1.3}, 0.01, spill, 0.02)
    latencies = table(space, seed, COMPOSITION if composed else None, context, estimated)
    accuracy = predictor(space, seed)
    evaluator = Evaluator(genes(space), [latencies, table(space, seed + 1)], accuracy)
    rows = evaluator.genes.random(np.random.default_rng(seed), 8)
    values = evaluator(rows)
    for i, row in enumerate(rows):
        config = evaluator.genes.config(row)
        prediction, ops = latencies.predict(config), lower(space, config)
        assert values.latency_ms[i, 0] == pytest.approx(prediction.ms, rel=1e-9)
        if composed:
            assert values.high_ms[i, 0] == pytest.approx(prediction.high_ms, rel=1e-9)
        assert np.isnan(values.high_ms[i, 1])
        assert values.accuracy[i] == pytest.approx(accuracy(config), abs=1e-12)
        assert values.macs[i] == macs(space, config)
        assert values.parameters[i] == sizes.config_parameters(space, config)
        assert values.bytes[i] == pytest.approx(sum(sizes.file_bytes(op, "onnx", "fp32") for op in ops))
        assert values.peak[i] == 4 * sizes.peak(space, config) == 4 * max(map(sizes.activations, ops))


def test_an_accuracy_that_is_any_function_is_asked_for_each_subnet():
    evaluator = Evaluator(genes(TINY_SPACE), [table(TINY_SPACE)], lambda config: config.resolution / 100)
    rows = evaluator.genes.random(np.random.default_rng(0), 30)
    resolutions = [evaluator.genes.config(row).resolution for row in rows]
    assert evaluator(rows).accuracy.tolist() == [r / 100 for r in resolutions]
    assert len(evaluator(rows[:0]).accuracy) == 0


def test_an_op_without_an_entry_is_never_zero():
    latencies = table(NASVIT)
    ops = dict(latencies.ops_ms)
    del ops[lower(NASVIT, NASVIT.largest())[-2].key()]
    from dataclasses import replace

    with pytest.raises(TableError, match="has no entry for op"):
        Evaluator(genes(NASVIT), [replace(latencies, ops_ms=ops)], ne.load_accuracy("nasvit"))
    # where the search may not reach it, nothing is missing
    Evaluator(
        genes(NASVIT, {"resolution": [192]}), [replace(latencies, ops_ms=ops)], ne.load_accuracy("nasvit")
    )
