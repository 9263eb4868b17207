"""Every format and precision: it passes its check, keeps its accuracy, and damage shows."""

from __future__ import annotations

import json
import random

import damage
import exported
import numpy as np
import pytest
from conftest import TINIER, one_line, space_of
from exported import SPACE, copied
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from nasvit_edge import data_sets
from nasvit_edge.errors import ExportError, NasvitEdgeError, VerifyError
from nasvit_edge.export import artifact, references, sensitivity, verification, writing
from nasvit_edge.export.arithmetic import layers
from nasvit_edge.export.formats import Conversion, load_format
from nasvit_edge.export.writing import Options
from nasvit_edge.listening import Listener
from nasvit_edge.model.accuracy import calibrated
from nasvit_edge.model.checkpoint import random_supernet
from nasvit_edge.model.subnet import fold, materialise
from nasvit_edge.ops import macs

QUICK = {
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("tflite", "fp32"),
    ("tflite", "int8"),
    ("coreml", "w8"),
    ("tensorrt", "fp16"),
}
CASES = [
    pytest.param((name, precision), marks=() if (name, precision) in QUICK else pytest.mark.slow)
    for name in damage.FORMATS
    for precision in load_format(name).thresholds
]


@pytest.fixture(scope="module")
def supernet():
    return exported.supernet()


@pytest.fixture(scope="module")
def subnet():
    return exported.subnet()


@pytest.fixture(scope="module")
def images():
    return exported.images()


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def written(request, tmp_path_factory):
    return exported.exported(tmp_path_factory, *request.param)


def _rewritten(path, content, metadata=None):
    """Write a damaged model together with a sidecar that knows its hash and size."""
    side = artifact.sidecar_path(path)
    sidecar = json.loads(side.read_text())
    artifact.write_content(path, content)
    sidecar |= {"sha256": artifact.digest(content), "bytes": artifact.size_bytes(content)}
    side.write_text(json.dumps(sidecar | ({"metadata": metadata} if metadata else {})))
    return path


def test_the_file_passes_and_still_passes_when_verified(written):
    path, result = written
    assert result.check.passed
    again = verification.verify(path)
    assert again.passed, again.failures()
    assert again.reproduction.same_machine
    assert again.reproduction.change == 0
    assert again.reference == "supernet"


def test_the_layers_of_a_file_have_the_macs_of_its_subnet(written):
    path, result = written
    precision, form = path.stem, artifact.format_of(path.suffix)
    actual = layers(path, form.name)
    assert sum(layer.macs for layer in actual) == macs(SPACE, SPACE.smallest())
    figures = result.check.arithmetic
    assert (figures is None) == (precision not in ("int8", "dynamic", "w8"))
    if figures is not None:  # sensitive ops stay in float; Core ML leaves small weights alone
        assert (figures.int8_macs > 0.7) == (precision == "int8")
        least = {"int8": 0.7, "dynamic": 0.001}.get(precision, 0.99)  # dynamic: linear layers alone
        assert figures.weights_8bit_macs > (0.6 if form.name == "coreml" else least)


def _from_elsewhere(path):
    """The sidecar says that another processor exported it."""
    side = artifact.sidecar_path(path)
    sidecar = json.loads(side.read_text())
    side.write_text(json.dumps(sidecar | {"versions": sidecar["versions"] | {"cpu": "another"}}))
    return path


def test_a_file_that_another_processor_exported_passes(written, tmp_path):
    path = _from_elsewhere(copied(written[0], tmp_path))
    check = verification.verify(path)
    assert check.passed, check.failures()
    actual, limit = check.reproduction, check.threshold
    assert not actual.same_machine
    if limit.reproduction_db is not None:
        assert (actual.agreement, actual.snr_db) == (1, np.inf)
        assert actual.plain_change <= 1e-6


def test_accuracy_on_the_test_images_is_kept(written, subnet):
    path, _ = written
    precision = json.loads(artifact.sidecar_path(path).read_text())["precision"]
    allowed = {"fp32": 0.0, "fp16": 0.001, "int8": 0.01, "dynamic": 0.003, "w8": 0.01}[precision]
    from nasvit_edge.model.accuracy import correct

    images = data_sets.bundled("test", SPACE)
    exact = correct(subnet, images) / len(images)
    assert verification.evaluate(path, "bundled").accuracy >= exact - allowed - 1e-9


def test_a_scaled_weight_fails_though_the_hash_is_right_and_another_processor_exported_it(written, tmp_path):
    path = _from_elsewhere(copied(written[0], tmp_path))
    _rewritten(path, damage.scale_a_weight(path, 1.01))
    assert not verification.verify(path).passed


@pytest.mark.parametrize("what", ["labels", "preparation"])
def test_swapped_facts_fail_though_hash_and_sidecar_agree(written, tmp_path, what):
    path = copied(written[0], tmp_path)
    metadata = json.loads(artifact.sidecar_path(path).read_text())["metadata"]
    if what == "labels":
        labels = json.loads(metadata["labels"])
        labels[0], labels[1] = labels[1], labels[0]
        metadata["labels"] = json.dumps(labels, sort_keys=True)
    else:
        content = json.loads(metadata["preparation"])
        content["mean"], content["std"] = content["std"], content["mean"]
        metadata["preparation"] = json.dumps(content, sort_keys=True)
    form = artifact.format_of(path.suffix)
    _rewritten(path, form.module().write_metadata(damage.bare(path), metadata), metadata)
    said = f"'{what}' inside is .* but space 'nano' has|its classes are not the labels"
    with pytest.raises(VerifyError, match=said):
        verification.verify(path)


def test_a_truncated_file_fails_though_the_hash_is_right(written, tmp_path):
    path = copied(written[0], tmp_path)
    _rewritten(path, damage.truncated(path))
    with pytest.raises(NasvitEdgeError) as caught:
        verification.verify(path)
    assert one_line(caught)


def test_int8_without_images_says_how(supernet, subnet, tmp_path):
    with pytest.raises(ExportError, match="--calibrate DATA"):
        writing.export(supernet, subnet, load_format("onnx"), tmp_path / "m.onnx", Options(precision="int8"))


def test_a_failing_file_is_not_written_unless_forced(supernet, subnet, images, tmp_path, monkeypatch):
    form = load_format("onnx")
    strict = {"w8": type(form.thresholds["w8"])(snr_db=200.0)}
    form = structs.replace(form, thresholds=strict)
    path = tmp_path / "m.onnx"
    with pytest.raises(VerifyError, match=r"dB \(at least 200\).*--force"):
        writing.export(supernet, subnet, form, path, Options(precision="w8"))
    assert list(tmp_path.iterdir()) == []
    exported_file = writing.export(supernet, subnet, form, path, Options(precision="w8", force=True))
    assert not exported_file.check.passed
    assert "dB" in json.loads(artifact.sidecar_path(path).read_text())["forced"][0]


@pytest.mark.parametrize("name", ["onnx", pytest.param("tflite", marks=pytest.mark.slow)])
def test_sensitive_ops_are_kept_in_floating_point_until_the_file_passes(
    name, supernet, subnet, images, tmp_path, tmp_path_factory
):
    form = load_format(name)
    _, plain = exported.exported(tmp_path_factory, name, "int8")
    limit = type(form.thresholds["int8"])(snr_db=plain.check.snr_db + 0.2)
    form = structs.replace(form, thresholds={"int8": limit})
    path = tmp_path / f"m{form.suffix}"
    notes = []
    exported_file = writing.export(
        supernet,
        subnet,
        form,
        path,
        Options(precision="int8", calibration=images),
        Listener(note=notes.append),
    )
    assert exported_file.check.snr_db >= plain.check.snr_db + 0.2
    assert exported_file.kept == tuple(sensitivity.ranked(subnet, images)[: len(exported_file.kept)])
    assert len(exported_file.kept) >= 1
    assert "in floating point" in notes[0]
    assert json.loads(artifact.sidecar_path(path).read_text())["kept_in_float"] == list(exported_file.kept)


@given(spoilt=st.floats(-1e6, 1e6), at=st.integers(0, 3))
def test_the_signal_to_noise_ratio_is_that_of_the_real_images_where_there_are_some(spoilt, at):
    exact = np.random.default_rng(0).normal(size=(4, 10)).astype(np.float32)
    near = exact + np.float32(0.01)
    actual = near.copy()
    actual[at] = spoilt
    limit = load_format("onnx").thresholds["int8"]

    def ratio(logits, real):
        result = references.Reference(np.zeros((4, 3, 16, 16), np.float32), real, exact, None)
        return result.check(lambda x: logits, SPACE, limit, "supernet", None)[0].snr_db

    on_noise = at >= 2
    assert (ratio(actual, real=2) == ratio(near, real=2)) == on_noise
    assert ratio(actual, real=0) < ratio(near, real=0)


def test_values_that_are_no_numbers_fail_on_noise_as_well():
    exact = np.ones((4, 10), np.float32)
    actual = exact.copy()
    actual[3, 2] = np.nan
    judged = references.Reference(np.zeros((4, 3, 16, 16), np.float32), 2, exact, None)
    check, _ = judged.check(lambda x: actual, SPACE, load_format("onnx").thresholds["int8"], "supernet", None)
    assert check.snr_db == float("-inf")
    assert not check.passed


@pytest.mark.slow
def test_random_subnets_of_the_shipped_weights_pass_int8_with_most_ops_in_8_bits(supernet, tmp_path):
    form, rng = load_format("onnx"), random.Random(5)
    for number in range(2):
        config = SPACE.sample(rng)
        subnet = calibrated(materialise(supernet, config), data_sets.bundled("calibration", SPACE))
        seen = next(data_sets.bundled("calibration", SPACE).batches(SPACE, config.resolution, 128))[0].numpy()
        path = tmp_path / f"{number}.onnx"
        exported_file = writing.export(
            supernet, subnet, form, path, Options(precision="int8", calibration=seen)
        )
        assert exported_file.check.passed
        assert len(exported_file.kept) < len(subnet.ops) / 2
        assert exported_file.check.snr_db > form.thresholds["int8"].snr_db + 6


def test_sensitivity_ranks_every_op_once(subnet, images):
    assert sorted(sensitivity.ranked(subnet, images)) == sorted(op.name for op in subnet.ops)


@pytest.mark.slow
def test_a_batch_of_three_and_an_open_batch_give_the_same_logits(supernet, subnet, tmp_path):
    for batch in (3, None):
        path = tmp_path / f"b{batch}.onnx"
        assert writing.export(supernet, subnet, load_format("onnx"), path, Options(batch=batch)).check.passed
    with pytest.raises(ExportError, match="no open batch axis"):
        writing.export(supernet, subnet, load_format("tflite"), tmp_path / "m.tflite", Options(batch=None))
    path = tmp_path / "b2.tflite"
    assert writing.export(supernet, subnet, load_format("tflite"), path, Options(batch=2)).check.passed


@pytest.mark.parametrize(
    "name",
    ["onnx", "tensorrt", *(pytest.param(name, marks=pytest.mark.slow) for name in ("coreml", "tflite"))],
)
def test_the_same_input_gives_the_same_bytes(name):
    """Of a subnet with a block of every kind."""
    form, results, space = load_format(name), [], space_of(TINIER)
    config = space.config_from(space.largest().to_dict() | {"depth": [1, 2]})
    images = np.random.default_rng(0).normal(size=(16, 3, config.resolution, config.resolution))
    folded = fold(materialise(random_supernet(space), config), form.layout)
    for precision in form.thresholds:
        recipe = Conversion(
            precision=precision, calibration=images.astype(np.float32), labels=tuple(space.label_names())
        )
        for _ in range(2):
            tree = form.module().convert(folded, (1, *images.shape[1:]), recipe)
            if name == "tensorrt":
                tree.pop("rtx.plan")  # the builder's choices differ from run to run
            results.append(artifact.digest(tree))
    assert results[::2] == results[1::2]
    assert len(set(results)) == len(form.thresholds)
