"""Segmenters as files: their labels are the supernet's in every format, and what is wrong with one shows."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from pathlib import Path

import damage
import dense_spaces as made
import numpy as np
import pytest
import torch
from conftest import configs, one_line, only_user_errors
from dense_spaces import CONFIG, SPACE
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from torch.nn import functional as F

from nasvit_edge.errors import ExportError, NasvitEdgeError, VerifyError
from nasvit_edge.export import artifact, coreml, dense, mil, parity, tflite, verification, writing
from nasvit_edge.export.formats import Conversion, Threshold, load_format
from nasvit_edge.export.writing import Options
from nasvit_edge.model.blocks import LabelsBlock, LateralBlock
from nasvit_edge.model.checkpoint import random_supernet
from nasvit_edge.model.rewrites import fold_block
from nasvit_edge.model.subnet import PixelLabels, fold, materialise
from nasvit_edge.ops import Labels, Lateral
from nasvit_edge.space import load_space

HEIGHT, WIDTH = SPACE.input_size(CONFIG.resolution)
LOGITS = made.subnet().ops[-1].in_shape()
SLOW = {
    ("coreml", "fp32"),
    ("tflite", "fp16"),
    ("tflite", "fp32"),
    ("tensorrt", "fp32"),
    ("tflite", "logits"),
    ("coreml", "w8"),
    ("coreml", "logits"),
    ("tflite", "w8"),
    ("tensorrt", "logits"),
}
CASES = [
    pytest.param(
        name, precision, output, marks=pytest.mark.slow if SLOW & {(name, precision), (name, output)} else ()
    )
    for name in damage.FORMATS
    for precision in load_format(name).thresholds
    for output in dense.OUTPUTS
]


@pytest.fixture(scope="module", autouse=True)
def converted_once():
    """litert-torch takes seconds a model: the float model of each output is made once."""
    with pytest.MonkeyPatch.context() as patch:
        real, kept = tflite._float_model, {}

        def cached(module, shape):
            key = (type(module).__name__, module(torch.zeros(shape)).dtype, shape)
            if key[0] != "Segmenter" or key not in kept:
                kept[key] = real(module, shape)
            return kept[key]

        patch.setattr(tflite, "_float_model", cached)
        yield


@pytest.fixture(scope="module")
def space_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "tiny-dense.toml"
    path.write_text(made.TEXT)
    return str(path)


def _written(path, form, precision="fp32", output=None, **options):
    images = parity.inputs(SPACE, CONFIG.resolution, seed=1)[0]
    asked = Options(precision=precision, output=output, calibration=images, **options)
    return writing.export(made.supernet(), made.subnet(), form, path, asked)


@pytest.mark.parametrize(("name", "precision", "output"), CASES)
def test_the_file_has_the_supernets_labels_and_still_when_verified(
    name, precision, output, tmp_path, space_file
):
    form = load_format(name)
    path = tmp_path / f"m{form.suffix}"
    check = _written(path, form, precision, output).check
    assert check.passed
    assert (check.error is None) == (output == "labels")
    again = verification.verify(path, space_path=space_file)
    assert again.passed, again.failures()
    assert (again.reproduction.change, again.reference, again.pixels) == (0, "supernet", check.pixels)
    inputs, _ = parity.inputs(SPACE, CONFIG.resolution)
    actual = form.module().runner(path)(inputs[:3])
    if output == "labels":
        assert (actual.dtype, actual.shape) == (np.int32, (3, HEIGHT, WIDTH))
    else:
        assert (actual.dtype, actual.shape) == (np.float32, (3, *LOGITS))


@settings(max_examples=6)
@given(config=configs(SPACE), output=st.sampled_from(dense.OUTPUTS))
def test_any_segmenter_of_the_space_is_written_as_it_computes(config, output):
    net = random_supernet(SPACE, 2)
    options = Options(output=output, uncalibrated=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.onnx")
        made_of = writing.export(net, materialise(net, config), load_format("onnx"), path, options)
    assert made_of.check.pixels == 1


def test_a_batch_of_three_and_an_open_batch_give_the_same_labels(tmp_path):
    inputs, _ = parity.inputs(SPACE, CONFIG.resolution)
    for output in dense.OUTPUTS:
        outputs = []
        for batch in (1, 3, None):
            path = tmp_path / f"{batch}-{output}.onnx"
            assert _written(path, load_format("onnx"), output=output, batch=batch).check.passed
            outputs.append(load_format("onnx").module().runner(path)(inputs))
        assert all(np.allclose(outputs[0], other, atol=1e-5) for other in outputs[1:])


# --- what the metadata say -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    _written(path, load_format("onnx"))
    return path


def test_the_metadata_tell_a_program_all_it_needs(kept):
    values = artifact.open_artifact(kept).metadata
    assert (values["task"], values["output"], values["classes"]) == ("segmentation", "labels", "4")
    assert (int(values["input_height"]), int(values["input_width"])) == (HEIGHT, WIDTH)
    assert (int(values["output_height"]), int(values["output_width"])) == (HEIGHT, WIDTH)
    assert len(json.loads(values["palette"])) == len(json.loads(values["labels"])) == 4
    logits = dense.facts(SPACE, CONFIG, "logits")
    assert (logits["output_height"], logits["output_width"]) == LOGITS[1:]


def test_a_classifiers_metadata_are_as_they_were(nano):
    values = artifact.facts(nano, nano.smallest(), load_format("onnx"))
    assert not {"task", "output", "palette", "input_height"} & set(values)


@settings(max_examples=30)
@given(
    key=st.sampled_from(["output", "palette", "input_width", "labels", "task"]), value=st.text(max_size=30)
)
def test_other_metadata_than_the_spaces_are_refused_in_one_line(kept, key, value):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, kept.name)
        for beside in (artifact.sidecar_path, artifact.reference_path):
            shutil.copy(beside(kept), beside(path))
        side = json.loads(artifact.sidecar_path(path).read_text())
        metadata = side["metadata"] | {key: value}
        content = load_format("onnx").module().write_metadata(kept.read_bytes(), metadata)
        path.write_bytes(content)
        about = {"sha256": artifact.digest(content), "bytes": len(content), "metadata": metadata}
        artifact.sidecar_path(path).write_text(json.dumps(side | about))
        space = Path(folder, "space.toml")
        space.write_text(made.TEXT)
        if value != side["metadata"][key]:
            with pytest.raises(NasvitEdgeError) as caught:
                verification.verify(path, space_path=str(space))
            assert repr(key) in one_line(caught)


@given(asked=st.one_of(st.none(), st.text(max_size=12), st.sampled_from(dense.OUTPUTS)))
def test_what_a_segmenter_gives_is_labels_or_logits_and_a_classifier_is_not_asked(asked):
    outcome = only_user_errors(dense.output_of, SPACE, asked)
    assert (
        outcome == (asked or "labels") if asked in (None, *dense.OUTPUTS) else "labels or logits" in outcome
    )
    of_classifier = only_user_errors(dense.output_of, load_space("nano"), asked)
    assert of_classifier == "" if asked is None else "classifies images" in of_classifier


@given(st.integers(1, 256))
def test_every_class_has_its_own_colour(classes):
    colours = dense.palette(classes)
    assert len({tuple(c) for c in colours}) == classes
    assert all(0 <= value <= 255 for colour in colours for value in colour)
    assert [0, 0, 0] not in colours


# --- how labels are compared ----------------------------------------------------------------------------------------

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))


@settings(max_examples=50)
@given(grid=SIZES, size=SIZES, classes=st.integers(2, 5), seed=st.integers(0, 99))
def test_labels_agree_with_their_own_logits_and_each_wrong_one_counts(grid, size, classes, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(2, classes, *grid)).astype(np.float32)
    labels = dense.labels_of(logits, size)
    assert dense.agreement(labels, logits, size) == 1
    smaller = dense.labels_of(-logits, size)  # another class wherever no two are as large
    assert dense.agreement(smaller, logits, size) == 0
    assert dense.agreement(labels[:1], logits, size) == 0
    assert dense.agreement(labels + classes, logits, size) == 0
    assert dense.agreement(labels - classes, logits, size) == 0


@given(apart=st.sampled_from([1e-7, 3e-6, 3e-5, 1e-3]), top=st.sampled_from([-3.0, 0.5, 400.0]))
def test_a_tie_counts_as_agreement_only_within_a_hundred_thousandth(apart, top):
    logits = np.array([top, top - apart * abs(top), -1e3], np.float32).reshape(1, 3, 1, 1)
    second = np.full((1, 2, 2), 1, np.int32)
    assert dense.agreement(second, logits, (2, 2)) == (apart * abs(top) <= dense.TIE * 1e3)


@given(shape=SIZES, factor=st.integers(1, 4), seed=st.integers(0, 9))
def test_labels_at_a_multiple_of_their_size_are_repeated(shape, factor, seed):
    labels = np.random.default_rng(seed).integers(0, 5, (2, *shape), np.int32)
    large = dense.at_size(labels, (shape[0] * factor, shape[1] * factor))
    np.testing.assert_array_equal(large, labels.repeat(factor, 1).repeat(factor, 2))
    np.testing.assert_array_equal(dense.at_size(large, shape), labels)


def test_a_failing_file_is_not_written_unless_forced(tmp_path):
    form = load_format("onnx")
    form = structs.replace(form, thresholds={"w8": Threshold(pixels=1.5)})
    path = tmp_path / "m.onnx"
    with pytest.raises(VerifyError, match=r"supernet's label at .* of \d+ pixels .*--force") as caught:
        _written(path, form, "w8")
    assert one_line(caught)
    assert list(tmp_path.iterdir()) == []
    assert not _written(path, form, "w8", force=True).check.passed
    assert json.loads(artifact.sidecar_path(path).read_text())["forced"]


def test_another_weight_shows_in_the_labels_though_the_hash_is_right(kept, tmp_path, space_file):
    path = tmp_path / kept.name
    for beside in (artifact.sidecar_path, artifact.reference_path):
        shutil.copy(beside(kept), beside(path))
    content = damage.scale_a_weight(kept, 1.1)
    path.write_bytes(content)
    side = json.loads(artifact.sidecar_path(path).read_text())
    side |= {"sha256": artifact.digest(content), "bytes": len(content)}
    artifact.sidecar_path(path).write_text(json.dumps(side))
    check = verification.verify(path, space_path=space_file)
    assert not check.passed
    assert "gives other labels than when it was exported" in " ".join(check.failures())


def test_a_subnet_for_images_of_another_size_is_refused(tmp_path):
    other = materialise(made.supernet(), CONFIG, (24, 24))
    with pytest.raises(ExportError, match="take it at its resolution") as caught:
        writing.export(
            made.supernet(), other, load_format("onnx"), tmp_path / "m.onnx", Options(uncalibrated=True)
        )
    assert one_line(caught)


def test_int8_keeps_the_worst_ops_in_floating_point_by_their_names(tmp_path):
    """A segmenter that ends in labels holds its ops one level deeper."""
    form = load_format("onnx")
    names = ("first_conv", "mb2.1", "lateral.1", "pixel_classifier")
    images = parity.inputs(SPACE, CONFIG.resolution, seed=1)[0]
    folded = fold(made.subnet())
    count = {}
    for output, module in (("labels", PixelLabels(folded).eval()), ("logits", folded)):
        for kept in ((), names):
            recipe = Conversion(precision="int8", calibration=images, kept=kept, output=output)
            content = form.module().convert(module, (1, 3, HEIGHT, WIDTH), recipe)
            count[output, bool(kept)] = content.count(b"QuantizeLinear")
    assert count["labels", True] < count["labels", False]
    assert count["logits", True] < count["logits", False]


# --- Core ML: the operations that segmenters add --------------------------------------------------------------------


@functools.cache
def _program(height, width, out_height, out_width, *, half):
    op = Lateral(
        in_channels=3, channels=5, height=height, width=width, out_height=out_height, out_width=out_width
    )
    torch.manual_seed(0)
    block = fold_block(LateralBlock(op).eval())
    last = LabelsBlock(Labels(classes=5, height=out_height, width=out_width, out_height=17, out_width=23))
    module = torch.nn.Sequential(block, last).eval()
    recipe = Conversion(precision="fp16" if half else "fp32", output="labels")
    return module, coreml.convert(module, (1, 3, height, width), recipe)


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize("sizes", [(3, 4, 5, 7), (5, 6, 9, 12)], ids=str)
def test_resizing_and_the_largest_are_evaluated_as_torch_does(sizes, half, tmp_path):
    module, tree = _program(*sizes, half=half)
    path = tmp_path / "m.mlpackage"
    artifact.write_content(path, tree)
    program = mil.Program(path)
    assert program.operations().count("upsample_bilinear") == 2
    assert program.operations()[-1] == "reduce_argmax"
    x = torch.randn(2, 3, *sizes[:2], generator=torch.Generator().manual_seed(1))
    actual, expected = coreml.runner(path)(x.numpy()), module(x).numpy()
    assert actual.dtype == np.int32
    assert (actual == expected).mean() == 1 if not half else (actual == expected).mean() > 0.97


def test_resizing_without_pixel_centres_is_refused():
    args = {"x": torch.zeros(1, 1, 2, 2), "scale_factor_height": 2, "scale_factor_width": 2}
    resize = mil.OPERATIONS["upsample_bilinear"]
    assert resize(args | {"align_corners": False, "half_pixel_centers": True}).shape == (1, 1, 4, 4)
    corners = resize(args | {"x": torch.arange(4.0).view(1, 1, 2, 2), "align_corners": True})
    assert torch.allclose(
        corners,
        F.interpolate(torch.arange(4.0).view(1, 1, 2, 2), (4, 4), mode="bilinear", align_corners=True),
    )
    with pytest.raises(VerifyError, match="verify this file on a Mac") as caught:
        resize(args | {"align_corners": False, "half_pixel_centers": False})
    assert one_line(caught)


def test_xcode_shows_a_segmenters_labels_in_colour():
    metadata = {"output": "labels", "labels": '["a", "b"]', "palette": "[[128, 0, 0], [0, 128, 0]]"}
    shown = dense.xcode_preview(metadata)
    assert shown["com.apple.coreml.model.preview.type"] == "imageSegmenter"
    parameters = json.loads(shown["com.apple.coreml.model.preview.parameters"])
    assert parameters == {"labels": ["a", "b"], "colors": ["#800000", "#008000"]}
    assert dense.xcode_preview({"output": "logits"}) == {} == dense.xcode_preview({"labels": "[]"})
