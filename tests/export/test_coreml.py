"""Core ML packages: each operation against torch, each weight matters, damage is one line, what apps see is there."""

from __future__ import annotations

import functools
import json
import random
import signal

import numpy as np
import pytest
import torch
from conftest import one_line, only_user_errors, require_module
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from nasvit_edge.errors import VerifyError
from nasvit_edge.export import artifact, coreml, mil, parity
from nasvit_edge.export.formats import Conversion, load_format
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.model.rewrites import fold_block
from nasvit_edge.model.subnet import fold, materialise, statistics
from nasvit_edge.ops import all_ops
from nasvit_edge.space import load_space

ct = require_module("coremltools")
mb = require_module("coremltools.converters.mil").Builder
SPACE = load_space("nano")
FACTS = {"labels": SPACE.label_names(), "preparation": SPACE.preparation(32).to_dict()}
METADATA = {"space": "nano", "nasvit_edge_version": "1.2"} | {k: json.dumps(v) for k, v in FACTS.items()}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Two threads that wait for one another on a busy machine take sixty times as long for such small layers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@functools.cache
def supernet():
    return load_supernet("nano", SPACE)


@functools.cache
def package(config, precision="fp32"):
    """The files of a classifier of a trained nano subnet."""
    facts = {"mean": tuple(SPACE.mean), "std": tuple(SPACE.std), "labels": tuple(SPACE.label_names())}
    shape = (1, 3, config.resolution, config.resolution)
    tree = coreml.convert(
        fold(materialise(supernet(), config)), shape, Conversion(precision=precision, **facts)
    )
    return coreml.write_metadata(tree, METADATA)


@functools.cache
def expected(config):
    """Images and the elastic supernet's logits."""
    images, _ = parity.inputs(SPACE, config.resolution)
    return images, parity.reference(supernet(), config, statistics(materialise(supernet(), config)), images)


def written(tree, folder):
    path = folder / "m.mlpackage"
    artifact.write_content(path, tree)
    return path


def edited(tree, change):
    """The package after `change(spec, operations)`."""
    spec = ct.proto.Model_pb2.Model.FromString(tree[mil.MODEL])
    function = spec.mlProgram.functions["main"]
    change(spec, function.block_specializations[function.opset].operations)
    return tree | {mil.MODEL: spec.SerializeToString(deterministic=True)}


def last(operations, kind):
    return next(op for op in reversed(operations) if op.type == kind)


# --- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8"])
@pytest.mark.parametrize("seed", [None, pytest.param(0, marks=pytest.mark.slow)])
def test_a_trained_subnet_keeps_its_numbers_at_every_precision(precision, seed, tmp_path):
    config = SPACE.largest() if seed is None else SPACE.sample(random.Random(seed))
    images, logits = expected(config)
    actual = coreml.runner(written(package(config, precision), tmp_path))(images)
    if precision == "fp32":
        assert parity.relative_error(actual, logits) <= 2e-5
    else:
        assert parity.snr_db(actual, logits) >= {"fp16": 45, "w8": 36}[precision]


def test_lower_precisions_are_smaller_and_lose_something():
    trees = [package(SPACE.largest(), precision) for precision in ("fp32", "fp16", "w8")]
    sizes = [len(tree[mil.WEIGHTS]) for tree in trees]
    assert sizes[1] < 0.6 * sizes[0]
    assert sizes[2] < 0.7 * sizes[1]


def test_norms_stay_in_single_precision_where_the_rest_is_half(tmp_path):
    program = mil.Program(written(package(SPACE.largest(), "fp16"), tmp_path))
    types = [(op.type, op.outputs[0].type.tensorType.dataType) for op in program.block.operations]
    assert {kind for name, kind in types if name == "layer_norm"} == {11}
    assert {kind for name, kind in types if name == "conv"} == {10}


def test_every_kind_of_op_converts_alone_in_a_batch_of_two(tmp_path):
    for op in {type(op): op for op in all_ops(SPACE)}.values():
        block = fold_block(op_block(op))
        x = torch.randn(2, *op.in_shape(), generator=torch.Generator().manual_seed(0))
        path = written(coreml.convert(block, (2, *op.in_shape())), tmp_path)
        assert [o.name for o in mil.Program(path).spec.description.output] == ["logits"]
        with torch.no_grad():
            assert parity.relative_error(coreml.runner(path)(x.numpy()), block(x).numpy()) <= 1e-4, op.name


def op_block(op):
    from nasvit_edge.model.blocks import build
    from nasvit_edge.model.checkpoint import fill_generic

    block = build(op).eval()
    fill_generic(block)
    return block


@pytest.mark.slow
def test_one_percent_more_of_any_weight_shows_unless_it_cannot_matter(tmp_path):
    """A key's bias adds the same to a query's every logit, which softmax takes out again; zeros stay zeros."""
    tree, side = package(SPACE.largest()), SPACE.largest().resolution
    path = written(tree, tmp_path)
    pixels = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 255
    program, silent, count = mil.Program(path), [], 0
    before = program.run({"image": pixels}).numpy()
    for op in program.block.operations:
        value = op.attributes.get("val")
        if value is None or value.WhichOneof("value") != "blobFileValue":
            continue
        weights, offset = bytearray(tree[mil.WEIGHTS]), value.blobFileValue.offset
        size, start = (int(n) for n in np.frombuffer(weights, np.uint64, 2, offset + 8))
        view = np.frombuffer(weights, np.float32, size // 4, start)
        view *= np.float32(1.01)
        (path / mil.WEIGHTS).write_bytes(weights)
        count += 1
        actual = mil.Program(path).run({"image": pixels}).numpy()
        if view.any() and parity.relative_error(actual, before) <= 1e-5:
            silent.append(op.outputs[0].name)
    assert count > 100
    assert all(name.endswith("attention_key_bias") for name in silent), silent


# --- what an app sees -----------------------------------------------------------------------------------------------


def test_an_app_finds_an_image_input_and_the_usual_outputs(tmp_path):
    config = SPACE.smallest()
    spec = mil.Program(written(package(config), tmp_path)).spec
    image = spec.description.input[0].type.imageType
    assert (image.width, image.height) == (config.resolution, config.resolution)
    assert image.ColorSpace.Name(image.colorSpace) == "RGB"
    assert [o.name for o in spec.description.output] == ["classLabel", "classLabel_probs"]
    assert spec.specificationVersion == ct.target.iOS16
    assert spec.description.metadata.versionString == "1.2"
    assert not spec.description.metadata.author


def test_metadata_come_back_as_they_were_written(tmp_path):
    more = METADATA | {"warning": "ä\n\U0001f600"}
    path = written(coreml.write_metadata(package(SPACE.smallest()), more), tmp_path)
    assert coreml.read_metadata(path) == more


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [mil.MODEL, mil.WEIGHTS])
@pytest.mark.parametrize("keep", [None, 0.0, 0.5])
def test_a_missing_or_short_file_is_refused(name, keep, tmp_path):
    tree = dict(package(SPACE.smallest()))
    content = tree.pop(name)
    path = written(tree if keep is None else tree | {name: content[: int(keep * len(content))]}, tmp_path)
    with pytest.raises(VerifyError) as caught:
        coreml.runner(path)(expected(SPACE.smallest())[0][:1])
    assert one_line(caught)


@settings(max_examples=60)
@given(
    name=st.sampled_from([mil.MODEL, mil.MODEL, mil.WEIGHTS]),
    config=st.sampled_from([(SPACE.smallest(), "w8"), (SPACE.largest(), "fp16")]),
    flips=st.lists(st.tuples(st.floats(0, 0.9999), st.integers(0, 7)), max_size=4),
    kept=st.floats(0, 1),
    cut=st.booleans(),
)
def test_whatever_bits_flip_or_are_lost_no_traceback_gets_out(
    tmp_path_factory, name, config, flips, kept, cut
):
    tree = package(*config)
    content = bytearray(tree[name])
    for place, bit in flips:
        content[int(place * len(content))] ^= 1 << bit
    path = written(
        tree | {name: bytes(content[: int(kept * len(content))] if cut else content)},
        tmp_path_factory.mktemp("f"),
    )
    side = config[0].resolution
    only_user_errors(coreml.read_metadata, path)
    only_user_errors(lambda: coreml.runner(path)(np.zeros((1, 3, side, side), np.float32)))


def _no_softmax(spec, operations):
    operand = last(operations, "softmax").inputs["x"].arguments[0].name
    last(operations, "classify").inputs["probabilities"].arguments[0].name = operand


def _softmax_over_the_batch(spec, operations):
    axis = last(operations, "softmax").inputs["axis"].arguments[0].name
    constant = next(op for op in operations if op.outputs[0].name == axis)
    constant.attributes["val"].immediateValue.tensor.ints.values[0] = 0


def _blue_first(spec, operations):
    spec.description.input[0].type.imageType.colorSpace = 30


def _other_side(spec, operations):
    spec.description.input[0].type.imageType.width = 7


def _no_such_output(spec, operations):
    spec.description.predictedProbabilitiesName = "nothing"


def read_and_run(path):
    """All that `verify` does with the package itself."""
    images, logits = expected(SPACE.smallest())
    coreml.read_metadata(path)
    assert parity.relative_error(coreml.runner(path)(images), logits) <= 1e-4


GAPS = [_no_softmax, _softmax_over_the_batch, _blue_first, _other_side, _no_such_output]


@pytest.mark.parametrize("change", GAPS, ids=lambda change: change.__name__.strip("_"))
def test_a_package_that_would_mislead_an_app_is_refused(change, tmp_path):
    path = written(edited(package(SPACE.smallest()), change), tmp_path)
    with pytest.raises(VerifyError):
        read_and_run(path)


@pytest.mark.parametrize("manifest", [None, b"\xff{"], ids=["missing", "garbage"])
def test_a_package_without_its_manifest_is_refused(manifest, tmp_path):
    tree = {k: v for k, v in package(SPACE.smallest()).items() if k != "Manifest.json"}
    with pytest.raises(VerifyError):
        coreml.runner(written(tree | ({"Manifest.json": manifest} if manifest else {}), tmp_path))


@pytest.mark.parametrize("place", ["/etc/hostname", "../../outside", "com.apple.CoreML/../../../outside"])
def test_a_manifest_that_leads_out_of_the_package_is_refused(place, tmp_path):
    (tmp_path / "outside").touch()
    tree = package(SPACE.smallest())
    manifest = json.loads(tree["Manifest.json"])
    other = next(k for k in manifest["itemInfoEntries"] if k != manifest["rootModelIdentifier"])
    manifest["itemInfoEntries"][other]["path"] = place
    with pytest.raises(VerifyError, match="names what is not there"):
        coreml.runner(written(tree | {"Manifest.json": json.dumps(manifest).encode()}, tmp_path))


def test_a_softmax_of_itself_is_refused_and_ends(tmp_path):
    def change(spec, operations):
        operation = last(operations, "softmax")
        operation.inputs["x"].arguments[0].name = operation.outputs[0].name

    def stop(*_):
        raise TimeoutError

    path = written(edited(package(SPACE.smallest()), change), tmp_path)
    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 1)
    try:
        with pytest.raises(VerifyError):
            mil.Program(path).run({"image": torch.zeros(1, 3, 20, 20)})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


# --- one operation at a time, against torch -----------------------------------------------------------------------

G = torch.Generator().manual_seed(0)
X, W, T = (torch.randn(n, generator=G) for n in ((2, 4, 7, 9), (6, 2, 3, 3), (2, 5, 8)))
GAIN, BIAS, MIX = (torch.randn(n, generator=G) for n in ((5, 8), (6,), (3, 8)))
P = {"dilations": [1, 1], "groups": 2, "weight": W.numpy(), "bias": BIAS.numpy()}


def _conv(pad, **options):
    return F.conv2d(F.pad(X, pad), W, BIAS, groups=2, **options)


OPERATIONS = {
    "conv valid": (X, lambda x: mb.conv(x=x, pad_type="valid", strides=[2, 1], **P), lambda: _conv((0, 0, 0, 0), stride=(2, 1))),
    "conv custom": (X, lambda x: mb.conv(x=x, pad_type="custom", pad=[1, 0, 2, 1], strides=[2, 2], **P), lambda: _conv((2, 1, 1, 0), stride=2)),
    "conv same": (X, lambda x: mb.conv(x=x, pad_type="same", strides=[2, 2], **P), lambda: _conv((1, 1, 1, 1), stride=2)),
    "conv same, odd total": (X[..., :8], lambda x: mb.conv(x=x, pad_type="same", strides=[1, 2], **P), lambda: F.conv2d(F.pad(X[..., :8], (0, 1, 1, 1)), W, BIAS, (1, 2), groups=2)),
    "conv same_lower": (X[..., :8], lambda x: mb.conv(x=x, pad_type="same_lower", strides=[1, 2], **P), lambda: F.conv2d(F.pad(X[..., :8], (1, 0, 1, 1)), W, BIAS, (1, 2), groups=2)),
    "conv dilated": (X, lambda x: mb.conv(x=x, pad_type="valid", strides=[1, 1], **(P | {"dilations": [2, 3]})), lambda: _conv((0, 0, 0, 0), dilation=(2, 3))),
    "conv dilated same": (X, lambda x: mb.conv(x=x, pad_type="same", strides=[1, 1], **(P | {"dilations": [2, 2]})), lambda: _conv((2, 2, 2, 2), dilation=2)),
    "conv of defaults": (X, lambda x: mb.conv(x=x, weight=W.numpy(), groups=2), lambda: F.conv2d(X, W, groups=2)),
    "linear": (T, lambda x: mb.linear(x=x, weight=MIX.numpy(), bias=BIAS[:3].numpy()), lambda: F.linear(T, MIX, BIAS[:3])),
    "matmul": (T, lambda x: mb.matmul(x=x, y=MIX.numpy(), transpose_y=True), lambda: T @ MIX.T),
    "matmul turned": (T, lambda x: mb.matmul(x=x, y=x, transpose_x=True), lambda: T.mT @ T),
    "layer_norm": (T, lambda x: mb.layer_norm(x=x, axes=[1, 2], gamma=GAIN.numpy(), beta=GAIN.numpy(), epsilon=1e-3), lambda: F.layer_norm(T, (5, 8), GAIN, GAIN, 1e-3)),
    "layer_norm, last axis": (T, lambda x: mb.layer_norm(x=x, axes=[-1], epsilon=1e-5), lambda: F.layer_norm(T, (8,))),
    "softmax": (T, lambda x: mb.softmax(x=x, axis=1), lambda: T.softmax(1)),
    "silu": (T, lambda x: mb.silu(x=x), lambda: F.silu(T)),
    "sigmoid": (T, lambda x: mb.sigmoid(x=x), lambda: torch.sigmoid(T)),
    "sigmoid_hard": (T, lambda x: mb.sigmoid_hard(x=x, alpha=1 / 6, beta=0.5), lambda: F.hardsigmoid(T)),
    "relu": (T, lambda x: mb.relu(x=x), lambda: T.relu()),
    "add": (T, lambda x: mb.add(x=x, y=GAIN.numpy()), lambda: T + GAIN),
    "sub": (T, lambda x: mb.sub(x=GAIN.numpy(), y=x), lambda: GAIN - T),
    "mul": (T, lambda x: mb.mul(x=x, y=GAIN.numpy()), lambda: T * GAIN),
    "real_div": (T, lambda x: mb.real_div(x=GAIN.numpy(), y=x), lambda: GAIN / T),
    "square": (T, lambda x: mb.square(x=x), lambda: T * T),
    "rsqrt": (T.abs(), lambda x: mb.rsqrt(x=x, epsilon=0.1), lambda: 1 / (T.abs() + 0.1).sqrt()),
    "reduce_mean": (T, lambda x: mb.reduce_mean(x=x, axes=[1, -1], keep_dims=True), lambda: T.mean((1, 2), keepdim=True)),
    "reduce_sum": (T, lambda x: mb.reduce_sum(x=x, axes=[1], keep_dims=False), lambda: T.sum(1)),
    "avg_pool": (X, lambda x: mb.avg_pool(x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]), lambda: F.avg_pool2d(X, 3, 2, 1)),
    "avg_pool without padding": (X, lambda x: mb.avg_pool(x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1], exclude_padding_from_average=True), lambda: F.avg_pool2d(X, 3, 2, 1, count_include_pad=False)),
    "reshape": (T, lambda x: mb.reshape(x=x, shape=[2, 4, -1]), lambda: T.reshape(2, 4, 10)),
    "transpose": (T, lambda x: mb.transpose(x=x, perm=[0, 2, 1]), lambda: T.mT),
    "squeeze": (T[:, :1], lambda x: mb.squeeze(x=x, axes=[-2]), lambda: T[:, 0]),
    "expand_dims": (T, lambda x: mb.expand_dims(x=x, axes=[1, 3]), lambda: T[:, None, :, None]),
    "slice_by_index": (T, lambda x: mb.slice_by_index(x=x, begin=[0, 1, 6], end=[0, -1, 0], stride=[1, 2, 1], begin_mask=[True, False, False], end_mask=[True, False, True]), lambda: T[:, 1:-1:2, 6:]),
    "slice_by_index, squeezed": (T, lambda x: mb.slice_by_index(x=x, begin=[0, 2, 0], end=[2, 3, 8], squeeze_mask=[False, True, False]), lambda: T[:, 2]),
    "slice_by_size": (T, lambda x: mb.slice_by_size(x=x, begin=[0, 1, 2], size=[-1, 2, 4]), lambda: T[:, 1:3, 2:6]),
    "concat": (T, lambda x: mb.concat(values=[x, x, x], axis=1), lambda: torch.cat([T, T, T], 1)),
    "cast to integers": (T * 3, lambda x: mb.cast(x=mb.cast(x=x, dtype="int32"), dtype="fp32"), lambda: (T * 3).int().float()),
}  # fmt: skip


def single(x, build, folder, precision=ct.precision.FLOAT32):
    """What the evaluator makes of a saved program of one operation."""
    spec = mb.TensorSpec(shape=tuple(x.shape))
    program = mb.program(input_specs=[spec], opset_version=ct.target.iOS16)(lambda x: build(x))
    options = {"minimum_deployment_target": ct.target.iOS16, "skip_model_load": True}
    model = ct.convert(program, convert_to="mlprogram", compute_precision=precision, **options)
    model.save(str(folder / "m.mlpackage"))
    saved = mil.Program(folder / "m.mlpackage")
    return saved.run({saved.inputs[0]: x})


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_computes_what_torch_does(name, tmp_path):
    x, build, reference = OPERATIONS[name]
    actual = single(x, build, tmp_path)
    if name.split()[0].strip(",") not in mil.Program(tmp_path / "m.mlpackage").operations():
        pytest.fail("the converter wrote another operation")
    torch.testing.assert_close(actual, reference(), rtol=1e-5, atol=1e-5)


def test_half_precision_rounds_every_value_to_half(tmp_path):
    actual = single(T, lambda x: mb.square(x=mb.add(x=x, y=GAIN.numpy())), tmp_path, ct.precision.FLOAT16)
    total = (T.half().float() + GAIN.half().float()).half().float()
    assert torch.equal(actual, (total * total).half().float())


def test_every_operation_of_our_packages_is_tested_here(tmp_path):
    known = {name.split()[0].strip(",") for name in OPERATIONS} | {"classify", "constexpr_affine_dequantize"}
    for precision in load_format("coreml").thresholds:
        program = mil.Program(written(package(SPACE.largest(), precision), tmp_path))
        assert set(program.operations()) <= known


def test_opening_a_package_with_coremltools_changes_bytes_but_neither_digest_nor_size(tmp_path):
    tree = package(SPACE.smallest())
    path = written(tree, tmp_path)
    ct.models.MLModel(str(path), skip_model_load=True)
    again = artifact.read_content(path)
    assert again[artifact.MANIFEST] != tree[artifact.MANIFEST]
    assert artifact.digest(again) == artifact.digest(tree)
    assert artifact.size_bytes(again) == artifact.size_bytes(tree)
    assert coreml.read_metadata(path) == METADATA


def test_a_manifest_that_names_another_model_has_another_digest(tmp_path):
    tree = package(SPACE.smallest())
    manifest = json.loads(tree[artifact.MANIFEST])
    manifest["rootModelIdentifier"] = next(
        key for key in manifest["itemInfoEntries"] if key != manifest["rootModelIdentifier"]
    )
    changed = tree | {artifact.MANIFEST: json.dumps(manifest).encode()}
    assert artifact.digest(changed) != artifact.digest(tree)
    with pytest.raises(VerifyError, match="its manifest names no model"):
        coreml.read_metadata(written(changed, tmp_path))
