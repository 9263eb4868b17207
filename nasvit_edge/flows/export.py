"""Exporting as a user asks for it: from a result file or an explicit config."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasvit_edge import files
from nasvit_edge.errors import ExportError
from nasvit_edge.export import artifact
from nasvit_edge.export.formats import Format, load_format
from nasvit_edge.space import SearchSpace, SubnetConfig, load_space, read_config

if TYPE_CHECKING:
    from nasvit_edge.model.subnet import Subnet


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of `nasvit-edge export`; either `result`, or `space`, `supernet` and `config`."""

    result: Path | None
    space: str | None
    supernet: str | None
    config: Path | None
    calibrate: str | None
    uncalibrated: bool
    format_name: str
    precision: str
    out: Path | None
    overwrite: bool


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to export, settled."""

    space: SearchSpace
    supernet: str
    config: SubnetConfig
    calibrate: str | None
    extra: dict[str, Any]


def export(request: Request, note: Callable[[str], None]) -> dict[str, Any]:
    """Write an artifact and return its report."""
    from nasvit_edge.model.checkpoint import load_supernet
    from nasvit_edge.model.subnet import materialise

    form = load_format(request.format_name)
    plan = _from_result(request, form, note) if request.result else _explicit(request)
    path = request.out or Path(f"{plan.space.name}{form.suffix}")
    artifact.checked_path(form, path, request.precision, request.overwrite)
    supernet = load_supernet(plan.supernet, plan.space)
    if supernet.source.get("kind") == "random":
        note("RANDOM WEIGHTS: this file has no accuracy; it is for tests and timing")
    subnet = materialise(supernet, plan.config)
    if plan.calibrate and not request.uncalibrated:
        _calibrate(subnet, plan.calibrate)
    check = artifact.export(
        supernet,
        subnet,
        form.name,
        path,
        precision=request.precision,
        overwrite=request.overwrite,
        uncalibrated=request.uncalibrated,
        extra=plan.extra,
    )
    return report(path, check)


def verify(path: Path, *, weights: str | None, space: str | None) -> dict[str, Any]:
    """Repeat an artifact's check and return the report."""
    return report(path, artifact.verify(path, weights=weights, space_path=space))


def report(path: Path, check: artifact.Check) -> dict[str, Any]:
    """A check as JSON."""
    return {
        "artifact": str(path),
        "error": check.error if math.isfinite(check.error) else 1e9,
        "tolerance": check.tolerance,
        "passed": check.passed,
        "inputs": check.inputs,
        "real_images": check.real_images,
        "reference": check.reference,
        "bytes": len(files.read_bytes(path, "artifact")),
    }


def _explicit(request: Request) -> _Plan:
    if request.space is None or request.supernet is None or request.config is None:
        raise ExportError(
            "give a result file of `nasvit-edge search`, or all of --space, --supernet and --config"
        )
    space = load_space(request.space)
    config = read_config(request.config, space)
    return _Plan(space, request.supernet, config, request.calibrate, {})


def _from_result(request: Request, form: Format, note: Callable[[str], None]) -> _Plan:
    from nasvit_edge.searching.result import read_result

    assert request.result is not None
    if request.config or request.space:
        raise ExportError("give either a result file or --space, --supernet and --config, not both")
    saved = read_result(request.result)
    setting = saved.setting
    supernet = request.supernet or setting.supernet
    if supernet is None:
        raise ExportError(
            f"{str(request.result)!r} was searched with a predictor, without weights: add --supernet CHECKPOINT and --calibrate DATA"
        )
    if (form.runtime, request.precision) != (setting.runtime, setting.precision):
        note(
            f"note: the predicted {saved.latency_ms:.3g} ms is for {setting.runtime} {setting.precision} on {setting.device}; "
            f"it does not apply to {form.runtime} {request.precision}"
        )
    extra = {"search": {"predicted_ms": saved.latency_ms, "accuracy": saved.accuracy, **_setting(saved)}}
    return _Plan(saved.space, supernet, saved.config, request.calibrate or setting.calibration, extra)


def _setting(saved: Any) -> dict[str, Any]:
    names = ("device", "runtime", "threads", "precision", "accuracy_source", "table_sha256")
    return {name: getattr(saved.setting, name) for name in names}


def _calibrate(subnet: Subnet, data: str) -> None:
    from nasvit_edge.data_sets import load_images
    from nasvit_edge.model.evaluate import calibrated

    calibrated(subnet, load_images(data, "calibration", subnet.space, subnet.config.resolution))
