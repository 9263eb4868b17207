"""The training loop: it learns, and a run that was interrupted ends as one that was not."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import one_line, only_user_errors
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from torch.optim.optimizer import register_optimizer_step_post_hook

from nasvit_edge.data_sets import ImageSet
from nasvit_edge.errors import CheckpointError, DataError, NasvitEdgeError, TrainingError
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.train.checkpoints import refuse_old
from nasvit_edge.train.initial import initialised
from nasvit_edge.train.loop import Settings, Trainer, Watched, finish
from nasvit_edge.train.recipe import Recipe, load_recipe
from nasvit_edge.train.world import World

RECIPE = load_recipe("nano").with_values(
    [
        "run.epochs=2",
        "run.batch_size=16",
        "run.warmup_epochs=0.3",
        "run.ema=0.8",
        "augment.padding=1",
        "optimizer.learning_rate=5e-3",
        "optimizer.reference_batch=16",
        "merge.project_from_epoch=1",
    ]
)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    """Four kinds of stripes and spots with noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:12, :12]
    kinds = np.stack([y % 4 < 2, x % 4 < 2, (x + y) % 6 < 3, (x // 3 + y // 3) % 2 == 0])
    labels = rng.integers(0, 4, 96)
    pixels = np.clip(kinds[labels] * 180 + rng.normal(30, 20, (96, 12, 12)), 0, 255).astype(np.uint8)
    return ImageSet("stripes", torch.from_numpy(pixels)[:, None], torch.from_numpy(labels))


def trainer(space, images, out, recipe: Recipe = RECIPE, **options) -> Trainer:
    """A run that is set up; `seed` and other settings by name."""
    out.mkdir(exist_ok=True)
    result = Settings(**{"out": out, "seed": 3, "threads": 1, "workers": 0, "checkpoint_s": 1e9, **options})
    supernet = initialised(space, result.seed, recipe.subnets.scaling)
    return Trainer(supernet, images, recipe, result, World())


def train(space, images, out, recipe: Recipe = RECIPE, *, resume=False, on_step=None, stop=None, **options):
    """A whole run; its supernet, or None where it was stopped."""
    run = trainer(space, images, out, recipe, **options)
    if resume:
        run.resume()
    else:
        refuse_old(out)
    heard = Watched(on_step=on_step or (lambda record, products: None), stop=stop or (lambda: False))
    return finish(run, images) if run.run(heard) else None


def interrupt_at(step: int):
    def on_step(record, _products):
        if record.step == step:
            raise KeyboardInterrupt

    return on_step


def same(one: Supernet, two: Supernet) -> bool:
    first, second = one.state_dict(), two.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def uninterrupted(tiny, images, tmp_path_factory) -> Supernet:
    return train(tiny, images, tmp_path_factory.mktemp("whole"))


@pytest.mark.slow
def test_the_loss_falls(tiny, images, tmp_path):
    losses = []
    recipe = RECIPE.with_values(["run.epochs=12"])
    supernet = train(tiny, images, tmp_path, recipe, on_step=lambda r, _: losses.append(r.loss))
    assert len(losses) == 72
    assert np.mean(losses[-6:]) < 0.6 * np.mean(losses[:6])
    assert not supernet.training
    assert supernet.source["kind"] == "trained"


def test_a_run_leaves_averaged_weights_that_load_with_what_made_them(tiny, images, tmp_path):
    run = trainer(tiny, images, tmp_path)
    assert run.run(Watched())
    result = finish(run, images)
    again = load_supernet(tmp_path / "supernet.safetensors", tiny)
    assert same(again, result)
    assert again.source["data"] == "stripes"
    assert again.source["recipe"] == RECIPE.to_dict()
    plain = dict(run.supernet.named_parameters())
    for value, average in zip(again.parameters(), run.average.weights, strict=True):
        assert torch.equal(value, average)
    assert any(not torch.equal(value, plain[name]) for name, value in again.named_parameters())


@pytest.mark.parametrize("scaling", ["shared", "none"])
def test_weights_keep_their_kind_of_layer_scaling(tiny, images, tmp_path, scaling):
    recipe = RECIPE.with_values([f"subnets.scaling={scaling}", "run.epochs=1"])
    result = train(tiny, images, tmp_path, recipe)
    again = load_supernet(tmp_path / "supernet.safetensors", tiny)
    assert again.scaling == scaling
    x = torch.randn(2, 3, 12, 12)
    assert torch.equal(again(x, tiny.largest()), result(x, tiny.largest()))


def test_the_record_of_a_step_says_what_happened(tiny, images, tmp_path):
    seen = []
    train(tiny, images, tmp_path, on_step=lambda r, p: seen.append((r, p)))
    assert [record.step for record, _ in seen] == list(range(1, 13))
    assert [record.epoch for record, _ in seen] == [0] * 6 + [1] * 6
    for record, products in seen:
        assert record.norm_largest == pytest.approx(float(products.largest.sum()) ** 0.5, rel=1e-5)
        assert 0 <= record.negative <= 1
        assert record.images_per_s > 0
        assert 0 <= record.waited <= 1
        assert record.learning_rate > 0


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tiny, images, tmp_path, uninterrupted):
    assert same(train(tiny, images, tmp_path / "same"), uninterrupted)
    assert not same(train(tiny, images, tmp_path / "other", seed=4), uninterrupted)


def test_projection_begins_with_its_epoch(tiny, images, tmp_path):
    late = RECIPE.with_values(["merge.project_from_epoch=2"])
    never = RECIPE.with_values(["merge.project=false"])
    one, two = (train(tiny, images, tmp_path / n, r) for n, r in (("late", late), ("never", never)))
    assert same(one, two)
    early = RECIPE.with_values(["merge.project_from_epoch=0"])
    assert not same(train(tiny, images, tmp_path / "early", early), two)


@pytest.mark.parametrize("steps", [(1,), (6,), (11,), (3, 7, 8)])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    tiny, images, tmp_path, uninterrupted, steps
):
    torch.manual_seed(99)
    for i, step in enumerate(steps):
        with pytest.raises(KeyboardInterrupt):
            train(tiny, images, tmp_path, resume=i > 0, on_step=interrupt_at(step))
    assert same(train(tiny, images, tmp_path, resume=True), uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [["optimizer.kind=sgd"], ["run.ema=0"], ["subnets.dropout=0.3"], ["run.parts=2"]]
)
def test_every_kind_of_recipe_resumes_exactly(tiny, images, tmp_path, changes):
    recipe = RECIPE.with_values([*changes, "run.epochs=1"])
    whole = train(tiny, images, tmp_path / "whole", recipe)
    with pytest.raises(KeyboardInterrupt):
        train(tiny, images, tmp_path / "cut", recipe, on_step=interrupt_at(3))
    assert same(train(tiny, images, tmp_path / "cut", recipe, resume=True), whole)


def test_a_finished_run_can_be_finished_again(tiny, images, tmp_path, uninterrupted):
    train(tiny, images, tmp_path)
    (tmp_path / "supernet.safetensors").unlink()
    assert same(train(tiny, images, tmp_path, resume=True), uninterrupted)


def test_a_wish_to_stop_ends_after_the_step_and_can_be_resumed(tiny, images, tmp_path, uninterrupted):
    done = []
    stopped = train(
        tiny, images, tmp_path, on_step=lambda r, _: done.append(r.step), stop=lambda: len(done) == 5
    )
    assert stopped is None
    assert done == [1, 2, 3, 4, 5]
    assert same(train(tiny, images, tmp_path, resume=True), uninterrupted)


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
            train(tiny, images, tmp_path, checkpoint_s=0)
    finally:
        handle.remove()
    assert same(train(tiny, images, tmp_path, resume=True), uninterrupted)


def test_the_newest_checkpoints_are_kept_on_the_way(tiny, images, tmp_path):
    kept = []
    train(
        tiny,
        images,
        tmp_path,
        checkpoint_s=0,
        keep=3,
        on_step=lambda r, _: kept.append(len(list(tmp_path.glob("checkpoints/*.pt")))),
    )
    assert kept == [0, 1, 2] + [3] * 9
    names = sorted(path.name for path in tmp_path.glob("checkpoints/*"))
    assert names == [f"step-{step:09d}.pt" for step in (10, 11, 12)]


def test_a_damaged_newest_checkpoint_is_passed_over(tiny, images, tmp_path, uninterrupted):
    with pytest.raises(KeyboardInterrupt):
        train(tiny, images, tmp_path, checkpoint_s=0, on_step=interrupt_at(5))
    newest = max(tmp_path.glob("checkpoints/*.pt"))
    newest.write_bytes(newest.read_bytes()[:1000])
    assert same(train(tiny, images, tmp_path, resume=True), uninterrupted)


def test_a_folder_that_holds_a_run_is_not_overwritten(tiny, images, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tiny, images, tmp_path, on_step=interrupt_at(2))
    with pytest.raises(CheckpointError, match="--resume") as caught:
        train(tiny, images, tmp_path)
    one_line(caught)


def test_nothing_to_resume_is_one_line(tiny, images, tmp_path):
    with pytest.raises(CheckpointError, match="no run to resume") as caught:
        train(tiny, images, tmp_path, resume=True)
    one_line(caught)


def test_the_checkpoint_of_another_run_is_refused(tiny, images, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tiny, images, tmp_path, on_step=interrupt_at(1))
    others = {
        "seed": lambda: train(tiny, images, tmp_path, resume=True, seed=4),
        "recipe": lambda: train(tiny, images, tmp_path, RECIPE.with_values(["run.epochs=3"]), resume=True),
        "data": lambda: train(tiny, images.take("fewer", torch.arange(40)), tmp_path, resume=True),
    }
    for what, other in others.items():
        with pytest.raises(CheckpointError, match=what) as caught:
            other()
        assert "another run" in one_line(caught)


def test_the_checkpoint_of_another_space_of_that_name_is_refused(tiny, images, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tiny, images, tmp_path, on_step=interrupt_at(1))
    wider = dataclasses.replace(tiny, head=structs.replace(tiny.head, width=(16, 64)))
    with pytest.raises(CheckpointError) as caught:
        train(wider, images, tmp_path, resume=True)
    assert "space content" in one_line(caught)


@pytest.fixture(scope="module")
def kept(tiny, images, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    with pytest.raises(KeyboardInterrupt):
        train(tiny, images, folder, on_step=interrupt_at(12))
    return next(folder.glob("checkpoints/*.pt"))


def _changed(tmp_path_factory, kept, content: bytes) -> Path:
    folder = tmp_path_factory.mktemp("changed")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / kept.name).write_bytes(content)
    return folder


@settings(max_examples=15)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_checkpoint_is_one_line(tiny, images, tmp_path_factory, kept, share):
    content = kept.read_bytes()
    folder = _changed(tmp_path_factory, kept, content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="damaged") as caught:
        train(tiny, images, folder, resume=True)
    one_line(caught)
    shutil.rmtree(folder)


@settings(max_examples=15)
@given(share=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_changed_checkpoint_is_no_traceback(tiny, images, tmp_path_factory, kept, share, value):
    content = bytearray(kept.read_bytes())
    content[int(share**3 * len(content))] = value
    folder = _changed(tmp_path_factory, kept, bytes(content))
    only_user_errors(train, tiny, images, folder, resume=True)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "state", [{}, [], {"run": 1, "step": 2}, {"run": "[]", "step": 1}, {"run": "{}", "step": 0}]
)
def test_something_else_as_a_checkpoint_is_one_line(tiny, images, tmp_path, state):
    (tmp_path / "checkpoints").mkdir()
    torch.save(state, tmp_path / "checkpoints" / "step-000000001.pt")
    with pytest.raises(CheckpointError) as caught:
        train(tiny, images, tmp_path, resume=True)
    assert "step-000000001.pt" in one_line(caught)


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_nothing_in_a_checkpoint_is_executed(tiny, images, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    torch.save({"run": Bomb(tmp_path / "marker")}, tmp_path / "checkpoints" / "step-000000001.pt")
    with pytest.raises(CheckpointError):
        train(tiny, images, tmp_path, resume=True)
    assert not (tmp_path / "marker").exists()


def test_a_run_that_diverges_stops_with_a_diagnosis_and_keeps_the_last_good_step(tiny, images, tmp_path):
    wild = RECIPE.with_values(["optimizer.learning_rate=100", "optimizer.kind=sgd", "run.epochs=40"])
    with pytest.raises(TrainingError, match="diverged") as caught:
        train(tiny, images, tmp_path, wild)
    text = one_line(caught)
    assert "step " in text
    assert "optimizer.learning_rate" in text
    assert not (tmp_path / "supernet.safetensors").exists()
    for path in tmp_path.glob("checkpoints/*.pt"):
        assert torch.load(path, weights_only=True)["step"] < 240


def test_a_broken_gradient_is_named(tiny, images, tmp_path):
    run = trainer(tiny, images, tmp_path)
    with torch.no_grad():
        run.supernet.get_parameter("mb2.1.attention.query.bias")[0] = float("nan")
    with pytest.raises(TrainingError) as caught:
        run.run(Watched())
    text = one_line(caught)
    assert "loss nan" in text
    assert "tensors of the largest's gradient" in text
    assert not list(tmp_path.glob("checkpoints/*.pt"))


def test_fewer_images_than_a_step_are_refused(tiny, images, tmp_path):
    with pytest.raises(DataError, match="fewer") as caught:
        train(tiny, images.take("few", torch.arange(15)), tmp_path)
    one_line(caught)


def test_a_disk_too_small_for_the_checkpoints_is_found_before_work_is_spent(tiny, images, tmp_path):
    with pytest.raises(NasvitEdgeError, match="MB free") as caught:
        train(tiny, images, tmp_path, keep=10**9)
    assert "--out" in one_line(caught)


def test_parts_of_a_step_are_averaged(tiny, images, tmp_path):
    """Two parts have the gradient of two passes of half the images, halved."""
    run = trainer(tiny, images, tmp_path, RECIPE.with_values(["run.parts=2"]))
    batches = next(run.loader.steps(0, 1))
    assert [len(batch.images) for batch in batches] == [8, 8]
    both = run._passed(batches)
    alone = [run._passed([batch]) for batch in batches]
    for value, one, two in zip(both.largest, alone[0].largest, alone[1].largest, strict=True):
        assert value is None or torch.allclose(value, (one + two) / 2, rtol=1e-4, atol=1e-6)
    run.close()
