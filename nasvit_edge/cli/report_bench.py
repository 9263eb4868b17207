"""`nasvit-edge report bench` and `report history`."""

from __future__ import annotations

import typer

from nasvit_edge.cli.adapter import adapted
from nasvit_edge.cli.benchmark import show_report
from nasvit_edge.cli.output import note, print_json
from nasvit_edge.cli.report_history import history
from nasvit_edge.requests.report import Bench


def bench(request: Bench, as_json: bool) -> None:
    """Example:  nasvit-edge report bench benchmark.json --budget budgets.toml --markdown comment.md --html report.html

    A verdict for each artifact, device and metric. Exit code 0: pass; 1: a regression or a budget; 2: bad input;
    3: a measurement that does not hold. A history that cannot be used is told last, with 2, once all else is written.
    """
    from nasvit_edge.flows import report_bench as flow

    judged = flow.judge(request)
    report = judged.report
    if as_json:
        print_json(report.to_dict())
    else:
        show_report(report)
        note(report.headline)
    for path in judged.paths:
        note(f"wrote {path}")
    if judged.fault is not None:
        raise judged.fault
    raise typer.Exit(report.exit_code)


def add_to(report: typer.Typer) -> None:
    """Make these commands of `report`."""
    report.command("bench", short_help="Verdicts on benchmark results, for people and for CI.")(
        adapted(bench)
    )
    report.command("history", short_help="Levels and steps of all benchmarks that were kept.")(
        adapted(history)
    )
