"""Weights and files know which images trained them, wherever they are: accuracy on these is called none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import image_folders
import pytest
from conftest import TINY, edited, one_line
from typer.testing import CliRunner

from nasvit_edge import cache
from nasvit_edge.benchmark import participants
from nasvit_edge.cli import app
from nasvit_edge.device import load_device
from nasvit_edge.errors import NasvitEdgeError, VerifyError
from nasvit_edge.export import artifact, verification
from nasvit_edge.flows import benchmark, export, finetune
from nasvit_edge.flows import evaluate as evaluating
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.report.evaluate_text import remarks
from nasvit_edge.space import load_space
from nasvit_edge.train.loop import Settings
from nasvit_edge.train.recipe import load_recipe
from nasvit_edge.train.run import TrainingRequest, run

QUICK = ("run.batch_size=16", "run.ema=0.5", "run.epochs=1")
CLASSES, OF, HELD = 4, 80, 4  # 20 images a class, of which training holds out one


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with 80 photos of four classes, a subnet that was tuned on them, and its export."""
    root = tmp_path_factory.mktemp("home")
    image_folders.make(root / "photos", count=20)
    (root / "tiny.toml").write_text(
        edited(TINY, ("classes = 4", 'classes = 4\nlabels = ["a", "b", "c", "d"]'))
    )
    space = load_space(root / "tiny.toml")
    (root / "wide.json").write_text(json.dumps(space.largest().to_dict()))
    asked = {"space": str(root / "tiny.toml"), "supernet": "random:1", "config": root / "wide.json"}
    options = {"out": root / "tuned", "values": QUICK, "threads": 1, "workers": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "root", lambda: root / "cache")
        report = finetune.finetune(finetune.Request(data=str(root / "photos"), **asked, **options))
        _export(report, root / "photos", root / "m.onnx")
    return root


def _export(actual, data, path):
    named = {name: getattr(actual, name) for name in ("space", "supernet", "config")}
    how = {"uncalibrated": False, "format_name": "onnx", "precision": "fp32", "overwrite": True}
    request = export.Request(result=None, calibrate=str(data), out=path, **named, **how)
    return export.export(request, SILENT)


def _evaluated(path, home, **options):
    said = []
    data = str(options.pop("data", home / "photos"))
    space = str(home / "tuned" / "space.toml")
    evaluation = verification.evaluate(
        path, data, space_path=space, listener=Listener(note=said.append), **options
    )
    return evaluation, said


def test_an_exported_file_is_judged_on_what_training_held_out_and_says_so(home):
    evaluation, said = _evaluated(home / "m.onnx", home)
    assert (evaluation.images, evaluation.split) == (HELD, "validation")
    assert "has no test images of its own: judged on those that training holds out of it" in said[0]
    assert f"{OF - HELD} of its {OF} images trained these weights" in said[0]
    about = evaluation.trained_on
    assert (about.trained, about.images, about.of) == (0, HELD, OF - HELD)
    assert about.by_chance == pytest.approx(HELD * (OF - HELD) / 2**32)


def test_asked_for_all_it_tells_how_many_trained_the_weights(home):
    evaluation, _ = _evaluated(home / "m.onnx", home, split="all")
    assert evaluation.images == OF
    assert evaluation.trained_on.told == "76 of 80 images trained these weights: this is no test accuracy"


def test_a_moved_file_with_its_sidecar_still_knows_and_without_it_says_that_it_does_not(home, tmp_path):
    moved = tmp_path / "elsewhere.onnx"
    shutil.copy(home / "m.onnx", moved)
    shutil.copy(artifact.sidecar_path(home / "m.onnx"), artifact.sidecar_path(moved))
    copies = tmp_path / "copies"
    for i, path in enumerate(sorted((home / "photos").rglob("*.png"))):
        folder = copies / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"copy {i}.png")
    evaluation, _ = _evaluated(moved, home, data=copies, split="all")
    assert evaluation.trained_on.trained == OF - HELD
    artifact.sidecar_path(moved).unlink()
    evaluation, said = _evaluated(moved, home, data=copies)
    assert evaluation.trained_on.trained is None
    assert evaluation.images == HELD  # as training would cut it: what is not known is not judged on
    assert "which images trained these weights is not known" in said[0]


def test_other_images_are_not_cut(home, tmp_path):
    other = image_folders.make(tmp_path / "other", count=5, seed=7)
    evaluation, _ = _evaluated(home / "m.onnx", home, data=other)
    assert (evaluation.images, evaluation.trained_on.trained) == (20, 0)


@pytest.mark.parametrize("value", [[], {}, "x", 3, {"bits": 32, "whole": True, "sets": [{}]}])
def test_a_sidecar_whose_digests_are_damaged_is_one_line(home, tmp_path, value):
    path = tmp_path / "m.onnx"
    shutil.copy(home / "m.onnx", path)
    sidecar = json.loads(artifact.sidecar_path(home / "m.onnx").read_text())
    artifact.sidecar_path(path).write_text(json.dumps(sidecar | {"trained_on": value}))
    with pytest.raises(
        VerifyError, match=r"digests of the images that trained it are damaged|key .trained_on"
    ) as caught:
        _evaluated(path, home)
    assert one_line(caught)


def test_a_sidecar_of_an_older_version_is_read(home, tmp_path):
    path = tmp_path / "m.onnx"
    shutil.copy(home / "m.onnx", path)
    sidecar = json.loads(artifact.sidecar_path(home / "m.onnx").read_text())
    del sidecar["trained_on"]
    artifact.sidecar_path(path).write_text(json.dumps(sidecar))
    evaluation, _ = _evaluated(path, home)
    assert (evaluation.trained_on.trained, evaluation.images) == (None, HELD)


@pytest.mark.parametrize(("split", "images"), [("validation", HELD), ("test", HELD), ("all", OF)])
def test_evaluating_a_supernet_says_it_as_well(home, split, images):
    said = []
    asked = {"supernet": str(home / "tuned" / "supernet.safetensors"), "data": str(home / "photos")}
    request = evaluating.Request(**asked, subnets="max", workers=1, split=split)
    report = evaluating.evaluate(request, listener=Listener(note=said.append))
    assert report.images == images
    trained = OF - HELD if split == "all" else 0
    assert report.trained_on.trained == trained
    assert report.trained_on.told in remarks(report)
    assert any("judged on those that training holds out" in line for line in said) == (split == "test")


@pytest.mark.parametrize("split", [[], ["--split", "all"], ["--split", "validation"]])
def test_the_command_says_it_in_text_and_json(home, split):
    asked = ["evaluate", home / "m.onnx", "--data", home / "photos", "--space", home / "tuned" / "space.toml"]
    result = CliRunner().invoke(app, [*map(str, asked), *split])
    assert result.exit_code == 0, result.output
    all_of_it = split[1:] == ["all"]
    assert ("76 of 80 images trained these weights: this is no test accuracy" in result.output) == all_of_it
    text = CliRunner().invoke(app, [*map(str, asked), *split, "--json"])
    assert json.loads(text.stdout)["trained_on"]["trained"] == (OF - HELD if all_of_it else 0)


def test_another_split_is_one_line(home):
    with pytest.raises(NasvitEdgeError, match="it is test, validation or all"):
        _evaluated(home / "m.onnx", home, split="train")


def test_a_benchmark_judges_all_its_files_on_images_that_trained_none(home):
    spaces = (str(home / "tuned" / "space.toml"),)
    request = benchmark.Request(artifacts=[home / "m.onnx"], data=str(home / "photos"), space=spaces)
    entries, said = participants.participants(request, load_device("host")), []
    actual = benchmark._with_accuracy(entries, request, Listener(note=said.append))
    assert actual[0].facts.stored.images == HELD
    assert "--split" not in said[0]  # benchmark has none
    assert "judged on those that training holds out of it" in said[0]


def test_training_on_and_on_adds_up(home, tmp_path):
    """`train` from tuned weights on other images; then the weights know both."""
    other = image_folders.make(tmp_path / "data" / "train", count=6, seed=3).parent
    image_folders.make(other / "val", count=1, seed=4)
    start = str(home / "tuned" / "supernet.safetensors")
    recipe = load_recipe("finetune").with_values([*QUICK, "subnets.scaling=switchable", "run.batch_size=8"])
    settings = Settings(out=tmp_path / "out", threads=1, workers=0)
    space = str(home / "tuned" / "space.toml")
    run(TrainingRequest(space=space, data=str(other), recipe=recipe, settings=settings, weights=start))
    result = load_supernet(tmp_path / "out" / "supernet.safetensors", load_space(space))
    assert [len(part.marks) for part in result.trained_on.parts] == [OF - HELD, 24]
    assert result.trained_on.whole
    assert "trained_on" not in result.source  # which stands in every export's metadata


def test_weights_of_others_do_not_know_what_trained_them(home, tmp_path):
    from safetensors.torch import load_file, save_file

    path = Path(tmp_path, "foreign.safetensors")
    save_file(load_file(home / "tuned" / "supernet.safetensors"), path)
    assert load_supernet(path, load_space(home / "tuned" / "space.toml")).trained_on is None


@pytest.mark.parametrize("text", ["{", "[]", '{"bits": 32}', "null"])
def test_weights_whose_digests_are_damaged_are_one_line(home, tmp_path, text):
    from safetensors.torch import load_file, save_file

    path = Path(tmp_path, "damaged.safetensors")
    save_file(load_file(home / "tuned" / "supernet.safetensors"), path, {"trained_on": text})
    with pytest.raises(NasvitEdgeError, match="fetch them again") as caught:
        load_supernet(path, load_space(home / "tuned" / "space.toml"))
    assert one_line(caught)
