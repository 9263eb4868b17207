"""The shipped ImageNet predictor: monotone, separable, near the published subnets; bad files are refused."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import only_user_errors
from hypothesis import given
from hypothesis import strategies as st

import nasvit_edge as ne
from nasvit_edge import files
from nasvit_edge.errors import NasvitEdgeError, SpaceError
from nasvit_edge.space import get_gene, load_space

SPACE = load_space("nasvit")
ACCURACY = ne.load_accuracy("nasvit")
RAW = files.read_json(files.data("accuracy", "nasvit.json"), "predictor")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "imagenet_accuracy"

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
    assert "addition" in recorded


@given(seed=st.integers(0, 10**9))
def test_enlarging_one_gene_never_predicts_less(seed):
    rng = random.Random(seed)
    config = SPACE.sample(rng)
    values = [get_gene(config, gene) for gene in SPACE.genes]
    index = rng.randrange(len(values))  # the resolution among them
    larger = [c for c in SPACE.genes[index].choices if c >= values[index]]
    values[index] = rng.choice(larger)
    assert ACCURACY(SPACE.from_choices(values)) >= ACCURACY(config)


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


def test_a_config_of_another_space_is_refused():
    with pytest.raises(SpaceError, match="not of space"):
        ACCURACY(load_space("nano").smallest())
    with pytest.raises(SpaceError):
        ACCURACY(load_space("alphanet").largest())


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(NasvitEdgeError, match="nasvit"):
        ne.load_accuracy("imagenet")


@given(data=st.data())
def test_a_damaged_file_gives_one_line(tmp_path, data):
    values = json.loads(json.dumps(RAW))
    where, key = values, data.draw(st.sampled_from(sorted(values)))
    while isinstance(where[key], dict) and data.draw(st.booleans()):
        where = where[key]
        key = data.draw(st.sampled_from(sorted(where)))
    if data.draw(st.booleans()):
        del where[key]
    else:
        where[key] = data.draw(st.sampled_from([None, "x", -1, 2.5, [], {}, True, 10**400]))
    path = tmp_path / "p.json"
    path.write_text(json.dumps(values))
    accuracy = only_user_errors(ne.load_accuracy, path)
    if not isinstance(accuracy, str):  # what was changed does not matter to a prediction
        assert 0 < accuracy(SPACE.largest()) < 1


@pytest.mark.skipif(not SHARED.is_dir(), reason="the raw records are not here")
def test_the_shipped_coefficients_are_what_the_script_fits(tmp_path):
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "fit_imagenet_accuracy.py"
    code = (
        f"import sys, json; sys.path.insert(0, {str(script.parent)!r}); from pathlib import Path; "
        f"from fit_imagenet_accuracy import fit; print(json.dumps(fit(Path({str(SHARED)!r}))[0]))"
    )
    try:
        import scipy  # noqa: F401
    except ImportError:
        pytest.skip("scipy is absent")
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    again = json.loads(made.stdout.splitlines()[-1])
    for key, value in RAW["base"].items():
        assert again["base"][key] == pytest.approx(value, abs=1e-5)
    assert again["saturation"] == pytest.approx(RAW["saturation"], abs=1e-2)
