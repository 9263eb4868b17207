"""The training loop: it learns, and a run that was interrupted ends as one that was not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import one_line, only_user_errors
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.optimizer import register_optimizer_step_post_hook

from nasvit_edge.data_sets import ImageSet
from nasvit_edge.errors import CheckpointError, DataError, NasvitEdgeError
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.train.loop import TrainSettings, _batch, _learning_rate, augment, initialise, train

SETTINGS = TrainSettings(epochs=2, batch_size=16, shift=1, seed=3, learning_rate=5e-3)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    """Four kinds of stripes and spots with noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:12, :12]
    kinds = np.stack([y % 4 < 2, x % 4 < 2, (x + y) % 6 < 3, (x // 3 + y // 3) % 2 == 0])
    labels = rng.integers(0, 4, 96)
    pixels = np.clip(kinds[labels] * 180 + rng.normal(30, 20, (96, 12, 12)), 0, 255).astype(np.uint8)
    return ImageSet("stripes", torch.from_numpy(pixels)[:, None], torch.from_numpy(labels))


def same(one: Supernet, two: Supernet) -> bool:
    first, second = one.state_dict(), two.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def uninterrupted(tiny, images, tmp_path_factory) -> Supernet:
    return train(tiny, images, SETTINGS, tmp_path_factory.mktemp("whole"))


def test_the_initialisation_is_that_of_the_paper(tiny):
    torch.manual_seed(0)
    supernet = Supernet(tiny)
    initialise(supernet)
    parameters = dict(supernet.named_parameters())
    last = [p for n, p in parameters.items() if n.endswith("project.norm.weight")]
    tables = torch.cat([p.flatten() for n, p in parameters.items() if n.endswith("position_table")])
    scales = [p for n, p in parameters.items() if n.endswith(("scale_attention", "scale_mlp"))]
    others = [p for n, p in parameters.items() if n.endswith("norm.weight") and "project" not in n]
    assert len(last) == 3
    assert all(bool((p == 0).all()) for p in last)
    assert tables.std().item() == pytest.approx(0.02, rel=0.2)
    assert tables.abs().max() < 2
    assert all(bool((p == 1e-4).all()) for p in scales)
    assert all(bool((p == 1).all()) for p in others)
    assert parameters["mb2.1.attention.mix_logits.weight"].std() > 0
    assert supernet.get_buffer("first_conv.body.norm.running_var").tolist() == [1.0] * 8


def test_the_loss_falls(tiny, images, tmp_path):
    losses = []
    settings_ = dataclasses.replace(SETTINGS, epochs=10)
    supernet = train(tiny, images, settings_, tmp_path, on_step=lambda p: losses.append(p.loss))
    assert len(losses) == 60
    assert np.mean(losses[-6:]) < 0.6 * np.mean(losses[:6])
    assert not supernet.training
    assert supernet.source["kind"] == "trained"


def test_a_run_leaves_weights_that_load_with_what_made_them(tiny, images, tmp_path):
    supernet = train(tiny, images, SETTINGS, tmp_path)
    again = load_supernet(tmp_path / "supernet.safetensors", tiny)
    assert same(again, supernet)
    assert again.source["data"] == "stripes"
    assert again.source["settings"] == dataclasses.asdict(SETTINGS)


def test_progress_is_told_after_every_step(tiny, images, tmp_path):
    seen = []
    train(tiny, images, SETTINGS, tmp_path, on_step=lambda p: seen.append((p.step, p.steps)))
    assert seen == [(i + 1, 12) for i in range(12)]


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tiny, images, tmp_path, uninterrupted):
    assert same(train(tiny, images, SETTINGS, tmp_path / "same"), uninterrupted)
    other = dataclasses.replace(SETTINGS, seed=4)
    assert not same(train(tiny, images, other, tmp_path / "other"), uninterrupted)


@pytest.mark.parametrize("steps", [(1,), (6,), (12,), (3, 7, 8)])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    tiny, images, tmp_path, uninterrupted, steps
):
    torch.manual_seed(99)
    for i, step in enumerate(steps):
        with pytest.raises(KeyboardInterrupt):
            train(tiny, images, SETTINGS, tmp_path, resume=i > 0, on_step=_interrupt_at(step))
    resumed = train(tiny, images, SETTINGS, tmp_path, resume=True)
    assert same(resumed, uninterrupted)


def _interrupt_at(step: int):
    def on_step(progress):
        if progress.step == step:
            raise KeyboardInterrupt

    return on_step


def test_an_interrupt_in_the_middle_of_an_update_does_not_take_it_twice(
    tiny, images, tmp_path, uninterrupted
):
    """Weights that have moved belong to the next step: they must not be kept as those of this one."""
    updates = []

    def hook(*_arguments):
        updates.append(1)
        if len(updates) == 4:
            raise KeyboardInterrupt

    handle = register_optimizer_step_post_hook(hook)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(tiny, images, SETTINGS, tmp_path, checkpoint_seconds=0)
    finally:
        handle.remove()
    assert same(train(tiny, images, SETTINGS, tmp_path, resume=True), uninterrupted)


def test_checkpoints_are_kept_on_the_way(tiny, images, tmp_path):
    kept = []
    train(
        tiny, images, SETTINGS, tmp_path, checkpoint_seconds=0, on_step=lambda _: kept.append(_has(tmp_path))
    )
    assert kept == [False] + [True] * 11


def _has(folder: Path) -> bool:
    return (folder / "checkpoint.pt").exists()


def test_a_folder_that_holds_a_run_is_not_overwritten(tiny, images, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tiny, images, SETTINGS, tmp_path, on_step=_interrupt_at(2))
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(CheckpointError, match="--resume") as caught:
        train(tiny, images, SETTINGS, tmp_path)
    one_line(caught)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_nothing_to_resume_is_one_line(tiny, images, tmp_path):
    with pytest.raises(CheckpointError, match="no run to resume") as caught:
        train(tiny, images, SETTINGS, tmp_path, resume=True)
    one_line(caught)


@pytest.mark.parametrize(("change", "what"), [({"seed": 4}, "settings"), ({"batch_size": 8}, "settings")])
def test_the_checkpoint_of_another_run_is_refused(tiny, images, tmp_path, change, what):
    with pytest.raises(KeyboardInterrupt):
        train(tiny, images, SETTINGS, tmp_path, on_step=_interrupt_at(1))
    with pytest.raises(CheckpointError, match=what) as caught:
        train(tiny, images, dataclasses.replace(SETTINGS, **change), tmp_path, resume=True)
    assert "another run" in one_line(caught)
    fewer = images.take("fewer", torch.arange(40))
    with pytest.raises(CheckpointError, match="data, images"):
        train(tiny, fewer, SETTINGS, tmp_path, resume=True)


def test_the_checkpoint_of_another_space_of_that_name_is_refused(tiny, images, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tiny, images, SETTINGS, tmp_path, on_step=_interrupt_at(1))
    wider = dataclasses.replace(tiny, head=dataclasses.replace(tiny.head, width=(16, 64)))
    with pytest.raises(CheckpointError) as caught:
        train(wider, images, SETTINGS, tmp_path, resume=True)
    assert "checkpoint.pt" in one_line(caught)


@pytest.fixture(scope="module")
def kept(tiny, images, tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("kept")
    with pytest.raises(KeyboardInterrupt):
        train(tiny, images, SETTINGS, folder, on_step=_interrupt_at(12))
    return (folder / "checkpoint.pt").read_bytes()


@settings(max_examples=15)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_checkpoint_is_one_line(tiny, images, tmp_path_factory, kept, share):
    folder = tmp_path_factory.mktemp("cut")
    (folder / "checkpoint.pt").write_bytes(kept[: int(share * len(kept))])
    with pytest.raises(CheckpointError, match="damaged") as caught:
        train(tiny, images, SETTINGS, folder, resume=True)
    one_line(caught)


@settings(max_examples=15)
@given(share=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_changed_checkpoint_is_no_traceback(tiny, images, tmp_path_factory, kept, share, value):
    folder = tmp_path_factory.mktemp("changed")
    content = bytearray(kept)
    content[int(share**3 * len(content))] = value
    (folder / "checkpoint.pt").write_bytes(content)
    only_user_errors(train, tiny, images, SETTINGS, folder, resume=True)


@pytest.mark.parametrize(
    "state", [{}, [], {"run": 1, "step": 2}, {"run": "[]", "step": 1}, {"run": "{}", "step": 0}]
)
def test_something_else_as_a_checkpoint_is_one_line(tiny, images, tmp_path, state):
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError) as caught:
        train(tiny, images, SETTINGS, tmp_path, resume=True)
    assert "checkpoint.pt" in one_line(caught)


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_nothing_in_a_checkpoint_is_executed(tiny, images, tmp_path):
    torch.save({"run": Bomb(tmp_path / "marker")}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError):
        train(tiny, images, SETTINGS, tmp_path, resume=True)
    assert not (tmp_path / "marker").exists()


def test_a_run_that_diverges_stops_with_one_line(tiny, images, tmp_path):
    wild = dataclasses.replace(SETTINGS, learning_rate=1e30, warmup=0.0, clip=1e30)
    with pytest.raises(NasvitEdgeError, match="diverged") as caught:
        train(tiny, images, wild, tmp_path)
    one_line(caught)
    assert not (tmp_path / "supernet.safetensors").exists()


def test_fewer_images_than_a_batch_are_refused(tiny, images, tmp_path):
    with pytest.raises(DataError, match="fewer than one batch"):
        train(tiny, images.take("few", torch.arange(15)), SETTINGS, tmp_path)


def test_a_folder_that_cannot_be_written_is_found_before_work_is_spent(tiny, images, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NasvitEdgeError) as caught:
        train(tiny, images, SETTINGS, tmp_path / "file")
    assert "--out" in one_line(caught)


# -- augmentation -------------------------------------------------------------------------------------


@given(st.integers(1, 5), st.sampled_from([1, 3]), st.integers(4, 9), st.integers(0, 3), st.integers(0, 99))
def test_augmented_images_keep_shape_and_type(count, channels, side, shift, seed):
    pixels = torch.randint(1, 256, (count, channels, side, side + 1), dtype=torch.uint8)
    moved = augment(pixels, shift, np.random.default_rng(seed))
    assert moved.shape == pixels.shape
    assert moved.dtype == torch.uint8
    assert set(moved.unique().tolist()) <= {0, *pixels.unique().tolist()}


def test_without_a_shift_images_are_flipped_or_as_they_were():
    pixels = torch.randint(0, 256, (64, 3, 5, 5), dtype=torch.uint8)
    moved = augment(pixels, 0, np.random.default_rng(0))
    kept = torch.tensor([torch.equal(a, b) for a, b in zip(moved, pixels, strict=True)])
    assert 16 < kept.sum() < 48
    assert torch.equal(moved[~kept], pixels[~kept].flip(3))


def test_images_are_moved_both_ways_by_up_to_the_shift():
    pixels = torch.zeros(400, 1, 9, 9, dtype=torch.uint8)
    pixels[:, :, 4, 4] = 255
    moved = augment(pixels, 2, np.random.default_rng(0))
    assert bool((moved.flatten(1).long().sum(1) == 255).all())
    places = moved[:, 0].nonzero()[:, 1:]
    assert set(places[:, 0].tolist()) == set(places[:, 1].tolist()) == {2, 3, 4, 5, 6}


def test_a_batch_is_a_function_of_seed_and_step(images):
    for step in (0, 5, 6, 11):
        one, two = _batch(images, step, SETTINGS), _batch(images, step, SETTINGS)
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])
        assert not torch.equal(one[0], _batch(images, step + 1, SETTINGS)[0])
        assert not torch.equal(one[0], _batch(images, step, dataclasses.replace(SETTINGS, seed=4))[0])


def test_each_step_moves_images_anew(images):
    alike = ImageSet("alike", images.pixels[:1].expand(96, -1, -1, -1), images.labels)
    assert not torch.equal(_batch(alike, 0, SETTINGS)[0], _batch(alike, 1, SETTINGS)[0])
    assert not torch.equal(_batch(alike, 0, SETTINGS)[0], _batch(alike, 6, SETTINGS)[0])


def test_an_epoch_takes_every_image_once(images):
    numbered = ImageSet("numbered", images.pixels, torch.arange(len(images)))
    for epoch in (0, 1):
        taken = torch.cat([_batch(numbered, 6 * epoch + i, SETTINGS)[1] for i in range(6)])
        assert sorted(taken.tolist()) == list(range(96))


def test_the_learning_rate_rises_then_falls_to_nothing():
    rates = [_learning_rate(step, 100, SETTINGS) for step in range(100)]
    assert rates[:5] == sorted(rates[:5])
    assert max(rates) == SETTINGS.learning_rate
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert 0 < rates[-1] < 0.01 * SETTINGS.learning_rate


def test_settings_are_plain_json():
    assert json.loads(json.dumps(dataclasses.asdict(SETTINGS)))["epochs"] == 2
