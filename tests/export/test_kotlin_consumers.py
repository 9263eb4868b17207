"""The whole Kotlin programs, compiled and run on a hundred image files, against the Python programs: pixels, classes, labels of pixels.

Their JVM has no Android: Java's ImageIO decodes, and LiteRT's Python package runs the model. What the programs do themselves is theirs.
"""

from __future__ import annotations

import dense_spaces
import languages
import loaded
import numpy as np
import pictures
import pytest
from conftest import require_module
from PIL import Image

from nasvit_edge.data_sets import bundled, prepare_image
from nasvit_edge.export import dense, parity, writing
from nasvit_edge.export.formats import load_format
from nasvit_edge.export.writing import Options
from nasvit_edge.model.accuracy import calibrated
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.model.subnet import materialise
from nasvit_edge.space import load_space

pytestmark = pytest.mark.slow
SPACE = load_space("nano")
ELSEWHERE = (
    "cmyk",
    "lossy-webp",
    "alpha-webp",
    "tiff-16",
    "tiff",
    "gif",
)  # Java decodes none of them as Android does
WIDE = ("grey-16", "rgb-16")  # Android keeps 8 of 16 bits by rounding, the Python program the upper ones
COUNT = 100


@pytest.fixture(scope="module")
def kotlin(tmp_path_factory):
    return languages.kotlin(tmp_path_factory)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A hundred files: photographs and drawings of all sizes, grey, transparent, with palettes, with profiles."""
    kinds = [name for name in pictures.KINDS if name not in (*ELSEWHERE, *WIDE)]
    return _written(tmp_path_factory.mktemp("hundred"), kinds, COUNT)


def _written(folder, kinds, count):
    rng, paths = np.random.default_rng(28), []
    for number in range(count):
        kind = kinds[number % len(kinds)]
        suffix, make = pictures.KINDS[kind]
        width, height = pictures.SIZES[rng.integers(len(pictures.SIZES))]
        paths.append(folder / f"{number}-{kind}.{suffix}")
        paths[-1].write_bytes(make(pictures._scene(rng, width, height), rng, 1))
    return paths


@pytest.fixture(scope="module")
def clothes(tmp_path_factory):
    """A hundred images that the model was made for, larger and smaller than it takes them."""
    folder, paths = tmp_path_factory.mktemp("clothes"), []
    for number, pixels in enumerate(bundled("test", SPACE).pixels[:COUNT]):
        paths.append(folder / f"{number}.png")
        side = (28, 40, 97, 224)[number % 4]
        Image.fromarray(pixels[0].numpy()).resize((side, side), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    require_module("ai_edge_litert")
    network = materialise(load_supernet("nano", SPACE), SPACE.smallest())
    subnet = calibrated(network, bundled("calibration", SPACE))
    path = tmp_path_factory.mktemp("model") / "model.tflite"
    writing.export(load_supernet("nano", SPACE), subnet, load_format("tflite"), path)
    return path


def _lines(name, model, paths):
    return [f"{name} {model} {path}" for path in paths]


def test_pixels_of_a_hundred_files_are_within_one_grey_level(kotlin, model, images):
    for path, difference in _differences(kotlin, model, images):
        assert difference.max() <= 1, path.name


def test_pixels_of_16_bits_are_off_by_androids_rounding_alone(kotlin, model, tmp_path):
    """A level where they are read; where they are made smaller, hardly more."""
    for path, difference in _differences(kotlin, model, _written(tmp_path, WIDE, 20)):
        assert difference.max() <= 2, path.name
        assert 0 < difference.mean() < 1, path.name


def _differences(kotlin, model, images):
    """Each file with how far its pixels are from those of the Python program."""
    rule = prepare_image.described(loaded.program("tflite").read_metadata(str(model)))
    for path, values in zip(images, kotlin.numbers(_lines("pixels", model, images)), strict=True):
        expected = prepare_image.pixels(path, rule).astype(int)
        yield path, np.abs(np.array(values).reshape(expected.shape) - expected)


def _python(model, paths, capsys):
    """(classes, shares) that the Python program prints of each."""
    program = loaded.program("tflite")
    for path in paths:
        assert program.main([str(model), str(path)]) == 0
        lines = capsys.readouterr().out.splitlines()[:-1]
        yield [line[8:] for line in lines], [float(line[:6].rstrip("% ")) / 100 for line in lines]


@pytest.mark.parametrize("kind", ["images", "clothes"])
def test_a_hundred_images_have_the_same_classes(kotlin, model, request, kind, capsys):
    paths = request.getfixturevalue(kind)
    answers = kotlin.ask(_lines("classify", model, paths))
    seen = set()
    for path, words, (classes, shares) in zip(paths, answers, _python(model, paths, capsys), strict=True):
        assert words[0] == classes[0], path.name
        seen.add(words[0])
        by_name = dict(zip(words[::2], map(float, words[1::2]), strict=True))
        for label, share in zip(classes, shares, strict=True):
            assert share < 0.005 or abs(by_name[label] - share) < 0.005, path.name
    assert len(seen) > (7 if kind == "clothes" else 1)


@pytest.fixture(scope="module", params=dense.OUTPUTS)
def segmenter(request, tmp_path_factory):
    """A model that gives labels, and one that gives logits."""
    require_module("ai_edge_litert")
    path = tmp_path_factory.mktemp("segmenter") / "model.tflite"
    images = parity.inputs(dense_spaces.SPACE, dense_spaces.CONFIG.resolution, seed=1)[0]
    options = Options(output=request.param, calibration=images)
    writing.export(dense_spaces.supernet(), dense_spaces.subnet(), load_format("tflite"), path, options)
    return path


def test_a_hundred_images_have_the_same_segments(kotlin, segmenter, images, capsys, tmp_path):
    """Colours of the overlays are within one level; of photographs some pixels at borders may have another class."""
    lines = [f"segment {segmenter} {path} {tmp_path / path.stem}" for path in images]
    answers, program = kotlin.ask(lines), loaded.program("tflite", "segment")
    for path, words in zip(images, answers, strict=True):
        assert program.main([str(segmenter), str(path), str(tmp_path / "python.png")]) == 0
        expected = np.asarray(Image.open(tmp_path / "python.png")).astype(int)
        overlay = np.frombuffer((tmp_path / path.stem).read_bytes(), np.uint8).reshape(expected.shape)
        other = (np.abs(overlay - expected) > 1).any(-1).mean()
        assert other <= (0.01 if path.suffix == ".jpg" else 0), path.name
        lines = capsys.readouterr().out.splitlines()[:-1]
        shares = {line[8:]: float(line[:6].rstrip("% ")) / 100 for line in lines}
        assert set(shares) == set(words[::2]), path.name
        for label, share in zip(words[::2], map(float, words[1::2]), strict=True):
            assert share == pytest.approx(shares[label], abs=0.011)
