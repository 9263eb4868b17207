"""Evaluating a supernet's subnets: which ones, on what, and the report."""

from __future__ import annotations

import csv
import io
import json
import random

import pytest
from conftest import TINY, one_line, only_user_errors, space_of
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge import cache, data_sets, records
from nasvit_edge.choosing.subnets import chosen
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.flows import evaluate as flow
from nasvit_edge.listening import Listener
from nasvit_edge.model.accuracy import subnet_accuracy
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.report.evaluate_text import remarks
from nasvit_edge.space import load_space
from nasvit_edge.train.calibration import calibration_for

NANO = load_space("nano")
TINY_SPACE = space_of(TINY)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "root", lambda: tmp_path / "cache")


def _request(**options) -> flow.Request:
    return flow.Request(**{"supernet": "nano", "data": "bundled", "workers": 1, **options})


def test_the_ends_and_random_subnets_are_measured_as_by_hand(tmp_path):
    done = []
    request = _request(
        subnets="min,random:1", seed=3, calibration_images=64, split="test", out=tmp_path / "e.csv"
    )
    evaluation = flow.evaluate(request, Listener(progress=lambda *steps: done.append(steps[:2])))
    assert done[-1] == (2, 2)
    supernet, images = load_supernet("nano", NANO), data_sets.bundled("test", NANO)
    calibration = calibration_for(supernet, "bundled", 64)
    rng = random.Random(3)
    configs = [NANO.smallest(), NANO.sample(rng)]
    assert [row.config for row in evaluation.subnets] == configs
    assert evaluation.subnets[0].accuracy == subnet_accuracy(supernet, configs[0], calibration, images)
    assert (evaluation.images, evaluation.calibration.images, evaluation.seed) == (2000, 64, 3)
    assert evaluation.weights["sha256"] == supernet.source["sha256"]
    assert evaluation.summary.random.count == 1
    rows = list(csv.DictReader(io.StringIO((tmp_path / "e.csv").read_text())))
    assert [json.loads(row["config"]) for row in rows] == [c.to_dict() for c in configs]
    assert "standard error" in remarks(evaluation)[0]
    json.dumps(records.content(evaluation), allow_nan=False)


def test_what_was_measured_for_a_search_is_not_measured_again(monkeypatch):
    first = flow.evaluate(_request(subnets="min"))
    monkeypatch.setattr(
        "nasvit_edge.model.accuracy.subnet_accuracy", lambda *_: pytest.fail("measured again")
    )
    assert flow.evaluate(_request(subnets="min")).subnets == first.subnets


def test_subnets_come_from_a_list_a_config_or_a_result(tmp_path):
    small, large = NANO.smallest(), NANO.largest()
    path = tmp_path / "some.json"
    for content, name, configs in (
        ([small.to_dict(), large.to_dict()], "listed", [small, large]),
        (large.to_dict(), "listed", [large]),
        ({"kind": "search result", "best": {"config": small.to_dict()}}, "winner", [small]),
    ):
        path.write_text(json.dumps(content))
        assert chosen(str(path), NANO, 0) == [(name, config) for config in configs]


@given(st.text(alphabet="minax,rdo:0123456789 .", max_size=24))
@settings(max_examples=200)
def test_any_text_names_subnets_or_is_one_line(text):
    outcome = only_user_errors(chosen, text, TINY_SPACE, 0)
    assert isinstance(outcome, str) or all(TINY_SPACE.config(**c.to_dict()) == c for _, c in outcome)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["kind", "best", "config", "width"]), inner)
    ),
    max_leaves=8,
)


@given(
    JSON
    | st.just({"kind": "search result"})
    | st.builds(lambda b: {"kind": "search result", "best": b}, JSON)
)
@settings(max_examples=200)
def test_any_json_is_subnets_or_one_line(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "subnets.json"
    path.write_text(json.dumps(value))
    assert str(path) in only_user_errors(chosen, str(path), TINY_SPACE, 0)


@given(st.binary(max_size=30))
def test_a_damaged_file_of_subnets_is_one_line(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(content)
    assert isinstance(only_user_errors(chosen, str(path), TINY_SPACE, 0), str)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"subnets": "min,largest"}, "'largest' is not known"),
        ({"subnets": "random:0"}, "random:N"),
        ({"subnets": "absent.json"}, "absent.json"),
        ({"split": "train"}, "--split is 'train'"),
        ({"supernet": "random:1"}, "add --space"),
        ({"supernet": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"data": "nowhere"}, "nowhere"),
        ({"supernet": "random:1", "space": "nasvit"}, "10 classes"),
    ],
)
def test_what_does_not_fit_is_one_line(options, part):
    with pytest.raises(NasvitEdgeError) as caught:
        flow.evaluate(_request(**options))
    assert part in one_line(caught)


def test_random_weights_are_told_apart(tmp_path):
    evaluation = flow.evaluate(
        _request(supernet="random:1", space="nano", subnets="min", calibration_images=64)
    )
    assert any("mean nothing" in line for line in remarks(evaluation))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
@settings(max_examples=50)
def test_the_summary_holds_for_any_accuracies(values):
    config = NANO.smallest()
    rows = [
        flow.EvaluatedSubnet(name="random", config=config, accuracy=v, macs=1, parameters=1) for v in values
    ]
    actual = flow.summary(rows).random
    assert actual.lowest - 1e-9 <= actual.mean <= actual.highest + 1e-9
    assert (actual.std is None) == (len(values) == 1)
