"""`nasvit-edge evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from nasvit_edge.cli import options
from nasvit_edge.cli.export import Artifact
from nasvit_edge.cli.output import print_json, print_table, waiting


def evaluate(
    artifact: Artifact,
    data: Annotated[
        str,
        typer.Option(help="Labelled images: bundled, fashion-mnist, or a folder with one folder per class."),
    ] = "bundled",
    threads: options.Threads = 1,
    space: Annotated[str | None, typer.Option(help="The TOML of a space of your own.")] = None,
    as_json: options.Json = False,
) -> None:
    """Example:  nasvit-edge evaluate model.onnx --data bundled

    Top-1 of an exported file on test images, by the file's own runtime.
    """
    from nasvit_edge.export import verification

    with waiting("evaluating"):
        report = verification.evaluate(artifact, data, threads=threads, space_path=space)
    if as_json:
        print_json(report)
        return
    row = [
        report["artifact"],
        report["data"],
        f"{report['correct']} of {report['images']}",
        f"{report['accuracy']:.2%}",
    ]
    print_table(["artifact", "images", "correct", "top-1"], [row])
