"""Whole runs through the program: killed, stopped, resumed, and refused before time is spent."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import commands
import numpy as np
import pytest
from conftest import TINY, one_line

from nasvit_edge.errors import CheckpointError, NasvitEdgeError, SpaceError, TrainingError
from nasvit_edge.listening import Listener
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.space import load_space
from nasvit_edge.train.loop import Settings
from nasvit_edge.train.recipe import chosen
from nasvit_edge.train.run import TrainingRequest, run, space_for

EPOCHS = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Four classes of 24 small images each, with a validation folder."""
    image = pytest.importorskip("PIL.Image")
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:12, :12]
    kinds = {
        "lines": y % 4 < 2,
        "columns": x % 4 < 2,
        "slopes": (x + y) % 6 < 3,
        "chess": (x // 3 + y // 3) % 2 == 0,
    }
    for split, count in (("train", 24), ("val", 6)):
        for name, kind in kinds.items():
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(kind * 180 + rng.normal(30, 20, (12, 12)), 0, 255).astype(np.uint8)
                image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("space") / "tiny.toml"
    path.write_text(TINY)
    return path


def test_a_folder_whose_name_takes_two_lines_is_refused_by_name(space, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    for split in ("train", "val"):
        (tmp_path / "data" / split / "chess").rename(tmp_path / "data" / split / "chess\nboard")
    with pytest.raises(SpaceError, match=r"class name 'chess\\nboard' holds a line break"):
        space_for(load_space(space), str(tmp_path / "data"))


def command(space, data, out, *more):
    values = ["run.batch_size=16", "run.warmup_epochs=1", "augment.padding=1", "merge.project_from_epoch=1"]
    sets = [part for value in values for part in ("--set", value)]
    return [
        *(sys.executable, "-m", "nasvit_edge.cli", "train", "--space", str(space), "--data", str(data)),
        *("--out", str(out), "--epochs", str(EPOCHS), "--checkpoint-minutes", "0", "--threads", "1"),
        *("--workers", "0", "--validate-every", "4", "--json", *sets, *more),
    ]


def started(*arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def ended(*arguments):
    """Exit code, stdout, stderr."""
    process = started(*arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def whole(space, data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run") / "whole"
    code, printed, err = ended(*command(space, data, out, "--conflicts"))
    assert code == 0, err
    assert set(json.loads(printed)["accuracy"]) == {"smallest", "largest"}
    return out


def weights(out: Path) -> bytes:
    return (out / "supernet.safetensors").read_bytes()


def steps_done(out: Path) -> int:
    names = [path.stem for path in out.glob("checkpoints/step-*.pt")]
    return max((int(name.split("-")[1]) for name in names), default=0)


def kill_after(process, out: Path, step: int, delay: float) -> None:
    """SIGKILL some time after a step's checkpoint."""
    end = time.monotonic() + 120
    while steps_done(out) < step and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    time.sleep(delay)
    process.kill()
    process.communicate()


def killed_and_resumed(space, data, out, kills: int, rng: random.Random) -> None:
    for i in range(kills):
        more = ["--conflicts"] + (["--resume"] if steps_done(out) else [])
        process = started(*command(space, data, out, *more))
        kill_after(process, out, (i + 1) * 60 // (kills + 1), rng.random() * 0.1)
    code, _, err = ended(*command(space, data, out, "--conflicts", "--resume"))
    assert code == 0, err


def test_a_run_describes_itself(space, data, tmp_path, one_thread):
    out, epochs = tmp_path / "out", 4
    options = command(space, data, out, "--conflicts", "--epochs", epochs, "--validate-every", "2")[3:]
    process = commands.run(*options)
    assert process.returncode == 0, process.stderr
    assert set(json.loads(process.stdout)["accuracy"]) == {"smallest", "largest"}
    space = load_space(out / "space.toml")
    assert space.label_names() == ["chess", "columns", "lines", "slopes"]
    supernet = load_supernet(out / "supernet.safetensors", space)
    assert supernet.source["recipe"]["run"]["epochs"] == epochs
    about = json.loads((out / "recipe.json").read_text())
    assert about["steps"] == 24
    log = (out / "log.csv").read_text().splitlines()
    assert len(log) == 25
    assert len((out / "conflicts.csv").read_text().splitlines()) == 25
    validation = (out / "validation.csv").read_text().splitlines()
    assert len(validation) == 1 + 2 * 2  # epoch 2 and the end


@pytest.mark.slow
def test_a_killed_run_ends_with_the_weights_and_logs_of_an_uninterrupted_one(space, data, tmp_path, whole):
    killed_and_resumed(space, data, tmp_path / "killed", 2, random.Random(0))
    assert weights(tmp_path / "killed") == weights(whole)
    for name in ("conflicts.csv", "validation.csv"):
        assert (tmp_path / "killed" / name).read_text() == (whole / name).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_at_many_random_points_ends_as_an_uninterrupted_one(space, data, tmp_path, whole, seed):
    killed_and_resumed(space, data, tmp_path / "killed", 6, random.Random(seed))
    assert weights(tmp_path / "killed") == weights(whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.slow
def test_a_signal_ends_the_run_with_a_checkpoint_and_a_line(space, data, tmp_path, whole, number, code):
    out = tmp_path / "stopped"
    process = started(*command(space, data, out, "--checkpoint-minutes", "60"))
    end = time.monotonic() + 120
    while not (out / "log.csv").exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "--resume" in err.splitlines()[-1]
    assert steps_done(out) > 0
    assert ended(*command(space, data, out, "--resume"))[0] == 0
    assert weights(out) == weights(whole)


@pytest.mark.slow
def test_a_second_process_into_the_same_folder_is_refused_while_the_first_goes_on(space, data, tmp_path):
    out = tmp_path / "shared"
    first = started(*command(space, data, out, "--epochs", "1000"))
    try:
        end = time.monotonic() + 120
        while not steps_done(out) and first.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        recipe = chosen(str(space), None, ["run.epochs=1", "run.batch_size=16"])[1]
        second = TrainingRequest(
            space=str(space), data=str(data), recipe=recipe, settings=Settings(out=out), resume=True
        )
        with pytest.raises(TrainingError, match="another process is training into") as caught:
            run(second)
        assert str(out) in one_line(caught)
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()
    with pytest.raises(CheckpointError, match="another run's"):  # the lock went with its process
        run(second)


def broken_folders(root: Path):
    """Kind of fault -> how to make it, and what the line names."""

    def corrupt():
        path = root / "train" / "lines" / "3.png"
        path.write_bytes(path.read_bytes()[:60])
        return "3.png"

    def empty():
        for path in (root / "train" / "slopes").iterdir():
            path.unlink()
        return "slopes"

    def foreign():
        (root / "val" / "slopes").rename(root / "val" / "cats")
        return "cats"

    return {"corrupt": corrupt, "empty": empty, "foreign": foreign}


@pytest.mark.parametrize("fault", ["corrupt", "empty", "foreign"])
def test_bad_images_are_one_line_before_training_begins(space, data, tmp_path, fault, one_thread):
    import shutil

    root = tmp_path / "data"
    shutil.copytree(data, root)
    named = broken_folders(root)[fault]()
    code, _, err = commands.run(*command(space, root, tmp_path / "out")[3:])
    assert code == 2
    assert named in err.splitlines()[-1]
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_weights_of_another_space_are_one_line(space, data, tmp_path, one_thread):
    code, _, err = commands.run(*command(space, data, tmp_path / "out", "--supernet", "nano")[3:])
    assert code == 2
    assert "are of space 'nano', not 'tiny-4c'" in err.splitlines()[-1]


@pytest.mark.slow
def test_a_dry_run_says_what_it_would_take_and_leaves_nothing(space, data, tmp_path):
    code, printed, err = ended(*command(space, data, tmp_path / "out", "--dry-run"))
    assert code == 0, err
    assert json.loads(printed)
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_run_computes_on_its_threads_and_leaves_as_many_as_before(space, data, tmp_path, one_thread):
    import torch

    seen = []
    asked = TrainingRequest(
        space=str(space),
        data=str(data),
        recipe=chosen(str(space), None, [])[1],
        settings=Settings(out=tmp_path / "out", threads=2),
        weights="nano",  # of another space: refused once the images are looked at
    )
    with pytest.raises(NasvitEdgeError):
        run(asked, listener=Listener(note=lambda _: seen.append(torch.get_num_threads())))
    assert set(seen) == {2}
    assert torch.get_num_threads() == 1
