"""A fork goes on from another run's checkpoint: bit for bit where nothing is changed, by its own recipe where something is."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import TINY, one_line
from image_folders import make

from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.flows.train import dry_run, run_of, train
from nasvit_edge.listening import Listener
from nasvit_edge.requests.train import Request
from nasvit_edge.space import load_space
from nasvit_edge.train.checkpoints import Checkpoints

QUICK = ["run.epochs=3", "run.batch_size=4", "run.warmup_epochs=0"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A run with all of its checkpoints."""
    folder = tmp_path_factory.mktemp("fork")
    (folder / "tiny.toml").write_text(TINY)
    for split in ("train", "val"):
        make(folder / "photos" / split, count=5, seed=len(split))
    train(asked(folder, "whole", checkpoint_minutes=0.0, keep=100))
    return folder


def asked(folder, out, **more):
    usual = {"space": str(folder / "tiny.toml"), "data": str(folder / "photos"), "out": folder / out}
    usual |= {"values": QUICK, "recipe": "nano", "threads": 1, "workers": 0}
    return Request(**usual | more)


def forked(folder, out, step, **more):
    """Of `whole` as it was after `step` steps."""
    source = folder / f"at-{step}"
    if not source.exists():
        (source / "checkpoints").mkdir(parents=True)
        name = f"step-{step:09d}.pt"
        (source / "checkpoints" / name).write_bytes((folder / "whole" / "checkpoints" / name).read_bytes())
        for each in ("recipe.json", "space.toml"):
            (source / each).write_bytes((folder / "whole" / each).read_bytes())
    request = asked(folder, out, **{"fork": source, "space": None, "recipe": None, "values": None} | more)
    train(request)
    return Checkpoints(folder / out, {}).at()


def test_a_fork_that_changes_nothing_continues_bit_for_bit(root):
    whole, other = Checkpoints(root / "whole", {}).at(), forked(root, "same", 7)
    assert other["step"] == whole["step"] == 15
    assert all(torch.equal(other["model"][name], value) for name, value in whole["model"].items())
    assert all(torch.equal(a, b) for a, b in zip(other["average"], whole["average"], strict=True))


def test_a_fork_goes_on_by_its_own_recipe(root):
    slower = forked(root, "slower", 7, values=["optimizer.learning_rate=1e-5", "optimizer.weight_decay=0.05"])
    assert {group["weight_decay"] for group in slower["optimizer"]["param_groups"]} == {0.05, 0.0}
    whole = Checkpoints(root / "whole", {}).at()["model"]
    assert any(not torch.equal(slower["model"][name], value) for name, value in whole.items())
    recipe = json.loads((root / "slower" / "recipe.json").read_text())
    assert recipe["fork"].endswith("step-000000007")
    assert recipe["recipe"]["optimizer"]["learning_rate"] == 1e-5


def test_an_average_may_begin_or_end_with_a_fork(root):
    assert forked(root, "without", 7, values=["run.ema=0"])["average"] == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"seed": 1}, "cannot be forked with another seed: there it is 0, here 1"),
        (
            {"values": ["run.batch_size=8"]},
            "cannot be forked with another images a step: there it is 4, here 8",
        ),
        ({"space": "nano"}, "cannot be forked with another space"),
        ({"values": ["optimizer.kind=sgd"]}, "was trained by adamw, whose state a fork keeps"),
    ],
)
def test_another_run_s_state_is_refused_in_one_line(root, more, said):
    with pytest.raises(NasvitEdgeError, match=said) as error:
        forked(root, "other-" + "".join(c for c in str(more) if c.isalnum()), 7, **more)
    one_line(error)


def test_a_fork_and_other_weights_contradict_each_other(root):
    with pytest.raises(NasvitEdgeError, match="--fork and --supernet both say"):
        run_of(asked(root, "x", fork=root / "at-7", supernet="w.safetensors"))


def test_what_is_no_run_cannot_be_forked(root, tmp_path):
    with pytest.raises(NasvitEdgeError, match="is no folder of a run"):
        run_of(asked(root, "x", fork=tmp_path, recipe=None))
    with pytest.raises(NasvitEdgeError, match="keeps no checkpoint of step 3; there are"):
        Checkpoints(root / "at-7", {}).at(3)


@pytest.mark.slow
def test_a_subnet_is_trained_alone_from_its_config(root):
    space = load_space(str(root / "tiny.toml"))
    (root / "config.json").write_text(json.dumps(space.smallest().to_dict()))
    request = asked(root, "alone", config=root / "config.json", recipe=None)
    assert run_of(request).recipe.name == "single"
    estimated = dry_run(run_of(request))
    assert "subnet" in estimated.space
    assert estimated.space != dry_run(run_of(asked(root, "alone"))).space
    assert run_of(asked(root, "alone", config=root / "config.json", recipe="nano")).recipe.single
    notes: list[str] = []
    report = train(request, listener=Listener(note=notes.append))
    assert set(report.accuracy) == {"largest"}  # of a space that has it alone
    result = load_space(root / "alone" / "space.toml")
    assert result.size() == 1
    assert result.largest().width == space.smallest().width
    (root / "other.json").write_text(json.dumps(space.smallest().to_dict() | {"width": [1, 2, 3, 4]}))
    with pytest.raises(NasvitEdgeError, match=r"other\.json") as error:
        train(asked(root, "other", config=root / "other.json"))
    one_line(error)
