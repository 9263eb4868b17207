"""How much of a file is in 8 bits: counted from the file, said of it, and too little is no int8."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from conftest import one_line, only_user_errors
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from typer.testing import CliRunner

from nasvit_edge.benchmark import participants
from nasvit_edge.errors import VerifyError
from nasvit_edge.export import artifact, parity, verification, writing
from nasvit_edge.export.advice import advice
from nasvit_edge.export.arithmetic import Arithmetic, arithmetic, layers, line, shown, told
from nasvit_edge.export.formats import Conversion, Threshold, load_format
from nasvit_edge.export.writing import Options
from nasvit_edge.flows import doctor
from nasvit_edge.flows.export import report
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.model.subnet import fold, materialise
from nasvit_edge.ops import TransformerBlock, lower, macs
from nasvit_edge.profile.arithmetic import shares
from nasvit_edge.profile.models import Models
from nasvit_edge.space import load_space

SPACE = load_space("nano")
ONNX = load_format("onnx")
LIMIT = Threshold(snr_db=12.0, int8_macs=0.8)  # without the 2,000 test images, which take seconds


@pytest.fixture(scope="module")
def supernet():
    return load_supernet("random", SPACE)


@pytest.fixture(scope="module")
def subnet(supernet):
    return materialise(supernet, SPACE.smallest())


@pytest.fixture(scope="module")
def images():
    return parity.inputs(SPACE, SPACE.smallest().resolution, seed=1)[0]


@pytest.fixture(scope="module")
def content(subnet, images):
    return _converted(subnet, images)


def _converted(subnet, images, *, kept=(), precision="int8", **options):
    from nasvit_edge.export import onnx

    recipe = Conversion(precision=precision, calibration=images, kept=kept)
    return onnx.convert(fold(subnet), (1, 3, *subnet.size), recipe, **options)


def _found(content, folder, precision="int8"):
    path = folder / "model.onnx"
    path.write_bytes(content)
    return arithmetic(path, "onnx", precision)


def _export(supernet, subnet, images, folder, threshold=LIMIT, **options):
    form = structs.replace(ONNX, thresholds={"int8": threshold})
    asked = Options(precision="int8", calibration=images, uncalibrated=True, overwrite=True, **options)
    return writing.export(supernet, subnet, form, folder / "m.onnx", asked)


def _products(config):
    """Of attention: products of activations, and the mixing of heads."""
    blocks = [op for op in lower(SPACE, config) if isinstance(op, TransformerBlock)]
    return sum((o.height * o.width) ** 2 * (o.channels + o.value_channels + 2 * o.heads**2) for o in blocks)


@pytest.mark.parametrize("runtime", ["onnxruntime", "tensorrt"])
@pytest.mark.parametrize("seed", [0, 1])
def test_all_is_in_int8_but_attentions_products(supernet, tmp_path, seed, runtime):
    config = SPACE.sample(random.Random(seed))
    images = parity.inputs(SPACE, config.resolution, seed=1)[0][:2]
    result = _converted(materialise(supernet, config), images, runtime=runtime)
    actual = _found(result, tmp_path)
    assert sum(layer.macs for layer in actual.layers) == macs(SPACE, config)
    assert actual.int8_layer_macs == 1
    assert actual.int8_macs == pytest.approx(1 - _products(config) / macs(SPACE, config))
    assert actual.float_layers == []
    products = _products(config) > 0.05 * macs(SPACE, config)
    assert ("attention's products" in line(actual.record(), "int8")) == products


@given(kept=st.sets(st.sampled_from([op.name for op in lower(SPACE, SPACE.smallest())])))
@settings(max_examples=5)
def test_what_is_kept_in_floating_point_is_not_counted(kept, subnet, images, tmp_path):
    actual = _found(_converted(subnet, images[:1], kept=tuple(sorted(kept))), tmp_path)
    floats = sum(op.macs() for op in subnet.ops if op.name in kept)
    assert actual.int8_macs == pytest.approx(1 - floats / macs(SPACE, subnet.config))
    listed = actual.record()
    assert listed.layers - listed.int8_layers == len(listed.float_layers)
    assert bool(listed.float_layers) == bool(kept)


def test_weights_of_8_bits_are_not_int8_and_other_precisions_claim_nothing(subnet, images, tmp_path):
    w8 = _found(_converted(subnet, images, precision="w8"), tmp_path, "w8")
    assert (w8.int8_macs, w8.weights_8bit_macs) == (0, 1)
    figures = w8.record()
    assert shown(figures, "w8") == "weights 100.0%"
    assert "floating point" in line(figures, "w8")
    for precision in ("fp32", "fp16"):
        content = _converted(subnet, images, precision=precision)
        assert _found(content, tmp_path, precision) is None
        assert _found(content, tmp_path, "int8").int8_macs == 0
    assert (shown(None, "fp32"), line(None, "fp32")) == ("-", "")


def test_a_net_of_which_too_little_is_left_in_int8_is_refused_with_the_reason(
    supernet, subnet, images, tmp_path
):
    with pytest.raises(VerifyError, match="--force") as caught:
        _export(supernet, subnet, images, tmp_path, structs.replace(LIMIT, snr_db=200))
    said = str(caught.value)
    assert one_line(caught)
    assert "of the MACs of its layers are in int8 (at least 80%)" in said
    assert "of 23 layers are in floating point (" in said
    assert "most sensitive of " in said
    assert "the weights are random" in said
    assert f"{len(images)} images gave the ranges, up to 256 can" in said
    assert list(tmp_path.iterdir()) == []


def test_a_weak_net_is_called_one(subnet, monkeypatch):
    monkeypatch.setattr(subnet, "source", {"kind": "file"})
    weak, strong = (
        {"accuracy": json.dumps({"top1": value, "of": "the fp32 subnet"})} for value in (0.12, 0.9)
    )
    assert "the net is weak (top-1 12.0% before rounding)" in advice(subnet, ONNX, 256, weak, ())
    for metadata in (strong, {"accuracy": "not measured"}, {}):
        said = advice(subnet, ONNX, 256, metadata, ())
        assert "why:" not in said
        assert said.startswith("; try --precision w8")


def test_by_force_such_a_file_is_kept_and_marked_and_its_check_goes_on_failing(
    supernet, subnet, images, tmp_path
):
    result = _export(supernet, subnet, images, tmp_path, structs.replace(LIMIT, snr_db=40), force=True)
    assert not result.check.passed
    (tmp_path / "plain").mkdir()
    plain = _export(supernet, subnet, images, tmp_path / "plain", Threshold(snr_db=0.0)).check
    assert (
        result.check.snr_db > plain.snr_db + 0.5
    )  # the best that keeping layers gives: processors decide how much
    path = tmp_path / "m.onnx"
    told_of = report(path)
    assert not told_of.passed
    assert "in int8 (at least 80%)" in " ".join(told_of.failures)
    assert told_of.arithmetic.int8_layer_macs < 0.8
    again = verification.verify(path)
    assert "in int8 (at least 80%)" in " ".join(again.failures())


def test_what_passes_with_most_in_int8_is_taken_before_more_is_kept_in_floating_point(
    supernet, subnet, images, tmp_path
):
    plain = _export(supernet, subnet, images, tmp_path, Threshold(snr_db=0.0)).check
    limit = Threshold(snr_db=plain.snr_db + 0.01, int8_macs=0.7)
    result = _export(supernet, subnet, images, tmp_path, limit)
    assert result.check.passed
    assert 0.7 <= result.check.arithmetic.int8_layer_macs < 1


@pytest.fixture(scope="module")
def exported(supernet, subnet, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    _export(supernet, subnet, images, folder, Threshold(snr_db=0.0))
    return folder / "m.onnx"


def test_the_share_is_in_every_answer_about_the_file(exported):
    inside = json.loads(ONNX.module().read_metadata(exported)["arithmetic"])
    assert inside == {"int8_macs": 1.0, "int8_layer_macs": 1.0, "weights_8bit_macs": 1.0}
    sidecar = json.loads(artifact.sidecar_path(exported).read_text())
    assert sidecar["check"]["arithmetic"]["int8_macs"] == 1
    for answer in (report(exported), doctor.examine(exported), verification.evaluate(exported, "bundled")):
        assert answer.arithmetic.int8_layers == 23
    assert participants.facts_of(exported, "onnxruntime").int8_macs == 1


@pytest.mark.parametrize("command", ["verify", "doctor", "evaluate"])
def test_commands_say_it(exported, command):
    from nasvit_edge.cli import app

    result = CliRunner().invoke(app, [command, str(exported)])
    assert "100.0% of the MACs are in int8: 23 of 23 layers" in result.output


def test_a_file_of_an_older_version_is_read_and_its_figure_counted(exported, tmp_path):
    path = tmp_path / "old.onnx"
    sidecar = json.loads(artifact.sidecar_path(exported).read_text())
    del sidecar["check"]["arithmetic"]
    metadata = {key: value for key, value in sidecar["metadata"].items() if key != "arithmetic"}
    content = ONNX.module().write_metadata(exported.read_bytes(), metadata)
    path.write_bytes(content)
    sidecar |= {
        "metadata": metadata,
        "sha256": artifact.digest(content),
        "bytes": artifact.size_bytes(content),
    }
    artifact.sidecar_path(path).write_text(json.dumps(sidecar))
    assert report(path).arithmetic.int8_macs == 1
    assert doctor.examine(path).arithmetic.int8_macs == 1


@pytest.mark.parametrize("precision", ["int8", "w8", "fp32"])
def test_a_table_says_how_much_of_its_subnets_is_in_8_bits(precision, tmp_path):
    actual = shares(Models(SPACE, "onnxruntime", tmp_path, 0, precision))
    if precision == "fp32":
        assert actual is None
        return
    share = 1 - _products(SPACE.largest()) / macs(SPACE, SPACE.largest())
    assert actual["largest"]["int8_macs"] == pytest.approx(share if precision == "int8" else 0, abs=1e-4)
    assert actual["smallest"]["weights_8bit_macs"] == 1


@pytest.fixture(scope="module")
def files(content, tmp_path_factory):
    """Format -> a small file of it; paths, since what hypothesis prints is short."""
    import torch

    from nasvit_edge.export import tflite

    folder = tmp_path_factory.mktemp("files")
    contents = {"onnx": content, "tflite": tflite.convert(torch.nn.Conv2d(3, 4, 3).eval(), (1, 3, 8, 8))}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("name", ["onnx", pytest.param("tflite", marks=pytest.mark.slow)])
@given(at=st.floats(0, 1), bits=st.binary(min_size=1, max_size=40), cut=st.booleans())
@settings(max_examples=50)
def test_a_damaged_file_is_one_line_and_where_it_is_only_described_none(files, name, at, bits, cut):
    whole = (files / name).read_bytes()
    place = int(at * (len(whole) - 1))
    path = files / f"damaged.{name}"
    path.write_bytes(whole[:place] if cut else whole[:place] + bits + whole[place + len(bits) :])
    outcome = only_user_errors(layers, path, name)
    assert isinstance(outcome, str) == (told(path, name, "int8") is None)


def test_a_file_without_layers_has_no_share():
    assert Arithmetic("int8", ()).int8_macs == 0
    assert np.isfinite(Arithmetic("int8", ()).int8_layer_macs)
