"""`nasvit-edge benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nasvit_edge.cli import options
from nasvit_edge.cli.output import note, print_json, progress, show_table
from nasvit_edge.hints import command

if TYPE_CHECKING:
    from nasvit_edge.benchmark.report import Report

_Text = str | None


def benchmark(
    artifacts: Annotated[
        list[Path], typer.Argument(help="Exported model files, or others of their formats.")
    ],
    baseline: Annotated[
        list[Path] | None,
        typer.Option(help="What they are compared with, measured in turns: one for all, or one for each."),
    ] = None,
    device: options.Device = "host",
    rounds: Annotated[
        int, typer.Option(min=1, max=1000, help="Fresh processes an artifact; 8 find 5 %, 12 more surely.")
    ] = 8,
    runtime: Annotated[
        _Text, typer.Option(show_default="the device's first for the format", help="onnxruntime, litert, ...")
    ] = None,
    threads: Annotated[
        int, typer.Option(min=0, max=256, show_default="the device's", help="Of the runtime.")
    ] = 0,
    aa: Annotated[
        bool, typer.Option("--aa", help="Measure each artifact against itself: the device's noise floor.")
    ] = False,
    data: Annotated[
        _Text,
        typer.Option(help="Labelled images for top-1: bundled, cifar10, a folder, ...; scenes for mean IoU."),
    ] = None,
    labels_in_order: options.LabelsInOrder = False,
    space: Annotated[
        list[str] | None,
        typer.Option(
            help="The TOML of a space of your own that an artifact is from, for --data and predictions; repeatable."
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.01, max=600, help="Of samples in a round, at least.")] = 0.5,
    address: Annotated[_Text, typer.Option(help="Of an ssh device: user@host.")] = None,
    serial: Annotated[_Text, typer.Option(help="Of an Android device, as `adb devices` lists it.")] = None,
    lock_clocks: Annotated[
        bool, typer.Option("--lock-clocks", help="Set fixed clocks meanwhile; restored afterwards.")
    ] = False,
    wait: Annotated[str, typer.Option(help="For a device that is away.")] = "10m",
    seed: options.Seed = 0,
    out: Annotated[Path, typer.Option(help="The result file.")] = Path("benchmark.json"),
    as_json: options.Json = False,
) -> None:
    """Example:  nasvit-edge benchmark new.onnx --baseline old.onnx --device host --out benchmark.json

    Time model files in fresh processes that take turns, and keep every sample. `nasvit-edge report bench` gives
    the verdict. Exit code 3 where the measurement does not hold.
    """
    from nasvit_edge.benchmark.plan import Protocol
    from nasvit_edge.benchmark.report import make_report
    from nasvit_edge.benchmark.verdicts import Rule
    from nasvit_edge.flows import benchmark as flow
    from nasvit_edge.transport.ways import Ways
    from nasvit_edge.units import seconds as parsed

    request = flow.Request(
        artifacts=tuple(artifacts),
        baselines=tuple(baseline or ()),
        device=device,
        runtime=runtime,
        aa=aa,
        data=data,
        in_order=labels_in_order,
        spaces=tuple(space or ()),
        protocol=Protocol(
            rounds=rounds, seconds=seconds, most_seconds=max(3.0, 4 * seconds), threads=threads, seed=seed
        ),
        ways=Ways(lock_clocks=lock_clocks, wait_s=parsed(wait)),
        address=address,
        serial=serial,
        out=out,
    )
    with progress("benchmark") as show:
        result = flow.run(request, note=note, on_progress=show)
    made = make_report([result], Rule())
    if as_json:
        print_json(made.to_dict())
    else:
        show_report(made)
    note(f"wrote {out}; next: {command('report', 'bench', out)}")
    if any(cell.verdict == "invalid" for cell in made.cells):
        raise typer.Exit(3)


def show_report(report: Report) -> None:
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
