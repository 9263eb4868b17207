"""ONNX bundles on the oldest ONNX Runtime that docs/onnx.md promises, installed from PyPI into an environment of its own."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from conftest import require_module

from nasvit_edge import data_sets
from nasvit_edge.export import bundle, onnx, parity, writing
from nasvit_edge.export.formats import load_format
from nasvit_edge.export.writing import Options
from nasvit_edge.model.accuracy import calibrated
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.model.subnet import materialise
from nasvit_edge.space import load_space

pytestmark = pytest.mark.slow
OLDEST = "1.15.0"
# How near to this version's logits the oldest one's are; in 8 bits it rounds elsewhere, and its sums may saturate.
LEAST_DB = {"fp32": 120, "fp16": 65, "w8": 120, "int8": 25}
SPACE = load_space("nano")
RUN = """
import sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
images = numpy.load(sys.argv[2])
logits = [session.run(None, {"image": image[None]})[0] for image in images]
numpy.save(sys.argv[3], numpy.concatenate(logits))
print(onnxruntime.__version__)
"""


@pytest.fixture(scope="module")
def old_python(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    wanted = [f"onnxruntime=={OLDEST}", "numpy<2", "pillow"]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--only-binary=:all:"]
    done = subprocess.run([*pip, *wanted], capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        pytest.skip(f"onnxruntime {OLDEST} cannot be installed here: {done.stderr.strip()[-200:]}")
    return python


@pytest.fixture(scope="module", params=list(load_format("onnx").thresholds))
def bundled(request, tmp_path_factory):
    """The largest subnet, which has every kind of op, at each precision: its precision, model and folder."""
    form, supernet = load_format("onnx"), load_supernet("nano", SPACE)
    calibration = data_sets.bundled("calibration", SPACE)
    subnet = calibrated(materialise(supernet, SPACE.largest()), calibration)
    seen = next(calibration.batches(SPACE, subnet.config.resolution, 128))[0].numpy()
    path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    writing.export(supernet, subnet, form, path, Options(precision=request.param, calibration=seen))
    return request.param, path, bundle.write_bundle(path)


def test_the_oldest_runtime_computes_what_this_one_does(old_python, bundled, tmp_path):
    precision, path, _ = bundled
    resolution = SPACE.largest().resolution
    images, real = parity.inputs(SPACE, resolution)
    np.save(tmp_path / "images.npy", images)
    arguments = [str(path), str(tmp_path / "images.npy"), str(tmp_path / "logits.npy")]
    done = subprocess.run(
        [old_python, "-c", RUN, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.strip() == OLDEST, done.stderr
    loaded, expected = np.load(tmp_path / "logits.npy"), onnx.runner(path)(images)
    assert parity.snr_db(loaded, expected, real) >= LEAST_DB[precision]
    assert (loaded[:real].argmax(1) == expected[:real].argmax(1)).all()


def test_a_bundles_program_prints_the_same_classes(old_python, bundled, tmp_path):
    _, _, folder = bundled
    picture = tmp_path / "image.png"
    pixels = data_sets.bundled("test", SPACE).pixels[0][0].numpy()
    require_module("PIL.Image").fromarray(pixels).save(picture)

    def classes(python):
        command = [python, "classify.py", "model.onnx", str(picture)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return [line.split(maxsplit=1) for line in done.stdout.splitlines()[:5]]

    old, new = classes(old_python), classes(sys.executable)
    assert old[0][1] == new[0][1]
    shares = [{name: float(share.strip("%")) for share, name in side} for side in (old, new)]
    assert all(abs(shares[0][name] - shares[1][name]) <= 5 for name in shares[0].keys() & shares[1].keys())
