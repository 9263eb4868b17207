"""Searching as a user asks for it: the table (measured first where there is none), the accuracy, the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nasvit_edge import data_sets, files
from nasvit_edge.device import load_device
from nasvit_edge.errors import NasvitEdgeError, TableError
from nasvit_edge.latency import LatencyTable, load_table, table_path
from nasvit_edge.latency.table import named
from nasvit_edge.profile.trust import concerns
from nasvit_edge.searching.accuracy import AccuracyPredictor, load_accuracy, predictor_names
from nasvit_edge.searching.evolution import MEASURED_EFFORT, Effort, search
from nasvit_edge.searching.images import ImageAccuracy
from nasvit_edge.searching.result import Setting, to_json
from nasvit_edge.space import SearchSpace, SubnetConfig, load_space


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of `nasvit-edge search` that decide what is searched."""

    space: str
    supernet: str | None = None
    data: str | None = None
    accuracy: str | None = None
    device: str = "host"
    runtime: str = "onnxruntime"
    threads: int = 1
    precision: str = "fp32"
    table: str | None = None
    interpolate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything a search needs, loaded and checked."""

    space: SearchSpace
    table: LatencyTable
    table_name: str
    accuracy: AccuracyPredictor | ImageAccuracy
    measured: bool
    accuracy_source: str
    setting: Setting


def prepare(
    request: Request, note: Callable[[str], None], on_profile: Callable[[int, int, str], None]
) -> Prepared:
    """Load space, accuracy and table; where the host has no table, say so and measure one."""
    space = load_space(request.space)
    request = _with_weights(_named(request), space)
    accuracy, measured = _accuracy(request, space)
    path = _table_path(request, space, note, on_profile)
    table = trusted(
        load_table(str(path), space=request.space, interpolate=request.interpolate), request, note
    )
    source = accuracy.name if isinstance(accuracy, ImageAccuracy) else f"predictor {accuracy.name}"
    setting = Setting(
        space=request.space,
        supernet=request.supernet,
        calibration=request.data if measured else None,
        accuracy_source=source,
        accuracy_uncertainty=accuracy.uncertainty,
        device=table.raw["device"],
        runtime=table.raw["runtime"],
        threads=table.raw["threads"],
        precision=table.raw["precision"],
        table=path.name,
        table_sha256=files.sha256(path),
    )
    return Prepared(
        space=space,
        table=table,
        table_name=path.name,
        accuracy=accuracy,
        measured=measured,
        accuracy_source=source,
        setting=setting,
    )


def go(
    prepared: Prepared,
    budget_ms: float,
    seed: int,
    population: int | None,
    generations: int | None,
    on_progress: Callable[[int, int, str], None],
) -> dict[str, Any]:
    """Search and return the content of the result file."""
    effort = MEASURED_EFFORT if prepared.measured else Effort()
    effort = replace(
        effort,
        population=population or effort.population,
        generations=generations or effort.generations,
    )

    def show(done: int, total: int, best: float) -> None:
        on_progress(done, total, f"best {best:.2%}")

    result = search(
        prepared.space,
        prepared.table,
        prepared.accuracy,
        budget_ms,
        seed,
        effort=effort,
        on_progress=show,
    )
    return to_json(prepared.space, result, prepared.setting)


def _with_weights(request: Request, space: SearchSpace) -> Request:
    """The shipped weights and images, where a space has them and the user names no other source."""
    if request.accuracy is not None:
        return request
    if request.supernet is None and files.data("weights", f"{space.name}.safetensors").is_file():
        request = replace(request, supernet=space.name)
    if request.supernet is not None and request.data is None and data_sets.has_bundled(space):
        request = replace(request, data=data_sets.BUNDLED)
    return request


def _accuracy(request: Request, space: SearchSpace) -> tuple[AccuracyPredictor | ImageAccuracy, bool]:
    """The accuracy source, and whether it measures (instead of predicting)."""
    if request.accuracy is None and request.supernet is not None and request.data is not None:
        return _measured(request, space), True
    name = request.accuracy or space.name
    if request.accuracy is None and name not in predictor_names():
        raise NasvitEdgeError(
            f"no accuracy for space {space.name!r}: give weights and images (--supernet W --data D) or a predictor "
            f"(--accuracy FILE.json); predictors are shipped for {', '.join(predictor_names())}"
        )
    predictor = load_accuracy(name)
    if predictor.space != space.name:
        raise NasvitEdgeError(f"predictor {name!r} is for space {predictor.space!r}, not {space.name!r}")
    return predictor, False


def _measured(request: Request, space: SearchSpace) -> ImageAccuracy:
    from nasvit_edge.model.checkpoint import load_supernet

    assert request.supernet is not None
    assert request.data is not None
    supernet = load_supernet(request.supernet, space)
    calibration = data_sets.load_images(request.data, "calibration", space)
    return ImageAccuracy(supernet, calibration, data_sets.load_images(request.data, "validation", space))


def _named(request: Request) -> Request:
    """`--device host:litert:int8` names the runtime and the like as well."""
    return replace(request, **named(request.device))


def trusted(
    table: LatencyTable, request: Request, note: Callable[[str], None], config: SubnetConfig | None = None
) -> LatencyTable:
    """The table, if nothing serious speaks against it; lesser things, and its validation, are noted.

    Raises:
        TableError: it is of another machine, or of other graphs than the code makes now, and the user did not name its file.
    """
    configs = [table.space.smallest(), table.space.largest()] if config is None else [config]
    for concern in concerns(table, configs):
        if concern.serious and request.table is None:
            raise TableError(
                f"table {table.path.name!r} does not hold here: {concern.text}; measure it again: nasvit-edge profile --device "
                f"{request.device} --runtime {request.runtime} --threads {request.threads} --space {table.space.name}, or name it: --table {table.path}"
            )
        note(f"{'WARNING' if concern.serious else 'note'}: table {table.path.name}: {concern.text}")
    note(f"table {table.path.name}: {validity(table)}")
    return table


def validity(table: LatencyTable) -> str:
    """What is known of a table's predictions, in one line."""
    found: Any = table.raw.get("validation")
    try:
        return (
            f"predictions off by {found['mape']:.1%} on average over {found['count']} whole subnets "
            f"({found['within_10']:.0%} within 10 %), which repeat within {found['repeat_mape']:.1%}"
        )
    except (TypeError, KeyError, ValueError):
        return "predictions not validated (nasvit-edge tables validate)"


def _table_path(
    request: Request,
    space: SearchSpace,
    note: Callable[[str], None],
    on_profile: Callable[[int, int, str], None],
) -> Path:
    if request.table is not None:
        return Path(request.table)
    try:
        return table_path(
            request.device,
            runtime=request.runtime,
            threads=request.threads,
            precision=request.precision,
            space=space.name,
        )
    except TableError as missing:
        if request.device != "host":
            load_device(request.device)  # an unknown device says so
            raise
        note(f"{missing}; measuring it now, once")
    from nasvit_edge.profile.run import profile

    return profile(
        space,
        request.device,
        runtime=request.runtime,
        threads=request.threads,
        precision=request.precision,
        protocol="default",
        on_progress=on_profile,
        note=note,
    )
