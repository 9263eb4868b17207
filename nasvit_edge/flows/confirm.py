"""Closing the loop: the best predicted subnets are measured, predictions corrected by what that shows, and again.

A factor, measured over predicted, is learned from the subnets near the budget that were measured so far. The next
round takes those that the corrected prediction finds more accurate than the best confirmed one; it ends when
there is none.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from msgspec import structs

from nasvit_edge.device import Device, load_device
from nasvit_edge.errors import BudgetError, NasvitEdgeError
from nasvit_edge.flows.prepared import Prepared, content, run
from nasvit_edge.latency import check_choice
from nasvit_edge.latency.selection import named
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.profile.subnets import Visit, device_of, measure_subnets
from nasvit_edge.searching.infeasible import InfeasibleError
from nasvit_edge.searching.limits import Limit
from nasvit_edge.searching.result import describe
from nasvit_edge.searching.saved import Confirmation, MeasuredCandidate, ResultFile
from nasvit_edge.searching.search import Candidate, SearchResult
from nasvit_edge.space import SubnetConfig
from nasvit_edge.transport.connect import connect
from nasvit_edge.transport.job import Runner
from nasvit_edge.transport.ways import Ways
from nasvit_edge.units import show_ms

_ROUNDS = 6
_MARGIN = 0.005  # aimed this far below the budget, so that noise does not turn each round's winner away


@dataclass(slots=True)
class _Loop:
    """What was measured so far: config -> (what was predicted of it, visits)."""

    budget_ms: float
    by: Literal["median", "p90"]
    begin: float = 1.0  # the factor before anything was measured: today's speed
    taken: dict[SubnetConfig, tuple[Candidate, list[Visit]]] = field(default_factory=dict)
    rounds: int = 0

    def value(self, config: SubnetConfig) -> float:
        """What has to be within the budget: the mean over visits."""
        return statistics.fmean(getattr(visit, f"{self.by}_ms") for visit in self.taken[config][1])

    def factor(self) -> float:
        """Measured over predicted, the median over what was measured; before, that of today's speed."""
        ratios = [self.value(config) / candidate.latency_ms for config, (candidate, _) in self.taken.items()]
        return statistics.median(ratios) if ratios else self.begin

    def best(self) -> Candidate | None:
        """The most accurate one that was measured within the budget."""
        inside = [
            candidate for config, (candidate, _) in self.taken.items() if self.value(config) <= self.budget_ms
        ]
        return max(inside, key=lambda candidate: (candidate.accuracy, -candidate.latency_ms), default=None)

    def report(self) -> Confirmation:
        rows = [self._row(candidate, visits) for candidate, visits in self.taken.values()]
        return Confirmation(by=self.by, rounds=self.rounds, factor=self.factor(), subnets=tuple(rows))

    def _row(self, candidate: Candidate, visits: list[Visit]) -> MeasuredCandidate:
        measured = {
            "median_ms": statistics.fmean(v.median_ms for v in visits),
            "p90_ms": statistics.fmean(v.p90_ms for v in visits),
        }
        inside = self.value(candidate.config) <= self.budget_ms
        return MeasuredCandidate(**structs.asdict(describe(candidate)) | measured, inside=inside)


def search_and_confirm(
    prepared: Prepared, *, resume_at: Path | None = None, listener: Listener = SILENT
) -> ResultFile:
    """Search, measure the best as many as the request says (`confirm`), correct, and repeat until the winner is measured within the budget.

    Returns:
        The result file, its status `confirmed`, `best` and `confirmation` with what was measured.

    Raises:
        BudgetError: nothing was measured within the budget.
        DeviceError: the device of the first table is another one, or cannot be reached.
    """
    by = prepared.request.confirm_by or "p90"
    check_choice("--confirm-by", by, ("median", "p90"))
    asked = [limit for limit in prepared.problem.limits if _is_own(limit)]
    if not asked:
        raise NasvitEdgeError("--confirm measures a latency; give --latency as well")
    if prepared.request.steady:
        raise NasvitEdgeError(
            "--confirm measures short runs, not a warm device; leave out --steady or --confirm"
        )
    today = prepared.today[0] if prepared.today else None
    begin = today.factor if today is not None and today.differs else 1.0
    loop = _Loop(min(limit.bound for limit in asked), "p90" if by == "p90" else "median", begin)
    with connect(_device(prepared), Ways(), listener) as runner:
        result = _rounds(prepared, resume_at, loop, runner, listener)
    best = loop.best()
    if best is None or result is None:
        raise _failed(loop)
    return _content(prepared, replace(result, best=best), loop)


def _device(prepared: Prepared) -> Device:
    """The first table's device, by its file where that was given: `--device my.toml`."""
    first = named(prepared.setting.tables[0].name)["device"]
    device = load_device(first) if first.endswith(".toml") else None
    return device_of(prepared.problem.tables[0], device)


def _rounds(
    prepared: Prepared, resume_at: Path | None, loop: _Loop, runner: Runner, listener: Listener
) -> SearchResult | None:
    """Search and measure until nothing new would be better; the last search's result."""
    result: SearchResult | None = None
    table = prepared.problem.tables[0]
    while loop.rounds < _ROUNDS:
        latest = _search(prepared, resume_at, loop, listener)
        result = latest or result
        new = _next(latest, loop, prepared.request.confirm or 1)
        if not new:
            break
        loop.rounds += 1
        configs = [c.config for c in new]
        measured = measure_subnets(
            table, configs, prepared.request.seed, listener, what="confirming", runner=runner
        )
        loop.taken |= {candidate.config: (candidate, measured[candidate.config]) for candidate in new}
        listener.note(_said(loop, new))
    return result


def _search(
    prepared: Prepared, resume_at: Path | None, loop: _Loop, listener: Listener
) -> SearchResult | None:
    """A search with corrected limits; None where the correction leaves nothing within them."""
    corrected = replace(prepared.problem, limits=_corrected(prepared.problem.limits, loop))
    try:
        renewed = replace(prepared, problem=corrected)
        return run(renewed, resume_at=resume_at, listener=listener)
    except InfeasibleError:
        if not loop.taken:
            raise
        return None


def _corrected(limits: Sequence[Limit], loop: _Loop) -> tuple[Limit, ...]:
    if loop.factor() == 1.0 and not loop.taken:
        return tuple(limits)
    latency = Limit.latency(loop.budget_ms, name="--latency", factor=loop.factor() * (1 + _MARGIN))
    return (latency, *(limit for limit in limits if not _is_own(limit)))


def _is_own(limit: Limit) -> bool:
    """Whether it is of the latency on the first table's device, which is measured."""
    return limit.quantity.is_time and limit.quantity.table == 0


def _next(result: SearchResult | None, loop: _Loop, count: int) -> list[Candidate]:
    """The most accurate of a front that were not measured and would beat the best that was."""
    best = loop.best()
    least = best.accuracy if best else -1.0
    front = sorted(result.front, key=lambda c: -c.accuracy) if result else []
    return [c for c in front if c.config not in loop.taken and c.accuracy > least][:count]


def _said(loop: _Loop, new: Sequence[Candidate]) -> str:
    inside = sum(loop.value(c.config) <= loop.budget_ms for c in new)
    return f"round {loop.rounds}: measured {len(new)}, {inside} with a {loop.by} within {show_ms(loop.budget_ms)}; {loop.by} is {loop.factor():.3f} of predictions"


def _failed(loop: _Loop) -> BudgetError:
    fastest = min(map(loop.value, loop.taken), default=float("nan"))
    return BudgetError(
        f"no subnet was measured with a {loop.by} within {show_ms(loop.budget_ms)} in {loop.rounds} rounds: the fastest of "
        f"{len(loop.taken)} took {show_ms(fastest)}; give a larger budget, or profile this machine again"
    )


def _content(prepared: Prepared, result: SearchResult, loop: _Loop) -> ResultFile:
    report = loop.report()
    file = content(prepared, result)
    winner = next(row for row in report.subnets if row.config == file.best.config)
    best = structs.replace(file.best, median_ms=winner.median_ms, p90_ms=winner.p90_ms)
    return structs.replace(file, best=best, status="confirmed", confirmation=report, budget_ms=loop.budget_ms)
