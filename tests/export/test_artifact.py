"""Artifacts: what is written, what is refused, what a check would catch."""

from __future__ import annotations

import hashlib
import json

import damage
import exported
import numpy as np
import pytest
import torch
from exported import SPACE, copied
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from nasvit_edge import data_sets
from nasvit_edge.errors import ExportError, NasvitEdgeError, VerifyError
from nasvit_edge.export import artifact, parity, verification, writing
from nasvit_edge.export.formats import format_names, load_format
from nasvit_edge.export.writing import Options
from nasvit_edge.flows import doctor
from nasvit_edge.model.accuracy import calibrated, correct
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.model.subnet import fold, materialise, statistics
from nasvit_edge.space import load_space

FORMATS = [name for name in format_names() if name in ("onnx", "tflite")]
TEST = data_sets.bundled("test", SPACE)


@pytest.fixture(scope="module")
def supernet():
    return exported.supernet()


@pytest.fixture(scope="module")
def subnet():
    return exported.subnet()


@pytest.fixture(scope="module", params=FORMATS)
def written(request, tmp_path_factory):
    path, report = exported.exported(tmp_path_factory, request.param)
    return path, report.check


def test_an_export_passes_its_check_and_says_so(written):
    path, check = written
    assert check.error <= 1e-4
    assert (check.inputs, check.real_images) == (16, 8)
    sidecar = json.loads(artifact.sidecar_path(path).read_text())
    assert sidecar["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sidecar["check"]["error"] == check.error


def test_verify_repeats_the_check_against_the_supernet(written):
    again = verification.verify(written[0])
    assert again.passed
    assert again.reference == "supernet"


def test_an_artifact_gets_the_same_images_right_as_the_subnet(written, subnet):
    report = verification.evaluate(written[0], "bundled")
    assert report.images == data_sets.TEST_IMAGES
    assert report.correct == correct(subnet, data_sets.bundled("test", SPACE))


def test_the_file_says_what_it_is(written, subnet):
    path, _ = written
    metadata = artifact.open_artifact(path).metadata
    assert json.loads(metadata["labels"]) == list(data_sets.FASHION_LABELS)
    assert json.loads(metadata["config"]) == SPACE.smallest().to_dict()
    assert json.loads(metadata["calibration"])["images"] == 512
    assert json.loads(metadata["accuracy"])["top1"] == pytest.approx(
        correct(subnet, TEST) / len(TEST), abs=1e-4
    )
    for text in (b"/root/", b"/home/", b"site-packages"):
        assert text not in path.read_bytes()


def test_an_existing_file_is_not_replaced_unasked(written, supernet, subnet):
    path, _ = written
    before = path.read_bytes()
    with pytest.raises(ExportError, match="exists"):
        writing.export(supernet, subnet, artifact.format_of(path.suffix), path)
    assert path.read_bytes() == before


def test_a_changed_file_fails(written, tmp_path):
    path = copied(written[0], tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(VerifyError, match="hash differs"):
        verification.verify(path)


def test_a_scaled_weight_fails_even_with_the_hash_recomputed(tmp_path, tmp_path_factory):
    import onnx as onnx_library

    path = copied(exported.exported(tmp_path_factory, "onnx")[0], tmp_path)
    model = onnx_library.load(str(path))
    weight = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    weight.raw_data = (np.frombuffer(weight.raw_data, np.float32) * 1.01).astype(np.float32).tobytes()
    _rewrite(path, model.SerializeToString(deterministic=True))
    assert not verification.verify(path).passed


def test_an_uncalibrated_subnet_is_refused_and_the_line_says_how(supernet, tmp_path):
    subnet = materialise(supernet, SPACE.smallest())
    with pytest.raises(ExportError, match=r"--calibrate DATA.*--uncalibrated"):
        writing.export(supernet, subnet, load_format("onnx"), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_check_catches_any_dropped_block(supernet, subnet):
    """Power: replace one block after another by what is left when it does nothing."""
    config = SPACE.largest()
    whole = calibrated(materialise(supernet, config), data_sets.bundled("calibration", SPACE))
    images, _ = parity.inputs(SPACE, config.resolution)
    expected = parity.reference(supernet, config, statistics(whole), images)
    for op in whole.ops:
        if op.in_shape() != op.out_shape():
            continue
        damaged = fold(whole)
        _replace(damaged, op.name, torch.nn.Identity())
        assert _error(damaged, images, expected) > 100 * 1e-4, op.name


def test_the_check_catches_permuted_heads(supernet):
    config = SPACE.largest()
    whole = calibrated(materialise(supernet, config), data_sets.bundled("calibration", SPACE))
    images, _ = parity.inputs(SPACE, config.resolution)
    expected = parity.reference(supernet, config, statistics(whole), images)
    for op in whole.ops:
        if not op.key().startswith("transformer"):
            continue
        damaged = fold(whole)
        attention = damaged.get_submodule(op.name).attention
        with torch.no_grad():
            attention.value_conv.weight.copy_(_swap_heads(attention.value_conv.weight, op.heads))
        assert _error(damaged, images, expected) > 10 * 1e-4, op.name


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.slow
def test_the_smallest_official_subnet_passes(format_name, tmp_path):
    space = load_space("nasvit")
    net = load_supernet("random", space)
    form = load_format(format_name)
    path = tmp_path / f"m{form.suffix}"
    small = materialise(net, space.smallest())
    check = writing.export(net, small, form, path, Options(uncalibrated=True)).check
    assert check.error <= 1e-4
    assert "RANDOM WEIGHTS" in artifact.open_artifact(path).metadata["warning"]


@settings(max_examples=40, deadline=None)
@given(
    key=st.sampled_from(["metadata", "sha256", "precision", "schema", "bytes", "reference_sha256"]),
    value=st.one_of(st.none(), st.integers(), st.text(max_size=8), st.lists(st.integers(), max_size=2)),
)
def test_a_damaged_sidecar_gives_one_line(written, tmp_path_factory, key, value):
    path = copied(written[0], tmp_path_factory.mktemp("copy"))
    side = artifact.sidecar_path(path)
    sidecar = json.loads(side.read_text())
    if sidecar[key] == value:
        return
    side.write_text(json.dumps(sidecar | {key: value}))
    with pytest.raises(NasvitEdgeError) as caught:
        verification.verify(path)
    assert "\n" not in str(caught.value)


def test_a_file_alone_is_evaluated_and_examined_and_verification_says_what_is_missing(written, tmp_path):
    alone = tmp_path / written[0].name
    alone.write_bytes(written[0].read_bytes())
    report, before = (verification.evaluate(path, "bundled") for path in (alone, written[0]))
    assert (report.checked, before.checked) == (False, True)
    assert report == replace(before, checked=False)
    assert doctor.examine(alone).checked is False
    said = rf"sidecar '.*{alone.name}.json' is missing: it holds .* or export again; `evaluate` and `doctor`"
    with pytest.raises(NasvitEdgeError, match=said):
        verification.verify(alone)
    artifact.sidecar_path(alone).write_bytes(artifact.sidecar_path(written[0]).read_bytes())
    with pytest.raises(NasvitEdgeError, match=r"reference .* is missing: it holds .* Copy it"):
        verification.verify(alone)


@given(
    metadata=st.dictionaries(
        st.sampled_from(["space", "config", "weights", "precision", "labels", "preparation"]),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
        | st.sampled_from(["nano", "fp32", "{}"]),
    )
)
def test_whatever_a_file_alone_says_of_itself_is_read_or_refused_in_one_line(
    written, tmp_path_factory, metadata
):
    path = tmp_path_factory.mktemp("alone") / written[0].name
    form = artifact.format_of(path.suffix)
    path.write_bytes(form.module().write_metadata(damage.bare(written[0]), metadata))
    with pytest.raises(NasvitEdgeError) as caught:
        verification.evaluate(path, "bundled")
    assert "\n" not in str(caught.value)


def test_another_programs_file_alone_is_told_from_ours(written, tmp_path):
    path = tmp_path / written[0].name
    form = artifact.format_of(path.suffix)
    path.write_bytes(form.module().write_metadata(damage.bare(written[0]), {}))
    with pytest.raises(VerifyError, match="has no metadata of nasvit-edge"):
        doctor.examine(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON, st.sampled_from([None, 0, 2]), st.sampled_from([(",", ":"), (" , ", " : ")]))
def test_a_manifest_counts_by_what_it_says_not_by_how_it_is_written(one, other, indent, separators):
    def tree(text):
        return {artifact.MANIFEST: text.encode(), "model": b"x"}

    ours, theirs = (
        json.dumps(one, indent=4, sort_keys=True),
        json.dumps(one, indent=indent, separators=separators),
    )
    assert artifact.digest(tree(ours)) == artifact.digest(tree(theirs + "\n"))
    assert artifact.size_bytes(tree(ours)) == artifact.size_bytes(tree(theirs)) == len(ours.encode()) + 1
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (artifact.digest(tree(ours)) == artifact.digest(tree(json.dumps(other)))) == same


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', "no JSON", "[" * 100_000, "\x00"])
def test_a_manifest_that_readers_could_take_in_two_ways_counts_by_its_bytes(text):
    tree = {artifact.MANIFEST: text.encode()}
    assert artifact.size_bytes(tree) == len(text)
    assert artifact.digest(tree) != artifact.digest({artifact.MANIFEST: text.encode() + b" "})


def test_an_unknown_format_lists_what_there_is():
    with pytest.raises(ExportError, match="coreml, onnx, tensorrt, tflite"):
        load_format("tensorflow")


def test_random_inputs_differ_between_seeds():
    one, two = (parity.inputs(load_space("nasvit"), 192, seed)[0] for seed in (0, 1))
    assert one.shape == (16, 3, 192, 192)
    assert not np.allclose(one, two)


def _rewrite(path, content):
    """Write a damaged file together with a sidecar that knows its hash."""
    side = artifact.sidecar_path(path)
    sidecar = json.loads(side.read_text())
    path.write_bytes(content)
    sidecar |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    side.write_text(json.dumps(sidecar))


def _replace(root, name, module):
    parent, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(parent), leaf, module)


def _error(module, images, expected):
    with torch.no_grad():
        return parity.relative_error(module(torch.from_numpy(images)).numpy(), expected)


def _swap_heads(weight, heads):
    parts = list(weight.detach().clone().chunk(heads))
    parts[0], parts[1] = parts[1], parts[0]
    return torch.cat(parts)
