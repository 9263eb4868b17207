"""Fine-tuning as a user asks for it: what comes out is what every other command takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY, edited, one_line, require_module
from made_up import SETTING, result_of, table
from msgspec import structs

from nasvit_edge import cache, records
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.export import verification
from nasvit_edge.export.formats import load_format
from nasvit_edge.flows import evaluate as evaluating
from nasvit_edge.flows import explain, export, finetune, tables
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.model.checkpoint import load_supernet, random_supernet, save_supernet
from nasvit_edge.model.narrow import narrowed
from nasvit_edge.requests.explain import Request as ExplainRequest
from nasvit_edge.requests.options import TableChoice
from nasvit_edge.requests.predict import Request as PredictRequest
from nasvit_edge.searching.result import read_result
from nasvit_edge.space import load_space, space_toml
from nasvit_edge.train import calibration
from nasvit_edge.train.finetune import taken

MODULES = {
    "onnx": "onnxruntime",
    "tflite": "litert_torch",
    "coreml": "coremltools",
    "tensorrt": "tensorrt_rtx",
}
NAMED = edited(TINY, ("classes = 4", 'classes = 4\nlabels = ["a", "b", "c", "d"]'))
QUICK = ("run.batch_size=16", "run.ema=0.5")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "root", lambda: tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Folders of images that can be told apart: NAMES -> a folder with train and val."""
    images = require_module("PIL.Image")
    rng = np.random.default_rng(0)

    def made(names: str):
        root = tmp_path_factory.mktemp("photos")
        for split, count in (("train", 16), ("val", 6)):
            for i, name in enumerate(names):
                folder = root / split / name
                folder.mkdir(parents=True)
                for k in range(count):
                    pixels = (
                        rng.integers(0, 80, (12, 12, 3))
                        + np.array([[40, 0, 90], [150, 30, 0], [0, 160, 20], [90, 90, 9]])[i]
                    )
                    images.fromarray(pixels.astype(np.uint8)).save(folder / f"{k}.png")
        return str(root)

    return made


@pytest.fixture(scope="module")
def four(photos):
    return photos("abcd")


@pytest.fixture
def subject(tmp_path):
    """The options that name a subnet of the tiny space."""
    (tmp_path / "tiny.toml").write_text(NAMED)
    space = load_space(tmp_path / "tiny.toml")
    (tmp_path / "wide.json").write_text(json.dumps(space.largest().to_dict()))
    return {"space": "tiny.toml", "supernet": "random:1", "config": tmp_path / "wide.json"}


def _request(data, tmp_path, subject, **options) -> finetune.Request:
    defaults = {"out": tmp_path / "tuned", "values": (*QUICK, "run.epochs=2"), "threads": 1, "workers": 0}
    return finetune.Request(**{"data": data, **subject, **defaults, **options})


def test_a_subnet_learns_and_comes_out_as_a_supernet_of_its_own(four, tmp_path, subject):
    steps = []
    request = _request(
        four, tmp_path, subject, values=(*QUICK, "run.epochs=6", "optimizer.learning_rate=3e-3")
    )
    report = finetune.finetune(request, listener=Listener(progress=lambda *done: steps.append(done)))
    assert steps[-1][0] == steps[-1][1] == report.steps == 24
    assert report.after["fp32"] > report.before["fp32"]
    space = load_space(report.space)
    assert (space.size(), space.label_names()) == (1, ["a", "b", "c", "d"])
    load_supernet(report.supernet, space)
    again = evaluating.evaluate(
        evaluating.Request(supernet=report.supernet, data=four, subnets="max", workers=1)
    )
    assert again.subnets[0].accuracy == report.after["fp32"]
    assert again.space == space.name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "precision"),
    [
        ("onnx", "fp32"),
        ("onnx", "int8"),
        pytest.param("tflite", "fp32", marks=pytest.mark.slow),
        pytest.param("coreml", "fp16", marks=pytest.mark.slow),
        pytest.param("tensorrt", "fp32", marks=pytest.mark.slow),
    ],
)
def test_it_is_exported_verified_and_evaluated(four, tmp_path, subject, form, precision):
    require_module(MODULES[form])
    report = finetune.finetune(_request(four, tmp_path, subject, values=(*QUICK, "run.epochs=1")))
    path = tmp_path / f"m{load_format(form).suffix}"
    weak = precision == "int8"  # 8 bits take much of a net that has learnt nothing
    asked = replace(_export(report, four, form, precision, path), force=weak)
    written = export.export(asked, SILENT)
    check = verification.verify(path, weights=report.supernet)
    assert written.passed == check.passed
    assert check.passed or weak
    assert check.reference == "supernet"
    assert verification.evaluate(path, four).images == 24


def _export(actual, data, form, precision, path) -> export.Request:
    options = dict.fromkeys(("result", "space", "supernet", "config"))
    if actual.result:
        options["result"] = actual.result
    else:
        options |= {name: getattr(actual, name) for name in ("space", "supernet", "config")}
    return export.Request(
        **options,
        calibrate=data,
        uncalibrated=False,
        format_name=form,
        precision=precision,
        out=path,
        overwrite=True,
    )


def test_other_classes_get_a_new_classifier_and_keep_the_rest(photos, tmp_path, subject):
    three, said = photos("abc"), []
    report = finetune.finetune(_request(three, tmp_path, subject), listener=Listener(note=said.append))
    assert "new classifier for 3" in said[0]
    space = load_space(report.space)
    assert space.label_names() == ["a", "b", "c"]
    assert load_supernet(report.supernet, space).state_dict()["classifier.linear.weight"].shape[0] == 3
    wide = load_supernet("random:1", load_space("tiny.toml"))
    before, kept = (
        narrowed(wide, wide.space.largest()).state_dict(),
        taken(wide, wide.space.largest(), three, 0),
    )
    for name, value in kept.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith("classifier.")
    again = taken(wide, wide.space.largest(), three, 0).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in kept.state_dict().items())


def _searched(tmp_path):
    """A result file of the tiny space and its latency table, both in the working folder."""
    space = load_space("tiny.toml")
    latencies = table(space)
    folder = tmp_path / "latency_tables"
    folder.mkdir()
    records.write(folder / "host-onnxruntime-1t-fp32-tiny.json", latencies.file)
    setting = structs.replace(SETTING, space="tiny.toml", supernet="random:1", calibration="bundled")
    records.write(
        tmp_path / "search.json",
        result_of(setting, space.largest(), latencies.predict(space.largest()).ms, 0.5),
    )
    return tmp_path / "search.json"


@pytest.mark.slow
def test_a_result_becomes_a_result_that_is_predicted_by_the_same_table_and_exported(
    four, tmp_path, subject, monkeypatch
):
    require_module("onnxruntime")
    monkeypatch.setattr(calibration, "BATCHES", 64)  # as the processes that `explain` measures in
    result = _searched(tmp_path)
    report = finetune.finetune(
        finetune.Request(
            data=four,
            out=tmp_path / "tuned",
            result=result,
            values=(*QUICK, "run.epochs=1"),
            threads=1,
            workers=0,
        )
    )
    saved = read_result(tmp_path / "tuned" / "result.json")
    assert saved.best.accuracy == report.after["fp32"]
    assert saved.file.finetuned.origin.supernet == "random:1"
    here, tuned = tmp_path / "latency_tables" / "host-onnxruntime-1t-fp32-tiny.json", tmp_path / "tuned"
    predicted = tables.predict(
        PredictRequest(subnet=tuned / "result.json", table=TableChoice(table=here)), SILENT
    )
    assert predicted.ms == pytest.approx(saved.best.latency_ms)
    explained = explain.explain(ExplainRequest(result=tuned / "result.json", table=here), SILENT)
    assert (explained.changes, explained.accuracy) == ((), saved.best.accuracy)
    written = export.export(_export(report, None, "onnx", "fp32", tmp_path / "m.onnx"), SILENT)
    assert written.passed


def test_frozen_stages_stay_as_they_were(four, tmp_path, subject):
    report = finetune.finetune(_request(four, tmp_path, subject, freeze_below="last_conv"))
    space = load_space(report.space)
    before, after = (
        load_supernet(tmp_path / "tuned" / f"{n}.safetensors", space) for n in ("initial", "supernet")
    )
    changed = {n for n, p in after.named_parameters() if not torch.equal(p, before.get_parameter(n))}
    assert changed
    assert {name.partition(".")[0] for name in changed} <= {"last_conv", "classifier"}


def test_quantised_training_tells_both_accuracies_and_learns_from_the_float_subnet(four, tmp_path, subject):
    request = _request(four, tmp_path, subject, quantise="int8")
    report = finetune.finetune(request)
    assert set(report.before) == set(report.after) == {"fp32", "int8"}
    about = json.loads((tmp_path / "tuned" / "recipe.json").read_text())
    assert (report.teacher, about["teacher"], about["recipe"]["name"]) == (
        "itself",
        "itself",
        "finetune-int8",
    )
    with pytest.raises(NasvitEdgeError) as caught:
        finetune.finetune(replace(request, teacher="labels", resume=True))
    assert "another run's (its teacher 'itself')" in one_line(caught)


def test_quantised_training_on_other_classes_learns_from_labels(photos, tmp_path, subject):
    request = _request(photos("abc"), tmp_path, subject, quantise="int8", values=(*QUICK, "run.epochs=1"))
    with pytest.raises(NasvitEdgeError) as caught:
        finetune.finetune(replace(request, teacher="itself"))
    assert "fine-tune on labels first" in one_line(caught)
    assert not (tmp_path / "tuned").exists()
    assert finetune.finetune(request).teacher == "labels"


def test_the_wide_supernet_teaches_its_subnet(four, tmp_path, subject):
    wide = random_supernet(load_space("tiny.toml"), 7)
    (tmp_path / "wide").mkdir()
    save_supernet(wide, tmp_path / "wide/supernet.safetensors", {"kind": "trained"})
    (tmp_path / "wide/space.toml").write_text(space_toml(wide.space.with_labels("abcd")))
    small = tmp_path / "small.json"
    small.write_text(json.dumps(wide.space.smallest().to_dict()))
    options = {**subject, "config": small, "values": (*QUICK, "run.epochs=1")}
    request = _request(four, tmp_path, options, teacher="wide")
    assert finetune.finetune(request).teacher == "wide"
    finetune.finetune(replace(request, teacher=None, out=tmp_path / "labels"))
    weights = [(tmp_path / name / "supernet.safetensors").read_bytes() for name in ("tuned", "labels")]
    assert weights[0] != weights[1]


def test_a_folder_with_a_run_is_not_lost_and_resume_takes_the_same_subnet_only(four, tmp_path, subject):
    request = _request(four, tmp_path, subject)
    finetune.finetune(request)
    before = {p: p.read_bytes() for p in (tmp_path / "tuned").glob("*.safetensors")}
    with pytest.raises(NasvitEdgeError) as caught:
        finetune.finetune(replace(request, seed=1))
    assert "--resume" in one_line(caught)
    with pytest.raises(NasvitEdgeError) as caught:
        finetune.finetune(replace(request, supernet="random:2", resume=True))
    assert "another subnet" in one_line(caught)
    assert before == {p: p.read_bytes() for p in (tmp_path / "tuned").glob("*.safetensors")}
    assert finetune.finetune(replace(request, resume=True)).steps == 8


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_weights_of_an_uninterrupted_one(four, tmp_path, subject, monkeypatch):
    monkeypatch.setattr(calibration, "BATCHES", 64)  # as the process that is killed
    values = [part for value in (*QUICK, "run.epochs=8") for part in ("--set", value)]
    options = ["--space", "tiny.toml", "--supernet", "random:1", "--config", str(subject["config"])]
    options += ["--data", four, "--quantise", "int8", "--workers", "0", "--threads", "1", *values]
    command = [sys.executable, "-m", "nasvit_edge.cli", "finetune", *options, "--checkpoint-minutes", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.Popen([*command, "--out", "killed"], env=environment, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while (
        not list(tmp_path.glob("killed/checkpoints/*.pt")) and run.poll() is None and time.monotonic() < end
    ):
        time.sleep(0.002)
    run.kill()
    assert run.wait() == -signal.SIGKILL
    request = _request(four, tmp_path, subject, quantise="int8", values=(*QUICK, "run.epochs=8"))
    again = finetune.finetune(replace(request, out=tmp_path / "killed", resume=True))
    assert again.steps == 32
    finetune.finetune(replace(request, out=tmp_path / "whole"))
    assert (tmp_path / "killed/supernet.safetensors").read_bytes() == (
        tmp_path / "whole/supernet.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"config": None}, "--space, --supernet and --config"),
        ({"result": "x.json"}, "not both"),
        ({"quantise": "int4"}, "there is int8"),
        ({"recipe": "nasvit"}, "single=true"),
        ({"recipe": "absent"}, "unknown recipe"),
        ({"freeze_below": "mb9"}, "there are"),
        ({"data": "nowhere"}, "nowhere"),
        ({"supernet": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"values": ("run.batch_size=4096",)}, "4096"),
        ({"resume": True}, "no run to resume"),
    ],
)
def test_what_does_not_fit_is_one_line_and_leaves_no_weights(four, tmp_path, subject, options, part):
    request = replace(_request(four, tmp_path, subject), **options)
    with pytest.raises(NasvitEdgeError) as caught:
        finetune.finetune(request)
    assert part in one_line(caught)
    assert not (tmp_path / "tuned" / "supernet.safetensors").exists()
