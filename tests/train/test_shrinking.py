"""Photographs that a space sees much smaller than they are: told before a run, with the space that would keep them."""

from __future__ import annotations

import tomllib
from types import SimpleNamespace

import image_folders
import numpy as np
import pytest
import torch
from conftest import TINY, edited
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.data_sets import ImageSet, folders
from nasvit_edge.data_sets.scenes import in_memory
from nasvit_edge.listening import Listener
from nasvit_edge.space import load_space, parse_space
from nasvit_edge.train import shrinking
from nasvit_edge.train.loop import Settings
from nasvit_edge.train.recipe import load_recipe
from nasvit_edge.train.run import TrainingRequest, run
from nasvit_edge.train.trial import Trial, scaled
from nasvit_edge.units import show_bytes

HOW = {"threads": 1}
RECIPE = load_recipe("nano").with_values(["run.batch_size=8", "run.epochs=2", "subnets.random=1"])


def _space(text, name, resolutions):
    message = edited(text, ("resolutions = [8, 12]", f"resolutions = {resolutions}"), ('"tiny"', f'"{name}"'))
    return parse_space(tomllib.loads(message), name)


TINY_SPACE = _space(TINY, "tiny", [8, 12])
WIDE = _space(TINY, "wide", [16, 24])


def _photos(root, side, count=4):
    return folders.as_file_set(
        folders.listing(image_folders.make(root, count=count, side=side)), image_folders.rule(12)
    )


def test_it_is_one_line_with_the_space_its_time_and_its_memory(tmp_path):
    text = shrinking.told(_photos(tmp_path, 30), TINY_SPACE, RECIPE, HOW, [WIDE])
    assert "\n" not in text
    start = "the median image has 30 x 30 px, of which space 'tiny' sees 12 px at most (2.5 times smaller): "
    assert text.startswith(
        start + "space 'wide' (16 to 24 px) would keep more of them; by this recipe it takes about "
    )
    assert "of memory" in text
    assert "(scaled from steps of 4 images)" in text


def test_of_a_recipe_for_one_subnet_it_is_the_largest_subnet_that_is_estimated(tmp_path):
    recipe = load_recipe("finetune").with_values(["run.batch_size=8", "run.epochs=2"])
    text = shrinking.told(_photos(tmp_path, 24), TINY_SPACE, recipe, HOW, [WIDE])
    assert "would keep them; by this recipe it takes its largest subnet, about " in text


@pytest.mark.parametrize(("side", "said"), [(12, False), (23, False), (24, True)])
def test_it_is_told_from_twice_the_largest_resolution_on(tmp_path, side, said, monkeypatch):
    monkeypatch.setattr(shrinking, "_effort", lambda *_: "a while")
    assert bool(shrinking.told(_photos(tmp_path, side), TINY_SPACE, RECIPE, HOW, [WIDE])) == said


def test_the_median_counts_and_not_some_large_images(tmp_path):
    image_folders.make(tmp_path, count=5, side=12)
    pillow = pytest.importorskip("PIL.Image")
    for i in range(4):
        pillow.new("RGB", (90, 80)).save(tmp_path / "a" / f"large {i}.png")
    few = folders.as_file_set(folders.listing(tmp_path), image_folders.rule(12))
    assert shrinking.median_size(few) == (12, 12)
    for i in range(30):
        pillow.new("RGB", (90, 80)).save(tmp_path / "b" / f"large {i}.png")
    many = folders.read(
        folders.listing(tmp_path), image_folders.rule(12)
    )  # in memory, as the space keeps them
    assert shrinking.median_size(many) == (80, 90)


def test_sets_without_files_have_the_size_that_they_are_stored_in():
    images = ImageSet("x", torch.zeros(6, 1, 28, 28, dtype=torch.uint8), torch.arange(6) % 4)
    assert (
        shrinking.median_size(images)
        == shrinking.median_size(images.fitted(image_folders.rule(12)))
        == (28, 28)
    )


def test_scenes_and_spaces_that_see_most_are_silent(tmp_path):
    scenes = in_memory("x", [(np.zeros((3, 90, 90), np.uint8), np.zeros((90, 90), np.uint8))])
    assert shrinking.told(scenes, TINY_SPACE, RECIPE, HOW, [WIDE]) == ""
    assert shrinking.told(_photos(tmp_path, 60), WIDE, RECIPE, HOW, [TINY_SPACE, WIDE]) == ""


@pytest.mark.parametrize("side", [100, 200, 288, 4000])
def test_photographs_of_any_size_are_for_nasvit_and_those_of_a_cnn_for_alphanet(side):
    assert shrinking.keeping(side, load_space("nano")).name == "nasvit"
    assert shrinking.keeping(side, load_space("nano-cnn")).name == "alphanet"
    assert shrinking.keeping(side, load_space("nasvit")) is None


def test_an_estimate_that_fails_is_told_and_ends_nothing(tmp_path):
    recipe = RECIPE.with_values(["run.batch_size=512"])
    text = shrinking.told(_photos(tmp_path, 30), TINY_SPACE, recipe, HOW, [WIDE])
    assert (
        "more time and memory than could be estimated here (16 images are fewer than the 512 of one step"
        in text
    )


@given(
    batch=st.sampled_from([8, 64, 96]),
    memory=st.integers(10**9, 10**10),
    fixed=st.integers(0, 10**9),
    activations=st.integers(0, 10**11),
)
def test_what_does_not_fit_is_offered_in_parts_that_do(batch, memory, fixed, activations):
    recipe = RECIPE.with_values([f"run.batch_size={batch}"])
    peak = fixed + activations
    actual = SimpleNamespace(peak_bytes=peak, memory_bytes=memory, activations_bytes=activations)
    said = shrinking._in_parts(actual, recipe)
    if peak <= memory:
        assert said == ""
    elif "run.parts=" in said:
        parts = int(said.rpartition("=")[2])
        assert batch % parts == 0
        assert fixed + activations / parts <= 0.8 * memory
        assert show_bytes(fixed + activations / parts) in said
    else:
        assert fixed + activations / batch > 0.8 * memory


@given(
    fixed=st.integers(0, 100), an_image=st.integers(0, 100), few=st.integers(1, 8), batch=st.integers(9, 64)
)
def test_one_measured_batch_and_what_is_fixed_give_the_peak_of_another(fixed, an_image, few, batch):
    measured = [Trial(few, 2.0, 0, fixed + few * an_image)]
    assert scaled(measured, batch, fixed) == (2.0 * batch / few, fixed + batch * an_image)


def test_a_run_says_it_before_it_begins_and_once(tmp_path, monkeypatch):
    monkeypatch.setattr(shrinking, "_effort", lambda *_: "a while")
    image_folders.make(tmp_path / "photos" / "train", count=8, side=40)
    image_folders.make(tmp_path / "photos" / "val", count=1, side=40)
    (tmp_path / "tiny.toml").write_text(TINY)
    settings = Settings(out=tmp_path / "out", threads=1, workers=0)
    asked = {"space": str(tmp_path / "tiny.toml"), "data": str(tmp_path / "photos"), "settings": settings}
    said: list[str] = []
    recipe = load_recipe("finetune").with_values(
        ["run.batch_size=32", "run.epochs=1", "subnets.scaling=switchable"]
    )
    run(
        TrainingRequest(**asked, recipe=recipe),
        listener=Listener(note=said.append, progress=lambda *_: said.append("a step")),
    )
    lines = [
        i for i, line in enumerate(said) if "would keep more of them; by this recipe it takes a while" in line
    ]
    assert "space 'nano' (20 to 32 px)" in said[lines[0]]
    assert len(lines) == 1
    assert lines[0] < said.index("a step")
    again: list[str] = []
    run(TrainingRequest(**asked, recipe=recipe, resume=True), listener=Listener(note=again.append))
    assert not any("would keep" in line for line in again)


@pytest.mark.slow
def test_the_shipped_space_is_estimated_in_seconds(tmp_path):
    text = shrinking.told(_photos(tmp_path, 80), load_space("nano").with_labels("abcd"), RECIPE, HOW)
    assert "space 'nasvit' (192 to 288 px) would keep them; by this recipe it takes about " in text
