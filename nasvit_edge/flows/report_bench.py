"""`report bench`: results in; verdicts, files and a history out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nasvit_edge import files
from nasvit_edge.benchmark.budgets import read_budgets
from nasvit_edge.benchmark.history import Point, append, read_history
from nasvit_edge.benchmark.metrics import METRICS
from nasvit_edge.benchmark.report import BenchmarkReport, make_report
from nasvit_edge.benchmark.result import read_result
from nasvit_edge.benchmark.verdicts import Rule
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.requests.report import Bench
from nasvit_edge.units import share


@dataclass(frozen=True, slots=True)
class Judged:
    """A report, the files that were written, and why its figures are not in the history, where they should be."""

    report: BenchmarkReport
    paths: tuple[Path, ...]
    fault: NasvitEdgeError | None


def judge(request: Bench) -> Judged:
    """The report, written in all forms that are asked for; a history at fault keeps none of them from being written.

    Raises:
        NasvitEdgeError: options, results or budgets that do not fit; nothing is written then.
    """
    rule = _rule(request)
    budgets = [] if request.budget is None else read_budgets(request.budget)
    results = [read_result(path) for path in request.results]
    stored = None if request.baseline is None else read_result(request.baseline)
    explicit = request.min_effect is not None
    report = make_report(results, rule, budgets=budgets, baseline=stored, explicit=explicit)
    paths, points, fault = _appended(request.history, report)
    if fault is not None:
        report = replace(report, remarks=(*report.remarks, f"not in the history: {fault}"))
    for form, path in _outputs(request).items():
        if path is not None:
            files.writable_folder(path.parent)
            _write(form, path, report, points)
            paths.append(path)
    return Judged(report, tuple(paths), fault)


def _appended(
    path: Path | None, report: BenchmarkReport
) -> tuple[list[Path], list[Point], NasvitEdgeError | None]:
    """Files that the report's figures were added to, all points there are then, and what is wrong with the history."""
    if path is None:
        return [], [], None
    paths: list[Path] = []
    fault = None
    try:
        paths = append(path, report)
    except NasvitEdgeError as error:
        fault = error
    try:
        return paths, read_history(path), fault
    except NasvitEdgeError as error:
        return paths, [], fault or error


def _outputs(request: Bench) -> dict[str, Path | None]:
    """Form -> its file."""
    return {
        "markdown": request.markdown,
        "html": request.html,
        "junit": request.junit,
        "github-action-benchmark": request.github,
        "bencher": request.bencher,
        "json": request.out,
    }


def _rule(request: Bench) -> Rule:
    unknown = [name for name in request.gate or () if name not in METRICS]
    if unknown:
        raise NasvitEdgeError(f"--gate {unknown[0]!r} is no metric; there are {', '.join(METRICS)}")
    alpha = share(request.alpha)
    if not 0.0001 <= alpha <= 0.2:
        raise NasvitEdgeError(f"--alpha {request.alpha!r} is not between 0.01% and 20%")
    options = {} if request.min_effect is None else {"min_effect": share(request.min_effect)}
    return Rule(alpha=alpha, gates=frozenset(request.gate or ()) or None, **options)


def _write(form: str, path: Path, report: BenchmarkReport, before: Sequence[Point]) -> None:
    from nasvit_edge.report import bench_comment, bench_page, exchange, junit

    if form == "html":
        bench_page.write_html(report, path, before)
    elif form == "markdown":
        files.write_text(path, bench_comment.comment(report))
    elif form == "junit":
        files.write_text(path, junit.junit(report))
    elif form == "json":
        files.write_json(path, report.to_dict())
    else:
        files.write_json(path, exchange.FORMS[form](report))
