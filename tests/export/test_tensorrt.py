"""TensorRT: NVIDIA's parser takes our graphs; engines are built on the device, by the flags of its version."""

from __future__ import annotations

import runpy

import pytest
from conftest import one_line
from exported import exported

from nasvit_edge import files
from nasvit_edge.errors import ExportError, VerifyError
from nasvit_edge.export import artifact, onnx, tensorrt, verification

PROGRAM = runpy.run_path(str(files.shipped("export") / "tensorrt" / "build_engine.py"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return exported(tmp_path_factory, "tensorrt")[0]


def test_a_plan_is_built_without_a_gpu_and_its_hash_is_kept(written):
    assert (written / tensorrt.PLAN).stat().st_size > 100_000
    about = files.read_json(written / tensorrt.METADATA, "metadata")
    assert about["plan"]["sha256"] == files.sha256(written / tensorrt.PLAN)
    assert about["plan"]["compute_capabilities"] == list(tensorrt.CAPABILITIES)


def test_a_changed_plan_fails_though_the_sidecar_knows_its_hash(written, tmp_path):
    path = tmp_path / written.name
    content = artifact.read_content(written)
    plan = bytearray(content[tensorrt.PLAN])
    plan[len(plan) // 2] ^= 1
    changed = content | {tensorrt.PLAN: bytes(plan)}
    artifact.write_content(path, changed)
    artifact.reference_path(path).write_bytes(artifact.reference_path(written).read_bytes())
    sidecar = files.read_json(artifact.sidecar_path(written), "sidecar")
    files.write_json(artifact.sidecar_path(path), sidecar | {"sha256": artifact.digest(changed)})
    with pytest.raises(VerifyError, match="not the plan that was built"):
        verification.verify(path)


def test_a_graph_that_nvidias_parser_refuses_gives_one_line():
    with pytest.raises(ExportError, match="parser refuses") as caught:
        tensorrt.rtx_plan(b"no model")
    assert one_line(caught)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v100300] [b26] # trtexec --help", (10, 3)),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v101401] [b48]", (10, 14)),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v110401]", (11, 4)),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v8601]", (8, 6)),
        ("TensorRT version: 10.3.0", (10, 3)),
    ],
)
def test_the_version_is_read_from_what_trtexec_prints(text, version):
    assert PROGRAM["parse_version"](text) == version


def test_version_10_is_told_that_the_model_is_typed_and_11_is_not():
    command = PROGRAM["trtexec_command"]
    ten = command("trtexec", (10, 3), "m.onnx", "m.engine", time=True)
    eleven = command("trtexec", (11, 4), "m.onnx", "m.engine", time=True)
    assert "--stronglyTyped" in ten
    assert {"--noDataTransfers", "--useSpinWait", "--useCudaGraph"} <= set(ten)
    assert not {"--stronglyTyped", "--noDataTransfers", "--fp16", "--int8"} & set(eleven)
    with pytest.raises(ValueError, match="too old"):
        command("trtexec", (8, 6), "m.onnx", "m.engine", time=False)


def test_the_typed_model_is_plain_onnx(written):
    assert onnx.read_metadata(written / tensorrt.MODEL) == tensorrt.read_metadata(written)
