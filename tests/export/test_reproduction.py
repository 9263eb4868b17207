"""A file on another processor: what still passes, what fails, and that damage of 1 % shows there as well."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import damage
import numpy as np
import pytest
from exported import copied, exported
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge import data_sets
from nasvit_edge.export import artifact, onnx, parity, reproduction, verification, writing
from nasvit_edge.export.formats import Threshold, load_format
from nasvit_edge.export.reproduction import Outputs, compared
from nasvit_edge.export.writing import Options
from nasvit_edge.model.accuracy import calibrated
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.model.subnet import materialise
from nasvit_edge.space import load_space

SPACE = load_space("nano")
INT8 = load_format("onnx").thresholds["int8"]


@pytest.fixture(scope="module")
def supernet():
    return load_supernet("nano", SPACE)


def _exported(supernet, config, name, precision, folder):
    form, calibration = load_format(name), data_sets.bundled("calibration", SPACE)
    subnet = calibrated(materialise(supernet, config), calibration)
    seen = next(calibration.batches(SPACE, config.resolution, 128))[0].numpy()
    path = folder / f"model{form.suffix}"
    writing.export(supernet, subnet, form, path, Options(precision=precision, calibration=seen))
    return path


@pytest.fixture(scope="module")
def int8(tmp_path_factory):
    """An int8 ONNX file whose sidecar says that it was exported on another processor."""
    path, _ = exported(tmp_path_factory, "onnx", "int8")
    return _from_elsewhere(copied(path, tmp_path_factory.mktemp("there")))


def _from_elsewhere(path):
    side = artifact.sidecar_path(path)
    sidecar = json.loads(side.read_text())
    sidecar["versions"]["cpu"] = "another processor"
    side.write_text(json.dumps(sidecar))
    return path


def _damaged(path, folder, content):
    """A copy with other content, whose sidecar knows its hash."""
    copy = folder / path.name
    artifact.write_content(copy, content)
    shutil.copy(artifact.reference_path(path), artifact.reference_path(copy))
    sidecar = json.loads(artifact.sidecar_path(path).read_text())
    sidecar |= {"sha256": artifact.digest(content), "bytes": artifact.size_bytes(content)}
    artifact.sidecar_path(copy).write_text(json.dumps(sidecar))
    return copy


def test_losing_one_percent_of_the_weights_fails_on_another_processor(int8, tmp_path):
    check = verification.verify(_damaged(int8, tmp_path, damage.some_weights_lost(int8, 0.01)))
    assert any("without rounding it is" in line for line in check.failures())


def test_one_percent_of_any_one_tensor_of_an_int8_file_shows(int8, tmp_path):
    """Power: of the least it moves logits twice as far as the limit; processors do by 1e-6 (docs/verification.md)."""
    images = parity.inputs(SPACE, SPACE.smallest().resolution)[0][: reproduction.PLAIN_INPUTS]
    exact, least = onnx.plain_runner(int8)(images), np.inf
    for number in range(damage.weight_count(int8)):
        changed = tmp_path / "changed.onnx"
        changed.write_bytes(damage.scale_a_weight(int8, 1.01, number))
        least = min(least, parity.typical_error(onnx.plain_runner(changed)(images), exact))
    assert least > 2 * INT8.reproduction


def test_the_plain_model_is_the_file_but_for_rounding(int8):
    images, real = parity.inputs(SPACE, SPACE.smallest().resolution)
    assert 15 < parity.snr_db(onnx.plain_runner(int8)(images), onnx.runner(int8)(images), real) < 60


# --- what is judged -----------------------------------------------------------------------------------------------


def _logits(seed, noise):
    rng = np.random.default_rng(seed)
    exact = rng.normal(size=(16, 10)).astype(np.float32)
    scale = 10 ** (-noise / 20) * np.sqrt((exact**2).mean())
    return exact, exact + (rng.choice([-1, 1], exact.shape) * scale).astype(np.float32)


@given(seed=st.integers(0, 999), noise=st.floats(5, 60))
def test_elsewhere_logits_are_judged_in_db_and_here_by_their_largest_change(seed, noise):
    exact, moved = _logits(seed, noise)
    there = compared(Outputs(moved), Outputs(exact), INT8, same_machine=False, labels=False)
    assert there.snr_db == pytest.approx(noise, abs=0.01)
    assert bool(there.failures()) == (there.snr_db < INT8.reproduction_db)
    here = compared(Outputs(moved), Outputs(exact), INT8, same_machine=True, labels=False)
    assert "than when it was exported, by" in here.failures()[0]


@given(changed=st.integers(0, 200))
def test_elsewhere_an_int8_file_may_choose_otherwise_for_three_images_of_a_hundred(changed):
    exact, before = _logits(0, 40)[0], np.zeros(1000, np.int64)
    now = before.copy()
    now[:changed] = 1
    actual = compared(Outputs(exact, now), Outputs(exact, before), INT8, same_machine=False, labels=False)
    assert bool(actual.failures()) == (changed > 30)


def test_a_precision_that_all_processors_compute_alike_is_judged_by_its_largest_change_everywhere():
    exact, moved = _logits(0, 45)
    actual = compared(Outputs(moved), Outputs(exact), Threshold(), same_machine=False, labels=False)
    assert "allowed 1e-03" in actual.failures()[0]


@given(share=st.floats(0, 1))
def test_labels_are_judged_by_the_share_of_pixels(share):
    before = np.zeros((1, 100, 100), np.int32)
    now = before.copy()
    now.flat[: round(share * 10000)] = 1
    actual = compared(Outputs(now), Outputs(before), INT8, same_machine=False, labels=True)
    assert bool(actual.failures()) == (actual.agreement < INT8.pixels)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_reproduce_nothing(bad):
    exact, moved = _logits(0, 60)
    moved[3, 3] = bad
    for same in (True, False):
        assert compared(Outputs(moved), Outputs(exact), INT8, same_machine=same, labels=False).failures()
    plain = compared(
        Outputs(exact, plain=moved), Outputs(exact, plain=exact), INT8, same_machine=False, labels=False
    )
    assert "without rounding" in plain.failures()[0]


# --- another processor for real -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_int8_file_passes_on_a_processor_without_vnni_unless_it_is_damaged(int8, tmp_path):
    """`qemu-x86_64 -cpu Haswell` (Debian: qemu-user) runs this Python with AVX2 alone, where 8-bit sums saturate at larger weights than ours."""
    qemu = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if qemu is None or "avx512_vnni" not in artifact.versions()["cpu_features"]:
        pytest.skip("needs qemu-user, and a processor with VNNI here")

    def verified(model):
        command = [qemu, "-cpu", "Haswell", sys.executable, "-m", "nasvit_edge.cli", "verify", str(model)]
        done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
        return json.loads(done.stdout)

    report = verified(int8)
    assert report["passed"], report["failures"]
    actual = report["reproduction"]
    assert actual["change"] < 1e-3  # 0.07, 37 dB by weights of 8 whole bits
    assert actual["plain_change"] < 5e-6
    report = verified(_damaged(int8, tmp_path, damage.scale_a_weight(int8, 1.01)))
    assert any("without rounding" in line for line in report["failures"])
