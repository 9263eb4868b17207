"""Two spaces of different classes side by side: through search, export, verify, evaluate, benchmark, nothing of one is taken for the other's."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from conftest import TINIER, edited, one_line, require_module

from nasvit_edge import cache, records
from nasvit_edge.choosing.subnet import subject_of
from nasvit_edge.errors import NasvitEdgeError, TableError
from nasvit_edge.export import verification
from nasvit_edge.flows import benchmark, doctor, explain, export, finetune
from nasvit_edge.flows import prepared as searching
from nasvit_edge.flows.tables import predict
from nasvit_edge.latency import load_table
from nasvit_edge.listening import SILENT
from nasvit_edge.profile import run as profiling
from nasvit_edge.requests.explain import Request as ExplainRequest
from nasvit_edge.requests.predict import Request as PredictRequest
from nasvit_edge.requests.search import Request as SearchRequest
from nasvit_edge.space import load_space, read_space
from nasvit_edge.train.loop import Settings
from nasvit_edge.train.recipe import load_recipe
from nasvit_edge.train.run import TrainingRequest, run

pytestmark = pytest.mark.slow

pytest.importorskip("onnxruntime")
QUICK = ("run.epochs=1", "run.batch_size=8", "run.warmup_epochs=0")
COUNTS = (3, 5)


def photos(folder, count):
    images, rng = require_module("PIL.Image"), np.random.default_rng(count)
    for split, many in (("train", 10), ("val", 4)):
        for i in range(count):
            kind_folder = folder / split / f"kind {i}"
            kind_folder.mkdir(parents=True)
            for k in range(many):
                pixels = rng.integers(0, 60, (12, 12, 3)) + 40 * i
                images.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(kind_folder / f"{k}.png")
    return str(folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Both trained from one space's file, profiled into one folder, searched and exported."""
    require_module("onnx")
    root = tmp_path_factory.mktemp("two")
    (root / "tiny.toml").write_text(edited(TINIER, ('name = "tiny"', 'name = "mine"')))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(cache, "root", lambda: root / "cache")
        for count in COUNTS:
            _made(root, count)
    return root


def _made(root, count):
    data, out = photos(root / f"photos{count}", count), root / f"run{count}"
    settings = Settings(out=out, threads=1, workers=0)
    recipe = load_recipe("nano").with_values(QUICK)
    run(TrainingRequest(space=str(root / "tiny.toml"), data=data, recipe=recipe, settings=settings))
    space = load_space(out / "space.toml")
    profiling.profile(space, protocol="quick", out=root / "latency_tables")
    request = SearchRequest(
        space=str(out / "space.toml"),
        latency=["1s"],
        supernet=str(out / "supernet.safetensors"),
        data=data,
        workers=1,
        population=4,
        generations=1,
    )
    prepared = searching.prepare(request, SILENT)
    records.write(root / f"{count}.json", searching.search_prepared(prepared))
    written = export.export(
        export.Request(
            result=root / f"{count}.json",
            out=root / f"{count}.onnx",
            overwrite=True,
        ),
        SILENT,
    )
    assert written.passed


@pytest.fixture(autouse=True)
def there(request, monkeypatch):
    if "home" in request.fixturenames:
        monkeypatch.chdir(request.getfixturevalue("home"))


def test_each_has_a_name_and_a_table_of_its_own(home):
    names = {path.name for path in (home / "latency_tables").glob("*.json")}
    assert names == {f"host-onnxruntime-1t-fp32-mine-{count}c.json" for count in COUNTS}
    for count in COUNTS:
        space = load_space(home / f"run{count}" / "space.toml")
        assert (space.name, space.classes) == (f"mine-{count}c", count)


@pytest.mark.parametrize("count", COUNTS)
def test_what_was_exported_needs_no_space_any_more(home, count):
    path, data = home / f"{count}.onnx", str(home / f"photos{count}")
    check = verification.verify(path, weights=str(home / f"run{count}" / "supernet.safetensors"))
    assert (check.passed, check.reference) == (True, "supernet")
    assert verification.evaluate(path, data).images == 4 * count
    assert doctor.examine(path).checked
    prediction = predict(PredictRequest(subnet=home / f"{count}.json"), SILENT)
    assert prediction.table.endswith(f"mine-{count}c.json")
    assert explain.explain(ExplainRequest(result=home / f"{count}.json"), SILENT).stages
    result = benchmark.run(
        benchmark.Request(artifacts=(path,), out=home / f"b{count}.json", rounds=1, seconds=0.02)
    )
    (artifact,) = result.artifacts
    assert artifact.predicted_ms is not None


@pytest.mark.parametrize("count", COUNTS)
def test_a_file_moved_to_another_machine_verifies_and_says_its_space(home, count, tmp_path, monkeypatch):
    """Only the artifact and what lies beside it; no run, no table, no TOML."""
    for path in home.glob(f"{count}.onnx*"):
        shutil.copy(path, tmp_path / path.name)
    monkeypatch.chdir(tmp_path)
    check = verification.verify(tmp_path / f"{count}.onnx")
    assert (check.passed, check.reference) == (True, "stored")
    inside = verification.open_artifact(tmp_path / f"{count}.onnx").metadata["space_toml"]
    assert read_space(inside, "here").classes == count


def _again(home, out, calibrate=None):
    """Exports the result of the space of three classes."""
    asked = dict.fromkeys(("space", "supernet", "config"))
    how = {"format_name": "onnx", "precision": "fp32", "overwrite": True, "uncalibrated": False}
    request = export.Request(result=home / "3.json", calibrate=calibrate, out=out, **asked, **how)
    return export.export(request, SILENT)


def test_images_that_changed_since_the_search_are_not_taken_for_those(home, tmp_path):
    """By content: the files are called as they were."""
    photo = home / "photos3" / "train" / "kind 0" / "0.png"
    kept = photo.read_bytes()
    try:
        shutil.copy(home / "photos5" / "train" / "kind 4" / "1.png", photo)
        with pytest.raises(NasvitEdgeError, match="calibrated on other images") as caught:
            _again(home, tmp_path / "m.onnx")
        assert "--calibrate photos3" in one_line(caught).replace(f"{home}/", "")
        assert _again(home, tmp_path / "m.onnx", str(home / "photos3")).passed
    finally:
        photo.write_bytes(kept)
    assert _again(home, tmp_path / "m.onnx").passed


def test_an_exported_file_says_which_images_it_was_calibrated_on(home):
    content = json.loads(verification.open_artifact(home / "3.onnx").metadata["calibration"])
    assert content["sha256"] == json.loads((home / "3.json").read_text())["setting"]["calibration_sha256"]


def test_neither_answers_for_the_other(home):
    three, five = (home / f"run{count}" / "space.toml" for count in COUNTS)
    table = home / "latency_tables" / "host-onnxruntime-1t-fp32-mine-3c.json"
    with pytest.raises(TableError, match="is of space 'mine-3c', not 'mine-5c'"):
        load_table(table, space=five)
    with pytest.raises(NasvitEdgeError, match="holds its own space, 'mine-3c'") as caught:
        predict(PredictRequest(subnet=home / "3.json", space=str(five)), SILENT)
    one_line(caught)
    with pytest.raises(NasvitEdgeError, match="holds its own space, 'mine-3c'"):
        verification.verify(home / "3.onnx", space_path=str(five))
    assert verification.verify(home / "3.onnx", space_path=str(three)).passed


def test_a_subnet_of_one_is_tuned_and_predicted_by_its_table(home):
    options = {"out": home / "tuned", "values": QUICK, "threads": 1, "workers": 0}
    asked = {"space": None, "supernet": None, "config": None}
    report = finetune.finetune(
        finetune.Request(result=home / "3.json", data=str(home / "photos3"), **asked, **options)
    )
    prediction = predict(PredictRequest(subnet=home / "tuned" / "result.json"), SILENT)
    assert prediction.table.endswith("mine-3c.json")
    assert load_space(report.space).name.startswith("mine-3c-subnet-")


def test_weights_that_changed_since_the_search_are_not_taken_for_those(home, tmp_path):
    """By content: the file is at the same place, and is another."""
    weights = home / "run3" / "supernet.safetensors"
    kept = weights.read_bytes()
    try:
        shutil.copy(home / "run5" / "supernet.safetensors", weights)
        with pytest.raises(NasvitEdgeError, match="was searched with other weights") as caught:
            subject_of(home / "3.json", None, None, None)
        assert f"--supernet {weights}" in one_line(caught)
        assert subject_of(home / "3.json", None, str(weights), None).supernet == str(weights)
    finally:
        weights.write_bytes(kept)
    assert subject_of(home / "3.json", None, None, None).supernet == str(weights)
