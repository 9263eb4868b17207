"""`nasvit-edge quickstart`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasvit_edge.cli import options
from nasvit_edge.cli.output import note, print_json, print_table, progress


def quickstart(
    out: Annotated[Path, typer.Option(help="The folder for everything that is made.")] = Path(
        "nasvit-edge-quickstart"
    ),
    latency: Annotated[str | None, typer.Option(help="A budget of your own, like 300us.")] = None,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Example:  nasvit-edge quickstart

    Profile this machine, search the bundled supernet for it, export ONNX and TFLite, verify both, and
    measure them: predicted against measured, in a short report. A few minutes.
    """
    from nasvit_edge.flows import quickstart as flow

    with progress("quickstart") as show:
        report = flow.quickstart(out, latency, seed, note=note, on_progress=show)
    if as_json:
        print_json(report)
        return
    print_table(flow.COLUMNS, flow.rows(report), report.headline)
    note(f"wrote {out / 'report.md'} and everything beside it")
