"""Exporting as a user asks for it: from a result file or an explicit config, from the cache where it was made before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, UnsetType, structs

from nasvit_edge import systems
from nasvit_edge.choosing.subnet import subject_of
from nasvit_edge.choosing.table import not_faster_by_tables
from nasvit_edge.errors import ExportError
from nasvit_edge.export import (
    advice,
    arithmetic,
    artifact,
    bundle,
    dense,
    kept,
    recalled,
    verification,
    writing,
)
from nasvit_edge.export.formats import Format, load_format
from nasvit_edge.export.sidecar import Checked, Searched, read_sidecar
from nasvit_edge.hints import DATA, command
from nasvit_edge.latency.names import MIXED
from nasvit_edge.listening import Listener
from nasvit_edge.requests.export import Request
from nasvit_edge.requests.verify import Request as VerifyRequest
from nasvit_edge.space import SearchSpace, SubnetConfig

if TYPE_CHECKING:
    import numpy as np

    from nasvit_edge.model.supernet import Supernet
    from nasvit_edge.train.calibration import Calibration


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to export, settled."""

    space: SearchSpace
    supernet: str
    config: SubnetConfig
    calibrate: str | None
    search: Searched | None
    in_order: bool = False
    images_sha256: str | None = None  # of those that the search calibrated on
    mixed: Mapping[str, str] = field(default_factory=dict)  # stage -> precision, where the search chose them


class ExportReport(Checked, frozen=True, kw_only=True):
    """A check, and of which file; what follows `bytes` of one that was just exported.

    Attributes:
        cached: it was made before.
        bundle: the folder with its programs.
    """

    artifact: str
    format: str
    precision: str
    failures: tuple[str, ...]
    bytes: int
    kept_in_float: tuple[str, ...] | UnsetType = UNSET
    cached: bool | UnsetType = UNSET
    bundle: str | UnsetType | None = UNSET


def export(request: Request, listener: Listener) -> ExportReport:
    """Write an artifact and return its report."""
    batch = checked_batch(request)
    form = load_format(request.format_name)
    systems.require_format(form.name)
    plan = _planned(request, form, listener)
    path = request.out or Path(f"{plan.space.name}{form.suffix}")
    options = writing.Options(
        precision=request.precision,
        batch=batch,
        overwrite=request.overwrite,
        uncalibrated=request.uncalibrated,
        force=request.force,
        search=plan.search,
        output=request.output,
        mixed=_mixed(request, plan, form),
        tuning=_tuning(request, plan),
    )
    dense.output_of(plan.space, request.output)
    writing.checked_path(form, path, options)
    if request.bundle:
        bundle.checked_bundle(path, form.name, overwrite=request.overwrite)
    if plan.supernet.startswith("random"):
        listener.note("RANDOM WEIGHTS: this file has no accuracy; it is for tests and timing")
    supernet, calibration = _loaded(plan, request.uncalibrated, listener)
    if calibration is not None and request.calibrate is None:
        _refuse_other_images(plan, calibration)
    if "note" in supernet.source:
        listener.note(str(supernet.source["note"]))
    images = None if calibration is None else calibration.key()
    key = kept.export_key(plan.space, plan.supernet, plan.config, images, form, options)
    cached = request.cached and kept.restore(key, path, plan.search)
    if not cached:
        _make(plan, supernet, calibration, form, path, options, listener)
    if not cached and not request.force:
        kept.keep(key, path)
    for text in not_faster_by_tables(plan.space, plan.config, form.runtime, request.precision):
        listener.note(f"note: {text}")
    folder = str(bundle.write_bundle(path)) if request.bundle else None
    return structs.replace(report(path), cached=cached, bundle=folder)


def _mixed(request: Request, plan: _Plan, form: Format) -> dict[str, str]:
    """Stage -> precision, as the search chose them; ExportError where none did, or the format cannot."""
    if request.precision != MIXED:
        return {}
    form.threshold(MIXED)
    if not plan.mixed:
        where = "this result has none" if request.result else "there is no result of one"
        raise ExportError(
            f"--precision {MIXED} is as a search chose it, and {where}: search with --precision {MIXED} first"
        )
    lacking = sorted(set(plan.mixed.values()) - set(form.mixed.of if form.mixed else ()))
    if lacking:
        raise ExportError(f"format {form.name!r} does not mix {', '.join(lacking)} with others")
    return dict(plan.mixed)


def _tuning(request: Request, plan: _Plan) -> str:
    """The command that trains the subnet for 8 bits; of random weights none."""
    if plan.supernet.startswith("random") or plan.space.network is not None:
        return ""
    words = [] if request.result is None else [request.result]
    what = {"space": request.space, "supernet": request.supernet, "config": request.config}
    return command("finetune", *words, **what, data=plan.calibrate or DATA, quantise="int8", out="runs/int8")


def _loaded(plan: _Plan, uncalibrated: bool, listener: Listener) -> tuple[Supernet, Calibration | None]:
    from nasvit_edge.model.checkpoint import load_supernet
    from nasvit_edge.train.calibration import calibration_for

    supernet = load_supernet(plan.supernet, plan.space)
    if plan.calibrate is None or uncalibrated:
        return supernet, None
    return supernet, calibration_for(supernet, plan.calibrate, listener=listener)


def _refuse_other_images(plan: _Plan, calibration: Calibration) -> None:
    """ExportError where the images that the search calibrated on are others now."""
    if plan.images_sha256 not in (None, digest := calibration.digest()):
        raise ExportError(
            f"the search calibrated on other images ({str(plan.images_sha256)[:8]}) than {plan.calibrate!r} holds now ({digest[:8]}): search "
            f"again, or, if you mean these, add --calibrate {plan.calibrate}"
        )


def _make(
    plan: _Plan,
    supernet: Supernet,
    calibration: Calibration | None,
    form: Format,
    path: Path,
    options: writing.Options,
    listener: Listener,
) -> None:
    from dataclasses import replace

    from nasvit_edge.model.accuracy import calibrated
    from nasvit_edge.model.subnet import materialise

    subnet = materialise(supernet, plan.config)
    if calibration is not None and plan.space.network is None:
        for remark in calibration.remarks(supernet):
            listener.note(remark)
        calibrated(subnet, calibration)
        subnet.calibration = (subnet.calibration or {}) | {"sha256": calibration.digest()}
        recalled.compare(
            subnet, plan.calibrate or "", plan.search, listener, weights=plan.supernet, in_order=plan.in_order
        )
    if options.precision in writing.RANGED:
        options = replace(options, calibration=_range_images(plan, supernet))
    writing.export(supernet, subnet, form, path, options, listener)


def _range_images(plan: _Plan, supernet: Supernet) -> np.ndarray[Any, Any]:
    """Images (n, 3, H, W) for the ranges of activations: of the calibration data, or generic ones for random weights."""
    import numpy as np

    from nasvit_edge.data_sets import calibration_images
    from nasvit_edge.export import parity

    side = plan.config.resolution
    if plan.calibrate is None:
        if supernet.source.get("kind") != "random":
            raise ExportError("int8 needs images for the ranges of activations: add --calibrate DATA")
        return parity.inputs(plan.space, side, seed=1)[0]
    count = advice.RANGE_SCENES if plan.space.is_dense else advice.RANGE_IMAGES
    batches = calibration_images(plan.calibrate, plan.space, count).batches(plan.space, side)
    return np.concatenate([batch.numpy() for batch, _ in batches])


def checked_batch(request: Request) -> int | None:
    """Images a call, None for an open batch axis; ExportError where that, or what is said of calibration, cannot be."""
    text = request.batch
    if request.uncalibrated and request.calibrate is not None:
        raise ExportError(
            f"--uncalibrated and --calibrate {request.calibrate} contradict each other: give one"
        )
    if text == "dynamic":
        return None
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 1024:
        return int(text)
    raise ExportError(f"--batch is {text!r}; it is a number from 1 to 1024, or dynamic")


def verify(request: VerifyRequest) -> ExportReport:
    """Repeat an artifact's check and return the report; a segmenter's on the labelled scenes of `data` besides."""
    path = request.artifact
    check = verification.verify(path, weights=request.supernet, space_path=request.space, data=request.data)
    return _report(path, check.record(), check.failures())


def report(path: Path) -> ExportReport:
    """What the sidecar of a written artifact says of its check."""
    sidecar = read_sidecar(path)
    check = sidecar.check
    if check.arithmetic is None:  # an older version wrote it
        counts = arithmetic.told(path, sidecar.format, sidecar.precision)
        check = structs.replace(check, arithmetic=counts)
    return structs.replace(_report(path, check, sidecar.forced), kept_in_float=sidecar.kept_in_float)


def _report(path: Path, check: Checked, failures: Sequence[str]) -> ExportReport:
    sidecar = read_sidecar(path)
    return ExportReport(
        **structs.asdict(check),
        artifact=str(path),
        format=sidecar.format,
        precision=sidecar.precision,
        failures=tuple(failures),
        bytes=artifact.size_bytes(artifact.read_content(path)),
    )


def _planned(request: Request, form: Format, listener: Listener) -> _Plan:
    more = "--supernet CHECKPOINT and --calibrate DATA"
    subject = subject_of(request.result, request.space, request.supernet, request.config, more)
    saved = subject.saved
    if saved is None:
        return _Plan(subject.space, subject.supernet, subject.config, request.calibrate, None)
    setting = saved.setting
    if (form.runtime, request.precision) != (setting.runtime, setting.precision):
        listener.note(
            f"note: the predicted {saved.best.latency_ms:.3g} ms is for {setting.runtime} {setting.precision} on {setting.device}; "
            f"it does not apply to {form.runtime} {request.precision}"
        )
    search = Searched(
        predicted_ms=saved.best.latency_ms,
        accuracy=saved.best.accuracy,
        device=setting.device,
        runtime=setting.runtime,
        threads=setting.threads,
        precision=setting.precision,
        accuracy_source=setting.accuracy_source,
        accuracy_uncertainty=setting.accuracy_uncertainty,
        table_sha256=setting.table_sha256,
    )
    calibrate = request.calibrate or setting.calibration
    if calibrate is None and not request.uncalibrated and request.result is not None:
        saved.refuse(request.result, "calibration")
    in_order = request.labels_in_order or (saved.is_own and setting.labels_in_order)
    images = setting.calibration_sha256
    mixed = saved.best.precisions
    return _Plan(subject.space, subject.supernet, subject.config, calibrate, search, in_order, images, mixed)
