"""What `nasvit-edge export` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nasvit_edge.requests import options


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Either `result` (with `supernet` where it names none), or `space`, `supernet` and `config`.

    Attributes:
        labels_in_order: where a searched subnet is measured again; a result file says so where its search was told.
    """

    result: options.Result = None
    format_name: Annotated[str, typer.Option("--format", help="onnx, tflite, coreml or tensorrt.")] = "onnx"
    out: Annotated[
        Path | None, typer.Option(help="The file to write; by default SPACE.onnx and the like.")
    ] = None
    space: options.SpaceOfConfig = None
    supernet: options.Supernet = None
    config: options.Config = None
    calibrate: Annotated[
        str | None,
        typer.Option(help="Images to calibrate batch norm on: bundled, fashion-mnist, or a folder."),
    ] = None
    labels_in_order: options.LabelsInOrder = False
    uncalibrated: Annotated[bool, typer.Option("--uncalibrated", help="Export without calibration.")] = False
    precision: Annotated[
        str,
        typer.Option(
            help="Numbers of the model: fp32, fp16, int8, dynamic (linear layers in int8, TFLite) or w8 (8-bit weights only)."
        ),
    ] = "fp32"
    batch: Annotated[str, typer.Option(help="Images a call: a number, or dynamic.")] = "1"
    output: Annotated[
        str | None,
        typer.Option(show_default="labels", help="Of a segmenter: labels (argmax inside) or logits."),
    ] = None
    force: Annotated[bool, typer.Option("--force", help="Keep a file that fails its check, marked.")] = False
    bundle: Annotated[
        bool, typer.Option("--bundle", help="Also a folder with model, labels and programs that use it.")
    ] = False
    cached: Annotated[bool, typer.Option("--cache/--no-cache", help="Reuse what was exported before.")] = True
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False
