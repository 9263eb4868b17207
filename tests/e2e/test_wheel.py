"""The wheel: one top-level name, everything inside, and working away from the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling")
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return next(out.glob("*.whl"))


def test_it_adds_exactly_one_top_level_name(wheel):
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"nasvit_edge"}


def test_it_holds_the_data_and_the_programs_for_the_other_side(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "nasvit_edge/data/spaces/nano.toml",
        "nasvit_edge/data/weights/nano.safetensors",
        "nasvit_edge/data/images/fashion-mnist.npz",
        "nasvit_edge/data/images/LICENSE.fashion-mnist",
        "nasvit_edge/data/accuracy/nasvit.json",
        "nasvit_edge/shipped/devices/host/runner.py",
        "nasvit_edge/shipped/devices/host/forks.py",
        "nasvit_edge/shipped/devices/host/device.toml",
        "nasvit_edge/shipped/export/onnx/format.toml",
        "nasvit_edge/shipped/export/tflite/classify.py",
        "nasvit_edge/shipped/export/onnx/classify.html",
        "nasvit_edge/data_sets/prepare_image.py",
        "nasvit_edge/shipped/latency_tables/README.md",
        "nasvit_edge/py.typed",
    ):
        assert name in names, name


def test_unpacked_elsewhere_it_finds_its_own_files(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import nasvit_edge as ne; from nasvit_edge import files; from nasvit_edge.device import load_device; "
        "from nasvit_edge.export.formats import format_names; "
        "print(ne.__file__, load_device('host').runner.is_file(), format_names(), ne.load_space('nano').size())"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(tmp_path) in process.stdout
    assert "True ['coreml', 'onnx', 'tensorrt', 'tflite'] 442368" in process.stdout
