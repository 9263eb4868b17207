"""Searching as a user asks for it: the tables (measured first where there is none), the accuracy, the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from msgspec import structs

from nasvit_edge import data_sets, files
from nasvit_edge.data_sets import mask_check
from nasvit_edge.data_sets.scenes import SceneSet
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.flows import progress
from nasvit_edge.flows.answering import Asked, answering, resting_on_changed, trusted
from nasvit_edge.flows.limits import Wanted, choices, limits
from nasvit_edge.hints import DATA, WEIGHTS, command
from nasvit_edge.latency import LatencyTable
from nasvit_edge.searching.accuracy import (
    AccuracyPredictor,
    has_predictor,
    load_accuracy,
    predictor_names,
    predictor_path,
    quality_of,
)
from nasvit_edge.searching.baseline import same_macs
from nasvit_edge.searching.evolution import MEASURED_EFFORT, Effort, SearchState
from nasvit_edge.searching.images import ImageAccuracy
from nasvit_edge.searching.population import genes
from nasvit_edge.searching.result import file_of, weights_digest
from nasvit_edge.searching.saved import ResultFile, Setting, UsedTable
from nasvit_edge.searching.search import Problem, SearchResult, solve
from nasvit_edge.searching.stages import described
from nasvit_edge.space import SearchSpace, has_weights, load_space, space_toml

_FITTED = "accuracy.json"  # where a suggested fit writes
MEASURED = "measured"  # --accuracy measured: on images, also where a predictor is shipped


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of `nasvit-edge search` that decide what is searched; no runtime, threads or precision: the device's own."""

    space: str
    wanted: Wanted = field(default_factory=Wanted)
    supernet: str | None = None
    data: str | None = None
    accuracy: str | None = None
    device: str | None = None
    runtime: str | None = None
    threads: int | None = None
    precision: str | None = None
    table: str | None = None
    usual: str = "host"
    left_out: Mapping[str, str] = field(default_factory=dict)
    interpolate: bool = False
    resolution: str | None = None
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    with_size: bool = False
    workers: int | None = None
    in_order: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything a search needs, loaded and checked."""

    problem: Problem
    setting: Setting
    steady: bool = False

    @property
    def predictor(self) -> AccuracyPredictor | None:
        return self.problem.evaluator.predictor


def prepare(
    request: Request, note: Callable[[str], None], on_profile: Callable[[int, int, str], None]
) -> Prepared:
    """Load space, accuracy and tables; where the host has no table, say so and measure one."""
    request.wanted.check()
    space = load_space(request.space)
    asked, request = request, _with_weights(request, space)
    accuracy = accuracy_source(request, space, note, on_profile)
    if isinstance(accuracy, AccuracyPredictor) and _of_other_weights(accuracy, request.supernet):
        note(
            f"predictor {accuracy.name} was fitted to other weights than {request.supernet}; for these: "
            + command(
                "accuracy",
                "fit",
                space=space.given,
                supernet=request.supernet,
                data=request.data,
                out="own.json",
            )
        )
    devices = _devices(request)
    answers = [answering(_asked(request, device), space, note, on_profile) for device in devices]
    tables = [trusted(answer.table, note, by_file=request.table is not None) for answer in answers]
    keep = choices(request.keep, "--gene")
    if request.resolution is not None:
        if "resolution" in keep:
            raise NasvitEdgeError(
                f"--resolution {request.resolution} and --gene resolution=... both say which; give one"
            )
        keep |= choices([f"resolution={request.resolution}"], "--resolution")
    problem = Problem(
        space=space,
        tables=tuple(tables),
        accuracy=accuracy,
        limits=limits(request.wanted, tables, devices, request.device),
        genes=genes(space, keep, choices(request.drop, "--exclude")),
        with_size=request.with_size,
    )
    filled = {**request.left_out, **_filled(asked, request, accuracy), **answers[0].filled}
    setting = _setting(request, accuracy, tables, devices, filled)
    return Prepared(problem=problem, setting=setting, steady=request.wanted.steady)


def _devices(request: Request) -> list[str | None]:
    """The devices that latencies are limited on; None for the usual one.

    Raises:
        NasvitEdgeError: --device and --table beside budgets that name others.
    """
    devices = request.wanted.devices(request.device)
    if request.table is not None and len(devices) > 1:
        raise NasvitEdgeError("--table is for one device; name each device in --latency DEVICE=20ms instead")
    if request.device is not None and request.device not in devices:
        raise NasvitEdgeError(
            f"--device {request.device} is of no budget, as each names a device of its own; leave it out, or give --latency 20ms for it"
        )
    return devices


def _asked(request: Request, device: str | None) -> Asked:
    return Asked(
        device=device,
        runtime=request.runtime,
        threads=request.threads,
        precision=request.precision,
        table=request.table,
        interpolate=request.interpolate,
        usual=request.usual,
    )


def _filled(asked: Request, request: Request, accuracy: AccuracyPredictor | ImageAccuracy) -> dict[str, Any]:
    """What was left out of weights, images and accuracy, and what it was filled in with."""
    found = {
        "supernet": request.supernet if asked.supernet is None else None,
        "data": request.data if asked.data is None else None,
        "accuracy": _told(accuracy) if asked.accuracy is None else None,
    }
    return {key: value for key, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to search.

    Attributes:
        resume_at: where the state is kept until the search is done; one that is there is continued.
    """

    method: str = "evolutionary"
    population: int | None = None
    generations: int | None = None
    resume_at: Path | None = None


def go(
    prepared: Prepared,
    seed: int,
    plan: Plan = Plan(),
    *,
    on_progress: Callable[[int, int, str], None] = lambda done, total, detail: None,
    note: Callable[[str], None] = lambda text: None,
) -> ResultFile:
    """Search and return the result file."""
    return content(prepared, run(prepared, seed, plan, on_progress=on_progress, note=note))


def run(
    prepared: Prepared,
    seed: int,
    plan: Plan = Plan(),
    *,
    on_progress: Callable[[int, int, str], None] = lambda done, total, detail: None,
    note: Callable[[str], None] = lambda text: None,
) -> SearchResult:
    """Search."""
    effort = Effort() if prepared.predictor else MEASURED_EFFORT
    effort = replace(
        effort,
        population=plan.population or effort.population,
        generations=plan.generations or effort.generations,
    )
    keeper = progress.Keeper(
        plan.resume_at, progress.identity(prepared.problem, prepared.setting, seed, effort)
    )
    state = keeper.load()
    if state is not None:
        note(f"continuing an interrupted search after generation {state.generation} of {effort.generations}")

    def show(state: SearchState) -> None:
        keeper.save(state)
        found = len(state.kept) > 0
        best = f"best {state.kept_values.accuracy.max():.2%}" if found else "nothing within the limits yet"
        on_progress(state.generation, effort.generations, best)

    result = solve(prepared.problem, seed, method=plan.method, effort=effort, state=state, on_generation=show)
    keeper.done()
    return result


def content(prepared: Prepared, result: SearchResult) -> ResultFile:
    """The whole result file."""
    error, evaluator = prepared.setting.accuracy_uncertainty, prepared.problem.evaluator
    changed = [resting_on_changed(table, result.best.config) for table in prepared.problem.tables]
    return structs.replace(
        file_of(result, prepared.setting),
        quality=getattr(prepared.problem.accuracy, "quality", "accuracy"),
        outdated=tuple(changed) if any(told.ops for told in changed) else (),
        space=space_toml(prepared.problem.space),
        genes=evaluator.genes.restricted(),
        same_macs=same_macs(prepared.problem, result.best, result.seed, error),
        stages=described(evaluator, result.best.config),
    )


def _setting(
    request: Request,
    accuracy: AccuracyPredictor | ImageAccuracy,
    tables: list[LatencyTable],
    devices: list[str | None],
    filled: Mapping[str, Any],
) -> Setting:
    measured, first = isinstance(accuracy, ImageAccuracy), tables[0]
    predictor = None if measured else request.accuracy or accuracy.name
    listed = tuple(
        UsedTable(name=device or request.usual, path=table.path.name, sha256=files.sha256(table.path))
        for device, table in zip(devices, tables, strict=True)
    )
    return Setting(
        space=request.space,
        supernet=request.supernet,
        supernet_sha256=weights_digest(request.supernet),
        calibration=request.data if request.supernet else None,
        calibration_sha256=accuracy.calibration.digest() if isinstance(accuracy, ImageAccuracy) else None,
        labels_in_order=request.in_order,
        accuracy_source=_told(accuracy),
        accuracy_uncertainty=accuracy.uncertainty,
        accuracy=predictor,
        accuracy_sha256=None if predictor is None else files.sha256(predictor_path(predictor)),
        device=first.file.device,
        runtime=first.file.runtime,
        threads=first.file.threads,
        precision=first.file.precision,
        table=first.path.name,
        table_sha256=listed[0].sha256,
        interpolate=request.interpolate,
        tables=listed,
        filled=dict(filled),
    )


def _told(accuracy: AccuracyPredictor | ImageAccuracy) -> str:
    """A source's name; of a predictor that stands in for what nobody measured its own source, too."""
    if isinstance(accuracy, ImageAccuracy):
        return accuracy.name
    proxy = accuracy.source.startswith("proxy:")
    return f"predictor {accuracy.name}" + (f" ({accuracy.source})" if proxy else "")


def _with_weights(request: Request, space: SearchSpace) -> Request:
    """A predictor where one is shipped, unless images are asked for; the shipped weights and images where there are any."""
    if (
        request.accuracy is None
        and request.data is None
        and request.supernet is None
        and has_predictor(space)
    ):
        request = replace(request, accuracy=space.name)
    if request.supernet is None and has_weights(space):
        request = replace(request, supernet=space.name)
    if request.supernet is not None and request.data is None and data_sets.has_bundled(space):
        request = replace(request, data=data_sets.BUNDLED)
    return request


def _fitting(request: Request) -> str:
    """The command that fits a predictor for what is searched."""
    weights, images = request.supernet or WEIGHTS, request.data or DATA
    return command("accuracy", "fit", space=request.space, supernet=weights, data=images, out=_FITTED)


def accuracy_source(
    request: Request,
    space: SearchSpace,
    note: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[int, int, str], None] = lambda done, total, detail: None,
) -> AccuracyPredictor | ImageAccuracy:
    """The accuracy source: a predictor, or measuring on images."""
    name = request.accuracy or (space.name if has_predictor(space) else None)
    measurable = request.supernet is not None and request.data is not None
    if request.accuracy == MEASURED or (request.accuracy is None and measurable):
        if not measurable:
            raise NasvitEdgeError("measuring accuracy takes weights and images: add --supernet W --data D")
        return measured_accuracy(request, space, note, on_progress)
    if name is None and space.is_dense:
        raise NasvitEdgeError(
            f"no {quality_of(space)} for space {space.name!r}: no predictor is shipped for it; fit one: "
            f"{_fitting(request)}, then add --accuracy {_FITTED} (or measure while searching, with --supernet and --data)"
        )
    if name is None:
        raise NasvitEdgeError(
            f"no accuracy for space {space.name!r}: predictors are shipped for {', '.join(predictor_names())}; give weights and images "
            f"(--supernet, --data), or a predictor: {_fitting(request)}, then add --accuracy {_FITTED}"
        )
    predictor = load_accuracy(name, space=space)
    if predictor.space != space.name:
        raise NasvitEdgeError(f"predictor {name!r} is for space {predictor.space!r}, not {space.name!r}")
    return predictor


def _of_other_weights(predictor: AccuracyPredictor, supernet: str | None) -> bool:
    """Whether the predictor says which weights it is of, and `supernet` has others."""
    if predictor.weights_sha256 is None or supernet is None:
        return False
    _, key = files.file_and_key(supernet)
    found = weights_digest(supernet)
    return found is not None and (found, key) != (predictor.weights_sha256, predictor.weights_key)


def measured_accuracy(
    request: Request,
    space: SearchSpace,
    note: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[int, int, str], None] = lambda done, total, detail: None,
) -> ImageAccuracy:
    """Accuracy on the images of `request`, measured values kept in the cache; of scenes the masks are looked at first."""
    from nasvit_edge.flows.cache import accuracy_store

    assert request.supernet is not None
    assert request.data is not None
    source = ImageAccuracy.load(
        request.supernet,
        space,
        request.data,
        workers=request.workers,
        in_order=request.in_order,
        note=note,
    )
    if "note" in source.supernet.source and source.writes:
        note(str(source.supernet.source["note"]))
    if isinstance(source.validation, SceneSet):
        told = mask_check.checked(source.validation, space, on_progress=on_progress)
        for line in told if source.writes else ():
            note(line)
    return source.keeping(accuracy_store(space, request.supernet, source))
