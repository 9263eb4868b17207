"""TensorRT: a folder with a typed ONNX model, a plan for RTX-class GPUs, and the program that builds engines on a device.

model.onnx        strongly typed: half-precision or Q/DQ nodes say what is computed in what
rtx.plan          built here by TensorRT for RTX, without a GPU (where the extra `tensorrt` is installed)
build_engine.py   run on a Jetson or any machine with TensorRT: an engine is built there, never here
classify.py       classifies an image with that engine
segment.py        of a segmenter: labels an image's pixels, by the engine of classify.py
prepare_image.py  how both make a model's input of an image
metadata.json     labels, preparation, config, and the plan's hash and compute capabilities

An engine is valid only for the TensorRT version and GPU it was built with, so nothing built here is said to run
on a Jetson. The check runs the typed ONNX model by ONNX Runtime; of the plan, which needs a GPU, it checks the hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasvit_edge import files
from nasvit_edge.errors import ExportError, MissingExtraError, VerifyError, require
from nasvit_edge.export import onnx, onnx_reading
from nasvit_edge.export.formats import Conversion
from nasvit_edge.export.layers import Layer
from nasvit_edge.export.nvidia_parser import collecting_logger
from nasvit_edge.export.placement import Placement
from nasvit_edge.export.programs import PREPARE, shipped

if TYPE_CHECKING:
    from torch import nn

SUFFIX = ".tensorrt"
RUNTIME = "tensorrt"
MODEL, PLAN, METADATA = "model.onnx", "rtx.plan", "metadata.json"
PROGRAMS, SEGMENT = ("build_engine.py", "classify.py", PREPARE), "segment.py"
CAPABILITIES = ("SM80", "SM86", "SM89", "SM120")  # Ampere, Ada and Blackwell GPUs
_Array = np.ndarray[Any, np.dtype[np.float32]]


def convert(module: nn.Module, shape: tuple[int, ...], recipe: Conversion | None = None) -> dict[str, bytes]:
    """The files of a folded module for images (B, 3, H, W), float32 at its borders in every precision."""
    model = onnx.convert(module, shape, recipe, RUNTIME)
    names = (*PROGRAMS, SEGMENT) if recipe and recipe.output else PROGRAMS
    tree = {MODEL: model} | {name: shipped(name, "tensorrt") for name in names}
    try:
        return tree | {PLAN: rtx_plan(model)}
    except MissingExtraError:
        return tree


def device_model(module: nn.Module, shape: tuple[int, ...], recipe: Conversion) -> bytes:
    """What a device is given: the typed ONNX model, from which it builds its engine."""
    return onnx.convert(module, shape, recipe, RUNTIME)


def rtx_plan(model: bytes, capabilities: tuple[str, ...] = CAPABILITIES) -> bytes:
    """A TensorRT-RTX plan of an ONNX model for GPUs of the given compute capabilities; no GPU is needed.

    Raises:
        ExportError: NVIDIA's parser or builder refuses the model.
        MissingExtraError: tensorrt-rtx is not installed.
    """
    trt = require("tensorrt_rtx", "tensorrt")
    logger = collecting_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        reasons = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise ExportError(f"TensorRT's parser refuses the model: {'; '.join(reasons)[:300]}")
    config = builder.create_builder_config()
    config.num_compute_capabilities = len(capabilities)
    for index, name in enumerate(capabilities):
        config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError(f"TensorRT cannot build the model: {' '.join(logger.lines)[:300]}")
    return bytes(plan)


def write_metadata(tree: dict[str, bytes], metadata: Mapping[str, str]) -> dict[str, bytes]:
    """The folder with `metadata` in the ONNX model and in metadata.json, where the plan's hash stands too."""
    about = {"metadata": dict(metadata), "plan": _about_plan(tree)}
    text = json.dumps(about, indent=1, sort_keys=True) + "\n"
    return tree | {MODEL: onnx.write_metadata(tree[MODEL], metadata), METADATA: text.encode()}


def _about_plan(tree: Mapping[str, bytes]) -> dict[str, object] | None:
    if PLAN not in tree:
        return None
    version = str(require("tensorrt_rtx", "tensorrt").__version__)
    return {
        "sha256": hashlib.sha256(tree[PLAN]).hexdigest(),
        "tensorrt_rtx": version,
        "compute_capabilities": list(CAPABILITIES),
    }


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata; VerifyError where they differ from the model's, or the plan is not the one that was built."""
    about = files.read_json(path / METADATA, "artifact")
    metadata, plan = about.get("metadata"), about.get("plan")
    if not isinstance(metadata, dict) or onnx.read_metadata(path / MODEL) != metadata:
        raise VerifyError(f"artifact {str(path)!r}: metadata of {MODEL} and {METADATA} differ; export again")
    if (path / PLAN).exists() != (plan is not None):
        raise VerifyError(f"artifact {str(path)!r}: {PLAN} was added or removed; export again")
    if plan is not None and (not isinstance(plan, dict) or plan.get("sha256") != files.sha256(path / PLAN)):
        raise VerifyError(f"artifact {str(path)!r}: {PLAN} is not the plan that was built; export again")
    return {str(key): str(value) for key, value in metadata.items()}


def runner(path: Path, threads: int = 1) -> Callable[[_Array], _Array]:
    """A function from images (B, 3, H, W) to logits (B, classes), or what else the model gives, by ONNX Runtime on the typed model as it is written."""
    return onnx.runner(path / MODEL, threads, optimise=False)


def plain_runner(path: Path, threads: int = 1) -> Callable[[_Array], _Array]:
    """As `runner`, of what the typed ONNX model holds without its rounding."""
    return onnx.plain_runner(path / MODEL, threads)


def layers(path: Path) -> list[Layer]:
    """Those of the typed ONNX model."""
    return onnx_reading.layers(path / MODEL)


def placements(path: Path) -> list[Placement]:
    """NVIDIA's own parser is asked, where it is installed."""
    return onnx_reading.placements(path / MODEL)
