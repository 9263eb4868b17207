"""`evaluate --supernet`: the accuracy of subnets of a supernet, each calibrated by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from msgspec.structs import asdict

from nasvit_edge import data_sets, files, ops, sizes
from nasvit_edge.choosing.space import space_of
from nasvit_edge.choosing.subnets import Named, chosen
from nasvit_edge.data_sets import mask_check
from nasvit_edge.data_sets.scenes import SceneSet
from nasvit_edge.data_sets.splits import CALIBRATION_MOST, JUDGED
from nasvit_edge.errors import DataError, NasvitEdgeError
from nasvit_edge.export import verification
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.preparation import PUBLISHED, checked_chain
from nasvit_edge.requests.evaluate import Request
from nasvit_edge.searching.evaluated import (
    CalibratedOn,
    EvaluatedSubnet,
    Evaluation,
    OfScenes,
    SceneRow,
    confusions,
    majority,
    summary,
    to_csv,
)
from nasvit_edge.searching.images import ImageAccuracy, Source, accuracy_store
from nasvit_edge.space import SearchSpace, SubnetConfig

CALIBRATION_IMAGES = CALIBRATION_MOST
DEFAULT = "min,max,random:20"


def refuse_mixed(request: Request) -> None:
    """NasvitEdgeError unless it is either an exported file or weights that are evaluated, with options of that only."""
    if (request.artifact is None) == (request.supernet is None):
        raise NasvitEdgeError(
            "evaluate takes either an exported file or --supernet WEIGHTS: give one of them"
        )
    for name in ("subnets", "calibration_images", "workers", "out", "seed"):
        if request.supernet is None and getattr(request, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise NasvitEdgeError(f"{option} is for evaluate --supernet WEIGHTS, not for an exported file")
    if request.supernet is not None and request.threads is not None:
        raise NasvitEdgeError(
            f"--threads {request.threads} is for an exported file; with --supernet give --workers"
        )


def evaluate_artifact(
    request: Request, listener: Listener = SILENT
) -> verification.OnImages | verification.OnScenes:
    """How good an exported file is on labelled images, by its own runtime."""
    assert request.artifact is not None
    return verification.evaluate(
        request.artifact,
        request.data,
        space_path=request.space,
        threads=request.threads or 1,
        chain=request.chain,
        in_order=request.labels_in_order,
        split=request.split or "test",
        listener=listener,
    )


def evaluate(request: Request, listener: Listener = SILENT) -> Evaluation:
    """Measure and return the report; what was measured on validation images is kept in the cache.

    Raises:
        NasvitEdgeError: one line about options, weights, space or images that do not fit.
    """
    request = replace(request, split=request.split or "validation")
    space = space_of(str(request.supernet), request.space)
    checked_chain(request.chain)
    if request.split not in JUDGED:
        raise DataError(f"--split is {request.split!r}; it is {' or '.join(JUDGED)}")
    listed = chosen(request.subnets or DEFAULT, space, request.seed or 0)
    if request.out is not None:
        files.writable_folder(request.out.parent)
    source, configs = _source(request, space, listener), [config for _, config in listed]
    if isinstance(source.validation, SceneSet):
        lines = mask_check.checked(source.validation, space, listener=listener)
        results = confusions(source, configs, listener)
        plain = _report(request, space, source, listed, [float(c.mean_iou) for c in results])
        names = space.label_names()
        rows = [
            SceneRow(**asdict(row), **asdict(confusion.figures(names)))
            for row, confusion in zip(plain.subnets, results, strict=True)
        ]
        report: Evaluation = OfScenes(
            **asdict(plain) | {"subnets": tuple(rows)}, majority=majority(results[0]), masks=tuple(lines)
        )
    else:
        report = _report(request, space, source, listed, _measured(source, configs, listener))
    if request.out is not None and source.writes:
        files.write_text(request.out, to_csv(report))
    return report


def _source(request: Request, space: SearchSpace, listener: Listener) -> ImageAccuracy:
    supernet, chain = str(request.supernet), request.chain
    calibration, split = request.calibration_images or CALIBRATION_IMAGES, request.split or "validation"
    asked = Source(supernet, space, request.data, split, calibration, chain, request.labels_in_order)
    as_searched = split == "validation" and calibration >= CALIBRATION_IMAGES and chain == PUBLISHED
    source = asked.loaded(workers=request.workers, listener=listener)
    if as_searched and not supernet.startswith("random"):
        return source.keeping(accuracy_store(space, supernet, source))
    return source


def _measured(source: ImageAccuracy, configs: Sequence[SubnetConfig], listener: Listener) -> list[float]:
    accuracies: list[float] = []
    step = 1 if source.workers == 1 else 8
    try:
        for at in range(0, len(configs), step):
            accuracies += source.many(configs[at : at + step])
            listener.progress(len(accuracies), len(configs), f"best {max(accuracies):.2%}")
    finally:
        source.close()
    return accuracies


def _report(
    request: Request, space: SearchSpace, source: ImageAccuracy, listed: Named, accuracies: list[float]
) -> Evaluation:
    rows = [
        EvaluatedSubnet(
            name=name,
            config=config,
            accuracy=accuracy,
            macs=ops.macs(space, config),
            parameters=sizes.config_parameters(space, config),
        )
        for (name, config), accuracy in zip(listed, accuracies, strict=True)
    ]
    calibration = source.calibration
    return Evaluation(
        space=space.name,
        supernet=str(request.supernet),
        weights=source.supernet.source,
        data=source.validation.name,
        split=str(request.split),
        images=len(source.validation),
        trained_on=data_sets.overlap(source.supernet.trained_on, source.validation),
        chain=request.chain,
        calibration=CalibratedOn(data=calibration.name, images=len(calibration)),
        remarks=tuple(calibration.remarks(source.supernet)),
        seed=request.seed or 0,
        subnets=tuple(rows),
        summary=summary(rows),
    )
