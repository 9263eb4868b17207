"""Exporting as a user asks for it: from the cache the second time, and as a bundle."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import one_line, shared
from PIL import Image

from nasvit_edge import cache, data_sets
from nasvit_edge.data_sets import prepare_image
from nasvit_edge.errors import ExportError
from nasvit_edge.export import artifact, bundle, verification
from nasvit_edge.export.formats import format_names, load_format
from nasvit_edge.export.programs import PREPARE
from nasvit_edge.flows import export
from nasvit_edge.listening import SILENT
from nasvit_edge.space import load_space

SPACE = load_space("nano")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "root", lambda: tmp_path / "cache")


def _request(name, folder, **options) -> export.Request:
    """The smallest subnet of nano, to a file in `folder`."""
    config = folder / "config.json"
    config.write_text(json.dumps(SPACE.smallest().to_dict()))
    defaults = {
        "result": None,
        "space": "nano",
        "supernet": "nano",
        "config": config,
        "calibrate": "bundled",
        "uncalibrated": False,
        "format_name": name,
        "precision": "fp32",
        "out": folder / f"m{load_format(name).suffix}",
        "overwrite": False,
    }
    return export.Request(**{**defaults, **options})


@pytest.fixture
def request_for(tmp_path):
    return functools.partial(_request, folder=tmp_path)


@pytest.fixture
def earlier(tmp_path, tmp_path_factory):
    """Gives the file and the seconds of an earlier export, which the cache holds; made once for all of pytest's processes."""

    def there(name: str) -> tuple[Path, float]:
        def make(folder: Path) -> None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(cache, "root", lambda: folder / "cache")
                began = time.perf_counter()
                assert not export.export(_request(name, folder), SILENT).cached
            (folder / "seconds").write_text(str(time.perf_counter() - began))

        kept = shared(tmp_path_factory, f"cache-{name}", make)
        shutil.copytree(kept / "cache", tmp_path / "cache")
        return kept / f"m{load_format(name).suffix}", float((kept / "seconds").read_text())

    return there


@pytest.mark.parametrize(
    "name",
    ["onnx", *(pytest.param(name, marks=pytest.mark.slow) for name in format_names() if name != "onnx")],
)
def test_the_second_export_comes_from_the_cache_and_is_the_same(name, request_for, earlier, tmp_path):
    first, took = earlier(name)
    started = time.perf_counter()
    again = export.export(request_for(name), SILENT)
    assert time.perf_counter() - started < took
    assert again.cached
    path = tmp_path / f"m{load_format(name).suffix}"
    assert artifact.read_content(path) == artifact.read_content(first)
    assert verification.verify(path).passed


def test_another_subnet_precision_or_batch_is_not_served_from_the_cache(request_for, earlier, tmp_path):
    earlier("onnx")
    other = tmp_path / "other.json"
    other.write_text(json.dumps(SPACE.smallest().to_dict() | {"resolution": SPACE.resolutions[-1]}))
    for change in (
        {"config": other},
        {"precision": "fp16"},
        {"batch": "2"},
        {"uncalibrated": True, "calibrate": None},
    ):
        assert not export.export(request_for("onnx", overwrite=True, **change), SILENT).cached, change


def test_an_export_that_was_calibrated_on_replaced_images_is_made_anew(request_for, tmp_path):
    """Files of the same names, sizes and times are not the same images."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{i}.bmp")
    asked = {"calibrate": str(folder), "overwrite": True}
    cached = [export.export(request_for("onnx", **asked), SILENT).cached for _ in range(2)]
    path, times = folder / "2.bmp", (folder / "2.bmp").stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 255
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size
    cached.append(export.export(request_for("onnx", **asked), SILENT).cached)
    assert cached == [False, True, False]


def test_a_damaged_cache_is_not_used(request_for, earlier):
    earlier("onnx")
    (model,) = cache.root().glob("exports/*/model")
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    assert not export.export(request_for("onnx", overwrite=True), SILENT).cached


def test_clearing_frees_what_showing_showed(earlier):
    earlier("onnx")
    kept = sum(entry.bytes for entry in cache.contents())
    assert kept > 100_000
    assert cache.clear() == kept
    assert cache.contents() == []


@pytest.mark.parametrize(
    ("name", "programs"),
    [
        ("onnx", {"classify.py", "prepare_image.py", "classify.js", "prepare_image.js", "classify.html"}),
        ("tflite", {"classify.py", "prepare_image.py", "Classify.kt", "PrepareImage.kt"}),
        ("coreml", {"Classify.swift", "PrepareImage.swift"}),
        ("tensorrt", {f"m.tensorrt/{name}.py" for name in ("build_engine", "classify", "prepare_image")}),
    ],
)
def test_a_bundle_holds_the_model_its_labels_and_programs_and_verifies(
    name, programs, request_for, earlier, tmp_path
):
    earlier(name)
    report = export.export(request_for(name, bundle=True), SILENT)
    folder = tmp_path / f"m-{name}-bundle"
    assert report.bundle == str(folder)
    assert (folder / "labels.txt").read_text().splitlines() == SPACE.label_names()
    assert (folder / "README.md").exists()
    assert all((folder / program).exists() for program in programs)
    assert not [path for path in folder.rglob("*") if path.stem.lower() == "segment"]
    for copy in folder.rglob(PREPARE):
        assert copy.read_bytes() == Path(prepare_image.__file__).read_bytes()
    assert verification.verify(folder / f"m{load_format(name).suffix}").passed
    with pytest.raises(ExportError, match="exists") as caught:
        bundle.checked_bundle(tmp_path / f"m{load_format(name).suffix}", name, overwrite=False)
    assert one_line(caught)


def test_the_bundled_program_classifies_an_image(request_for, tmp_path):
    from PIL import Image

    export.export(request_for("onnx", bundle=True), SILENT)
    images = data_sets.bundled("test", SPACE)
    picture = tmp_path / "picture.png"
    Image.fromarray(images.pixels[0, 0].numpy()).save(picture)
    command = [sys.executable, "classify.py", "m.onnx", str(picture)]
    ran = subprocess.run(command, cwd=tmp_path / "m-onnx-bundle", capture_output=True, text=True, check=True)
    assert len(ran.stdout.splitlines()) == 6
    assert "ms" in ran.stdout
