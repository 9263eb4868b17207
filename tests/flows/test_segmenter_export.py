"""Segmenters as a user exports, verifies, evaluates and uses them: commands, bundles, and the programs in them."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import dense_spaces as made
import loaded
import numpy as np
import pytest
from conftest import one_line, require_module
from dense_spaces import CONFIG, SPACE
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from typer.testing import CliRunner

from nasvit_edge import cache, files
from nasvit_edge.benchmark.result import read_result
from nasvit_edge.cli import app
from nasvit_edge.data_sets import prepare_image
from nasvit_edge.data_sets.scenes import load_scenes
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.export import artifact, dense, verification
from nasvit_edge.export.formats import Threshold, load_format
from nasvit_edge.flows import export
from nasvit_edge.listening import SILENT
from nasvit_edge.model.accuracy import calibrated, confusion
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.model.subnet import materialise
from nasvit_edge.requests.verify import Request as VerifyRequest
from nasvit_edge.space import load_space
from nasvit_edge.train.calibration import calibration_for

EXPORT = files.shipped("export")
GOLDEN = json.loads((EXPORT / "golden.json").read_text())
PREPARES = {
    "onnx": ["prepare_image.py"],
    "tflite": ["PrepareImage.kt", "prepare_image.py"],
    "coreml": ["PrepareImage.swift"],
    "tensorrt": ["prepare_image.py"],
}
WITHOUT = """
import runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "nasvit_edge"):
            raise ModuleNotFoundError(f"{name} is absent here")
sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A space, a config, labelled scenes of other sizes than the input, and a cache of our own."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "space.toml").write_text(made.TEXT)
    (folder / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    made.scene_folder(folder / "scenes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "root", lambda: folder / "cache")
        yield folder


def _request(home, out, name="onnx", **options):
    settled = {
        "result": None,
        "space": str(home / "space.toml"),
        "supernet": "random:3",
        "config": home / "config.json",
        "calibrate": str(home / "scenes"),
        "uncalibrated": False,
        "format_name": name,
        "precision": "fp32",
        "out": out,
        "overwrite": True,
    }
    return export.Request(**(settled | options))


@pytest.fixture(scope="module", params=dense.OUTPUTS)
def model(request, home):
    """(an ONNX file with its bundle, its output)."""
    path = home / f"{request.param}.onnx"
    report = export.export(_request(home, path, output=request.param, bundle=True), SILENT)
    assert report.passed
    return path, request.param


def _run(*arguments):
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit | NasvitEdgeError), done.exception
    return done


# --- commands -------------------------------------------------------------------------------------------------------


def test_labels_are_the_default_and_another_output_is_not_served_from_the_cache(home, tmp_path):
    path = tmp_path / "m.onnx"
    for output, cached in ((None, None), ("labels", True), ("logits", None), ("logits", True)):
        report = export.export(_request(home, path, output=output), SILENT)
        assert report.output == (output or "labels")
        assert cached is None or report.cached == cached


def test_int8_takes_its_ranges_from_scenes(home, tmp_path):
    path = tmp_path / "m.onnx"
    report = export.export(_request(home, path, precision="int8"), SILENT)
    assert report.passed
    assert "scenes train" in artifact.open_artifact(path).metadata["calibration"]


def test_evaluate_gives_the_mean_iou_of_the_file_beside_pytorch(model, home):
    path, output = model
    done = _run("evaluate", path, "--data", home / "scenes", "--space", home / "space.toml", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["images"] == 3
    assert report["mean_iou"] == pytest.approx(report["reference"]["mean_iou"], abs=1e-4)
    assert set(report["ious"]) == set(SPACE.label_names())
    if output == "logits":  # resized to the masks' size before the largest is taken, as in training
        scenes = load_scenes(str(home / "scenes"), "test", SPACE)
        supernet = load_supernet("random:3", SPACE)
        train = calibration_for(supernet, str(home / "scenes"))
        expected = confusion(calibrated(materialise(supernet, CONFIG), train), scenes)
        assert report["mean_iou"] == pytest.approx(expected.mean_iou, abs=1e-4)
        assert report["pixel_accuracy"] == pytest.approx(expected.pixel_accuracy, abs=1e-4)


def test_evaluate_tells_what_is_in_the_masks(model, home):
    done = _run("evaluate", model[0], "--data", home / "scenes", "--space", home / "space.toml")
    assert "masks of scenes test (3 images), 6.1 k pixels: sky 20.0%" in done.stderr


def test_masks_of_only_255_are_one_line_for_a_file_and_no_nan(model, home, tmp_path):
    made.scene_folder(tmp_path / "scenes")
    for path in (tmp_path / "scenes" / "test" / "masks").iterdir():
        made.blank(path)
    done = _run("evaluate", model[0], "--data", tmp_path / "scenes", "--space", home / "space.toml", "--json")
    assert (done.exit_code, done.stdout) == (2, "")
    waited, error = done.stderr.splitlines()
    assert waited == "evaluating ..."
    assert "masks of scenes test (3 images) have no pixel with a class, only value 255" in error
    with pytest.raises(NasvitEdgeError, match="no pixel with a class") as caught:
        verification.overlaps(model[0], str(tmp_path / "scenes"), space_path=str(home / "space.toml"))
    one_line(caught)


def test_verify_compares_on_scenes_too_and_shows_it(model, home, monkeypatch):
    path, output = model
    monkeypatch.chdir(path.parent)  # a long path would leave no room for the other columns
    done = _run("verify", path.name, "--space", home / "space.toml", "--data", home / "scenes")
    assert done.exit_code == 0, done.output
    for text in ("passed", output, "mean IoU", "pixel accuracy", "IoU road", "PyTorch"):
        assert text in done.output


def test_a_drop_of_mean_iou_fails_the_check(model, home, monkeypatch):
    path, _ = model
    real = export.verification.scene_checks.compared

    def worse(*given):
        return structs.replace(real(*given), mean_iou_drop=0.02)

    monkeypatch.setattr(export.verification.scene_checks, "compared", worse)
    form = load_format("onnx")
    form = structs.replace(form, thresholds={"fp32": Threshold(top1_drop=0.01)})
    monkeypatch.setattr(artifact, "format_of", lambda suffix: form)
    check = export.verification.verify(path, space_path=str(home / "space.toml"), data=str(home / "scenes"))
    assert any("mean IoU is 2.00 points lower (at most 1)" in line for line in check.failures())


def test_what_cannot_be_asked_is_one_line(model, home, tmp_path):
    path, _ = model
    classifier = {"space": "nano", "supernet": "nano", "calibrate": "bundled"}
    small = tmp_path / "small.json"
    small.write_text(json.dumps(load_space("nano").smallest().to_dict()))
    for changes in ({"output": "masks"}, {"output": "labels", **classifier, "config": small}):
        with pytest.raises(NasvitEdgeError, match="--output") as caught:
            export.export(_request(home, tmp_path / "m.onnx", **changes), SILENT)
        assert one_line(caught)
    for data in ("bundled", str(tmp_path / "nowhere"), str(tmp_path)):
        with pytest.raises(NasvitEdgeError) as caught:
            export.verify(VerifyRequest(artifact=path, space=str(home / "space.toml"), data=data))
        assert one_line(caught)
    with pytest.raises(NasvitEdgeError, match="labels pixels") as caught:
        export.verification.hits(path, str(home / "scenes"), space_path=str(home / "space.toml"))
    assert one_line(caught)


@pytest.mark.slow
def test_benchmark_judges_a_segmenter_on_scenes_and_a_damaged_copy_is_worse(model, home, tmp_path):
    path, _ = model
    other = tmp_path / "other.onnx"
    request = _request(home, other, supernet="random:4", output=model[1])
    assert export.export(request, SILENT).passed
    measure = ("benchmark", other, "--baseline", path, "--rounds", 3, "--seconds", 0.02, "--json")
    out = tmp_path / "benchmark.json"
    for space, said in (("nowhere.toml", "No such file"), ("nano", "no artifact is from it")):
        refused = _run(*measure, "--space", space, "--out", out)
        assert (refused.exit_code, refused.stderr.count("\n"), out.exists()) == (2, 1, False)
        assert said in refused.stderr
    _run(*measure, "--data", home / "scenes", "--out", out)
    base, candidate = read_result(out).artifacts
    for measured, file in ((base, path), (candidate, other)):
        report = export.verification.evaluate(file, str(home / "scenes"))
        assert measured.accuracy.value == pytest.approx(report.mean_iou, abs=1e-12)
        assert measured.accuracy.data == report.data
    report = json.loads(_run("report", "bench", out, "--json").stdout)
    (cell,) = [cell for cell in report["cells"] if cell["metric"] == "mean_iou"]
    assert cell["change"][0] == pytest.approx(candidate.accuracy.value - base.accuracy.value, abs=1e-9)


# --- bundles and their programs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("onnx", "segment.py"),
        pytest.param("tflite", "segment.py", marks=pytest.mark.slow),
        pytest.param("coreml", "Segment.swift", marks=pytest.mark.slow),
        ("tensorrt", "m.tensorrt/segment.py"),
    ],
)
def test_a_bundle_holds_the_programs_of_a_segmenter(name, program, home, tmp_path):
    form = load_format(name)
    report = export.export(_request(home, tmp_path / f"m{form.suffix}", name, bundle=True), SILENT)
    folder = tmp_path / f"m-{name}-bundle"
    assert report.bundle == str(folder)
    assert (folder / program).exists()
    assert not [p for p in folder.iterdir() if p.stem.lower() == "classify" or p.suffix in (".js", ".html")]
    prepares = [p.name for p in (folder / program).parent.iterdir() if "prepare" in p.name.lower()]
    assert sorted(prepares) == PREPARES[name]
    assert (folder / "labels.txt").read_text().splitlines() == SPACE.label_names()


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A picture that is wider than the model's input."""
    path = tmp_path_factory.mktemp("picture") / "street.png"
    return made.picture(path, 50, 90, seed=7)


def _expected(path, picture, meta):
    """Labels of the picture by the runtime, through our own resizing of logits."""
    x = prepare_image.prepared(picture, prepare_image.described(meta)).transpose(2, 0, 1)[None]
    actual = artifact.format_of(path.suffix).module().runner(path)(x)
    return actual[0] if actual.ndim == 3 else dense.labels_of(actual, SPACE.input_size(CONFIG.resolution))[0]


def _check_printed(text, labels):
    *rows, time = text.splitlines()
    assert re.fullmatch(r"\d+\.\d\d ms", time)
    printed = {row.split("%")[1].strip(): float(row.split("%")[0]) / 100 for row in rows}
    for index, name in enumerate(SPACE.label_names()):
        share = float((labels == index).mean())
        assert abs(printed.get(name, 0) - share) <= 6e-4
    assert list(printed.values()) == sorted(printed.values(), reverse=True)


def _check_overlay(path, picture, labels, palette):
    library = require_module("PIL.Image")
    photo, drawn = (np.asarray(library.open(p)).astype(int) for p in (picture, path))
    assert drawn.shape == photo.shape
    actual = dense.at_size(labels[None], photo.shape[:2])[0]
    np.testing.assert_array_equal(drawn, (photo + np.array(palette)[actual] + 1) // 2)


def test_the_bundled_program_without_torch_labels_a_picture(model, picture):
    path, output = model
    folder = path.with_name(f"{output}-onnx-bundle")
    command = [sys.executable, "-c", WITHOUT, "segment.py", path.name, str(picture), "overlay.png"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    meta = artifact.open_artifact(path).metadata
    labels = _expected(path, picture, meta)
    _check_printed(done.stdout, labels)
    _check_overlay(folder / "overlay.png", picture, labels, json.loads(meta["palette"]))


@pytest.mark.slow
@pytest.mark.parametrize("output", dense.OUTPUTS)
def test_the_program_for_tflite_labels_a_picture(output, home, picture, tmp_path, capsys):
    path = tmp_path / "m.tflite"
    export.export(_request(home, path, "tflite", output=output), SILENT)
    program = loaded.program("tflite", "segment")
    capsys.readouterr()
    assert program.main([str(path), str(picture), str(tmp_path / "o.png")]) == 0
    meta = artifact.open_artifact(path).metadata
    labels = _expected(path, picture, meta)
    _check_printed(capsys.readouterr().out, labels)
    _check_overlay(tmp_path / "o.png", picture, labels, json.loads(meta["palette"]))


def test_bad_usage_gives_one_line(model, picture, tmp_path, capsys):
    path, program = model[0], loaded.program("onnx", "segment")
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\x00garbage")
    for arguments in (
        *([], [str(path)], [str(path), str(picture), "a.png", "b.png"]),
        *([str(path), str(p)] for p in (garbage, tmp_path, tmp_path / "missing")),
        *([str(p), str(picture)] for p in (garbage, tmp_path, tmp_path / "missing")),
        [str(path), str(picture), str(tmp_path / "no" / "folder.png")],
    ):
        assert program.main(arguments) == 2
        output = capsys.readouterr()
        assert output.err.count("\n") == 1
        assert output.err.startswith(("usage: ", "error: "))


@pytest.mark.parametrize("name", ["onnx", "tflite"])
def test_a_model_that_is_no_segmenter_is_refused_by_name(name, picture, tmp_path, capsys):
    program, path = loaded.program(name, "segment"), tmp_path / f"m.{name}"
    if name == "onnx":
        onnx = require_module("onnx")
        node = onnx.helper.make_node("Identity", ["image"], ["logits"])
        shapes = [onnx.helper.make_tensor_value_info(n, 1, [1]) for n in ("image", "logits")]
        graph = onnx.helper.make_graph([node], "g", shapes[:1], shapes[1:])
        made_of = onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10
        )
        onnx.save(made_of, str(path))
    else:
        path.write_bytes(load_format("tflite").module().write_metadata(b"", {"labels": "[]"}))
    assert program.main([str(path), str(picture)]) == 2
    assert "is no segmenter" in capsys.readouterr().err


# --- what all programs compute --------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=list(loaded.RUNTIMES))
def program(request):
    return loaded.program(request.param, "segment")


@pytest.mark.parametrize("case", GOLDEN["bilinear"], ids=lambda c: f"{len(c['values'])}to{c['size']}")
def test_bilinear(program, case):
    values = np.array(case["values"], np.float32)
    for axis, shape in ((0, (-1, 1)), (1, (1, -1))):
        actual = program.bilinear(values.reshape(shape), case["size"], axis)
        np.testing.assert_allclose(actual.ravel(), case["resized"], atol=1e-5)


@pytest.mark.parametrize("case", GOLDEN["nearest"], ids=lambda c: f"{c['length']}to{c['size']}")
def test_nearest(program, case):
    assert program.nearest(case["length"], case["size"]).tolist() == case["places"]
    for path in (EXPORT / "coreml" / "Segment.swift", EXPORT / "tflite" / "Segment.kt"):
        formula = re.search(r"\(2 \* place \+ 1\) \* length / \(2 \* size\)", path.read_text())[0]
        results = [eval(formula.replace("/", "//"), {}, {**case, "place": i}) for i in range(case["size"])]
        assert results == case["places"]


@pytest.mark.parametrize("case", GOLDEN["mix"], ids=lambda c: str(c["pixel"]))
def test_mixing_colours(program, case):
    image = require_module("PIL.Image").fromarray(np.array([[case["pixel"]]], np.uint8))
    meta = {"palette": json.dumps([case["colour"]])}
    drawn = program.overlay(image, np.zeros((1, 1), np.int32), meta)
    assert np.asarray(drawn)[0, 0].tolist() == case["mixed"]


@settings(max_examples=20)
@given(seed=st.integers(0, 99), grid=st.tuples(st.integers(1, 6), st.integers(1, 6)))
def test_programs_take_the_largest_of_logits_as_we_do(seed, grid):
    logits = np.random.default_rng(seed).normal(size=(1, 4, *grid)).astype(np.float32)
    meta = {"output": "logits", "input_height": "13", "input_width": "9"}
    expected = dense.labels_of(logits, (13, 9))[0]
    assert (loaded.program("onnx", "segment").labels_of(logits[0], meta) == expected).all()
    assert (
        loaded.program("tflite", "segment").labels_of(logits[0].transpose(1, 2, 0), meta) == expected
    ).all()
