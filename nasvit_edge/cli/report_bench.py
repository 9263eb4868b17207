"""`nasvit-edge report bench` and `report history`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasvit_edge.cli import options
from nasvit_edge.cli.benchmark import show_report
from nasvit_edge.cli.errors import reported
from nasvit_edge.cli.output import note, print_json
from nasvit_edge.cli.report_history import history

_File = Path | None


def bench(
    results: Annotated[list[Path], typer.Argument(help="Result files of `nasvit-edge benchmark`.")],
    baseline: Annotated[
        _File, typer.Option(help="A stored result of the same device: shown as a trend, never a verdict.")
    ] = None,
    budget: Annotated[_File, typer.Option(help="Limits as TOML; see docs/ci.md.")] = None,
    min_effect: Annotated[
        str | None, typer.Option(show_default="3%", help="The smallest change that counts.")
    ] = None,
    alpha: Annotated[
        str, typer.Option(help="Chance of a false alarm; intervals are of level 1 - 2 alpha.")
    ] = "1%",
    gate: Annotated[
        list[str] | None,
        typer.Option(help="Metrics whose regression fails, instead of the usual ones; repeatable."),
    ] = None,
    history: Annotated[
        _File,
        typer.Option(help="Append to this JSONL file (or one a device in a folder), and show its line."),
    ] = None,
    markdown: Annotated[_File, typer.Option(help="Write a pull-request comment.")] = None,
    html: Annotated[_File, typer.Option(help="Write a page that opens without network.")] = None,
    junit: Annotated[_File, typer.Option(help="Write JUnit XML.")] = None,
    github: Annotated[
        _File, typer.Option("--github-action-benchmark", help="Write its customSmallerIsBetter JSON.")
    ] = None,
    bencher: Annotated[_File, typer.Option(help="Write Bencher Metric Format JSON.")] = None,
    out: Annotated[_File, typer.Option(help="Write the report as JSON.")] = None,
    as_json: options.Json = False,
) -> None:
    """Example:  nasvit-edge report bench benchmark.json --budget budgets.toml --markdown comment.md --html report.html

    A verdict for each artifact, device and metric. Exit code 0: pass; 1: a regression or a budget; 2: bad input;
    3: a measurement that does not hold.
    """
    from nasvit_edge.flows import report_bench as flow

    request = flow.Request(
        results=tuple(results),
        baseline=baseline,
        budgets=budget,
        min_effect=min_effect,
        alpha=alpha,
        gates=tuple(gate or ()),
        history=history,
        outputs={
            "markdown": markdown,
            "html": html,
            "junit": junit,
            "github-action-benchmark": github,
            "bencher": bencher,
            "json": out,
        },
    )
    made, written = flow.go(request)
    if as_json:
        print_json(made.to_dict())
    else:
        show_report(made)
        note(made.headline)
    for path in written:
        note(f"wrote {path}")
    raise typer.Exit(made.exit_code)


def add_to(report: typer.Typer) -> None:
    """Make these commands of `report`."""
    report.command("bench", short_help="Verdicts on benchmark results, for people and for CI.")(
        reported(bench)
    )
    report.command("history", short_help="Levels and steps of all benchmarks that were kept.")(
        reported(history)
    )
