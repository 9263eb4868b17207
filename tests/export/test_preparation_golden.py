"""One preparation of an image: every program sees of a hundred files what `evaluate` sees, and the published chain is torchvision's."""

from __future__ import annotations

import io
import json
import os

import loaded
import numpy as np
import pictures
import pytest
import torch
from conftest import require_module
from PIL import Image, ImageOps
from torch.nn import functional as F

from nasvit_edge.data_sets.decoding import decode
from nasvit_edge.data_sets.scenes import in_memory
from nasvit_edge.data_sets.sets import FileSet
from nasvit_edge.export import tflite
from nasvit_edge.space import load_space

NANO, NASVIT, DENSE = (load_space(name) for name in ("nano", "nasvit", "nano-dense"))
RESOLUTIONS = (192, 224, 288)
SAME = 0.01  # grey levels: sums of floats in another order


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return [path for path, _ in pictures.written(tmp_path_factory.mktemp("pictures"))]


def _metadata(space, resolution):
    return {
        "labels": '["red", "green", "blue"]',
        "preparation": json.dumps(space.preparation(resolution).to_dict()),
    }


def _levels(space, actual, expected):
    """How far apart two inputs (H, W, 3) are at most, in grey levels."""
    assert actual.shape == expected.shape
    return float((np.abs(actual - expected) * np.array(space.std) * 255).max())


def _evaluated(space, paths, resolution):
    """What a model of a resolution is judged on: (n, H, W, 3)."""
    names = np.array([os.fsencode(path) for path in paths])
    files = FileSet("pictures", names, torch.zeros(len(paths)).long(), space.preparation(resolution))
    return torch.cat([images for images, _ in files.batches(space, resolution)]).permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def asked(paths):
    """(space, resolution) -> the files and what `evaluate` sees of each; the sizes of nasvit take turns."""
    wanted = {(NANO, 20): paths}
    for turn, resolution in enumerate(RESOLUTIONS):
        wanted[NASVIT, resolution] = paths[turn::3]
    return {key: (files, _evaluated(key[0], files, key[1])) for key, files in wanted.items()}


# --- the programs in Python ---------------------------------------------------------------------------------------


def _onnx_model(path, metadata, output="logits", mean=True):
    """A model for images of any size whose logits are the means of the colours, or the image."""
    onnx = require_module("onnx")
    from onnx import TensorProto, helper

    nodes = [helper.make_node("Identity", ["image"], [output])]
    if mean:
        nodes = [
            helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
            helper.make_node("Flatten", ["mean"], [output]),
        ]
    shapes = ([1, 3, "h", "w"], [1, 3] if mean else [1, 3, "h", "w"])
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(("image", output), shapes, strict=True)
    ]
    graph = helper.make_graph(nodes, "mean", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(model, str(path))
    return path


def _listened(program, monkeypatch):
    """What a session of the program is fed, (H, W, 3) each."""
    seen, real = [], program.onnxruntime.InferenceSession

    class Listening(real):
        def run(self, names, feed):
            seen.append(feed["image"][0].transpose(1, 2, 0))
            return super().run(names, feed)

    monkeypatch.setattr(program.onnxruntime, "InferenceSession", Listening)
    return seen


@pytest.mark.slow
def test_the_program_for_onnx_sees_what_evaluate_sees(asked, tmp_path, monkeypatch):
    program = loaded.program("onnx")
    seen = _listened(program, monkeypatch)
    for (space, resolution), (files, expected) in asked.items():
        model = _onnx_model(tmp_path / "m.onnx", _metadata(space, resolution))
        for path, image in zip(files, expected, strict=True):
            assert program.main([str(model), str(path)]) == 0
            assert _levels(space, seen[-1], image) < SAME, path.name


def test_the_program_for_tflite_sees_what_evaluate_sees(asked, tmp_path, monkeypatch):
    program = loaded.program("tflite")
    mean = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
    content = tflite.write_metadata(tflite.convert(mean, (1, 3, 20, 20)), _metadata(NANO, 20))
    model, seen = tmp_path / "m.tflite", []
    model.write_bytes(content)

    class Listening(program.Interpreter):
        def set_tensor(self, index, value):
            seen.append(value[0])
            super().set_tensor(index, value)

    monkeypatch.setattr(program, "Interpreter", Listening)
    for path, image in zip(*asked[NANO, 20], strict=True):
        assert program.main([str(model), str(path)]) == 0
        assert _levels(NANO, seen[-1], image) < SAME, path.name


def test_the_program_for_tensorrt_sees_what_evaluate_sees(asked, tmp_path, monkeypatch):
    """Up to the engine, which needs a GPU."""
    program, seen = loaded.program("tensorrt"), []

    class Engine:
        def __init__(self, _, image, result):
            self.image, self.result = image, result

        def run(self, x):
            assert x.shape == (1, *self.image)
            seen.append(x[0].transpose(1, 2, 0))
            return np.zeros(self.result, np.float32)

    monkeypatch.setattr(program, "Engine", Engine)
    for (space, resolution), (files, expected) in asked.items():
        (tmp_path / "metadata.json").write_text(json.dumps({"metadata": _metadata(space, resolution)}))
        for path, image in zip(files, expected, strict=True):
            assert program.main([str(tmp_path / "m.engine"), str(path)]) == 0
            assert _levels(space, seen[-1], image) < SAME, path.name


def test_the_program_for_segmenters_sees_what_evaluate_sees(paths, tmp_path, monkeypatch):
    program = loaded.program("onnx", "segment")
    seen, resolution = _listened(program, monkeypatch), DENSE.resolutions[0]
    height, width = DENSE.input_size(resolution)
    more = {"output": "logits", "palette": "[[1, 2, 3], [4, 5, 6], [7, 8, 9]]"}
    sizes = {"input_height": str(height), "input_width": str(width)}
    metadata = _metadata(DENSE, resolution) | more | sizes
    model = _onnx_model(tmp_path / "m.onnx", metadata, mean=False)
    some = paths[1::6]
    for path, image in zip(some, _scenes(some, resolution), strict=True):
        assert program.main([str(model), str(path), str(tmp_path / "overlay.png")]) == 0
        assert _levels(DENSE, seen[-1], image) < SAME, path.name
        drawn, whole = Image.open(tmp_path / "overlay.png"), ImageOps.exif_transpose(Image.open(path))
        assert drawn.size == whole.size


def _scenes(paths, resolution):
    """What a segmenter is judged on: (H, W, 3) of each file, with masks of zeros."""
    images = [decode(str(path)) for path in paths]
    scenes = in_memory("pictures", [(image, np.zeros(image.shape[1:], np.uint8)) for image in images])
    return [
        image for batch, _ in scenes.batches(DENSE, resolution) for image in batch.permute(0, 2, 3, 1).numpy()
    ]


# --- the published chain ------------------------------------------------------------------------------------------


def _decoded(path):
    """A file in RGB, by Pillow's own means; it would map some TIFF files into memory, and scramble them."""
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            return Image.fromarray((np.asarray(image).astype(np.int64) // 256).astype(np.uint8)).convert(
                "RGB"
            )
        if image.has_transparency_data:
            image = image.convert("RGBA")
            below = Image.new("RGB", image.size, "white")
            below.paste(image, mask=image.getchannel("A"))
            return below
        return image.convert("RGB")


@pytest.fixture(scope="module")
def transcribed(paths):
    """Every file by the published chain, (3, 224, 224)."""
    v2 = require_module("torchvision.transforms.v2")
    bicubic = v2.InterpolationMode.BICUBIC

    def resized(image):
        sizes = [256]
        if (
            image.height > 2 * image.width
        ):  # of these Pillow 13, and none before, would take the columns first
            sizes = [(image.height, 256), (int(256 * image.height / image.width), 256)]
        for size in sizes:
            image = v2.functional.resize(image, size, interpolation=bicubic)
        return image

    steps = [v2.CenterCrop(224), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    chain = v2.Compose([resized, *steps, v2.Normalize(NASVIT.mean, NASVIT.std)])
    return [chain(_decoded(path)) for path in paths]


@pytest.mark.parametrize("resolution", [192, 224, 256, 288])
def test_the_published_chain_is_a_straight_transcription_with_torchvision(paths, transcribed, resolution):
    seen = _evaluated(NASVIT, paths, resolution)
    for path, image, actual in zip(paths, transcribed, seen, strict=True):
        size = (resolution, resolution)
        resized = (
            F.interpolate(image[None], size, mode="bicubic", align_corners=False)
            if resolution != 224
            else image[None]
        )
        assert _levels(NASVIT, actual, resized[0].permute(1, 2, 0).numpy()) <= 1, path.name
