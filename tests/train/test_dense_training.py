"""Segmenters from masks: whole runs on small scenes, resumed, shared among processes, fine-tuned from a classifier."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, edited, one_line, space_of
from PIL import Image
from scene_folder import SCENE_TINY, write_scenes
from typer.testing import CliRunner

from nasvit_edge.choosing.accuracy import AccuracyChoice, accuracy_source
from nasvit_edge.cli import app
from nasvit_edge.data_sets import training_splits
from nasvit_edge.data_sets.scenes import load_scenes
from nasvit_edge.errors import CheckpointError, DataError, NasvitEdgeError
from nasvit_edge.flows.train import dry_run
from nasvit_edge.listening import Listener
from nasvit_edge.model.accuracy import accuracy, calibrated, confusion, score, subnet_accuracy, tally
from nasvit_edge.model.checkpoint import load_supernet, random_supernet, save_supernet
from nasvit_edge.model.subnet import fold, materialise
from nasvit_edge.space import load_space
from nasvit_edge.train import calibration
from nasvit_edge.train.initial import started
from nasvit_edge.train.loop import Settings
from nasvit_edge.train.recipe import chosen, load_recipe
from nasvit_edge.train.run import TrainingRequest, run
from nasvit_edge.train.scene_loading import SceneLoader
from nasvit_edge.train.step import Passes

pytest.importorskip("torchvision")
SPACE = space_of(SCENE_TINY)
QUICK = (
    "run.epochs=15",
    "run.batch_size=4",
    "run.warmup_epochs=1",
    "run.ema=0.9",
    "optimizer.learning_rate=2e-2",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("data") / "scenes", train=24, val=6, test=6)


@pytest.fixture(scope="module")
def toml(tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "tiny-scenes.toml"
    path.write_text(SCENE_TINY)
    return path


def request(toml, data, out, *changes, **options):
    recipe = load_recipe("scenes").with_values([*QUICK, *changes])
    settings = Settings(out=Path(out), workers=0, threads=1, **options.pop("settings", {}))
    return TrainingRequest(
        space=str(toml), data=str(data), recipe=recipe, settings=settings, validate_every=0, **options
    )


@pytest.fixture(scope="module")
def trained(toml, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    return out, run(request(toml, data, out))


def test_a_dense_space_has_a_recipe_of_its_own(toml):
    assert chosen(str(toml), None, ())[1].name == "scenes"
    assert chosen(None, None, ())[1].name == "nano"


@pytest.mark.slow
def test_a_run_learns_the_scenes_and_writes_what_other_commands_take(trained, data):
    out, report = trained
    assert report.accuracy["largest"] > 0.4, "four classes: 0.25 of the pixels at best by one of them"
    supernet = load_supernet(out / "supernet.safetensors", SPACE)
    _, validation = training_splits(str(data), SPACE)
    subnet = fold(
        calibrated(materialise(supernet, SPACE.largest()), calibration.calibration_for(supernet, str(data)))
    )
    assert accuracy(subnet, validation) == pytest.approx(report.accuracy["largest"])
    assert tomllib.loads((out / "space.toml").read_text())["head"]["kind"] == "mlp"


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_weights_of_an_uninterrupted_one(trained, toml, data, tmp_path):
    out = tmp_path / "stopped"
    stop = request(toml, data, out)
    from nasvit_edge.train import run as module

    steps = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "stopping", lambda: After(steps, 9))
        with pytest.raises(NasvitEdgeError, match="--resume"):
            run(stop, listener=Listener(progress=lambda done, total, detail: steps.append(done)))
    run(dataclasses.replace(stop, resume=True))
    whole, resumed = (
        load_supernet(folder / "supernet.safetensors", SPACE).state_dict() for folder in (trained[0], out)
    )
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


class After:
    """Says stop after so many steps."""

    def __init__(self, steps, count):
        self.steps, self.count, self.came = steps, count, []

    def __call__(self):
        return len(self.steps) >= self.count

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def test_parts_of_a_set_add_up_to_the_whole(data):
    scenes, validation = training_splits(str(data), SPACE)
    subnet = fold(
        calibrated(materialise(random_supernet(SPACE), SPACE.smallest()), scenes.take("some", range(8)))
    )
    halves = [tally(subnet, validation.take("part", part)) for part in (slice(0, 2), slice(2, 6))]
    assert torch.equal(sum(halves), tally(subnet, validation))
    assert score(sum(halves), validation) == pytest.approx(confusion(subnet, validation).mean_iou)


@pytest.mark.parametrize("count", [3, 8, 15, 23])
def test_scenes_are_calibrated_on_crops_as_in_training(count, data, monkeypatch):
    monkeypatch.setattr(calibration, "SCENE_BATCHES", 3)
    scenes, recipe = training_splits(str(data), SPACE)[0].take("some", range(count)), load_recipe("scenes")
    result = calibration.Calibration(scenes, recipe, SPACE)
    size = min(8, count)
    crops = [x for x, _ in result.batches(SPACE, max(SPACE.resolutions))]
    with SceneLoader(
        scenes, recipe.scenes, SPACE, size=recipe.scenes.size(SPACE), batch_size=size, workers=0
    ) as loading:
        trained = [batch.images for (batch,) in loading.steps(0, 3)]
    for ours, theirs in zip(crops, trained, strict=True):
        assert ours.shape == theirs.shape == (size, 3, *SPACE.input_size(max(SPACE.resolutions)))
        assert float((ours - theirs).abs().max()) < 0.5 / 255 / min(SPACE.std) + 1e-5
    small = next(result.batches(SPACE, min(SPACE.resolutions)))[0]
    assert small.shape[2:] == SPACE.input_size(min(SPACE.resolutions))


def test_smaller_resolutions_train_on_smaller_crops():
    recipe = load_recipe("scenes")
    passes = Passes(random_supernet(SPACE), recipe)
    images = torch.zeros(1, 3, 24, 36)
    assert passes._size(images, SPACE.largest()) == (24, 36)
    assert passes._size(images, SPACE.smallest()) == (18, 27)


def test_gradients_of_a_step_are_those_of_the_losses(data):
    """One subnet beside the largest, in one thread: by hand."""
    from nasvit_edge.train import pixels
    from nasvit_edge.train.divergence import alpha_divergence

    recipe, supernet = load_recipe("scenes"), random_supernet(SPACE).train()
    images, masks = torch.randn(2, 3, 32, 48), torch.randint(4, (2, 32, 48))
    configs = [SPACE.largest(), SPACE.smallest()]
    passed = Passes(supernet, recipe)(images, masks, configs)
    largest = supernet(images, configs[0], size=(32, 48))
    loss = pixels.from_masks(largest, masks)
    smallest = supernet(images, configs[1], size=(24, 36))
    grid = tuple(largest.shape[2:])
    other = alpha_divergence(pixels.rows(smallest, grid), pixels.rows(largest.detach(), grid), 5.0)
    assert torch.isclose(passed.loss, loss)
    assert torch.isclose(passed.distilled, other)
    parameters = [p for p in supernet.parameters() if p.requires_grad]
    expected = torch.autograd.grad(other, parameters, allow_unused=True)
    for passed_gradient, gradient in zip(passed.subnets, expected, strict=True):
        assert (passed_gradient is None) == (gradient is None)
        assert gradient is None or torch.allclose(passed_gradient, gradient, atol=1e-6)


def test_the_stages_of_a_classifier_are_taken_and_the_rest_is_new(tmp_path):
    classifier = random_supernet(space_of(TINY), 3)
    save_supernet(classifier, tmp_path / "c.safetensors", {})
    notes = []
    segmenter = started(str(tmp_path / "c.safetensors"), SPACE, 0, listener=Listener(note=notes.append))
    state = classifier.state_dict()
    for name, value in segmenter.state_dict().items():
        if name.startswith(("mb1.", "mb2.")) and not name.endswith("num_batches_tracked"):
            assert torch.equal(value, state[name]), name
    assert "new stem and decoder" in notes[0]
    again = started(str(tmp_path / "c.safetensors"), SPACE, 0).state_dict()
    other = started(str(tmp_path / "c.safetensors"), SPACE, 1).state_dict()
    name = "pixel_classifier.linear.weight"
    assert torch.equal(segmenter.state_dict()[name], again[name])
    assert not torch.equal(again[name], other[name])


def test_weights_of_other_stages_are_one_line(tmp_path, nano):
    save_supernet(random_supernet(nano), tmp_path / "n.safetensors", {})
    with pytest.raises(CheckpointError) as caught:
        started(str(tmp_path / "n.safetensors"), SPACE, 0)
    assert "n.safetensors" in one_line(caught)


def invoke(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_evaluate_tells_mean_iou_pixels_classes_and_the_baseline(trained, data, tmp_path):
    weights = trained[0] / "supernet.safetensors"
    common = ("evaluate", "--supernet", weights, "--data", data, "--split", "test", "--subnets", "min,max")
    report = json.loads(invoke(*common, "--json").stdout)
    assert report["metric"] == "mean IoU"
    for row in report["subnets"]:
        assert set(row["ious"]) == {"0", "1", "2", "3"}
        assert np.mean(list(row["ious"].values())) == pytest.approx(row["accuracy"])
        assert row["accuracy"] <= row["pixel_accuracy"]
    assert report["majority"]["accuracy"] == pytest.approx(report["majority"]["pixel_accuracy"] / 4)
    shown = invoke(*common, "--out", tmp_path / "t.csv")
    assert "mean IoU" in shown.stdout
    assert "most frequent class" in shown.stderr
    assert (tmp_path / "t.csv").read_text().count("\n") == 3


def binary(folder, foreground=255):
    """Scenes of two classes, the second of this value in the masks."""
    write_scenes(folder, train=8, val=4, test=4)
    for path in folder.glob("*/masks/*.png"):
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.where((mask == 1) | (mask == 2), foreground, 0).astype(np.uint8)).save(path)
    return folder


def two_classes(path, *more):
    labels = '\nlabels = ["background", "polyp"]'
    path.write_text(edited(SCENE_TINY, ("classes = 4", "\n".join(["classes = 2" + labels, *more]))))
    return path


SHORT = ("run.epochs=1",)


def test_masks_of_0_and_255_are_refused_before_training_with_the_option_that_makes_them_right(tmp_path):
    folder, toml = binary(tmp_path / "scenes"), two_classes(tmp_path / "two.toml")
    with pytest.raises(DataError) as caught:
        run(request(toml, folder, tmp_path / "out", *SHORT))
    text = one_line(caught)
    assert "'polyp' is never seen; if 255 is a class: add mask_values = [0, 255] to the space's TOML" in text
    assert not (tmp_path / "out" / "supernet.safetensors").exists()


def test_with_that_option_they_are_learned_as_masks_of_0_and_1_are_and_it_stays_with_the_run(tmp_path):
    listed = two_classes(tmp_path / "listed.toml", "mask_values = [0, 255]")
    both = [
        (listed, binary(tmp_path / "a" / "scenes")),
        (two_classes(tmp_path / "two.toml"), binary(tmp_path / "b" / "scenes", 1)),
    ]
    notes, reports = [], []
    for number, (toml, folder) in enumerate(both):
        out = tmp_path / f"out{number}"
        reports.append(run(request(toml, folder, out, *SHORT), listener=Listener(note=notes.append)))
    assert reports[0].accuracy == reports[1].accuracy
    assert notes[:2] == notes[2:]
    assert [note.partition(":")[0] for note in notes[:2]] == [
        "masks of scenes train (8 images), 12.3 k pixels",
        "masks of scenes val (4 images), 6.1 k pixels",
    ]
    assert all("background" in note and "polyp" in note for note in notes)
    assert load_space(tmp_path / "out0" / "space.toml").mask_values == (0, 255)
    weights = tmp_path / "out0" / "supernet.safetensors"
    result = invoke("evaluate", "--supernet", weights, "--data", both[0][1], "--subnets", "max", "--json")
    assert json.loads(result.stdout)["subnets"][0]["accuracy"] == reports[0].accuracy["largest"]


@pytest.fixture(scope="module")
def without_classes(tmp_path_factory):
    """Scenes whose masks are 255 everywhere, but those of training."""
    folder = write_scenes(tmp_path_factory.mktemp("none") / "scenes", train=8, val=3, test=3)
    for path in [*folder.glob("val/masks/*.png"), *folder.glob("test/masks/*.png")]:
        Image.new("L", (48, 32), 255).save(path)
    return folder


NO_CLASS = "have no pixel with a class, only value 255"


def test_validation_masks_of_only_255_are_an_error_before_training_and_in_a_dry_run(
    toml, without_classes, tmp_path
):
    asked = request(toml, without_classes, tmp_path / "out", *SHORT)
    for function in (run, dry_run):
        with pytest.raises(DataError, match=NO_CLASS) as caught:
            function(asked)
        assert "masks of scenes val (3 images)" in one_line(caught)


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_evaluating_a_supernet_on_masks_of_only_255_is_one_line(toml, without_classes, split, form):
    command = ("evaluate", "--supernet", "random", "--space", toml, "--data", without_classes)
    result = invoke(*command, "--subnets", "max", "--split", split, *form)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert NO_CLASS in result.stderr


def test_a_score_of_no_pixels_is_one_line_also_where_masks_were_not_looked_at(without_classes):
    scenes = load_scenes(str(without_classes), "validation", SPACE)
    with pytest.raises(DataError, match="no pixel of these masks has a class") as caught:
        subnet_accuracy(random_supernet(SPACE), SPACE.smallest(), scenes, scenes)
    one_line(caught)


def test_measuring_in_a_search_or_for_a_predictor_looks_at_the_masks_first(toml, data, without_classes):
    asked = AccuracyChoice(supernet="random", data=str(without_classes))
    with pytest.raises(DataError, match=NO_CLASS):
        accuracy_source(asked, SPACE)
    notes = []
    accuracy_source(dataclasses.replace(asked, data=str(data)), SPACE, Listener(note=notes.append))
    assert notes[0].startswith("masks of scenes val (6 images), 9.2 k pixels: 0 ")


@pytest.mark.slow
def test_the_dry_run_tells_what_is_in_the_masks(toml, data, tmp_path):
    masks = dry_run(request(toml, data, tmp_path / "out", "run.batch_size=2")).masks
    assert [line.partition(",")[0] for line in masks] == [
        "masks of scenes train (24 images)",
        "masks of scenes val (6 images)",
    ]


def test_one_segmenter_is_fine_tuned_and_its_files_are_evaluated(trained, toml, data, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(SPACE.smallest().to_dict()))
    options = ("--space", toml, "--supernet", trained[0] / "supernet.safetensors", "--config", config)
    tuned = ("--epochs", 2, "--batch-size", 4, "--data", data, "--workers", 0, "--threads", 1)
    tuned += ("--validate-every", 0)
    result = invoke("finetune", *options, *tuned, "--out", tmp_path / "tuned", "--json")
    assert result.exit_code == 0, result.stderr
    content = json.loads(result.stdout)
    assert 0.2 < content["after"]["fp32"] <= 1
    assert (tmp_path / "tuned" / "validation.csv").read_text().count("\n") == 2  # a heading, and the end
    evaluated = invoke(
        "evaluate", "--supernet", content["supernet"], "--data", data, "--subnets", "max", "--json"
    )
    assert json.loads(evaluated.stdout)["subnets"][0]["accuracy"] == pytest.approx(content["after"]["fp32"])
    assert "masks of scenes train (24 images), 36.9 k pixels" in result.stderr
    refused = invoke("finetune", *options, *tuned, "--out", tmp_path / "other", "--quantise", "int8")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "export --precision int8" in refused.stderr


def test_a_teacher_is_refused_before_anything_is_read(toml, data, tmp_path):
    with pytest.raises(NasvitEdgeError) as caught:
        run(request(toml, data, tmp_path / "out", teacher="torchvision:resnet18"))
    assert "learns from masks" in one_line(caught)
