"""The shipped ImageNet predictor: monotone, separable, near the published subnets; bad files are refused."""

from __future__ import annotations

import copy
import json
import random
import runpy
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from conftest import configs, one_line, only_user_errors
from hypothesis import given
from hypothesis import strategies as st

import nasvit_edge as ne
from nasvit_edge import files
from nasvit_edge.errors import NasvitEdgeError, SpaceError
from nasvit_edge.searching.accuracy import predictor_names
from nasvit_edge.space import SubnetConfig, get_gene, load_space

SPACE = load_space("nasvit")
ACCURACY = ne.load_accuracy("nasvit")
RAW = files.read_json(files.data("accuracy", "nasvit.json"), "predictor")
CHECKOUT = Path(__file__).resolve().parents[2]
SHARED = CHECKOUT.parent / "shared" / "imagenet_accuracy"

# Published top-1 (%): T1, T3, T5 of MathNAS (NeurIPS 2023, arXiv 2311.04943), the ends from the README of
# facebookresearch/NASViT.
PUBLISHED = {
    "smallest": (78.34, SPACE.smallest()),
    "T1": (
        78.4,
        (
            192,
            (16, 16, 24, 32, 64, 112, 176, 208, 1792),
            (1, 3, 3, 3, 3, 3, 3),
            (3,) * 7,
            (1, 4, 4, 6, 4, 6, 6),
        ),
    ),
    "T3": (
        81.3,
        (
            256,
            (24, 16, 24, 40, 64, 120, 184, 216, 1792),
            (1, 3, 4, 3, 6, 6, 6),
            (5, *(3,) * 6),
            (1, 5, 4, 5, 4, 6, 6),
        ),
    ),
    "T5": (
        82.5,
        (
            288,
            (24, 24, 24, 40, 72, 128, 184, 216, 1792),
            (2, 4, 6, 6, 8, 8, 5),
            (3,) * 7,
            (1, 5, 5, 4, 6, 6, 6),
        ),
    ),
    "largest": (82.79, SPACE.largest()),
}


def _config(value):
    if not isinstance(value, tuple):
        return value
    keys = ("resolution", "width", "depth", "kernel_size", "expand_ratio")
    return SPACE.config(**dict(zip(keys, value, strict=True)))


SUBNETS = {name: (top1, _config(value)) for name, (top1, value) in PUBLISHED.items()}


@pytest.mark.parametrize("name", SUBNETS)
def test_published_subnets_are_predicted_within_half_a_point(name):
    top1, config = SUBNETS[name]
    assert abs(100 * ACCURACY(config) - top1) <= 0.5


def test_published_subnets_are_ranked_right():
    predicted = [ACCURACY(config) for _, config in SUBNETS.values()]
    assert predicted == sorted(predicted)
    assert len(set(predicted)) == len(predicted)


@pytest.mark.parametrize("name", SUBNETS)
def test_each_was_within_half_a_point_when_left_out(name):
    recorded = RAW["validation"]["left_out"][name]
    assert recorded["published"] == SUBNETS[name][0]
    assert abs(recorded["predicted"] - recorded["published"]) <= 0.5
    assert recorded["addition"] == pytest.approx(100 * ACCURACY.additive(SUBNETS[name][1]), abs=2e-3)
    assert recorded["fitted"] == pytest.approx(100 * ACCURACY(SUBNETS[name][1]), abs=2e-3)


def test_the_five_were_ranked_right_when_each_was_left_out():
    left_out = [RAW["validation"]["left_out"][name]["predicted"] for name in SUBNETS]
    assert left_out == sorted(left_out)
    assert len(set(left_out)) == len(left_out)


def test_the_stated_uncertainty_covers_what_leaving_out_shows():
    recorded = RAW["validation"]["left_out"].values()
    worst = max(abs(r["predicted"] - r["published"]) for r in recorded) / 100
    assert worst <= ACCURACY.uncertainty <= 0.005
    assert "2311.04943" in ACCURACY.source
    assert "facebookresearch/NASViT" in ACCURACY.source


@given(config=configs(SPACE), data=st.data())
def test_enlarging_one_gene_never_predicts_less(config, data):
    gene = data.draw(st.sampled_from(SPACE.genes))  # the resolution among them
    values = {g.name: get_gene(config, g) for g in SPACE.genes}
    values[gene.name] = data.draw(st.sampled_from([c for c in gene.choices if c >= values[gene.name]]))
    larger = SPACE.from_choices(list(values.values()))
    assert ACCURACY(larger) >= ACCURACY(config)
    assert ACCURACY.additive(larger) >= ACCURACY.additive(config)


def test_a_larger_resolution_predicts_more_for_every_subnet_of_the_space():
    for low, high in zip(SPACE.resolutions, SPACE.resolutions[1:], strict=False):
        least = ACCURACY.base[high] - ACCURACY.base[low]
        for name, gains in ACCURACY.effects[high].items():  # the worst choice of each gene by itself
            least += min(gain - ACCURACY.effects[low][name][choice] for choice, gain in gains.items())
        assert least > 0


@given(seed=st.integers(0, 10**9))
def test_it_is_a_rising_function_of_a_sum_over_stages(seed):
    config = SPACE.sample(random.Random(seed))
    total = ACCURACY.base[config.resolution]
    total += ACCURACY.stage_effect(config.resolution, "first_conv", {"width": config.width[0]})
    total += ACCURACY.stage_effect(config.resolution, "last_conv", {"width": config.width[-1]})
    for i, stage in enumerate(SPACE.stages):
        chosen = {k: getattr(config, k)[i] for k in ("depth", "kernel_size", "expand_ratio")}
        total += ACCURACY.stage_effect(config.resolution, stage.name, chosen | {"width": config.width[i + 1]})
    assert total == pytest.approx(ACCURACY.additive(config), abs=1e-12)
    assert ACCURACY.link(total) == pytest.approx(ACCURACY(config), abs=1e-12)
    assert ACCURACY.link(total + 1e-6) > ACCURACY.link(total)


@given(first=configs(SPACE), second=configs(SPACE))
def test_totals_rank_subnets_as_predictions_do(first, second):
    a, b = ACCURACY.additive(first), ACCURACY.additive(second)
    if abs(a - b) > 1e-12:
        assert (a < b) == (ACCURACY(first) < ACCURACY(second))


def test_a_predictor_is_frozen():
    with pytest.raises(FrozenInstanceError):
        ACCURACY.saturation = 0.0


@pytest.mark.parametrize("space", ["nano", "alphanet"])
@pytest.mark.parametrize("end", ["smallest", "largest"])
def test_a_config_of_another_space_is_refused(space, end):
    with pytest.raises(SpaceError, match="not of space 'nasvit'") as error:
        ACCURACY(getattr(load_space(space), end)())
    one_line(error)


@pytest.mark.parametrize("kind", ["width", "depth", "kernel_size", "expand_ratio"])
@pytest.mark.parametrize("bad", [None, (), (3,), (3,) * 40, ([],) * 7, (True,) * 9, ("3",) * 7, (3.0,) * 7])
def test_a_config_made_by_hand_that_does_not_fit_is_refused(kind, bad):
    values = SPACE.smallest().to_dict() | {kind: bad}
    with pytest.raises(SpaceError, match="not of space 'nasvit'") as error:
        ACCURACY(SubnetConfig(*values.values()))
    one_line(error)


@pytest.mark.parametrize("bad", [None, {}, 3, SPACE.smallest().to_dict()])
def test_what_is_no_config_is_refused(bad):
    with pytest.raises(SpaceError):
        ACCURACY(bad)


def test_an_effect_of_a_stage_or_choice_that_is_not_there_is_refused():
    for resolution, stage, choices in (
        (200, "mb1", {"depth": 1}),
        (192, "mb9", {"depth": 3}),
        (192, "mb1", {"height": 1}),
        (192, "mb1", {"depth": [1]}),
    ):
        with pytest.raises(SpaceError, match="not of space"):
            ACCURACY.stage_effect(resolution, stage, choices)


def test_shipped_predictors_are_listed_and_load():
    assert "nasvit" in predictor_names()
    for name in predictor_names():
        assert ne.load_accuracy(name).name == name


@pytest.mark.parametrize("name", [p.stem for p in files.data("weights").glob("*.safetensors")])
def test_a_shipped_predictor_is_of_the_shipped_weights(name):
    if name in predictor_names():
        sha256 = files.sha256(files.data("weights", f"{name}.safetensors"))
        assert ne.load_accuracy(name).weights_sha256 == sha256


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(NasvitEdgeError, match="nasvit"):
        ne.load_accuracy("imagenet")


@given(
    name=st.text(max_size=30) | st.sampled_from(["a" * 5000, "a" * 5000 + ".json", "/", ".json", "\0.json"])
)
def test_any_name_that_is_none_gives_one_line(name):
    if name not in predictor_names():
        assert isinstance(only_user_errors(ne.load_accuracy, name), str)


def test_a_path_loads_like_the_shipped_name(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(RAW))
    mine = ne.load_accuracy(path)
    assert mine.name == "mine"
    assert mine(SPACE.largest()) == ACCURACY(SPACE.largest())


@given(cut=st.integers(0, 5000), junk=st.binary(max_size=20))
def test_a_truncated_file_gives_one_line(tmp_path, cut, junk):
    path = tmp_path / "p.json"
    path.write_bytes(files.data("accuracy", "nasvit.json").read_bytes()[:cut] + junk)
    assert "p.json" in only_user_errors(ne.load_accuracy, path)


def test_a_gain_that_falls_or_a_link_that_falls_is_refused(tmp_path):
    falling, bending = copy.deepcopy(RAW), copy.deepcopy(RAW)
    falling["effects"]["192"]["mb1 depth"] = {"1": 0.001, "2": 0.0}
    bending["saturation"] = 50.0
    for values, match in ((falling, "never fall"), (bending, "link would fall")):
        path = tmp_path / "p.json"
        path.write_text(json.dumps(values))
        with pytest.raises(NasvitEdgeError, match=match) as error:
            ne.load_accuracy(path)
        one_line(error)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the raw records are not here")
def test_the_shipped_coefficients_are_what_the_script_fits():
    pytest.importorskip("scipy")  # of the script, not of the package
    again = runpy.run_path(str(CHECKOUT / "benchmarks" / "fit_imagenet_accuracy.py"))["fit"](SHARED)
    assert again["base"] == pytest.approx(RAW["base"], abs=1e-6)
    assert again["saturation"] == pytest.approx(RAW["saturation"], abs=1e-3)
    for resolution, genes in RAW["effects"].items():
        for name, gains in genes.items():
            assert again["effects"][resolution][name] == pytest.approx(gains, abs=1e-6)
    for name, recorded in RAW["validation"]["left_out"].items():
        assert again["validation"]["left_out"][name] == pytest.approx(recorded, abs=2e-3)
