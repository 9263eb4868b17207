"""`report bench`: results in; verdicts, files and a history out."""

from __future__ import annotations

from collections.abc import Sequence
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


def judge(request: Bench) -> tuple[BenchmarkReport, list[Path]]:
    """The report, and what was written.

    Raises:
        NasvitEdgeError: options, results or budgets that do not fit; nothing is written then.
    """
    rule = _rule(request)
    budgets = [] if request.budget is None else read_budgets(request.budget)
    results = [read_result(path) for path in request.results]
    stored = None if request.baseline is None else read_result(request.baseline)
    explicit = request.min_effect is not None
    report = make_report(results, rule, budgets=budgets, baseline=stored, explicit=explicit)
    before = read_history(request.history) if request.history else []
    paths = []
    if request.history is not None:
        paths += append(request.history, report)
        before = read_history(request.history)
    for form, path in _outputs(request).items():
        if path is not None:
            files.writable_folder(path.parent)
            _write(form, path, report, before)
            paths.append(path)
    return report, paths


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
