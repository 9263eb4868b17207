"""Searching as a user asks for it: the tables (measured first where there is none), the accuracy, the result."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nasvit_edge import data_sets, files
from nasvit_edge.data_sets import mask_check
from nasvit_edge.data_sets.scenes import SceneSet
from nasvit_edge.device import load_device
from nasvit_edge.errors import NasvitEdgeError, TableError
from nasvit_edge.flows import progress
from nasvit_edge.flows.limits import Wanted, choices, limits
from nasvit_edge.latency import LatencyTable, load_table, table_path
from nasvit_edge.latency.table import named
from nasvit_edge.profile.trust import concerns
from nasvit_edge.searching.accuracy import (
    AccuracyPredictor,
    load_accuracy,
    predictor_names,
    predictor_path,
    quality_of,
)
from nasvit_edge.searching.baseline import same_macs
from nasvit_edge.searching.evolution import MEASURED_EFFORT, Effort, State
from nasvit_edge.searching.images import ImageAccuracy
from nasvit_edge.searching.population import genes
from nasvit_edge.searching.result import Setting, to_json
from nasvit_edge.searching.search import Problem, SearchResult, solve
from nasvit_edge.searching.stages import described
from nasvit_edge.space import SearchSpace, SubnetConfig, load_space, space_toml

MEASURED = "measured"  # --accuracy measured: on images, also where a predictor is shipped


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of `nasvit-edge search` that decide what is searched; no runtime, threads or precision: the device's own."""

    space: str
    wanted: Wanted = field(default_factory=Wanted)
    supernet: str | None = None
    data: str | None = None
    accuracy: str | None = None
    device: str = "host"
    runtime: str = ""
    threads: int = 0
    precision: str = ""
    table: str | None = None
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
    request = _with_weights(request, space)
    accuracy = accuracy_source(request, space, note, on_profile)
    if isinstance(accuracy, AccuracyPredictor) and _of_other_weights(accuracy, request.supernet):
        note(
            f"predictor {accuracy.name} was fitted to other weights than {request.supernet}; for these: "
            f"nasvit-edge accuracy fit --space {request.space} --supernet {request.supernet}"
        )
    devices = request.wanted.devices(request.device)
    if request.table is not None and len(devices) > 1:
        raise NasvitEdgeError("--table is for one device; name each device in --latency DEVICE=20ms instead")
    requests = [completed(replace(request, device=device)) for device in devices]
    paths = [_table_path(one, space, note, on_profile) for one in requests]
    tables = [trusted(_loaded(path, one, note), one, note) for one, path in zip(requests, paths, strict=True)]
    keep = choices(request.keep, "--gene")
    if request.resolution is not None:
        keep |= choices([f"resolution={request.resolution}"], "--resolution")
    problem = Problem(
        space=space,
        tables=tuple(tables),
        accuracy=accuracy,
        limits=limits(request.wanted, tables, devices, request.device),
        genes=genes(space, keep, choices(request.drop, "--exclude")),
        with_size=request.with_size,
    )
    setting = _setting(request, accuracy, tables, devices)
    return Prepared(problem=problem, setting=setting, steady=request.wanted.steady)


def _loaded(path: Path, request: Request, note: Callable[[str], None]) -> LatencyTable:
    if request.interpolate:
        note(f"estimating what table {path.name} does not have, a few seconds")
    return load_table(str(path), space=request.space, interpolate=request.interpolate)


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
) -> dict[str, Any]:
    """Search and return the content of the result file."""
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

    def show(state: State) -> None:
        keeper.save(state)
        found = len(state.kept) > 0
        best = f"best {state.kept_values.accuracy.max():.2%}" if found else "nothing within the limits yet"
        on_progress(state.generation, effort.generations, best)

    result = solve(prepared.problem, seed, method=plan.method, effort=effort, state=state, on_generation=show)
    keeper.done()
    return result


def content(prepared: Prepared, result: SearchResult) -> dict[str, Any]:
    """The content of a result file."""
    error, evaluator = prepared.setting.accuracy_uncertainty, prepared.problem.evaluator
    quality = getattr(prepared.problem.accuracy, "quality", "accuracy")
    told = {} if quality == "accuracy" else {"quality": quality}
    return (
        to_json(result, prepared.setting)
        | told
        | {
            "space": space_toml(prepared.problem.space),
            "genes": evaluator.genes.restricted(),
            "same_macs": same_macs(prepared.problem, result.best, result.seed, error),
            "stages": described(evaluator, result.best.config),
        }
    )


def _setting(
    request: Request,
    accuracy: AccuracyPredictor | ImageAccuracy,
    tables: list[LatencyTable],
    devices: list[str],
) -> Setting:
    measured, first = isinstance(accuracy, ImageAccuracy), tables[0]
    predictor = None if measured else request.accuracy or accuracy.name
    listed = [
        {"name": device, "path": table.path.name, "sha256": files.sha256(table.path)}
        for device, table in zip(devices, tables, strict=True)
    ]
    return Setting(
        space=request.space,
        supernet=request.supernet,
        calibration=request.data if request.supernet else None,
        labels_in_order=request.in_order,
        accuracy_source=_told(accuracy),
        accuracy_uncertainty=accuracy.uncertainty,
        accuracy=predictor,
        accuracy_sha256=None if predictor is None else files.sha256(predictor_path(predictor)),
        device=first.raw["device"],
        runtime=first.raw["runtime"],
        threads=first.raw["threads"],
        precision=first.raw["precision"],
        table=first.path.name,
        table_sha256=listed[0]["sha256"],
        interpolate=request.interpolate,
        tables=listed,
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
        and space.name in predictor_names()
    ):
        request = replace(request, accuracy=space.name)
    if request.supernet is None and files.data("weights", f"{space.name}.safetensors").is_file():
        request = replace(request, supernet=space.name)
    if request.supernet is not None and request.data is None and data_sets.has_bundled(space):
        request = replace(request, data=data_sets.BUNDLED)
    return request


def accuracy_source(
    request: Request,
    space: SearchSpace,
    note: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[int, int, str], None] = lambda done, total, detail: None,
) -> AccuracyPredictor | ImageAccuracy:
    """The accuracy source: a predictor, or measuring on images."""
    name = request.accuracy or (space.name if space.name in predictor_names() else None)
    measurable = request.supernet is not None and request.data is not None
    if request.accuracy == MEASURED or (request.accuracy is None and measurable):
        if not measurable:
            raise NasvitEdgeError("measuring accuracy takes weights and images: add --supernet W --data D")
        return measured_accuracy(request, space, note, on_progress)
    if name is None and space.is_dense:
        raise NasvitEdgeError(
            f"no {quality_of(space)} for space {space.name!r}: no predictor is shipped for it; fit one: nasvit-edge accuracy fit "
            f"--space {request.space} --supernet W --data D --out miou.json, then add --accuracy miou.json "
            "(or measure while searching: --supernet W --data D)"
        )
    if name is None:
        raise NasvitEdgeError(
            f"no accuracy for space {space.name!r}: give weights and images (--supernet W --data D) or a predictor "
            f"(--accuracy FILE.json, made by nasvit-edge accuracy fit); predictors are shipped for {', '.join(predictor_names())}"
        )
    predictor = load_accuracy(name, space=space)
    if predictor.space != space.name:
        raise NasvitEdgeError(f"predictor {name!r} is for space {predictor.space!r}, not {space.name!r}")
    return predictor


def _of_other_weights(predictor: AccuracyPredictor, supernet: str | None) -> bool:
    """Whether the predictor says which weights it is of, and `supernet` has others."""
    if predictor.weights_sha256 is None or supernet is None:
        return False
    shipped = {path.stem: path for path in files.data("weights").glob("*.safetensors")}
    path, key = files.file_and_key(supernet)
    with contextlib.suppress(NasvitEdgeError):  # `random`, or no such file: told where weights are needed
        found = files.sha256(shipped.get(path, Path(path)))
        return (found, key) != (predictor.weights_sha256, predictor.weights_key)
    return False


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


def completed(request: Request) -> Request:
    """With runtime, threads and precision: `--device host:litert:int8` names them as well; else the device's own."""
    found = named(request.device)
    own = _own(found.pop("device"))
    given = {"runtime": request.runtime, "threads": request.threads, "precision": request.precision}
    return replace(request, **(own | {k: v for k, v in given.items() if v} | found))


def _own(name: str) -> dict[str, Any]:
    """A device's name, also where its file is given, and what it is measured with unless a command says otherwise."""
    try:
        device = load_device(name)
    except NasvitEdgeError:  # an imported table's
        return {"device": name, "runtime": "onnxruntime", "threads": 1, "precision": "fp32"}
    own = {"runtime": device.runtimes[0], "threads": device.threads, "precision": device.precision}
    return {"device": device.name if name.endswith(".toml") else name} | own


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
