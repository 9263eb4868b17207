"""One subnet before it is trained on: taken out, frozen in part, quantised."""

from __future__ import annotations

import pytest
import torch
from conftest import configs, one_line
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.data_sets import ImageSet
from nasvit_edge.errors import TrainingError
from nasvit_edge.model.checkpoint import load_supernet, random_supernet
from nasvit_edge.model.evaluate import subnet_accuracy
from nasvit_edge.model.narrow import narrowed
from nasvit_edge.train.finetune import Tuning, freeze, taken
from nasvit_edge.train.quantised import QuantisedSupernet


def _noise(space, count: int) -> ImageSet:
    rng = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count, 3, 12, 12), generator=rng, dtype=torch.uint8)
    return ImageSet("noise", pixels, torch.randint(0, space.classes, (count,), generator=rng))


@settings(max_examples=5)
@given(st.data())
def test_data_of_the_same_classes_keep_the_classifier(nano, data):
    config, supernet = data.draw(configs(nano)), load_supernet("nano", nano)
    found, expected = taken(supernet, config, "bundled", 0), narrowed(supernet, config)
    assert all(torch.equal(v, expected.state_dict()[n]) for n, v in found.state_dict().items())
    assert found.space == nano.only(config)


@pytest.mark.parametrize("below", ["", "mb1", "mb2", "last_conv", "classifier"])
def test_what_is_below_a_stage_is_frozen_and_nothing_else(tiny, below):
    supernet = random_supernet(tiny)
    freeze(supernet, below)
    order = ["first_conv", "mb1", "mb2", "last_conv", "classifier"]
    trained = {name.partition(".")[0] for name, p in supernet.named_parameters() if p.requires_grad}
    assert trained == set(order[order.index(below or "first_conv") :])


@pytest.mark.parametrize("below", ["first_conv", "mb9", "mb1.0", "\n"])
def test_another_name_lists_the_stages(tiny, below):
    with pytest.raises(TrainingError) as caught:
        freeze(random_supernet(tiny), below)
    assert "mb1, mb2, last_conv, classifier" in one_line(caught)


@pytest.mark.parametrize("quantise", ["", "int8"])
def test_accuracies_before_are_of_the_initial_weights(tiny, quantise):
    supernet = narrowed(random_supernet(tiny, 3), tiny.smallest())
    calibration, validation = _noise(tiny, 32), _noise(tiny, 40)
    expected = subnet_accuracy(supernet, supernet.space.largest(), calibration, validation)
    tuning = Tuning(quantise=quantise)
    made = tuning.prepare(supernet, calibration, validation)
    assert made.training
    assert isinstance(made, QuantisedSupernet) == bool(quantise)
    assert tuning.before["fp32"] == expected
    assert set(tuning.before) == {"fp32", *filter(None, [quantise])}
