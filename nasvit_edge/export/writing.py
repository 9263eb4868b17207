"""Writing an artifact: convert, check what was written, keep it or say by how much it fails."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import structs

from nasvit_edge import data_sets, files, records
from nasvit_edge.data_sets.trained_on import SavedTrainedOn
from nasvit_edge.errors import ExportError, VerifyError
from nasvit_edge.export import arithmetic, artifact, dense, sensitivity
from nasvit_edge.export.advice import advice
from nasvit_edge.export.artifact import describe, digest, reference_path, size_bytes, versions
from nasvit_edge.export.checks import Check
from nasvit_edge.export.formats import Content, Conversion, Format
from nasvit_edge.export.references import Reference, StoredReference, reference
from nasvit_edge.export.reproduction import PLAIN_INPUTS, Outputs, needs_care
from nasvit_edge.export.sidecar import Searched, Sidecar, sidecar_path
from nasvit_edge.latency.names import MIXED
from nasvit_edge.listening import SILENT, Listener

if TYPE_CHECKING:
    from nasvit_edge.model.subnet import Subnet
    from nasvit_edge.model.supernet import Supernet

_Array = np.ndarray[Any, np.dtype[np.float32]]
RANGED = ("int8", MIXED)  # of their activations ranges are needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to export.

    Attributes:
        precision: one of the format's.
        batch: images a call; None leaves the batch axis open (where the format can).
        calibration: images (n, 3, H, W), normalised, for the ranges of int8 activations.
        overwrite: replace an existing file.
        uncalibrated: export a subnet whose batch norm was not calibrated.
        force: keep a file that fails its check, marked in its metadata's sidecar.
        search: what the search predicted, where there was one.
        output: what a segmenter gives: `labels` (None stands for them) or `logits`; None for a classifier.
        mixed: of precision mixed, stage -> precision.
        tuning: the command that trains the subnet for 8 bits, for the error of a file that fails.
    """

    precision: str = "fp32"
    batch: int | None = 1
    calibration: _Array | None = None
    overwrite: bool = False
    uncalibrated: bool = False
    force: bool = False
    search: Searched | None = None
    output: str | None = None
    mixed: Mapping[str, str] = field(default_factory=dict)
    tuning: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """The check of a written artifact, and the ops that stayed in floating point (int8 only)."""

    check: Check
    kept: tuple[str, ...]


def export(
    supernet: Supernet,
    subnet: Subnet,
    form: Format,
    path: Path,
    options: Options | None = None,
    listener: Listener = SILENT,
) -> Written:
    """Write `subnet` (unfolded, taken from `supernet`) to `path` and check what was written.

    Raises:
        ExportError: the path exists, the precision is not there, or the subnet is not calibrated.
        VerifyError: the file does not compute what the supernet does; nothing is left behind (unless `force`).
    """
    from nasvit_edge.model.subnet import statistics

    options = options or Options()
    path = checked_path(form, path, options)
    output = dense.output_of(subnet.space, options.output)
    if subnet.size != subnet.space.input_size(subnet.config.resolution):
        raise ExportError(
            f"the subnet was taken for images of {subnet.size}; take it at its resolution to export it"
        )
    if subnet.calibration is None and not options.uncalibrated:
        raise ExportError(
            "the subnet's batch norm is not calibrated, so its accuracy would be lost: "
            "add --calibrate DATA (bundled, or a folder of images), or --uncalibrated to insist"
        )
    stats = {name: value.contiguous() for name, value in statistics(subnet).items()}
    expected = reference(
        supernet,
        subnet.space,
        subnet.config,
        stats,
        images=True,
        output=output,
    )
    attempt, kept_ops = _attempts(subnet, form, options, expected, listener)
    if not attempt.check.passed and not options.force:
        failures = "; ".join(attempt.check.failures())
        used, more = 0 if options.calibration is None else len(options.calibration), ""
        if options.precision == "int8":
            more = advice(subnet, form, used, attempt.metadata, kept_ops, options.tuning)
        raise VerifyError(
            f"the {form.name} file fails its check: {failures}; nothing was written (--force keeps it, marked){more}"
        )
    attempt = _with_plain(attempt, form, options, expected)
    _save(path, attempt, form, options, expected, stats, kept_ops, _trained_on(supernet))
    return Written(attempt.check, kept_ops)


def _trained_on(supernet: Supernet) -> SavedTrainedOn | None:
    """What the sidecar says of the images that trained the weights; of shipped ones their hash says it (`Artifact.trained_on`)."""
    from nasvit_edge.model.checkpoint import shipped_weights

    sha256, known = supernet.source.get("sha256"), supernet.trained_on
    if known is None or sha256 is None or shipped_weights(str(sha256)):
        return None
    return known.saved()


def checked_path(form: Format, path: Path, options: Options) -> Path:
    """Refuse early what cannot be written."""
    form.threshold(options.precision)
    if path.suffix != form.suffix:
        raise ExportError(f"{str(path)!r} should end in {form.suffix!r} for format {form.name!r}")
    if options.batch is None and not form.dynamic_batch:
        raise ExportError(f"format {form.name!r} has no open batch axis: give a number with --batch")
    if path.exists() and not options.overwrite:
        raise ExportError(f"{str(path)!r} exists; choose another --out or add --overwrite")
    files.writable_folder(path.parent)
    return path


@dataclass(frozen=True, slots=True)
class _Attempt:
    content: Content
    metadata: dict[str, str]
    check: Check
    own: Outputs


def _attempts(
    subnet: Subnet, form: Format, options: Options, expected: Reference, listener: Listener
) -> tuple[_Attempt, tuple[str, ...]]:
    """One conversion; for int8 more, with ever more of the sensitive ops kept in floating point.

    Once too little is left in 8 bits nothing that follows passes, so it ends there, unless the file is kept in any case.
    """
    recipe = _recipe(subnet, options, expected.output)
    attempts = [(_attempt(subnet, form, recipe, options, expected), tuple[str, ...]())]
    if options.precision != "int8" or not attempts[0][0].check.inexact():
        return attempts[0]
    ranked = sensitivity.ranked(subnet, recipe.calibration)
    count = 1
    while (doubts := attempts[-1][0].check.inexact()) and count < len(ranked):
        if attempts[-1][0].check.float_failures() and not options.force:
            break
        kept_ops = tuple(ranked[:count])
        listener.note(f"int8: {'; '.join(doubts)}; keeping {', '.join(kept_ops)} in floating point")
        attempts.append((_attempt(subnet, form, replace(recipe, kept=kept_ops), options, expected), kept_ops))
        count *= 2
    if not options.force and not any(attempt.check.passed for attempt, _ in attempts):
        return attempts[-1]  # how far it was tried
    return min(attempts, key=lambda pair: _shortfall(pair[0].check))


def _shortfall(check: Check) -> tuple[bool, bool, bool, float, float]:
    """Less is better."""
    exact = bool(check.inexact())
    return (not check.passed, bool(check.doubts()), exact, check.top1_drop or 0.0, -(check.snr_db or 0.0))


def _recipe(subnet: Subnet, options: Options, output: str) -> Conversion:
    space = subnet.space
    calibration = options.calibration
    ranged = options.precision in RANGED
    if ranged and calibration is None:
        raise ExportError(
            f"{options.precision} needs images for the ranges of activations: add --calibrate DATA"
        )
    return Conversion(
        precision=options.precision,
        mixed={op.name: options.mixed[op.stage] for op in subnet.ops if op.stage in options.mixed},
        dynamic_batch=options.batch is None,
        calibration=calibration if ranged else None,
        mean=tuple(space.mean),
        std=tuple(space.std),
        labels=tuple(space.label_names()),
        output=output,
    )


def _attempt(
    subnet: Subnet, form: Format, recipe: Conversion, options: Options, expected: Reference
) -> _Attempt:
    from nasvit_edge.model.subnet import PixelLabels, fold_for

    code = form.module()
    metadata = describe(subnet, form, recipe.precision, options.batch, recipe.output)
    metadata["accuracy"] = _accuracy(subnet, expected, options)
    if options.mixed:
        metadata["mixed"] = json.dumps(dict(options.mixed))
    if recipe.kept:
        metadata["kept_in_float"] = " ".join(recipe.kept)
    folded = fold_for(subnet, form.runtime)
    module = PixelLabels(folded).eval() if recipe.output == dense.LABELS else folded
    model = code.convert(module, (options.batch or 1, 3, *subnet.size), recipe)
    with tempfile.TemporaryDirectory() as folder:
        bare, copy = (Path(folder, f"{name}{form.suffix}") for name in ("bare", "model"))
        artifact.write_content(bare, model)
        counts = arithmetic.arithmetic(bare, form.name, recipe.precision)
        if counts is not None:
            metadata["arithmetic"] = json.dumps(counts.shares(), sort_keys=True)
        content = code.write_metadata(model, metadata)
        artifact.write_content(copy, content)
        threshold = form.threshold(recipe.precision)
        run = code.runner(copy)
        check, outputs = expected.check(run, subnet.space, threshold, "supernet", counts)
    return _Attempt(content, metadata, check, outputs)


def _with_plain(attempt: _Attempt, form: Format, options: Options, expected: Reference) -> _Attempt:
    """With what the file gives plainly, where the precision needs it."""
    if not needs_care(form.threshold(options.precision)):
        return attempt
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, f"model{form.suffix}")
        artifact.write_content(copy, attempt.content)
        plain = form.module().plain_runner(copy)(expected.inputs[:PLAIN_INPUTS])
    return replace(attempt, own=replace(attempt.own, plain=plain))


def _accuracy(subnet: Subnet, expected: Reference, options: Options) -> str:
    """What is known of the subnet's top-1, of a segmenter's mean IoU, before its precision was lowered."""
    if expected.choices is not None:
        images = data_sets.bundled("test", subnet.space)
        top1 = round(float((expected.choices == images.labels.numpy()).mean()), 4)
        return json.dumps({"top1": top1, "images": images.name, "of": "the fp32 subnet"}, sort_keys=True)
    search = options.search
    if search and subnet.source.get("kind") != "random":
        fields = {
            "mean_iou" if subnet.space.is_dense else "top1": round(search.accuracy, 4),
            "of": f"the fp32 subnet, by {search.accuracy_source}",
        }
        return json.dumps(fields, sort_keys=True)
    return "not measured"


def _save(
    path: Path,
    attempt: _Attempt,
    form: Format,
    options: Options,
    expected: Reference,
    stats: Mapping[str, Any],
    kept_ops: tuple[str, ...],
    trained_on: SavedTrainedOn | None,
) -> None:
    saved = StoredReference(stats, expected, attempt.own).to_bytes()
    sidecar = Sidecar(
        schema=2,
        format=form.name,
        precision=options.precision,
        sha256=digest(attempt.content),
        bytes=size_bytes(attempt.content),
        reference_sha256=hashlib.sha256(saved).hexdigest(),
        metadata=attempt.metadata,
        check=structs.replace(attempt.check.record(), seed=0),
        kept_in_float=kept_ops,
        versions=versions(),
        forced=() if attempt.check.passed else tuple(attempt.check.failures()),
        trained_on=trained_on,
        search=options.search,
    )
    files.write_bytes(reference_path(path), saved)
    artifact.write_content(path, attempt.content)
    records.write(sidecar_path(path), sidecar)
