"""The command line: options only; the work is done by the floors below."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from nasvit_edge import trusting
from nasvit_edge.cli import (
    accuracy,
    adopt,
    benchmark,
    cache,
    devices,
    doctor,
    evaluate,
    export,
    finetune,
    profile,
    quickstart,
    report,
    report_bench,
    search,
    tables,
    train,
)
from nasvit_edge.cli.adapter import adapted
from nasvit_edge.cli.errors import leave
from nasvit_edge.cli.output import speak

app = typer.Typer(
    name="nasvit-edge",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Find the most accurate NASViT subnet for a latency budget measured on your device, and ship it.\n\n"
    "Start with:  nasvit-edge quickstart",
)


def _version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        typer.echo(importlib.metadata.version("nasvit-edge"))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    trust_code: Annotated[
        list[str] | None,
        typer.Option(
            help="module:function: run this program where a space says that it makes the network; repeatable."
        ),
    ] = None,
) -> None:
    del version
    for source in trust_code or ():
        trusting.trust(source)


app.command("quickstart", short_help="Profile, search, export, verify and report on the bundled supernet.")(
    adapted(quickstart.quickstart)
)
app.add_typer(devices.devices, name="devices", short_help="Devices: list, show, check.")
app.command("profile", short_help="Time every op of a space on a device.")(adapted(profile.profile))
app.add_typer(tables.tables, name="tables", short_help="Latency tables: list, show, diff, validate, import.")
app.command("predict", short_help="The latency of a subnet, with its interval.")(adapted(tables.predict))
app.command("search", short_help="The most accurate subnet within a latency budget.")(adapted(search.search))
app.command("explain", short_help="Why this subnet: stages, and what changes would cost and bring.")(
    adapted(search.explain)
)
app.add_typer(accuracy.accuracy, name="accuracy", short_help="Accuracy predictors: fit.")
app.command("export", short_help="Write a subnet as ONNX, TFLite, Core ML or TensorRT, checked.")(
    adapted(export.export)
)
app.command("verify", short_help="Repeat an exported file's numerical check.")(adapted(export.verify))
app.command("evaluate", short_help="Top-1 of an exported file, or of subnets of a supernet.")(
    adapted(evaluate.evaluate)
)
app.command("doctor", short_help="The environment, or where an exported file's ops can run.")(
    adapted(doctor.doctor)
)
app.command("cache", short_help="What is kept of earlier exports: show or clear.")(adapted(cache.cache))
app.command("benchmark", short_help="Time model files on a device, in turns with their baselines.")(
    adapted(benchmark.benchmark)
)
report_bench.add_to(report.report)
app.add_typer(report.report, name="report", short_help="Benchmarks (verdicts, history) and training runs.")
app.command("train", short_help="Train a supernet.")(adapted(train.train))
app.command("adopt", short_help="Make a pretrained network elastic on your photographs.")(
    adapted(adopt.adopt)
)
app.command("finetune", short_help="Train one subnet on, also for other classes or for int8.")(
    adapted(finetune.finetune)
)


def main() -> None:
    """The `nasvit-edge` program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            speak(stream)
    try:
        app()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        leave(130)
    except SystemExit as end:
        leave(end.code)
