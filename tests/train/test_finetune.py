"""One subnet before it is trained on: taken out, frozen in part, quantised."""

from __future__ import annotations

import pytest
import torch
from conftest import configs, one_line
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.data_sets import ImageSet
from nasvit_edge.errors import DataError, TrainingError
from nasvit_edge.model.accuracy import subnet_accuracy
from nasvit_edge.model.checkpoint import load_supernet, random_supernet
from nasvit_edge.model.narrow import narrowed
from nasvit_edge.train.calibration import Calibration, recipe_of
from nasvit_edge.train.finetune import Tuning, freeze, keep_function, known_labels, own_teacher, taken
from nasvit_edge.train.initial import settle
from nasvit_edge.train.quantised import QuantisedSupernet


def _noise(space, count: int) -> ImageSet:
    rng = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count, 3, 12, 12), generator=rng, dtype=torch.uint8)
    return ImageSet("noise", pixels, torch.randint(0, space.classes, (count,), generator=rng))


@settings(max_examples=5)
@given(st.data())
def test_data_of_the_same_classes_keep_the_classifier(nano, data):
    config, supernet = data.draw(configs(nano)), load_supernet("nano", nano)
    actual, expected = taken(supernet, config, "bundled", 0), narrowed(supernet, config)
    assert all(torch.equal(v, expected.state_dict()[n]) for n, v in actual.state_dict().items())
    assert actual.space == nano.only(config)


def test_a_classifier_knows_classes_by_their_names_in_its_own_order(tiny):
    named = tiny.with_labels(["b", "a", "T-shirt/top", "d"])
    assert known_labels(named, ["T-shirt_top", "a", "b", "d"], "photos") == named.label_names()
    assert known_labels(named, ["T-shirt_top", "a", "b"], "photos") is None
    assert known_labels(named, ["a", "b", "c", "d"], "photos") is None


def test_a_classifier_knows_classes_of_other_names_where_order_is_confirmed(tiny):
    named = tiny.with_labels(["b", "a", "c", "d"])
    results = ["a", "b", "x", "y"]
    assert known_labels(tiny, results, "photos") is None
    assert known_labels(tiny, results, "photos", in_order=True) == results
    assert known_labels(named, results, "photos", in_order=True) == ["b", "a", "x", "y"]
    with pytest.raises(DataError, match="have 2 classes; space 'tiny' has 4") as caught:
        known_labels(named, ["x", "y"], "photos", in_order=True)
    one_line(caught)


def test_a_classifier_knows_as_many_numbers_in_the_order_of_their_values(tiny):
    assert known_labels(tiny, ["1", "2", "10", "11"], "photos") == ["1", "2", "10", "11"]
    assert known_labels(tiny, ["0", "1", "2", "3"], "photos") == tiny.label_names()


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
    train, validation = _noise(tiny, 32), _noise(tiny, 40)
    calibration = Calibration(train, recipe_of(supernet.source, supernet.space), supernet.space)
    expected = subnet_accuracy(supernet, supernet.space.largest(), calibration, validation)
    tuning = Tuning(quantise=quantise)
    result, teacher = tuning.prepare(supernet, train, validation)
    assert result.training
    assert teacher is None
    assert isinstance(result, QuantisedSupernet) == bool(quantise)
    assert tuning.before["fp32"] == expected
    assert set(tuning.before) == {"fp32", *filter(None, [quantise])}


@settings(max_examples=4)
@given(st.data(), st.sampled_from([1.0, 5.0]))
def test_its_own_teacher_says_what_it_said_before_whatever_it_becomes(tiny, data, scale):
    supernet = narrowed(random_supernet(tiny, 3), data.draw(configs(tiny)))
    config, images = supernet.space.largest(), _noise(tiny, 32)
    tuning = Tuning(quantise="int8", itself=True, scale=scale)
    result, teacher = tuning.prepare(supernet, images, images)
    x, _ = next(iter(images.batches(tiny, config.resolution)))
    with torch.no_grad():
        expected = (scale * supernet.eval()(x, config)).softmax(-1)
        for network in (result, supernet):
            for parameter in network.parameters():
                parameter.zero_()
        assert torch.allclose(teacher(x), expected, atol=1e-5)


@settings(max_examples=4)
@given(st.data())
def test_the_function_of_fixed_statistics_survives_their_estimation(tiny, data):
    supernet = narrowed(random_supernet(tiny, 3), data.draw(configs(tiny)))
    config, images = supernet.space.largest(), _noise(tiny, 64)
    settle(supernet, images)
    fixed = {name: value.clone() for name, value in supernet.named_buffers()}
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.mul_(1 + 0.03 * torch.randn(parameter.shape, generator=rng))
        x, _ = next(iter(images.batches(tiny, config.resolution)))
        expected = supernet.eval()(x, config)
        plain = narrowed(supernet, config)
        settle(plain, images)
        keep_function(supernet, fixed, images)
        actual, lost = (network.eval()(x, config) - expected for network in (supernet, plain))
    assert float(actual.norm()) < 0.2 * float(lost.norm())


@pytest.mark.parametrize("which", ["smallest", "largest"])
def test_a_subnet_teaches_itself_on_images_larger_than_its_own_too(nano, which):
    narrow = narrowed(load_supernet("nano", nano), getattr(nano, which)()).eval()
    images = torch.randn(3, 3, nano.image_size, nano.image_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        said = narrow(images, narrow.space.largest()).softmax(-1)
    torch.testing.assert_close(own_teacher(narrow)(images), said, rtol=1e-4, atol=1e-5)
