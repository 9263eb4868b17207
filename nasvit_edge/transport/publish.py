"""A job as a device pulls it: files by hash, what to feed, and what its answer is checked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from msgspec.structs import replace

from nasvit_edge import files
from nasvit_edge.latency.file import State
from nasvit_edge.records import content
from nasvit_edge.runtimes import RUNTIMES
from nasvit_edge.transport.answers import (
    Answer,
    Failure,
    Flag,
    Measurement,
    Message,
    checked,
    measured,
    printable,
)
from nasvit_edge.transport.job import Job
from nasvit_edge.transport.wire import FileEntry, ModelInput

SCHEMA = 1
_COARSE_US = 50.0
_STEPS = 10  # of the clock that a sample must last at least; runners aim at 50
_HOT = {"serious": 2, "critical": 3}


def published(job: Job) -> tuple[Message, dict[str, Path]]:
    """The job's JSON object without a nonce, and its files by SHA-256."""
    model = Path(job.model)
    listed = model_files(model)
    root = model if model.is_dir() else model.parent
    request = job.request(model=model.name, cores=list(job.cores), schema=SCHEMA, files=content(listed))
    request["input"] = content(model_input(model, job.seed))
    units = RUNTIMES[job.runtime].units
    if units is not None:
        request |= {"units": units, "max_thermal": "nominal"}
    return request, {entry.sha256: root / entry.path for entry in listed}


def model_files(model: Path) -> list[FileEntry]:
    """The file, or those of the folder."""
    tree = (
        files.read_tree(model, "model") if model.is_dir() else {model.name: files.read_bytes(model, "model")}
    )
    return [
        FileEntry(path=name, bytes=len(whole), sha256=hashlib.sha256(whole).hexdigest())
        for name, whole in sorted(tree.items())
    ]


def model_input(model: Path, seed: int) -> ModelInput:
    """Name and shape of the model's one input."""
    if model.is_dir():
        from nasvit_edge.export import mil

        value = mil.read_spec(model / mil.MODEL).description.input[0]
        name, shape = value.name, tuple(int(side) for side in value.type.multiArrayType.shape)
    else:
        import onnx

        value = onnx.load(str(model), load_external_data=False).graph.input[0]
        name, shape = value.name, tuple(side.dim_value or 1 for side in value.type.tensor_type.shape.dim)
    return ModelInput(name=name, shape=shape, dtype="float32", fill=f"seed:{seed}")


def judged(answer: Message | Failure, job: Job) -> Answer:
    """An answer with the right nonce as a measurement, flags added, or as a failure of this model."""
    if isinstance(answer, Failure):
        return answer
    if answer.get("id") != job.id:
        return _failed(job, f"the device answered for another model: {printable(answer.get('id'))[:80]!r}")
    measurement = measured(checked(answer, job.id), job.id)
    if isinstance(measurement, Failure):
        return _failed(job, measurement.error)
    if job.sustained_s and measurement.windows is None:
        return _failed(job, "the device told no windows of its sustained run")
    step = measurement.clock_us or 0.0
    if median(measurement.samples_us) * (measurement.inner or 1) < _STEPS * step:
        return _failed(job, f"its samples are too short for its clock, which steps by {step:g} us")
    flags = tuple(sorted({*measurement.flags, *_flags(measurement)}))
    return replace(measurement, runtime_version=printable(measurement.runtime_version), flags=flags)


def _failed(job: Job, reason: Any) -> Failure:
    return Failure(id=job.id, error=printable(reason))


def _flags(measurement: Measurement) -> Iterator[Flag]:
    if _heat(measurement.after) > _heat(measurement.before):
        yield "throttled"
    if measurement.clock_us is not None and measurement.clock_us > _COARSE_US:
        yield "coarse clock"


def _heat(state: State | None) -> int:
    return _HOT.get(str(state and state.thermal), 0)
