"""The programs that ship beside a model: all compute what `export/golden.json` says, with neither torch nor us."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from conftest import require_module, require_tool

from nasvit_edge import data_sets, files
from nasvit_edge.export import tflite, writing
from nasvit_edge.export.formats import load_format
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.model.evaluate import calibrated
from nasvit_edge.model.subnet import materialise
from nasvit_edge.space import load_space

EXPORT = files.shipped("export")
GOLDEN = json.loads((EXPORT / "golden.json").read_text())
SWIFT, KOTLIN = EXPORT / "coreml" / "Classify.swift", EXPORT / "tflite" / "Classify.kt"
RUNTIMES = {"onnx": "onnxruntime", "tflite": "ai_edge_litert", "tensorrt": None}
SPACE = load_space("nano")
IMAGES = 5

# Runs a program where some modules cannot be imported.
WITHOUT = """
import runpy, sys
class Absent:
    names = sys.argv[1].split(",")
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is absent here")
sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _program(name):
    if RUNTIMES[name]:
        require_module(RUNTIMES[name])
    require_module("PIL.Image")
    spec = importlib.util.spec_from_file_location(f"classify_{name}", EXPORT / name / "classify.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=list(RUNTIMES))
def program(request):
    return _program(request.param)


# --- what all compute ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", GOLDEN["crop"], ids=lambda c: f"{c['width']}x{c['height']}to{c['side']}")
def test_crop_geometry(program, case):
    expected = (*case["resized"], case["left"], case["top"])
    assert program.crop_geometry(case["width"], case["height"], case["side"]) == expected
    assert min(case["resized"]) == case["side"]


@pytest.mark.parametrize("case", GOLDEN["normalise"], ids=lambda c: f"{c['rgb']}")
def test_normalise(program, case):
    pixels = np.array([[case["rgb"]]], np.uint8)
    if "tensorrt" in program.__name__:
        values = program.normalise(pixels, case["mean"], case["std"])
    else:
        values = program.normalise(pixels, {key: json.dumps(case[key]) for key in ("mean", "std")})
    np.testing.assert_allclose(values[0, 0], case["values"], atol=2e-6)


@pytest.mark.parametrize("case", GOLDEN["softmax"], ids=lambda c: f"{len(c['logits'])}classes")
def test_softmax_and_top_five(program, case):
    shares = program.softmax(np.array(case["logits"], np.float32))
    np.testing.assert_allclose(shares, case["probabilities"], atol=1e-6)
    assert program.top_five(shares) == case["top_five"]


@pytest.mark.parametrize("case", GOLDEN["bicubic"], ids=lambda c: f"{len(c['values'])}to{c['size']}")
def test_bicubic_is_pillows(case):
    image = require_module("PIL.Image")
    row = image.fromarray(np.array([case["values"]], np.uint8))
    resized = row.resize((case["size"], 1), image.Resampling.BICUBIC)
    assert np.asarray(resized)[0].tolist() == case["resized"]


@pytest.mark.parametrize("case", GOLDEN["quantise"], ids=lambda c: f"{c['scale']}")
def test_tensors_of_eight_bits(case):
    program = _program("tflite")
    tensor = {"dtype": np.int8, "quantization": (case["scale"], case["zero_point"])}
    held = program.quantise(np.array(case["values"], np.float32), tensor)
    assert held.dtype == np.int8
    assert held.tolist() == case["quantised"]
    np.testing.assert_allclose(program.dequantise(held, tensor), case["dequantised"], atol=2e-6)


@pytest.mark.parametrize("name", ["onnx", "tflite"])
def test_preprocess_takes_the_upright_middle_of_any_image(name):
    program, library = _program(name), require_module("PIL.Image")
    meta = {"resolution": "20", "mean": "[0.5, 0.5, 0.5]", "std": "[0.25, 0.25, 0.25]"}
    pixels = np.random.default_rng(0).integers(0, 256, (40, 61, 3), np.uint8)
    plain = program.preprocess(library.fromarray(pixels), meta)
    assert plain.shape == ((1, 3, 20, 20) if name == "onnx" else (1, 20, 20, 3))
    turned = library.fromarray(pixels).transpose(library.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6  # shown turned by 90 degrees clockwise
    np.testing.assert_array_equal(program.preprocess(turned, meta), plain)
    grey = program.preprocess(library.fromarray(pixels[..., 0]), meta)
    assert np.ptp(grey, axis=1 if name == "onnx" else 3).max() == 0


# --- Python programs on real models -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def subnet():
    """At 28 x 28 the test images need no resizing, so that the program sees exactly what we do."""
    config = SPACE.smallest().to_dict() | {"resolution": 28}
    made = materialise(load_supernet("nano", SPACE), SPACE.config_from(config, "test"))
    return calibrated(made, data_sets.bundled("calibration", SPACE))


@pytest.fixture(scope="module", params=["onnx", "tflite"])
def model(request, subnet, tmp_path_factory):
    require_module(RUNTIMES[request.param])
    form = load_format(request.param)
    path = tmp_path_factory.mktemp(form.name) / f"model{form.suffix}"
    writing.export(load_supernet("nano", SPACE), subnet, form, path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Bundled test images as files."""
    library, folder = require_module("PIL.Image"), tmp_path_factory.mktemp("images")
    paths = [folder / f"{i}.png" for i in range(IMAGES)]
    for path, pixels in zip(paths, data_sets.bundled("test", SPACE).pixels, strict=False):
        library.fromarray(pixels[0].numpy()).save(path)
    return paths


@pytest.fixture(scope="module")
def expected(subnet):
    """The subnet's own probabilities of those images."""
    with torch.no_grad():
        images = data_sets.prepare(data_sets.bundled("test", SPACE).pixels[:IMAGES], SPACE, 28)
        return subnet.eval()(images).softmax(1).numpy()


def _run(model, *arguments, python=sys.executable, absent="torch,nasvit_edge", **options):
    program = EXPORT / model.suffix[1:] / "classify.py"
    command = [str(python), "-c", WITHOUT, absent, str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def _printed(done):
    """[(label, probability), ...] of what a program printed."""
    assert done.returncode == 0, done.stderr
    return _classes(done.stdout)


def _classes(text):
    *classes, time = text.splitlines()
    assert re.fullmatch(r"\d+\.\d\d ms", time)
    found = [re.fullmatch(r" *(\d+\.\d)%  (.+)", line) for line in classes]
    return [(match[2], float(match[1]) / 100) for match in found]


def _assert_same(printed, shares, tolerance):
    best = np.argsort(-shares, kind="stable")[:5]
    assert len(printed) == 5
    assert printed[0][0] == data_sets.FASHION_LABELS[best[0]]
    known = dict(zip(data_sets.FASHION_LABELS, shares, strict=True))
    for label, share in printed:
        assert abs(share - known[label]) <= tolerance, label


def test_a_program_without_torch_says_what_the_subnet_says(model, pictures, expected, tmp_path):
    for picture, shares in zip(pictures[:2], expected, strict=False):
        done = _run(model, model, picture, cwd=tmp_path)
        _assert_same(_printed(done), shares, 6e-4)  # printed to 0.1 %


def test_in_one_process_all_images_agree(model, pictures, expected, capsys):
    program = _program(model.suffix[1:])
    for picture, shares in zip(pictures, expected, strict=True):
        assert program.main([str(model), str(picture)]) == 0
        _assert_same(_classes(capsys.readouterr().out), shares, 6e-4)


def test_a_model_with_an_8_bit_input_and_output(subnet, pictures, expected, tmp_path_factory, capsys):
    """What ai-edge-quantizer's own recipe for NPUs makes of our float model."""
    tools, recipe = require_module("ai_edge_quantizer.quantizer"), require_module("ai_edge_quantizer.recipe")
    path = tmp_path_factory.mktemp("int8") / "model.tflite"
    form = load_format("tflite")
    writing.export(load_supernet("nano", SPACE), subnet, form, path)
    images = data_sets.prepare(data_sets.bundled("calibration", SPACE).pixels[:64], SPACE, 28)
    quantizer = tools.Quantizer(str(path))
    quantizer.load_quantization_recipe(recipe.static_wi8_ai8())
    parts = [{"args_0": image.permute(1, 2, 0)[None].numpy()} for image in images]
    content = bytes(quantizer.quantize(quantizer.calibrate({"serving_default": parts})).quantized_model)
    path.write_bytes(tflite.write_metadata(content, tflite.read_metadata(path)))

    program = _program("tflite")
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
def test_tflite_runtime_is_taken_where_litert_is_absent(model, pictures, tmp_path):
    stand_in = tmp_path / "tflite_runtime" / "interpreter.py"
    stand_in.parent.mkdir()
    stand_in.write_text(
        "import sys; del sys.meta_path[0]; from ai_edge_litert.interpreter import Interpreter\n"
    )
    options = {"env": {"PYTHONPATH": str(tmp_path)}, "absent": "ai_edge_litert"}
    assert len(_printed(_run(model, model, pictures[0], **options))) == 5


def test_bad_usage_gives_one_line(model, pictures, tmp_path, capsys):
    program, picture = _program(model.suffix[1:]), str(pictures[0])
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
    stripped = tmp_path / model.name
    if model.suffix == ".onnx":
        onnx = require_module("onnx")
        other = onnx.load(str(model))
        del other.metadata_props[:]
        onnx.save(other, str(stripped))
    else:
        content = model.read_bytes()
        stripped.write_bytes(content[: content.index(b"PK\x03\x04")])
        assert not zipfile.is_zipfile(stripped)
    program = _program(model.suffix[1:])
    assert program.main([str(stripped), str(pictures[0])]) == 2
    assert "was not written by nasvit-edge" in capsys.readouterr().err


@pytest.mark.slow
def test_what_the_readme_installs_is_enough(model, pictures, expected, tmp_path):
    """A new virtual environment with the packages of the README's line, and nothing else."""
    folder = EXPORT / model.suffix[1:]
    packages = re.search(r"pip install ([\w -]+)", (folder / "README.md").read_text())[1].split()
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
    command = [str(python), "-I", str(folder / "classify.py"), str(model), str(pictures[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    _assert_same(_printed(done), expected[0], 6e-4)


# --- TensorRT -----------------------------------------------------------------------------------------------------


def test_an_engine_of_another_version_is_refused():
    check = _program("tensorrt").check_version
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


# --- Swift and Kotlin: no compiler here, so that they parse and hold the same formulas -----------------------------


@pytest.mark.parametrize(
    ("path", "language"), [(SWIFT, "swift"), (KOTLIN, "kotlin")], ids=["swift", "kotlin"]
)
def test_it_parses_without_an_error(path, language):
    library, grammar = require_module("tree_sitter"), require_module(f"tree_sitter_{language}")
    parser = library.Parser(library.Language(grammar.language()))
    waiting, wrong, names = [parser.parse(path.read_bytes()).root_node], [], set()
    while waiting:
        node = waiting.pop()
        if node.type == "ERROR" or node.is_missing:
            wrong.append((node.start_point[0] + 1, node.text[:60]))
        if node.type == "function_declaration":
            names.add(node.child_by_field_name("name").text.decode())
        waiting += node.children
    assert wrong == []
    assert {"cropGeometry", "topFive", "classify"} <= names


@pytest.mark.parametrize("path", [SWIFT, KOTLIN], ids=["swift", "kotlin"])
@pytest.mark.parametrize("case", GOLDEN["crop"], ids=lambda c: f"{c['width']}x{c['height']}to{c['side']}")
def test_the_source_of_crop_geometry_computes_it(path, case):
    """Its statements are integer assignments, which Python runs when `/` is written `//`."""
    body = re.search(r"func? cropGeometry\(.*?\{\n(.*?)\n\}", path.read_text(), re.DOTALL)[1]
    *statements, result = [line.strip() for line in body.splitlines()]
    values = {"min": min, **{key: case[key] for key in ("width", "height", "side")}}
    for statement in statements:
        name, formula = re.fullmatch(r"(?:let|val) (\w+) = (.+)", statement).groups()
        values[name] = eval(formula.replace("/", "//"), {"__builtins__": {}}, values)
    order = re.findall(r"(\w+)(?=[,)])", result)
    assert order == ["resizedWidth", "resizedHeight", "left", "top"]
    assert [values[name] for name in order] == [*case["resized"], case["left"], case["top"]]


@pytest.mark.parametrize(
    ("path", "formula"),
    [
        (SWIFT, "probabilities[first] > probabilities[second]"),
        (SWIFT, "return first < second"),
        (SWIFT, "order.prefix(5)"),
        (KOTLIN, "(value / 255f - mean) / std"),
        (KOTLIN, "exp(logits[it] - largest)"),
        (KOTLIN, "sortedByDescending { probabilities[it] }.take(5)"),
        (KOTLIN, "(floor(value / scale + 0.5f).toInt() + zeroPoint).coerceIn(-128, 127)"),
        (KOTLIN, "(value - zeroPoint) * scale"),
        (KOTLIN, "x < 1 -> (1.5 * x - 2.5) * x * x + 1"),
        (KOTLIN, "x < 2 -> ((-0.5 * x + 2.5) * x - 4) * x + 2"),
    ],
)
def test_the_formulas_are_those_of_the_golden_vectors(path, formula):
    assert formula in " ".join(path.read_text().split())
