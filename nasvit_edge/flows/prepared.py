"""A search, prepared as it is asked for (tables, measured first where there is none; accuracy; limits), and carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from msgspec import structs

from nasvit_edge import files
from nasvit_edge.choosing.accuracy import AccuracyChoice, about, accuracy_source, tell_of_other_weights
from nasvit_edge.choosing.fitted import Fitting
from nasvit_edge.choosing.limits import check, choices, devices, limits
from nasvit_edge.choosing.mixed import is_mixed, loss_limit, mixable, tables_to_mix
from nasvit_edge.choosing.noises import Noises
from nasvit_edge.choosing.space import USUAL_SPACE
from nasvit_edge.choosing.table import answering, resting_on_changed, speed_today, trusted
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.latency import LatencyTable
from nasvit_edge.latency.names import MIXED
from nasvit_edge.latency.speed import TodaysSpeed
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.requests.search import Request
from nasvit_edge.searching.accuracy import AccuracyPredictor, predictor_path
from nasvit_edge.searching.baseline import same_macs
from nasvit_edge.searching.evolution import MEASURED_EFFORT, Effort, SearchState
from nasvit_edge.searching.images import ImageAccuracy
from nasvit_edge.searching.infeasible import check_reachable
from nasvit_edge.searching.interrupted import Keeper, identity
from nasvit_edge.searching.population import Genes, genes
from nasvit_edge.searching.result import file_of, weights_digest
from nasvit_edge.searching.saved import MixedPrecision, OnePrecision, ResultFile, Setting, UsedTable
from nasvit_edge.searching.search import Problem, SearchResult, one_precision, solve
from nasvit_edge.searching.stages import described
from nasvit_edge.space import SearchSpace, SubnetConfig, load_space, space_toml


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything a search needs, loaded and checked."""

    problem: Problem
    setting: Setting
    today: tuple[TodaysSpeed | None, ...] = ()
    measured: Noises | None = None  # where precisions are searched
    request: Request = field(default_factory=Request)


def prepare(request: Request, listener: Listener) -> Prepared:
    """Load space, accuracy and tables; where the host has no table, say so and measure one.

    Raises:
        NasvitEdgeError: options that contradict each other, or of which one has nothing to do.
    """
    _refuse_idle(request)
    check(request)
    mixed = is_mixed(request)
    filled: dict[str, str] = {} if request.space else {"space": USUAL_SPACE}
    space = load_space(request.space or USUAL_SPACE)
    asked = AccuracyChoice(
        supernet=request.supernet,
        data=request.data,
        accuracy=request.accuracy,
        workers=request.workers,
        in_order=request.labels_in_order,
    )
    choice = asked.filled(space) if request.minutes is None else _measurable(asked.with_shipped(space))
    accuracy = accuracy_source(choice, space, listener) if request.minutes is None else None
    named = [replace(request.table, device=device) for device in devices(request)]
    if mixed and len(named) > 1:
        raise NasvitEdgeError(f"--precision {MIXED} is for one device; give one budget")
    answers = (
        list(tables_to_mix(named[0], space, listener))
        if mixed
        else [answering(one, space, listener, measures=True) for one in named]
    )
    named = [*named, *[named[0]] * (len(answers) - len(named))]
    tables = [trusted(answer.table, listener, by_file=request.table.table is not None) for answer in answers]
    limited, free = limits(request, tables), _genes(request, space)
    cost = mixable(tuple(answers), choice, accuracy, space, listener) if mixed else None

    def problem_of(accuracy: AccuracyPredictor | ImageAccuracy) -> Problem:
        return Problem(
            space=space,
            tables=tuple(tables),
            accuracy=accuracy,
            mixing=None if cost is None else cost.mixing,
            limits=limited if cost is None else (*limited, loss_limit(request)),
            genes=free,
            with_size=request.with_size,
        )

    if accuracy is None:  # the rest is known to fit together before minutes are spent
        choice = _fitted(request, choice, space, problem_of, listener)
        accuracy = accuracy_source(choice, space, listener)
    tell_of_other_weights(accuracy, choice, space, listener)
    problem = problem_of(accuracy)
    filled |= {**_filled(asked, choice, accuracy), **answers[0].filled}
    used = [(one.device or one.usual, table) for one, table in zip(named, tables, strict=True)]
    setting = _setting(request, choice, accuracy, used, filled)
    if cost is not None:
        setting = structs.replace(setting, precision=MIXED)
    today = tuple(speed_today(table, request.table, listener) for table in (tables[:1] if mixed else tables))
    measured = None if cost is None else cost.measured
    return Prepared(problem=problem, setting=setting, today=today, measured=measured, request=request)


def _refuse_idle(request: Request) -> None:
    """NasvitEdgeError for an option that the others leave nothing to do."""
    if request.confirm_by is not None and request.confirm is None:
        raise NasvitEdgeError(
            f"--confirm-by {request.confirm_by} is for --confirm N: give that too, or leave it out"
        )
    for name, value in (("population", request.population), ("generations", request.generations)):
        if value is not None and request.method == "exact":
            raise NasvitEdgeError(
                f"--{name} {value} is of the evolutionary search, and --method exact has none: leave out one of the two"
            )


def _measurable(choice: AccuracyChoice) -> AccuracyChoice:
    """NasvitEdgeError where --minutes has nothing to measure, or nothing to be measured for."""
    if choice.accuracy is not None:
        raise NasvitEdgeError(
            f"--accuracy {choice.accuracy} says where accuracies are from, and --minutes measures and fits them: leave out one of the two"
        )
    if choice.supernet is None or choice.data is None:
        raise NasvitEdgeError("--minutes measures subnets on images: add --supernet W --data D")
    return choice


def _fitted(
    request: Request,
    choice: AccuracyChoice,
    space: SearchSpace,
    problem_of: Callable[[AccuracyPredictor | ImageAccuracy], Problem],
    listener: Listener,
) -> AccuracyChoice:
    """With a predictor beside the result that is fitted in the minutes given: to subnets drawn over the space, then to those of fronts.

    Raises:
        InfeasibleError: no subnet is within the limits.
    """
    assert request.minutes is not None
    fit = Fitting.of(choice, space, request.seed, listener)
    reached = problem_of(fit.source)
    check_reachable(reached.evaluator, reached.limits)

    def promising(predictor: AccuracyPredictor) -> list[SubnetConfig]:
        front = solve(problem_of(predictor), request.seed).front
        return [c.config for c in sorted(front, key=lambda c: -c.accuracy)]

    fit.within(request.minutes, promising)
    out = request.out.with_name(f"{request.out.stem}.accuracy.json")
    file = fit.write(out)
    listener.note(f"{out}: {file.source}, good to {100 * file.validation.rmse:.1f} points")
    return replace(choice, accuracy=str(out))


def _genes(request: Request, space: SearchSpace) -> Genes:
    keep = choices(request.gene or (), "--gene")
    if request.resolution is not None:
        if "resolution" in keep:
            raise NasvitEdgeError(
                f"--resolution {request.resolution} and --gene resolution=... both say which; give one"
            )
        keep |= choices([f"resolution={request.resolution}"], "--resolution")
    return genes(space, keep, choices(request.exclude or (), "--exclude"))


def _filled(
    asked: AccuracyChoice, choice: AccuracyChoice, accuracy: AccuracyPredictor | ImageAccuracy
) -> dict[str, str]:
    """What was left out of weights, images and accuracy, and what it was filled in with."""
    values = {
        "supernet": choice.supernet if asked.supernet is None else None,
        "data": choice.data if asked.data is None else None,
        "accuracy": about(accuracy) if asked.accuracy is None else None,
    }
    return {key: value for key, value in values.items() if value is not None}


def search_prepared(
    prepared: Prepared, *, resume_at: Path | None = None, listener: Listener = SILENT
) -> ResultFile:
    """Search and return the result file."""
    return content(prepared, run(prepared, resume_at=resume_at, listener=listener))


def run(prepared: Prepared, *, resume_at: Path | None = None, listener: Listener = SILENT) -> SearchResult:
    """Search; the state is kept at `resume_at` until it is done, and one that is there is continued."""
    request, problem = prepared.request, prepared.problem
    effort = MEASURED_EFFORT if problem.evaluator.predictor is None else Effort()
    effort = replace(
        effort,
        population=request.population or effort.population,
        generations=request.generations or effort.generations,
    )
    keeper = Keeper(resume_at, identity(problem, prepared.setting, request.seed, effort))
    state = keeper.load()
    if state is not None:
        listener.note(
            f"continuing an interrupted search after generation {state.generation} of {effort.generations}"
        )

    def show(state: SearchState) -> None:
        keeper.save(state)
        has_any = len(state.kept) > 0
        best = f"best {state.kept_values.accuracy.max():.2%}" if has_any else "nothing within the limits yet"
        listener.progress(state.generation, effort.generations, best)

    method = request.method if problem.mixing is None else "exact"
    result = solve(problem, request.seed, method=method, effort=effort, state=state, on_generation=show)
    keeper.done()
    return result


def content(prepared: Prepared, result: SearchResult) -> ResultFile:
    """The whole result file."""
    error, evaluator = prepared.setting.accuracy_uncertainty, prepared.problem.evaluator
    changed = [resting_on_changed(table, result.best.config) for table in prepared.problem.tables]
    return structs.replace(
        file_of(result, prepared.setting),
        quality=getattr(prepared.problem.accuracy, "quality", "accuracy"),
        outdated=tuple(changed) if any(part.ops for part in changed) else (),
        today=prepared.today if any(prepared.today) else (),
        space=space_toml(prepared.problem.space),
        genes=evaluator.genes.restricted(),
        same_macs=same_macs(prepared.problem, result.best, result.seed, error),
        stages=described(evaluator, result.best.config, result.best.precisions),
        mixed=_mixed(prepared),
    )


def _mixed(prepared: Prepared) -> MixedPrecision | None:
    """How precisions were searched, and what one for all stages comes to."""
    measured, mixing = prepared.measured, prepared.problem.mixing
    if measured is None or mixing is None:
        return None
    bests = {precision: one_precision(prepared.problem, precision) for precision in mixing.precisions}
    return MixedPrecision(
        images=measured.images,
        noise=measured.by_stage(),
        additive=measured.additive(),
        uniform=tuple(
            OnePrecision(
                precision=precision,
                config=best.config,
                latency_ms=best.latency_ms,
                accuracy=best.accuracy,
                loss=best.loss,
            )
            for precision, best in bests.items()
            if best is not None
        ),
    )


def _setting(
    request: Request,
    choice: AccuracyChoice,
    accuracy: AccuracyPredictor | ImageAccuracy,
    tables: Sequence[tuple[str, LatencyTable]],
    filled: Mapping[str, Any],
) -> Setting:
    measured = accuracy if isinstance(accuracy, ImageAccuracy) else None
    predictor = None if isinstance(accuracy, ImageAccuracy) else choice.accuracy or accuracy.name
    listed = tuple(
        UsedTable(name=name, path=table.path.name, sha256=files.sha256(table.path), setting=table.setting)
        for name, table in tables
    )
    first = tables[0][1].file
    return Setting(
        space=request.space or USUAL_SPACE,
        supernet=choice.supernet,
        supernet_sha256=weights_digest(choice.supernet),
        calibration=choice.data if choice.supernet else None,
        calibration_sha256=None if measured is None else measured.calibration.digest(),
        labels_in_order=choice.in_order,
        accuracy_source=about(accuracy),
        accuracy_uncertainty=accuracy.uncertainty,
        accuracy=predictor,
        accuracy_sha256=None if predictor is None else files.sha256(predictor_path(predictor)),
        device=first.device,
        runtime=first.runtime,
        threads=first.threads,
        precision=first.precision,
        table=listed[0].path,
        table_sha256=listed[0].sha256,
        interpolate=request.table.interpolate,
        tables=listed,
        filled=dict(filled),
    )
