"""What a subnet is explained by adds up to the subnet."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import COMPOSITION, predictor, table

from nasvit_edge import sizes
from nasvit_edge.latency import Context
from nasvit_edge.ops import lower, macs
from nasvit_edge.searching.evaluation import Evaluator
from nasvit_edge.searching.population import genes
from nasvit_edge.searching.stages import described, explained
from nasvit_edge.space import get_gene, load_space

NASVIT = load_space("nasvit")
ACCURACY = predictor(NASVIT)


@given(seed=st.integers(0, 1000), spill=st.sampled_from([0.0, 3.0]))
@settings(max_examples=6)
def test_stages_add_up(seed, spill):
    latencies = table(NASVIT, seed, COMPOSITION, Context({"transformer": 1.3}, 5.0, spill, 0.02))
    evaluator = Evaluator(genes(NASVIT), [latencies], ACCURACY)
    config = NASVIT.sample(random.Random(seed))
    stages = described(evaluator, config)
    latency = sum(stage.latency_ms for stage in stages) + COMPOSITION.offset_ms
    assert latency == pytest.approx(latencies.predict(config).ms)
    assert sum(stage.parameters for stage in stages) == sizes.config_parameters(NASVIT, config)
    assert sum(stage.macs for stage in stages) == macs(NASVIT, config)
    assert sum(len(stage.blocks) for stage in stages) == len(lower(NASVIT, config))
    assert sum(stage.parameter_share for stage in stages) == pytest.approx(1)
    assert [stage.width for stage in stages] == list(config.width)


@given(seed=st.integers(0, 1000))
@settings(max_examples=5)
def test_changes_are_the_differences_between_neighbours(seed):
    latencies = table(NASVIT, seed, COMPOSITION)
    config = NASVIT.sample(random.Random(seed))
    explanation = explained(Evaluator(genes(NASVIT), [latencies], ACCURACY), config)
    by_name = {gene.name: gene for gene in NASVIT.genes}
    for change in explanation.changes:
        gene = by_name[change.gene]
        values = {g.name: get_gene(config, g) for g in NASVIT.genes}
        assert values[gene.name] == change.old
        assert abs(gene.choices.index(change.old) - gene.choices.index(change.new)) == 1
        other = NASVIT.from_choices(list((values | {gene.name: change.new}).values()))
        assert change.latency_ms == pytest.approx(
            latencies.predict(other).ms - latencies.predict(config).ms, abs=1e-9
        )
        assert change.accuracy == pytest.approx(ACCURACY(other) - ACCURACY(config), abs=1e-9)
        assert change.macs == macs(NASVIT, other) - macs(NASVIT, config)


def test_the_smallest_choices_bring_nothing_and_only_grow():
    explanation = explained(Evaluator(genes(NASVIT), [table(NASVIT)], ACCURACY), NASVIT.smallest())
    assert {stage.accuracy for stage in explanation.stages} == {0}
    assert all(change.new > change.old for change in explanation.changes)


def test_genes_that_a_search_kept_fixed_do_not_change():
    some = genes(NASVIT, {"mb4 depth": [3], "resolution": [192]})
    explanation = explained(Evaluator(some, [table(NASVIT)], ACCURACY), NASVIT.smallest())
    assert not {"mb4 depth", "resolution"} & {change.gene for change in explanation.changes}
