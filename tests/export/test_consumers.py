"""The programs that ship beside a model: all compute what `export/golden.json` says, with neither torch nor us."""

from __future__ import annotations

import contextlib
import io
import json
import re
import runpy
import shutil
import subprocess
import sys

import loaded
import numpy as np
import pytest
import torch
from conftest import require_module, require_tool, shared
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nasvit_edge import data_sets, files
from nasvit_edge.data_sets import prepare_image
from nasvit_edge.export import artifact, tflite, writing
from nasvit_edge.export.formats import load_format
from nasvit_edge.model.accuracy import calibrated
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.model.subnet import materialise
from nasvit_edge.space import load_space

EXPORT = files.shipped("export")
GOLDEN = json.loads((EXPORT / "golden.json").read_text())
SPACE = load_space("nano")
IMAGES = 5

# Runs a program where some modules cannot be imported.
WITHOUT = """
import os, runpy, sys
class Absent:
    names = sys.argv[1].split(",")
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is absent here")
sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[2:]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module", params=list(loaded.RUNTIMES))
def program(request):
    return loaded.program(request.param)


# --- what all compute ---------------------------------------------------------------------------------------------


def _prepares(case, *names):
    """A description with what a golden case has of it."""
    return {name: case[name] for name in names}


@pytest.mark.parametrize(
    "case", GOLDEN["geometry"], ids=lambda c: f"{c['width']}x{c['height']}to{c['resize']}"
)
def test_geometry(case):
    actual = prepare_image.geometry(case["width"], case["height"], _prepares(case, "resize", "crop"))
    assert actual == (*case["resized"], case["left"], case["top"])


@pytest.mark.parametrize("case", GOLDEN["share"], ids=lambda c: f"{c['width']}x{c['height']}")
def test_the_share_at_which_a_jpeg_is_decoded(case):
    assert prepare_image.decoded_share(case["width"], case["height"], case["side"]) == case["share"]


@pytest.mark.parametrize("case", GOLDEN["orientation"], ids=lambda c: str(c["orientation"]))
def test_orientation(case):
    stored = Image.fromarray(np.array(case["stored"], np.uint8))
    assert np.asarray(prepare_image.turned(stored, case["orientation"])).tolist() == case["upright"]


@pytest.mark.parametrize("case", GOLDEN["over"], ids=lambda c: str(c["rgba"]))
def test_transparent_pixels_go_over_the_background(case):
    image = Image.fromarray(np.array([[case["rgba"]]], np.uint8))
    assert np.asarray(prepare_image.rgb(image, case["background"]))[0, 0].tolist() == case["rgb"]


@pytest.mark.parametrize("case", GOLDEN["upper_byte"])
def test_16_bits_keep_their_upper_byte(case):
    image = Image.fromarray(np.array([case["values"]], np.uint16))
    assert np.asarray(prepare_image.rgb(image, (0, 0, 0)))[0, :, 0].tolist() == case["bytes"]


@pytest.mark.parametrize("case", GOLDEN["bicubic"], ids=lambda c: f"{len(c['values'])}to{c['size']}")
def test_bicubic_is_pillows(case):
    resized = Image.fromarray(np.array([case["values"]], np.uint8)).resize(
        (case["size"], 1), Image.Resampling.BICUBIC
    )
    kept = slice(case["first"], case["first"] + len(case["resized"]))
    assert np.asarray(resized)[0, kept].tolist() == case["resized"]


@pytest.mark.parametrize("case", GOLDEN["bicubic_floats"], ids=lambda c: f"{len(c['values'])}to{c['size']}")
def test_bicubic_of_floats(case):
    crop = np.array([case["values"]], np.uint8)[..., None].repeat(3, 2)
    actual = prepare_image.input_values(crop, {"size": [1, case["size"]]})
    np.testing.assert_allclose(actual[0, :, 1], case["resized"], atol=1e-3)


@pytest.mark.parametrize("case", GOLDEN["normalise"], ids=lambda c: f"{c['rgb']}{c['range'][0]:+.0f}")
def test_normalise(case):
    actual = prepare_image.normalised(
        np.array([[case["rgb"]]], np.uint8), _prepares(case, "range", "mean", "std")
    )
    np.testing.assert_allclose(actual[0, 0], case["values"], atol=3e-6)


@pytest.mark.parametrize("case", GOLDEN["image"], ids=["whole"])
def test_a_whole_image(case, tmp_path):
    size = (case["height"], case["width"])
    path, rule = tmp_path / "image.png", {"filter": "bicubic"} | case["preparation"]
    Image.fromarray(np.array(case["rgba"], np.uint8).reshape(*size, 4)).save(path)
    assert prepare_image.pixels(path, rule).ravel().tolist() == case["crop"]
    assert prepare_image.input_bytes(path, rule).ravel().tolist() == case["bytes"]
    np.testing.assert_allclose(prepare_image.prepared(path, rule).ravel(), case["values"], atol=2e-5)


@pytest.mark.parametrize("case", GOLDEN["softmax"], ids=lambda c: f"{len(c['logits'])}classes")
def test_softmax_and_top_five(program, case):
    shares = program.softmax(np.array(case["logits"], np.float32))
    np.testing.assert_allclose(shares, case["probabilities"], atol=1e-6)
    assert program.top_five(shares) == case["top_five"]


@pytest.mark.parametrize("case", GOLDEN["quantise"], ids=lambda c: f"{c['scale']}")
def test_tensors_of_eight_bits(case):
    program = loaded.program("tflite")
    tensor = {"dtype": np.int8, "quantization": (case["scale"], case["zero_point"])}
    held = program.quantise(np.array(case["values"], np.float32), tensor)
    assert held.dtype == np.int8
    assert held.tolist() == case["quantised"]
    np.testing.assert_allclose(program.dequantise(held, tensor), case["dequantised"], atol=2e-6)


# --- Python programs on real models -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def subnet():
    """At a resolution below the space's image size, so that images are resized twice."""
    config = SPACE.smallest().to_dict() | {"resolution": 28}
    network = materialise(load_supernet("nano", SPACE), SPACE.config_from(config, "test"))
    return calibrated(network, data_sets.bundled("calibration", SPACE))


@pytest.fixture(scope="module", params=["onnx", "tflite"])
def model(request, subnet, tmp_path_factory):
    require_module(loaded.RUNTIMES[request.param])
    return _exported(subnet, request.param, tmp_path_factory)


def _exported(subnet, name, factory):
    form = load_format(name)

    def make(folder):
        writing.export(load_supernet("nano", SPACE), subnet, form, folder / f"model{form.suffix}")

    return shared(factory, f"nano-28-{name}", make) / f"model{form.suffix}"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Bundled test images as files."""
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{i}.png" for i in range(IMAGES)]
    for path, pixels in zip(paths, data_sets.bundled("test", SPACE).pixels, strict=False):
        Image.fromarray(pixels[0].numpy()).save(path)
    return paths


@pytest.fixture(scope="module")
def expected(subnet):
    """The subnet's own probabilities of those images."""
    with torch.no_grad():
        images = data_sets.prepare(data_sets.bundled("test", SPACE).pixels[:IMAGES], SPACE, 28)
        return subnet.eval()(images).softmax(1).numpy()


@pytest.fixture(scope="module")
def bundle(model, tmp_path_factory):
    """The programs for the model's format, as they lie beside it."""
    return loaded.folder(model.suffix[1:], tmp_path_factory.mktemp("bundle"))


def _run(bundle, *arguments, python=sys.executable, absent="torch,nasvit_edge", **options):
    command = [str(python), "-c", WITHOUT, absent, str(bundle / "classify.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def _printed(done):
    """[(label, probability), ...] of what a program printed."""
    assert done.returncode == 0, done.stderr
    return _classes(done.stdout)


def _classes(text):
    *classes, time = text.splitlines()
    assert re.fullmatch(r"\d+\.\d\d ms", time)
    matches = [re.fullmatch(r" *(\d+\.\d)%  (.+)", line) for line in classes]
    return [(match[2], float(match[1]) / 100) for match in matches]


def _assert_same(printed, shares, tolerance):
    best = np.argsort(-shares, kind="stable")[:5]
    assert len(printed) == 5
    assert printed[0][0] == data_sets.FASHION_LABELS[best[0]]
    known = dict(zip(data_sets.FASHION_LABELS, shares, strict=True))
    for label, share in printed:
        assert abs(share - known[label]) <= tolerance, label


def test_a_program_without_torch_says_what_the_subnet_says(bundle, model, pictures, expected, tmp_path):
    for picture, shares in zip(pictures[:2], expected, strict=False):
        done = _run(bundle, model, picture, cwd=tmp_path)
        _assert_same(_printed(done), shares, 6e-4)  # printed to 0.1 %


def test_in_one_process_all_images_agree(model, pictures, expected, capsys):
    program = loaded.program(model.suffix[1:])
    for picture, shares in zip(pictures, expected, strict=True):
        assert program.main([str(model), str(picture)]) == 0
        _assert_same(_classes(capsys.readouterr().out), shares, 6e-4)


def test_a_model_with_an_8_bit_input_and_output(subnet, pictures, expected, tmp_path_factory, capsys):
    """What ai-edge-quantizer's own recipe for NPUs makes of our float model."""
    tools, recipe = require_module("ai_edge_quantizer.quantizer"), require_module("ai_edge_quantizer.recipe")
    path = tmp_path_factory.mktemp("int8") / "model.tflite"
    images = data_sets.prepare(data_sets.bundled("calibration", SPACE).pixels[:64], SPACE, 28)
    floats = _exported(subnet, "tflite", tmp_path_factory)
    quantizer = tools.Quantizer(str(floats))
    quantizer.load_quantization_recipe(recipe.static_wi8_ai8())
    parts = [{"args_0": image.permute(1, 2, 0)[None].numpy()} for image in images]
    content = bytes(quantizer.quantize(quantizer.calibrate({"serving_default": parts})).quantized_model)
    path.write_bytes(tflite.write_metadata(content, tflite.read_metadata(floats)))

    program = loaded.program("tflite")
    interpreter = program.Interpreter(model_path=str(path))
    assert interpreter.get_input_details()[0]["dtype"] == np.int8
    assert interpreter.get_output_details()[0]["dtype"] == np.int8
    capsys.readouterr()  # the quantizer prints
    for picture, shares in zip(pictures, expected, strict=True):
        assert program.main([str(path), str(picture)]) == 0
        printed = _classes(capsys.readouterr().out)
        sure = np.sort(shares)[-1] - np.sort(shares)[-2] > 0.5  # in 8 bits close calls may change
        assert not sure or printed[0][0] == data_sets.FASHION_LABELS[shares.argmax()]


@pytest.mark.parametrize("model", ["tflite"], indirect=True)
def test_tflite_runtime_is_taken_where_litert_is_absent(bundle, model, pictures, tmp_path):
    stand_in = tmp_path / "tflite_runtime" / "interpreter.py"
    stand_in.parent.mkdir()
    stand_in.write_text(
        "import sys; del sys.meta_path[0]; from ai_edge_litert.interpreter import Interpreter\n"
    )
    options = {"env": {"PYTHONPATH": str(tmp_path)}, "absent": "ai_edge_litert"}
    assert len(_printed(_run(bundle, model, pictures[0], **options))) == 5


def test_bad_usage_gives_one_line(model, pictures, tmp_path, capsys):
    program, picture = loaded.program(model.suffix[1:]), str(pictures[0])
    garbage, empty = tmp_path / "garbage", tmp_path / "empty"
    garbage.write_bytes(b"\x00garbage")
    empty.touch()
    for arguments in (
        *([], [str(model)], [str(model), picture, picture]),
        *([str(model), str(path)] for path in (garbage, empty, tmp_path, tmp_path / "missing")),
        *([str(path), picture] for path in (garbage, empty, tmp_path, tmp_path / "missing")),
    ):
        assert program.main(arguments) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.count("\n") == 1
        assert output.err.startswith(("usage: ", "error: "))
        assert len(output.err) > len("error: \n")


def test_a_model_of_others_is_refused_by_name(model, pictures, tmp_path, capsys):
    stripped = _with_metadata(model, tmp_path, None)
    program = loaded.program(model.suffix[1:])
    assert program.main([str(stripped), str(pictures[0])]) == 2
    assert "was not written by nasvit-edge" in capsys.readouterr().err


def _with_metadata(model, folder, metadata):
    """A copy of a model with other metadata, or without any."""
    path = folder / model.name
    if model.suffix == ".onnx":
        onnx = require_module("onnx")
        other = onnx.load(str(model))
        del other.metadata_props[:]
        onnx.helper.set_model_props(other, metadata or {})
        onnx.save(other, str(path))
        return path
    content = model.read_bytes()
    plain = content[: content.index(b"PK\x03\x04")]
    path.write_bytes(plain if metadata is None else tflite.write_metadata(plain, metadata))
    return path


def test_a_model_of_an_older_version_is_to_be_exported_again(model, pictures, tmp_path, capsys):
    metadata = artifact.open_artifact(model).metadata
    older = {key: value for key, value in metadata.items() if key != "preparation"}
    program = loaded.program(model.suffix[1:])
    path = _with_metadata(model, tmp_path, older | {"mean": "[0.286]", "std": "[0.353]"})
    assert program.main([str(path), str(pictures[0])]) == 2
    errors = capsys.readouterr().err
    assert "an older nasvit-edge wrote it; export it again" in errors
    assert errors.count("\n") == 1


@settings(max_examples=25)
@given(text=st.text(max_size=40) | st.sampled_from(["{}", "[]", "null", '{"resize": 9e99}']))
def test_a_damaged_description_is_one_line(text, model, pictures, tmp_path_factory):
    program = loaded.program(model.suffix[1:])
    metadata = {"labels": '["a"]', "preparation": text.encode("utf-8", "replace").decode()}
    path = _with_metadata(model, tmp_path_factory.mktemp("damaged"), metadata)
    stream = io.StringIO()
    with contextlib.redirect_stderr(stream):
        assert program.main([str(path), str(pictures[0])]) == 2
    assert re.fullmatch(r"error: .*export it again\n", stream.getvalue())


@pytest.mark.parametrize("name", ["classify", "segment"])
@pytest.mark.parametrize("form", list(loaded.RUNTIMES))
def test_a_program_alone_says_what_it_needs(form, name, tmp_path):
    shutil.copy(EXPORT / form / f"{name}.py", tmp_path)
    command = [sys.executable, "-I", str(tmp_path / f"{name}.py"), "model", "image.jpg"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: No module named 'prepare_image'; the head of this file says what it needs\n"


@pytest.mark.slow
def test_what_the_readme_installs_is_enough(bundle, model, pictures, expected, tmp_path):
    """A new virtual environment with the packages of the README's line, and nothing else."""
    packages = re.search(r"pip install ([\w -]+)", (bundle / "README.md").read_text())[1].split()
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = venv / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    installed = subprocess.run(
        [str(python), "-m", "pip", "install", "-q", *packages], capture_output=True, text=True, check=False
    )
    require_tool(f"a package index for {' '.join(packages)}", installed.returncode == 0)
    for name in ("torch", "nasvit_edge"):
        tried = subprocess.run([str(python), "-I", "-c", f"import {name}"], capture_output=True, check=False)
        assert tried.returncode != 0
    command = [str(python), str(bundle / "classify.py"), str(model), str(pictures[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    _assert_same(_printed(done), expected[0], 6e-4)


# --- TensorRT -----------------------------------------------------------------------------------------------------


def test_an_engine_of_another_version_is_refused():
    check = loaded.program("tensorrt").check_version
    for built_with, here in (("10.3", "10.3.0"), ("10.3", "10.3.0.30"), ("11.4", "11.4.1")):
        check(built_with, here)
    for built_with, here in (("10.3", "10.13.0"), ("10.3", "11.4.1"), ("10.7", "10.3.0")):
        with pytest.raises((SystemExit, ValueError), match=r"build_engine\.py again") as caught:
            check(built_with, here)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("version", "told_typed"),
    [((10, 3), True), ((10, 7), True), ((11, 4), False)],
    ids=["10.3", "10.7", "11.4"],
)
def test_an_engine_is_built_and_timed_alike_by_every_version(version, told_typed):
    command = runpy.run_path(str(EXPORT / "tensorrt" / "build_engine.py"))["trtexec_command"]
    built = command("trtexec", version, "m.onnx", "m.engine", time=False)
    assert built[:3] == ["trtexec", "--onnx=m.onnx", "--saveEngine=m.engine"]
    assert ("--stronglyTyped" in built) == told_typed
    timed = command("trtexec", version, "m.onnx", "m.engine", time=True)
    for flag in ("--noDataTransfers", "--useSpinWait", "--useCudaGraph"):
        assert flag not in built
        assert (flag in timed) == told_typed  # 11 does so unasked
    with pytest.raises(ValueError, match=r"8\.6 is too old") as caught:
        command("trtexec", (8, 6), "m.onnx", "m.engine", time=False)
    assert "\n" not in str(caught.value)
