"""The loader: workers, ranks, parts and resuming change who makes a batch, never what is in it."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import image_folders
import numpy as np
import pytest
import torch
from conftest import one_line, require_module
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from nasvit_edge.data_sets import FileSet, ImageSet
from nasvit_edge.errors import DataError
from nasvit_edge.train.loading import Loader
from nasvit_edge.train.making import Batch
from nasvit_edge.train.recipe import Augment

require_module("torchvision")
PLAIN = Augment(crop="none", flip=0.0, randaugment_ops=0, erasing=0.0, mixup=0.0, cutmix=0.0)
VARIED = Augment(crop="padded", padding=2, randaugment_magnitude=9, erasing=0.3, mixup=0.5, cutmix=0.5)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    """Image i holds i in its pixels, and has the label i mod 4."""
    number = torch.arange(53)
    pixels = number.to(torch.uint8)[:, None, None, None].expand(-1, 3, 12, 12).clone()
    return ImageSet("numbers", pixels, number % 4)


@pytest.fixture(scope="module")
def noise() -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (53, 3, 12, 12), dtype=torch.uint8, generator=generator)
    return ImageSet("noise", pixels, torch.arange(53) % 4)


def loader(images, space, augment=VARIED, **options) -> Loader:
    return Loader(images, augment, space, **({"size": 12, "batch_size": 8, "workers": 0} | options))


def steps(images, space, first, last, augment=VARIED, **options) -> list[list[Batch]]:
    with loader(images, space, augment, **options) as loading:
        return list(loading.steps(first, last))


def same(one: list[Batch], two: list[Batch]) -> bool:
    return len(one) == len(two) and all(
        torch.equal(a.images, b.images) and torch.equal(a.targets, b.targets)
        for a, b in zip(one, two, strict=True)
    )


def numbers(batch: Batch, space) -> list[int]:
    """Which images of `images` these are."""
    return ((batch.images[:, 0, 0, 0] * space.std[0] + space.mean[0]) * 255).round().int().tolist()


# -- what is in a batch ---------------------------------------------------------------------------------


def test_a_batch_has_the_promised_form(tiny, noise):
    (batch,) = steps(noise, tiny, 0, 1)[0]
    assert batch.images.shape == (8, 3, 12, 12)
    assert batch.images.dtype == batch.targets.dtype == torch.float32
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.targets.shape == (8, 4)
    assert torch.allclose(batch.targets.sum(1), torch.ones(8))
    (batch,) = steps(noise, tiny, 0, 1, PLAIN)[0]
    assert batch.targets.dtype == torch.int64


def test_every_image_comes_once_an_epoch_with_its_label_in_another_order_each_time(tiny, images):
    epochs = []
    with loader(images, tiny, PLAIN, batch_size=3, parts=2) as loading:
        assert loading.steps_per_epoch == 8
        for epoch in range(3):
            seen = []
            for parts in loading.steps(8 * epoch, 8 * epoch + 8):
                for batch in parts:
                    actual = numbers(batch, tiny)
                    assert [n % 4 for n in actual] == batch.targets.tolist()
                    seen += actual
            assert len(set(seen)) == len(seen) == 48
            epochs.append(seen)
    assert epochs[0] != epochs[1] != epochs[2]


def test_an_erased_image_keeps_its_label(tiny, images):
    erased = structs.replace(PLAIN, erasing=1.0)
    for (plain,), (gone,) in zip(
        steps(images, tiny, 0, 6, PLAIN), steps(images, tiny, 0, 6, erased), strict=True
    ):
        assert torch.equal(plain.targets, gone.targets)
        assert not torch.equal(plain.images, gone.images)


def test_another_seed_gives_other_batches(tiny, noise):
    assert not same(steps(noise, tiny, 0, 1)[0], steps(noise, tiny, 0, 1, seed=1)[0])


# -- who makes it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_what_is_in_a_batch(tiny, noise, workers):
    whole = steps(noise, tiny, 0, 8, batch_size=4, parts=2)
    _ = torch.rand(600, 600) @ torch.rand(600, 600)  # threads of the parent, which a fork does not get
    batches = steps(noise, tiny, 0, 8, batch_size=4, parts=2, workers=workers)
    assert all(same(a, b) for a, b in zip(whole, batches, strict=True))
    assert batches[0][0].images.is_contiguous(memory_format=torch.channels_last)


@settings(max_examples=10)
@given(st.integers(0, 14), st.integers(0, 4), st.integers(0, 2**70))
def test_resuming_at_any_step_gives_what_an_uninterrupted_run_gave(tiny, noise, first, more, seed):
    whole = steps(noise, tiny, 0, first + more, seed=seed)
    rest = steps(noise, tiny, first, first + more, seed=seed)
    assert all(same(a, b) for a, b in zip(whole[first:], rest, strict=True))


@settings(max_examples=12)
@given(st.sampled_from([(1, 4), (2, 2), (4, 1)]), st.integers(0, 30))
def test_ranks_and_parts_see_the_same_slices(tiny, noise, split, step):
    world, parts = split
    (whole,) = steps(noise, tiny, step, step + 1, batch_size=3, parts=4)
    batches = []
    for rank in range(world):
        batches += steps(noise, tiny, step, step + 1, batch_size=3, parts=parts, rank=rank, world=world)[0]
    assert same(whole, batches)


def test_the_callers_random_numbers_are_not_disturbed(tiny, noise):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    for workers in (0, 1):
        steps(noise, tiny, 0, 3, structs.replace(VARIED, autoaugment="cifar10"), workers=workers)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_workers_are_given_can_be_pickled(tiny, noise):
    """Where processes are spawned, not forked."""
    loading = loader(noise, tiny, structs.replace(VARIED, crop="resized", autoaugment="imagenet"))
    again = pickle.loads(pickle.dumps(loading._slices))
    assert same([again[2, 0]], [loading._slices[2, 0]])


def test_one_loader_goes_on_with_other_steps(tiny, noise):
    whole = steps(noise, tiny, 0, 9)
    with loader(noise, tiny, workers=1) as loading:
        early = loading.steps(0, 9)
        next(early)
        later = list(loading.steps(4, 6))
        assert all(same(a, b) for a, b in zip(whole[4:6], later, strict=True))
        with pytest.raises(RuntimeError, match="given up"):
            next(early)
        assert list(loading.steps(3, 3)) == []
        assert same(next(loading.steps(8, 9)), whole[8])


def test_files_and_memory_give_the_same_batches(tiny, noise, tmp_path):
    files = _files(noise, tmp_path)
    one, two = steps(noise, tiny, 0, 4), steps(files, tiny, 0, 4)
    assert all(same(a, b) for a, b in zip(one, two, strict=True))
    resized = structs.replace(VARIED, crop="resized")
    one, two = (steps(x, tiny, 5, 6, resized)[0] for x in (noise, files))
    assert same(one, two)


def _files(images: ImageSet, folder: Path) -> FileSet:
    pillow = require_module("PIL.Image")
    paths = [folder / f"{i}.png" for i in range(len(images))]
    for path, pixels in zip(paths, images.pixels, strict=True):
        pillow.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
    return FileSet("files", np.array([os.fsencode(p) for p in paths]), images.labels, image_folders.rule(12))


# -- waiting --------------------------------------------------------------------------------------------


def test_waiting_is_counted(tiny, noise):
    with loader(noise, tiny) as loading:
        assert loading.waited_s == 0
        taking = 0.0
        for _ in loading.steps(0, 10):
            time.sleep(0.01)  # the step's own time is no waiting
            taking += 0.01
        assert 0 < loading.waited_s < 1


# -- errors ---------------------------------------------------------------------------------------------


def test_fewer_images_than_a_step_takes_is_one_line(tiny, noise):
    with pytest.raises(DataError, match="53 are fewer than the 54") as caught:
        loader(noise, tiny, batch_size=9, parts=3, world=2)
    assert "'noise'" in one_line(caught)
    assert loader(noise, tiny, batch_size=53).steps_per_epoch == 1


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("crop", ["padded", "resized"])
def test_an_image_that_cannot_be_read_is_one_line_and_ends_the_workers(tiny, noise, tmp_path, workers, crop):
    files = _files(noise, tmp_path)
    (tmp_path / "17.png").write_bytes((tmp_path / "17.png").read_bytes()[:90])
    with (
        loader(files, tiny, structs.replace(VARIED, crop=crop), workers=workers) as loading,
        pytest.raises(DataError, match=r"17\.png") as caught,
    ):
        list(loading.steps(0, 12))
    assert "Traceback" not in one_line(caught)
    assert not _workers()


def _workers() -> list[multiprocessing.Process]:
    return [p for p in multiprocessing.active_children() if p.is_alive()]


@pytest.mark.parametrize("delay", [0, 0.3])
def test_a_worker_that_is_lost_is_one_line_of_the_next_batches(tiny, noise, delay):
    with loader(noise, tiny, workers=1) as loading:
        taken = loading.steps(0, 10**6)
        next(taken)
        os.kill(loading._making.processes[0].pid, signal.SIGKILL)
        time.sleep(delay)  # nothing is raised here, in the middle of a step
        with pytest.raises(DataError, match="fewer --workers") as caught:
            list(taken)
    one_line(caught)
    assert not _workers()


SCRIPT = """
import signal, sys, torch
from pathlib import Path
from nasvit_edge.data_sets import ImageSet
from nasvit_edge.space import load_space
from nasvit_edge.train.loading import Loader
from nasvit_edge.train.recipe import Augment
signal.signal(signal.SIGINT, signal.default_int_handler)
images = ImageSet("x", torch.zeros(64, 3, 28, 28, dtype=torch.uint8), torch.zeros(64, dtype=torch.int64))
try:
    with Loader(images, Augment(), load_space("nano"), size=28, batch_size=8, workers=2) as loader:
        for index, _ in enumerate(loader.steps(0, 10**6)):
            if index == 3:
                print(*(w.pid for w in loader._making.processes), flush=True)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_workers_end_with_the_run(how, tmp_path):
    """Ctrl-C goes to all processes of a terminal; a killed run leaves its workers to themselves."""
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(tmp_path / "script.py")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        assert run.stdout is not None
        workers = [int(pid) for pid in run.stdout.readline().split()]
        assert len(workers) == 2
        if how is signal.SIGINT:
            os.killpg(run.pid, how)
        else:
            run.kill()
        text, errors = run.communicate(timeout=60)
    assert ("interrupted" in text) == (how is signal.SIGINT)
    assert "Traceback" not in errors
    until = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
