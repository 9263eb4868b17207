"""A job as a device pulls it: files by hash, what to feed, and what its answer is checked for."""

from __future__ import annotations

import hashlib
from pathlib import Path
from statistics import median
from typing import Any

from nasvit_edge import files
from nasvit_edge.transport.exchange import printable
from nasvit_edge.transport.job import Job, failed, is_positive, measurement

SCHEMA = 1
UNITS = {
    "coreml": "all",
    "coreml-ne": "cpuAndNeuralEngine",
    "coreml-gpu": "cpuAndGPU",
    "coreml-cpu": "cpuOnly",
}
_COARSE_US = 50.0
_STEPS = 10  # of the clock that a sample must last at least; runners aim at 50
_HOT = {"serious": 2, "critical": 3}


def published(job: Job) -> tuple[dict[str, Any], dict[str, Path]]:
    """The job's JSON object without a nonce, and its files by SHA-256."""
    model = Path(job.model)
    listed = model_files(model)
    root = model if model.is_dir() else model.parent
    request = job.request(model=model.name, cores=list(job.cores), schema=SCHEMA, files=listed)
    request["input"] = model_input(model, job.seed)
    if job.runtime in UNITS:
        request |= {"units": UNITS[job.runtime], "max_thermal": "nominal"}
    return request, {entry["sha256"]: root / entry["path"] for entry in listed}


def model_files(model: Path) -> list[dict[str, Any]]:
    """The file, or those of the folder: relative path, bytes, sha256."""
    tree = (
        files.read_tree(model, "model") if model.is_dir() else {model.name: files.read_bytes(model, "model")}
    )
    return [
        {"path": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(tree.items())
    ]


def model_input(model: Path, seed: int) -> dict[str, Any]:
    """Name and shape of the model's one input."""
    if model.is_dir():
        from nasvit_edge.export import mil

        value = mil.read_spec(model / mil.MODEL).description.input[0]
        name, shape = value.name, [int(side) for side in value.type.multiArrayType.shape]
    else:
        import onnx

        value = onnx.load(str(model), load_external_data=False).graph.input[0]
        name, shape = value.name, [side.dim_value or 1 for side in value.type.tensor_type.shape.dim]
    return {"name": name, "shape": shape, "dtype": "float32", "fill": f"seed:{seed}"}


def judged(answer: dict[str, Any], job: Job) -> dict[str, Any]:
    """An answer with the right nonce as a measurement, flags added, or as an error of this model."""
    if answer.get("id") != job.id:
        return failed(job.id, f"the device answered for another model: {printable(answer.get('id'))[:80]!r}")
    if "error" in answer:
        return failed(job.id, printable(answer["error"]))
    found = measurement(answer, job.id)
    if "error" in found:
        return failed(job.id, printable(found["error"]))
    found["runtime_version"] = printable(found["runtime_version"])
    if job.sustained_s and "windows" not in found:
        return failed(job.id, "the device told no windows of its sustained run")
    step = answer.get("clock_us")
    if is_positive(step) and median(found["samples_us"]) * found.get("inner", 1) < _STEPS * float(str(step)):
        return failed(job.id, f"its samples are too short for its clock, which steps by {step:g} us")
    flags = {*found.get("flags", ()), *_flags(found, step)}
    return found | ({"flags": sorted(flags)} if flags else {})


def _flags(found: dict[str, Any], step: Any) -> set[str]:
    before, after = (_HOT.get(str(found.get(key, {}).get("thermal")), 0) for key in ("before", "after"))
    flags = {"throttled"} if after > before else set()
    return flags | ({"coarse clock"} if is_positive(step) and step > _COARSE_US else set())
