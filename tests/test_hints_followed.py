"""Every command that a message suggests is run as it stands, by a user who has what only users have; what failed is mended by it."""

from __future__ import annotations

import ast
import json
import random
import re
import shlex
from pathlib import Path

import commands
import msgspec
import pytest
from adopting.small_networks import written
from conftest import TINIER, edited, require_module
from nn_meter_table import small_table

import nasvit_edge
from nasvit_edge import hints, trusting
from nasvit_edge.benchmark.result import read_result
from nasvit_edge.choosing.accuracy import AccuracyChoice, accuracy_source
from nasvit_edge.choosing.subnet import subject_of
from nasvit_edge.choosing.table import validity
from nasvit_edge.data_sets import load_images
from nasvit_edge.errors import DeviceError, NasvitEdgeError, VerifyError
from nasvit_edge.export import recalled, verification
from nasvit_edge.export.checks import Check
from nasvit_edge.export.sidecar import read_sidecar
from nasvit_edge.flows import devices
from nasvit_edge.flows import export as exporting
from nasvit_edge.flows.prepared import prepare
from nasvit_edge.flows.tables import import_table
from nasvit_edge.latency import load_table
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.profile.protocol import PROTOCOLS
from nasvit_edge.requests.search import Request
from nasvit_edge.requests.tables import Import
from nasvit_edge.searching.accuracy import load_accuracy
from nasvit_edge.searching.measured import read_measured
from nasvit_edge.space import load_space
from nasvit_edge.train.conflict_file import read_conflicts

PACKAGE = Path(nasvit_edge.__file__).parent
SETTINGS = [f"--set={value}" for value in ("run.epochs=1", "run.batch_size=8", "run.warmup_epochs=0")]
QUICK = {
    "train": SETTINGS,
    "finetune": SETTINGS,
    "tables validate": ["--subnets", "4"],
    "benchmark": ["--rounds", "3"],
    "profile --space runs/adopted": ["--protocol", "quick", "--sample", "4%"],
    "search --space runs/adopted": ["--interpolate", "--minutes", "0.1"],
}
OWN = ["--space", "run/space.toml", "--supernet", "run/supernet.safetensors", "--data", "my photos"]
SEARCH = [*OWN, "--latency", "1s"]
KINDS = tuple(f"kind {i}" for i in range(4))
pytestmark = pytest.mark.usefixtures("brief_by_default")


@pytest.fixture(scope="module")
def brief_by_default():
    """What is suggested measures by the default protocol, here for a moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROTOCOLS, "default", PROTOCOLS["quick"])
        yield


def photos(folder, kinds=KINDS):
    import numpy as np

    images, rng = require_module("PIL.Image"), np.random.default_rng(0)
    for split, many in (("train", 12), ("val", 4), ("test", 4)):
        for i, kind in enumerate(kinds):
            kind_folder = folder / split / kind
            kind_folder.mkdir(parents=True)
            for k in range(many):
                pixels = rng.integers(0, 40, (12, 12, 3)) + 50 * i
                images.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(kind_folder / f"{k}.png")
    return str(folder)


def well(words):
    """How a command that did its work may end: a benchmark on a busy machine says that it is not valid."""
    return (0, 3) if "benchmark" in words or "bench" in words else (0,)


def follow(message):
    """Run what a message suggests; the capitals in it are what this user has, and what takes long is done on less."""
    said = re.search(rf"{hints.PROGRAM} (?:'[^']*'|[^;,)'])*", str(message))[0].strip()
    words_for = {hints.DATA: "my photos", hints.WEIGHTS: "run/supernet.safetensors"}
    words_for |= {hints.RESULT: "found.json", hints.MODEL: "own.onnx"}
    words = [words_for.get(word, word) for word in shlex.split(said)[1:]]
    quick = next((more for start, more in QUICK.items() if " ".join(words).startswith(f"{start} ")), [])
    done = commands.run(*words, *quick)
    assert done.returncode in well(words), (said, done)
    return words


@pytest.fixture(scope="module")
def made(tmp_path_factory, brief_by_default):
    """What a user has who has been through everything once: images, weights, a table, a result, a file; names have blanks."""
    require_module("onnx")
    pytest.importorskip("onnxruntime")
    root = tmp_path_factory.mktemp("hints") / "my work"
    root.mkdir()
    (root / "own space.toml").write_text(edited(TINIER, ('name = "tiny"', 'name = "own"')))
    photos(root / "my photos")
    for words in (
        ["train", "--space", "own space.toml", "--data", "my photos", "--out", "run", *SETTINGS],
        ["profile", "--space", "run/space.toml", "--protocol", "quick"],
        ["search", *SEARCH, "--out", "found.json"],
        ["export", "found.json", "--out", "own.onnx"],
    ):
        done = commands.run(*words, cwd=root)
        assert done.returncode == 0, (words, done)
    return root


@pytest.fixture
def here(made, monkeypatch):
    monkeypatch.chdir(made)
    return load_space("run/space.toml")


def failed(kind, function, *args, **kwargs):
    with pytest.raises(kind) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def fitted(space, out):
    """A predictor of made-up accuracies."""
    rng = random.Random(0)
    rows = [{"config": space.sample(rng).to_dict(), "accuracy": rng.random()} for _ in range(40)]
    Path("measured.json").write_text(json.dumps(rows))
    words = ["--space", space.given, "--measured", "measured.json", "--out", out]
    assert commands.run("accuracy", "fit", *words).returncode == 0


def search(**more):
    return Request(space="run/space.toml", latency=["1s"], workers=1, **more)


@pytest.mark.slow
def test_a_classifier_verified_with_scenes_is_verified_without(here):
    follow(failed(NasvitEdgeError, verification.verify, Path("own.onnx"), data="scenes"))


@pytest.mark.slow
def test_a_table_that_was_not_validated_is_validated(here):
    (path,) = Path("latency_tables").glob("*.json")
    said = validity(load_table(path, space=here))
    assert "not validated" in said
    follow(said)
    assert "whole subnets" in validity(load_table(path, space=here))


def test_a_search_without_an_accuracy_gets_the_one_that_is_fitted(here):
    follow(failed(NasvitEdgeError, accuracy_source, AccuracyChoice(), here))
    assert prepare(search(accuracy="accuracy.json"), SILENT).problem.evaluator.predictor is not None


def test_a_predictor_of_other_weights_is_fitted_to_these(here):
    notes: list[str] = []
    fitted(here, "own.json")
    raw = json.loads(Path("own.json").read_text())
    Path("others.json").write_text(json.dumps(raw | {"weights_sha256": "0" * 64}))
    options = {"supernet": "run/supernet.safetensors", "data": "my photos"}
    prepare(search(accuracy="others.json", **options), Listener(note=notes.append))
    follow(next(line for line in notes if "other weights" in line))
    notes.clear()
    prepare(search(accuracy="own.json", **options), Listener(note=notes.append))
    assert not any("other weights" in line for line in notes)


def test_a_predictor_of_another_space_of_the_same_name_is_fitted_anew(here):
    Path("another.toml").write_text(
        edited(TINIER, ('name = "tiny"', f'name = "{here.name}"'), ("width = [8, 16]", "width = [8, 24]"))
    )
    other = load_space("another.toml")
    fitted(other, "another.json")
    assert other.name == here.name
    follow(failed(NasvitEdgeError, load_accuracy, "another.json", here))
    assert load_accuracy("own.json", here).space == here.name


def test_subnets_that_are_not_in_a_form_are_measured_into_it(here):
    Path("mine.csv").write_text("name,top1\na,0.5\n")
    follow(failed(NasvitEdgeError, read_measured, Path("mine.csv"), here))
    assert read_measured(Path("measured.csv"), here)[0]


def test_what_is_no_subject_becomes_one_by_a_search(here):
    weights = "run/supernet.safetensors"
    follow(failed(NasvitEdgeError, subject_of, None, "run/space.toml", weights, None))
    assert subject_of(Path("search.json"), None, None, None).supernet == weights


@pytest.mark.slow
def test_a_file_that_is_no_benchmark_is_measured_into_one(here):
    follow(failed(NasvitEdgeError, read_result, Path("found.json")))
    content = json.loads(Path("benchmark.json").read_text())
    Path("old.json").write_text(json.dumps(content | {"schema": 0}))
    assert read_result(Path("benchmark.json"))
    follow(failed(NasvitEdgeError, read_result, Path("old.json")))
    assert read_result(Path("old.json"))


def test_images_of_other_classes_are_what_a_model_is_fine_tuned_for(here):
    data = photos(Path("other kinds"), ("x", "y"))
    follow(failed(NasvitEdgeError, load_images, data, "validation", here))
    assert load_images(data, "validation", load_space("runs/finetuned/space.toml"))


def test_a_run_without_its_conflicts_is_trained_with_them(here):
    follow(failed(NasvitEdgeError, read_conflicts, Path("run")))
    assert read_conflicts(Path("run-conflicts"))


def test_an_export_below_its_search_names_an_evaluation_that_runs(here):
    from nasvit_edge.model.accuracy import calibrated
    from nasvit_edge.model.checkpoint import load_supernet
    from nasvit_edge.model.subnet import materialise
    from nasvit_edge.train.calibration import calibration_for

    notes: list[str] = []
    weights = load_supernet("run/supernet.safetensors", here)
    subnet = calibrated(materialise(weights, here.smallest()), calibration_for(weights, "my photos"))
    promised = read_sidecar(Path("own.onnx")).search
    promised = msgspec.structs.replace(promised, accuracy=1.0, accuracy_uncertainty=0.0)
    recalled.compare(
        subnet, "my photos", promised, Listener(note=notes.append), weights="run/supernet.safetensors"
    )
    follow(notes[0])


def test_an_int8_file_that_fails_is_failed_with_the_training_that_may_mend_it(here, monkeypatch):
    """Whether it then passes depends on the weights; the command is whole and trains the subnet that failed."""
    with monkeypatch.context() as patch:
        patch.setattr(Check, "passed", property(lambda check: False))
        said = failed(VerifyError, exporting.export, _request(precision="int8", out=Path("q.onnx")), SILENT)
    follow(said)
    assert (
        subject_of(Path("runs/int8/result.json"), None, None, None).config
        == subject_of(Path("found.json"), None, None, None).config
    )


def _request(**more):
    usual = {"space": None, "supernet": None, "config": None, "calibrate": None, "uncalibrated": False}
    usual |= {"format_name": "onnx", "overwrite": True, "result": Path("found.json"), "cached": False}
    return exporting.Request(**usual | more)


def test_a_model_that_is_no_file_is_exported_for_the_device(here):
    require_module("litert_torch")
    from nasvit_edge.device import load_device

    missing = Path("phone.tflite")
    said = failed(DeviceError, devices.op_times, load_device("android"), missing, None, None, SILENT)
    follow(said)
    again = failed(NasvitEdgeError, devices.op_times, load_device("android"), missing, None, None, SILENT)
    assert "is no file" not in again  # what is missing now is the phone


def test_what_a_search_names_next_exports_and_explains(here):
    said = commands.run("search", *SEARCH, "--out", "next.json").stderr
    for command in re.findall(rf"{hints.PROGRAM} (?:export|explain) [^,\n]*", said):
        follow(command)
    assert Path(f"{here.name}.onnx").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["benchmark", "own.onnx", "--rounds", "4", "--out", "b.json"],
        ["accuracy", "fit", *OWN, "--out", "fitted.json"],
        ["finetune", "found.json", "--data", "my photos", "--out", "runs/next", *SETTINGS],
    ],
    ids=lambda words: words[0],
)
def test_what_a_command_names_next_runs(here, words):
    assert here
    done = commands.run(*words)
    assert done.returncode in well(words), done
    follow(re.search(rf"next: ({hints.PROGRAM} .*)", done.stderr)[1])


@pytest.mark.slow  # a table of a pretrained network's ops
def test_what_adopt_names_next_profiles_and_searches(here):
    assert here
    net = ["timm:mobilenetv2_035", "--weights", "random", "--size", "32", "--workers", "0"]
    done = commands.run(
        "adopt", *net, "--data", "my photos", "--epochs", "1", "--batch-size", "4", "--out", "runs/adopted"
    )
    assert done.returncode == 0, done
    suggested = re.findall(rf"(?:next|then): ({hints.PROGRAM} .*)", done.stderr)
    assert [follow(line)[0] for line in suggested] == ["profile", "search"]


def test_what_a_network_taken_as_it_is_names_next_exports_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(trusting.TRUSTED, "")
    source = f"{written(tmp_path, 'hinted_network')}:small"
    done = commands.run("adopt", source, "--fixed", "--size", "32", "--out", "as it is")
    monkeypatch.setenv(trusting.TRUSTED, "")  # as in the next process
    suggested = re.search(rf"next: ({hints.PROGRAM} .*)", done.stderr)[1]
    assert follow(suggested)[:3] == ["--trust-code", source, "export"]
    assert Path("hinted_network-small.onnx").exists()


def test_an_imported_table_is_searched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lut.json").write_text(json.dumps(small_table()))
    done = commands.run("tables", "import", "nn-meter", "lut.json", "--device", "pixel-1")
    follow(done.stderr)


def test_a_table_in_another_unit_is_imported_in_that(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lut.json").write_text(json.dumps({key: 2e-4 * ms for key, ms in small_table().items()}))
    request = Import(kind="nn-meter", file=Path("lut.json"), device="pixel-1")
    follow(failed(NasvitEdgeError, import_table, request))


# -- every place that suggests a command is followed somewhere ------------------------------------------
FOLLOWED = {
    "benchmark/result.py:read_result": "test_a_file_that_is_no_benchmark_is_measured_into_one",
    "cli/accuracy.py:fit": "test_what_a_command_names_next_runs",
    "cli/adopt.py:adopt": "test_what_adopt_names_next_profiles_and_searches",
    "cli/adopt.py:_next": "test_what_a_network_taken_as_it_is_names_next_exports_it",
    "cli/benchmark.py:benchmark": "test_what_a_command_names_next_runs",
    "cli/finetune.py:_next": "test_what_a_command_names_next_runs",
    "cli/search.py:_export": "test_what_a_search_names_next_exports_and_explains",
    "cli/search.py:_show": "test_what_a_search_names_next_exports_and_explains",
    "flows/tables.py:_with_unit": "test_a_table_in_another_unit_is_imported_in_that",
    "flows/tables.py:searching": "test_an_imported_table_is_searched",
    "data_sets/labels.py:_foreign": "test_images_of_other_classes_are_what_a_model_is_fine_tuned_for",
    "export/verification.py:verify": "test_a_classifier_verified_with_scenes_is_verified_without",
    "choosing/table.py:validity": "test_a_table_that_was_not_validated_is_validated",
    "flows/devices.py:op_times": "test_a_model_that_is_no_file_is_exported_for_the_device",
    "flows/export.py:_tuning": "test_an_int8_file_that_fails_is_failed_with_the_training_that_may_mend_it",
    "searching/measured.py:module": "test_subnets_that_are_not_in_a_form_are_measured_into_it",
    "flows/profile.py:bundle": "test_a_bundle_names_the_command_that_takes_its_results",
    "export/recalled.py:compare": "test_an_export_below_its_search_names_an_evaluation_that_runs",
    "choosing/accuracy.py:fitting": "test_a_search_without_an_accuracy_gets_the_one_that_is_fitted",
    "choosing/accuracy.py:tell_of_other_weights": "test_a_predictor_of_other_weights_is_fitted_to_these",
    "choosing/subnet.py:subject_of": "test_what_is_no_subject_becomes_one_by_a_search",
    "train/conflict_file.py:_training": "test_a_run_without_its_conflicts_is_trained_with_them",
    "searching/accuracy.py:load_accuracy": "test_a_predictor_of_another_space_of_the_same_name_is_fitted_anew",
    # in test_hints.py and profile/test_offline.py
    "flows/history.py:read_lines": "test_the_hint_of_a_missing_history_writes_it_where_it_was_asked_for",
    "latency/selection.py:_nothing": "test_the_hint_of_a_missing_table_measures_the_very_table_that_was_asked_for",
    "latency/table.py:profiling": "test_the_hints_of_a_table_of_another_machine_or_schema_mend_it",
    "latency/table.py:_again": "test_the_hints_of_a_table_of_another_machine_or_schema_mend_it",
}


def places():
    """Functions of the package that call `hints.command`."""
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text()
        if not re.search(r"from nasvit_edge\.hints import .*\bcommand\b", text):
            continue
        tree = ast.parse(text)
        owners = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "command":
                inside = [
                    owner.name for owner in owners if owner.lineno <= node.lineno <= (owner.end_lineno or 0)
                ]
                yield f"{path.relative_to(PACKAGE)}:{inside[-1] if inside else 'module'}"


def test_every_place_that_suggests_a_command_is_followed_by_a_test():
    assert set(places()) == set(FOLLOWED)
    tests = {
        node.name
        for name in ("test_hints.py", "profile/test_offline.py", Path(__file__).name)
        for node in ast.walk(ast.parse((Path(__file__).parent / name).read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert set(FOLLOWED.values()) <= tests
