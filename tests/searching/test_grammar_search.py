"""Searches follow what a space's blocks leave open: tied, fixed and rising widths, blocks with genes of their own."""

from __future__ import annotations

import numpy as np
import pytest
from grammar_spaces import space_with
from made_up import COMPOSITION, predictor, table
from test_exact import SPILLING, brute, exact

from nasvit_edge.errors import SpaceError
from nasvit_edge.ops import macs
from nasvit_edge.searching.evaluation import Evaluator
from nasvit_edge.searching.population import genes
from nasvit_edge.searching.stages import explained
from nasvit_edge.sizes import peak

RISING = {"widths_rise": True, "resolutions": [8, 12]}
SPACES = {
    "tied": space_with({"width": "same"}, {"depth": [1, 2]}),
    "fixed": space_with({"width": 24, "depth": 2}, {"width": 32}),
    "rising": space_with({"width": [8, 16, 24], "depth": [1]}, {"depth": [1, 2]}, common=RISING),
    "rising-tied": space_with({"width": "same", "depth": [1]}, {"width": [16, 24]}, common=RISING),
    "rising-fixed": space_with({"width": 16, "depth": [1]}, {"width": [16, 24]}, common=RISING),
    "blocks": space_with({"kernel_size": [[3, 5], [3, 5]]}, {"depth": [1, 2]}),
    "elastic": space_with(
        {"se": [0, 1]}, {"depth": [2]}, {"mlps": [1, 2], "mlp_ratio": [1, 2], "value_ratio": [1, 2]}
    ),
    "decoder": space_with({"width": "same"}, {"depth": [1, 2]}, head={"kind": "mlp", "width": [8]}),
}


def made(space, **allowed) -> Evaluator:
    tables = [table(space, 1, COMPOSITION, SPILLING), table(space, 2)]
    return Evaluator(genes(space, **allowed), tables, predictor(space))


@pytest.mark.parametrize("name", SPACES)
def test_the_exact_front_is_that_of_brute_force(name):
    evaluator = made(SPACES[name])
    assert len(evaluator.genes.all_rows()) == evaluator.genes.size() == SPACES[name].size()
    actual, expected = exact(evaluator), brute(evaluator)
    assert actual.shape == expected.shape
    assert np.allclose(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SPACES)
def test_what_is_gathered_is_what_each_subnet_is(name):
    space, evaluator = SPACES[name], made(SPACES[name])
    rows = np.concatenate([evaluator.genes.extremes(), evaluator.genes.random(np.random.default_rng(0), 20)])
    configs, values = [evaluator.genes.config(row) for row in rows], evaluator(rows)
    assert [space.config(**config.to_dict()) for config in configs] == configs
    assert values.macs.tolist() == [macs(space, config) for config in configs]
    assert (values.peak / evaluator.activation_bytes).tolist() == [peak(space, config) for config in configs]
    latency = [evaluator.tables[0].predict(config).ms for config in configs]
    assert np.allclose(values.latency_ms[:, 0], latency, rtol=1e-9)
    assert np.allclose(values.accuracy, [evaluator.predictor(config) for config in configs])


@pytest.mark.parametrize("name", [name for name in SPACES if name.startswith("rising")])
def test_nothing_that_falls_is_ever_tried(name):
    space, evaluator = SPACES[name], made(SPACES[name])
    rng, every = np.random.default_rng(0), evaluator.genes
    rows = every.random(rng, 100)
    for some in (rows, every.mutated(rng, rows, 0.5), every.neighbours(rows[:20])):
        for row in some:
            space.config(**every.config(row).to_dict())
    for change in explained(evaluator, space.smallest()).changes:
        assert change.new > change.old


def test_choices_that_could_never_stand_in_a_row_are_taken_out():
    space = SPACES["rising"]
    assert genes(space, {"mb1 width": [24]}).restricted() == {"mb1 width": (24,), "mb2 width": (24,)}
    assert genes(space, drop={"mb2 width": [24]}).restricted()["mb1 width"] == (8, 16)
    with pytest.raises(SpaceError, match="mb2 width is left"):
        genes(space, {"mb1 width": [24], "mb2 width": [16]})
