"""`nasvit-edge benchmark`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from nasvit_edge.cli.output import note, print_json, progress, show_table
from nasvit_edge.hints import command
from nasvit_edge.requests.benchmark import Request

if TYPE_CHECKING:
    from nasvit_edge.benchmark.report import BenchmarkReport


def benchmark(request: Request, as_json: bool) -> None:
    """Example:  nasvit-edge benchmark new.onnx --baseline old.onnx --device host --out benchmark.json

    Time model files in fresh processes that take turns, and keep every sample. `nasvit-edge report bench` gives
    the verdict. Exit code 3 where the measurement does not hold.
    """
    from nasvit_edge.benchmark.report import make_report
    from nasvit_edge.benchmark.verdicts import Rule
    from nasvit_edge.flows import benchmark as flow

    with progress("benchmark") as show:
        result = flow.run(request, listener=show)
    report = make_report([result], Rule())
    if as_json:
        print_json(report.to_dict())
    else:
        show_report(report)
    note(f"wrote {request.out}; next: {command('report', 'bench', request.out)}")
    if any(cell.verdict == "invalid" for cell in report.cells):
        raise typer.Exit(3)


def show_report(report: BenchmarkReport) -> None:
    """The report's tables, then what the runs say of themselves."""
    from nasvit_edge.report.bench import document
    from nasvit_edge.report.model import Form, Table

    for section in document(report).shown(Form.TERMINAL):
        for table in (part for part in section.parts if isinstance(part, Table)):
            show_table(table, section.title)
    for cell in report.cells:
        if cell.verdict == "invalid":
            note(f"invalid: {cell.artifact.name}, {cell.metric.name}: {cell.reason}")
    for remark in report.remarks:
        note(remark)
    if report.trends:
        note("trends are of two runs, minutes or days apart: they are no verdicts")
