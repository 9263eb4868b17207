"""Recipes are data: every shipped one parses, every unknown key is an error with its name."""

from __future__ import annotations

import json

import pytest
from conftest import TINY, one_line, only_user_errors
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.errors import NasvitEdgeError, RecipeError
from nasvit_edge.train.recipe import Recipe, chosen, load_recipe, parse_recipe, recipe_names

NAMES = [
    "nasvit",
    "nasvit-no-projection",
    "nasvit-no-scaling",
    "alphanet",
    "bignas",
    "naive",
    "deit",
    "levit",
    "single",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_named_recipes_are_there(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.about


def test_space_and_recipe_may_be_left_to_each_other(tmp_path):
    space = tmp_path / "tiny.toml"
    space.write_text(TINY)
    assert chosen(None, None, [])[0] == "nano"
    assert chosen(None, None, [])[1].name == "nano"
    assert chosen("nasvit", None, [])[1].name == "nasvit"
    assert chosen(None, "alphanet", [])[0] == "alphanet"
    assert chosen("nano-cnn", "alphanet", ["run.epochs=3"])[1].run.epochs == 3
    assert chosen(str(space), None, [])[1].name == "nano"


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_survives_its_own_dict(name):
    recipe = load_recipe(name)
    assert parse_recipe(json.loads(json.dumps(recipe.to_dict())), name) == recipe


def test_nasvit_is_as_published():
    recipe = load_recipe("nasvit")
    assert (recipe.run.epochs, recipe.run.warmup_epochs, recipe.run.ema) == (400, 5, 0.99985)
    assert (recipe.optimizer.kind, recipe.optimizer.weight_decay) == ("adamw", 0)
    assert (recipe.optimizer.learning_rate, recipe.optimizer.reference_batch) == (3e-4, 512)
    assert (recipe.optimizer.first_rate, recipe.optimizer.last_rate) == (5e-7, 5e-6)
    assert (recipe.merge.clip_subnets, recipe.merge.largest_coefficient) == (1, 2)
    assert recipe.merge.project
    assert recipe.merge.project_from_epoch == 101
    augment = recipe.augment
    assert (augment.randaugment_ops, augment.randaugment_magnitude, augment.erasing) == (1, 1, 0.01)
    assert (augment.mixup, augment.cutmix, augment.crop) == (0.01, 0.01, "resized")


# What each has, field by field; what is not here is at its default. `nasvit` and `alphanet` are by section 4 of the spec, `deit` and `levit` as
# DeiT's table 9 and LeViT's section 4.1; `bignas` after its paper, and `naive` as NASViT's paper begins.
NASVIT = {
    "run": {"epochs": 400, "warmup_epochs": 5, "batch_size": 64, "ema": 0.99985},
    "subnets": {"smallest": True, "random": 2, "scaling": "switchable"},
    "loss": {"distillation": "alpha", "importance_clip": 5, "teacher_scale": 5},
    "merge": {"project": True, "project_from_epoch": 101, "largest_coefficient": 2, "clip_subnets": 1},
    "optimizer": {"kind": "adamw", "learning_rate": 3e-4, "first_rate": 5e-7, "last_rate": 5e-6}
    | {"reference_batch": 512, "weight_decay": 0, "momentum": 0.9, "schedule": "cosine"},
    "augment": {
        "crop": "resized",
        "flip": 0.5,
        "ops": "timm",
        "randaugment_ops": 1,
        "randaugment_magnitude": 1,
    }
    | {"erasing": 0.01, "erasing_fill": "noise", "mixup": 0.01, "cutmix": 0.01},
}
ALPHANET = {
    "run": {"epochs": 360, "warmup_epochs": 5, "batch_size": 64, "ema": 0},
    "subnets": {"smallest": True, "random": 2, "dropout": 0.2, "drop_connect": 0.2},
    "loss": {"distillation": "alpha", "importance_clip": 5, "label_smoothing": 0.1},
    "merge": {"project": False, "clip_subnets": 0, "clip_value": 1},
    "optimizer": {"kind": "sgd", "learning_rate": 0.1, "first_rate": 0, "last_rate": 0, "momentum": 0.9}
    | {"reference_batch": 256, "least_factor": 1, "weight_decay": 1e-5},
    "augment": {"autoaugment": "v0", "randaugment_ops": 0, "erasing": 0, "mixup": 0, "cutmix": 0},
}
STRONG = {"ops": "timm", "randaugment_ops": 2, "randaugment_magnitude": 9, "randaugment_increasing": True}
STRONG |= {"erasing": 0.25, "erasing_fill": "noise", "mixup": 0.8, "cutmix": 1.0}
BIGNAS = ALPHANET | {
    "run": ALPHANET["run"] | {"ema": 0.9999},
    "subnets": ALPHANET["subnets"] | {"drop_connect": 0},
    "loss": ALPHANET["loss"] | {"distillation": "kl"},
    "merge": {"project": False, "clip_subnets": 0},
    "optimizer": {"kind": "rmsprop", "schedule": "exponential", "learning_rate": 0.256, "first_rate": 0}
    | {"last_rate": 0.05 * 0.256, "reference_batch": 4096, "weight_decay": 1e-5, "momentum": 0.9}
    | {"decay_rate": 0.97, "decay_epochs": 2.4},
}
NAIVE = ALPHANET | {
    "subnets": ALPHANET["subnets"] | {"scaling": "none"},
    "optimizer": {"kind": "adam", "learning_rate": 3e-4, "first_rate": 5e-7, "last_rate": 5e-6}
    | {"reference_batch": 512, "weight_decay": 1e-5},
    "augment": STRONG,
}
DEIT = NASVIT | {"loss": NASVIT["loss"] | {"label_smoothing": 0.1}, "augment": NASVIT["augment"] | STRONG}
LEVIT = DEIT | {
    "run": NASVIT["run"] | {"epochs": 1000},
    "optimizer": NASVIT["optimizer"] | {"weight_decay": 0.025},
}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nasvit", NASVIT),
        ("alphanet", ALPHANET),
        ("bignas", BIGNAS),
        ("naive", NAIVE),
        ("deit", DEIT),
        ("levit", LEVIT),
    ],
)
def test_a_published_recipe_has_the_settings_of_its_text_and_no_others(name, said):
    content = load_recipe(name).to_dict()
    plain = Recipe(name=name).to_dict()
    assert {part: content[part] for part in said} == {part: plain[part] | said[part] for part in said}
    assert content["scenes"] == plain["scenes"]


def test_the_ablations_change_one_thing_each():
    nasvit = load_recipe("nasvit")
    changed = {
        name: _differences(nasvit, load_recipe(name))
        for name in ("nasvit-no-projection", "nasvit-no-scaling")
    }
    assert changed["nasvit-no-projection"] == {"merge.project"}
    assert changed["nasvit-no-scaling"] == {"subnets.scaling"}
    deit = _differences(nasvit, load_recipe("deit"))
    assert {key.split(".")[0] for key in deit} == {"augment", "loss"}


def _differences(one: Recipe, two: Recipe) -> set[str]:
    def flat(content, prefix=""):
        for key, value in content.items():
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    first, second = dict(flat(one.to_dict())), dict(flat(two.to_dict()))
    return {key for key in first if first[key] != second[key]} - {"name", "about"}


def test_values_are_changed_by_their_place():
    changed = load_recipe("nasvit").with_values(
        [
            "optimizer.learning_rate=2e-3",
            "augment.crop=padded",
            "run.epochs=5",
            "merge.project=false",
            "run.ema=0",
        ]
    )
    assert changed.optimizer.learning_rate == 2e-3
    assert (changed.augment.crop, changed.run.epochs, changed.merge.project, changed.run.ema) == (
        "padded",
        5,
        False,
        0.0,
    )


def test_a_wrong_key_is_answered_with_those_there_are():
    for text, there in {
        "run.epoks=3": "run has epochs, warmup_epochs",
        "run=3": "run has epochs",
        "rum.epochs=3": ", run, subnets",
        "single.x=3": ", single, run",
    }.items():
        with pytest.raises(RecipeError, match=there) as error:
            load_recipe("nasvit").with_values([text])
        one_line(error)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("optimizer.rate=1", "optimizer.rate"),
        ("optimizer=1", "optimizer"),
        ("run.epochs=0", "run.epochs"),
        ("run.epochs=1.5", "run.epochs"),
        ("run.epochs=true", "run.epochs"),
        ("merge.project=1", "merge.project"),
        ("augment.crop=zoom", "augment.crop"),
        ("optimizer.learning_rate=nan", "learning_rate"),
        ("run.parts=3", "run.parts"),
        ("nothing", "nothing"),
    ],
)
def test_a_bad_value_is_one_line_that_names_its_key(text, named):
    with pytest.raises(RecipeError) as error:
        load_recipe("nasvit").with_values([text])
    assert named in one_line(error)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("schema = 1", "'name'"),
        ('schema = 2\nname = "x"', "'schema'"),
        ('schema = 1\nname = "x"\nrandom = 1', "'random'"),
        ('schema = 1\nname = "x"\n[merge]\nprojection = true', "'merge.projection'"),
        ('schema = 1\nname = "x"\nmerge = 3', "'merge'"),
        ('schema = 1\nname = "x"\nextends = "nobody"', "'nobody'"),
        ('schema = 1\nname = "x"\nextends = 3', "'extends'"),
        ('schema = 1\nname = "x"\nextends = "mine.toml"', "'extends'"),
        ('schema = 1\nname = "x"\nextends = "../other.toml"', "a file beside it"),
        ('schema = 1\nname = "x"\nextends = "/other.toml"', "a file beside it"),
        ('schema = 1\nname = "x"\nspace = "/space.toml"', "'space'"),
        ('schema = 1\nname = "x"\n[subnets]\nrandom = 0\nsmallest = false', "subnets"),
        ("schema = ", "TOML"),
    ],
)
def test_a_bad_file_is_one_line_that_names_what_is_wrong(tmp_path, text, named):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(NasvitEdgeError) as error:
        load_recipe(path)
    assert named in one_line(error)


def test_a_file_may_extend_a_shipped_recipe_or_its_neighbour(tmp_path):
    (tmp_path / "a.toml").write_text('schema = 1\nextends = "deit"\nname = "a"\n[run]\nepochs = 7')
    (tmp_path / "b.toml").write_text('schema = 1\nextends = "a.toml"\nname = "b"\n[augment]\nmixup = 0')
    recipe = load_recipe(tmp_path / "b.toml")
    assert (recipe.name, recipe.run.epochs, recipe.augment.mixup, recipe.augment.cutmix) == ("b", 7, 0, 1)


@given(st.sampled_from(["run.epochs", "augment.erasing", "loss.distillation"]), st.text(max_size=12))
def test_no_changed_value_is_more_than_a_user_error(key, value):
    only_user_errors(load_recipe("nasvit").with_values, [f"{key}={value}"])
