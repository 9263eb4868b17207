"""`nasvit-edge export` and `nasvit-edge verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasvit_edge.cli import options
from nasvit_edge.cli.output import note, print_json, print_table, waiting

Artifact = Annotated[Path, typer.Argument(help="An exported model file, with its sidecar beside it.")]


def export(
    result: Annotated[Path | None, typer.Argument(help="A result file of `search`.")] = None,
    format_name: Annotated[str, typer.Option("--format", help="onnx or tflite.")] = "onnx",
    out: Annotated[
        Path | None, typer.Option(help="The file to write; by default SPACE.onnx and the like.")
    ] = None,
    space: Annotated[str | None, typer.Option(help="With --config: the search space.")] = None,
    supernet: options.Supernet = None,
    config: Annotated[
        Path | None, typer.Option(help="An explicit subnet: the JSON of config.to_dict().")
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(help="Images to calibrate batch norm on: bundled, fashion-mnist, or a folder."),
    ] = None,
    uncalibrated: Annotated[bool, typer.Option("--uncalibrated", help="Export without calibration.")] = False,
    precision: options.Precision = "fp32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: options.Json = False,
) -> None:
    """Example:  nasvit-edge export search.json --format onnx --out model.onnx

    Write the searched subnet, or an explicit one (--space S --supernet W --config FILE.json), and check
    the file against the elastic supernet.
    """
    from nasvit_edge.flows import export as flow

    request = flow.Request(
        result=result,
        space=space,
        supernet=supernet,
        config=config,
        calibrate=calibrate,
        uncalibrated=uncalibrated,
        format_name=format_name,
        precision=precision,
        out=out,
        overwrite=overwrite,
    )
    with waiting(f"exporting to {format_name}"):
        report = flow.export(request, note=note)
    if as_json:
        print_json(report)
        return
    print_table(["artifact", "error", "allowed", "size"], [_row(report)])


def verify(
    artifact: Artifact,
    supernet: options.Supernet = None,
    space: Annotated[str | None, typer.Option(help="The TOML of a space of your own.")] = None,
    as_json: options.Json = False,
) -> None:
    """Example:  nasvit-edge verify model.onnx

    Repeat the numerical check of an exported file against the elastic supernet.
    """
    from nasvit_edge.flows import export as flow

    with waiting("verifying"):
        report = flow.verify(artifact, weights=supernet, space=space)
    if as_json:
        print_json(report)
    else:
        print_table(["artifact", "error", "allowed", "size"], [_row(report)])
        note(
            f"checked on {report['inputs']} inputs, {report['real_images']} of them real images; reference: {report['reference']}"
        )
    if not report["passed"]:
        raise SystemExit(1)


def _row(report: dict[str, object]) -> list[str]:
    error, allowed = report["error"], report["tolerance"]
    return [
        str(report["artifact"]),
        f"{error:.1e}",
        f"{allowed:.0e}",
        f"{int(str(report['bytes'])) / 1e6:.2f} MB",
    ]
