"""`report conflicts --at`: of a run at a step, of weights at their end, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import run
from conftest import TINY, one_line
from image_folders import make

from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.flows.agreement import Agreed, agreed
from nasvit_edge.requests.report import ConflictsRequest
from nasvit_edge.train.conflicts import Agreement

QUICK = ["--set=run.epochs=1", "--set=run.batch_size=4", "--set=run.warmup_epochs=0", "--workers", "0"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agreement")
    (folder / "tiny.toml").write_text(TINY)
    for split in ("train", "val"):
        make(folder / "photos" / split, count=5, seed=len(split))
    words = [
        "--space",
        "tiny.toml",
        "--data",
        "photos",
        "--out",
        "run",
        "--checkpoint-minutes",
        "0",
        "--keep",
        "9",
    ]
    done = run("train", *words, *QUICK, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def asked(root, given="run", **more):
    return ConflictsRequest(
        **{"runs": [root / given], "data": str(root / "photos"), "at": "end", "batches": 4} | more
    )


@pytest.mark.parametrize(("given", "at"), [("run", "3"), ("run", "end"), ("run/supernet.safetensors", "end")])
def test_a_checkpoint_and_weights_are_measured(root, given, at):
    report = agreed(asked(root, given, at=at))
    assert [each.batches for each in report.agreements] == [1, 4]
    assert report.recipe == "nano"
    assert report.verdict().startswith(("conflict: over", "no conflict: over", "not decided: over"))


def test_the_command_shows_a_line_for_each_number_of_batches(root):
    words = ["report", "conflicts", "run", "--at", "2", "--data", "photos", "--batches", "4"]
    process = run(*words, cwd=root)
    assert process.returncode == 0, process.stderr
    assert "over 16 images the cosine is" in process.stderr
    content = json.loads(run(*words, "--json", cwd=root).stdout)
    assert [each["batches"] for each in content["agreements"]] == [1, 4]


@pytest.mark.parametrize(
    ("cosine", "error", "said"),
    [
        (-0.3, 0.1, "conflict: over 64 images the cosine is -0.30 ± 0.10"),
        (0.3, 0.1, "no conflict: over 64 images the cosine is +0.30 ± 0.10"),
        (-0.3, 0.2, "not decided: over 64 images the cosine is -0.30 ± 0.20"),
        (0.9, None, "not decided: over 64 images the cosine is +0.90 (single batches: +0.01); give more"),
    ],
)
def test_two_standard_errors_decide(cosine, error, said):
    one = Agreement(batches=1, images=16, groups=4, cosines={"all": 0.01}, error=0.1)
    last = Agreement(batches=4, images=64, groups=1, cosines={"all": cosine}, error=error)
    actual = Agreed(run="r", at="end", space="s", data="d", recipe="nano", agreements=(one, last))
    assert actual.verdict().startswith(said)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"at": "99"}, "keeps no checkpoint of step 99; there are 1, 2, 3"),
        ({"at": "first"}, "--at 'first' is no step of a checkpoint"),
        ({"data": None}, "--at measures on images: add --data"),
        ({"given": "run/supernet.safetensors", "at": "3"}, "is no folder of a run"),
        ({"steps": "1:2"}, "--steps is of what a run logged"),
        ({"from_epoch": 0}, "--from-epoch is of what a run logged"),
        ({"html": Path("x.html")}, "--html is of what a run logged"),
    ],
)
def test_what_cannot_be_is_one_line(root, more, said):
    with pytest.raises(NasvitEdgeError, match=said) as error:
        agreed(asked(root, **more))
    one_line(error)


@pytest.mark.parametrize("option", [["--data", "photos"], ["--batches", "4"]])
def test_options_of_at_are_refused_without_it(root, option):
    done = run("report", "conflicts", "run", *option, cwd=root)
    assert done.returncode == 2
    assert "are of --at" in done.stderr


def test_several_runs_weights_without_a_recipe_and_recipes_of_another_version_are_one_line(root, tmp_path):
    with pytest.raises(NasvitEdgeError, match="of one run: give one"):
        agreed(asked(root, runs=[root / "run", root / "run"]))
    from nasvit_edge.model.checkpoint import random_supernet, save_supernet
    from nasvit_edge.space import load_space

    (tmp_path / "space.toml").write_text((root / "run" / "space.toml").read_text())
    save_supernet(
        random_supernet(load_space(str(tmp_path / "space.toml"))), tmp_path / "bare.safetensors", {}
    )
    with pytest.raises(NasvitEdgeError, match="do not say by which recipe they were trained"):
        agreed(asked(tmp_path, "bare.safetensors", data=str(root / "photos")))
    about = json.loads((root / "run" / "recipe.json").read_text())
    about["recipe"]["optimizer"]["kind"] = "lion"
    (tmp_path / "recipe.json").write_text(json.dumps(about))
    with pytest.raises(NasvitEdgeError, match=r"key 'optimizer.kind' is 'lion'") as error:
        agreed(asked(tmp_path, "", data=str(root / "photos")))
    one_line(error)
