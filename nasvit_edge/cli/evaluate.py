"""`nasvit-edge evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nasvit_edge.cli.export import print_scenes
from nasvit_edge.cli.output import (
    TERMINAL,
    note,
    note_unchecked,
    print_json,
    print_table,
    progress,
    waiting,
)
from nasvit_edge.listening import SILENT
from nasvit_edge.requests.evaluate import Request
from nasvit_edge.units import show_count

if TYPE_CHECKING:
    from nasvit_edge.searching.evaluated import EvaluatedSubnet


def evaluate(request: Request, as_json: bool) -> None:
    """Example:  nasvit-edge evaluate model.onnx --data bundled

    Top-1 of an exported file on test images (of a segmenter mean IoU on scenes), by the file's own runtime; or,
    with --supernet W instead of a file, of subnets of a supernet, each with its batch norm calibrated:

    nasvit-edge evaluate --supernet nano --data bundled --subnets min,max,random:20
    """
    from nasvit_edge.flows import evaluate as flow

    flow.refuse_mixed(request)
    if request.artifact is None:
        _supernet(request, as_json)
    else:
        _artifact(request, request.artifact, as_json)


def _artifact(request: Request, artifact: Path, as_json: bool) -> None:
    from nasvit_edge.export import arithmetic, verification
    from nasvit_edge.flows import evaluate as flow

    with waiting("evaluating"):
        report = flow.evaluate_artifact(request, TERMINAL)
    note_unchecked(artifact, report.checked)
    if as_json:
        print_json(report)
        return
    if report.arithmetic is not None:
        note(arithmetic.line(report.arithmetic, report.precision))
    if isinstance(report, verification.OnScenes):
        print_scenes(report)
        note(report.trained_on.told)
        return
    row = [
        report.artifact,
        report.data,
        f"{report.correct} of {report.images}",
        f"{report.accuracy:.2%}",
    ]
    print_table(["artifact", "images", "correct", "top-1"], [row])
    note(f"images prepared as {report.chain}")
    note(report.trained_on.told)


def _supernet(request: Request, as_json: bool) -> None:
    from nasvit_edge.flows import evaluate as flow
    from nasvit_edge.report.evaluate_text import remarks
    from nasvit_edge.searching.evaluated import OfScenes
    from nasvit_edge.searching.images import is_first

    with progress("measuring subnets") as show:
        report = flow.evaluate(request, show if is_first() else SILENT)
    if not is_first():
        return
    if as_json:
        print_json(report)
    else:
        metrics = ["mean IoU", "pixels"] if isinstance(report, OfScenes) else ["top-1"]
        print_table(
            ["about", "subnet", "MACs", "parameters", *metrics], [_row(row) for row in report.subnets]
        )
    for line in remarks(report):
        note(line)
    if request.out is not None:
        note(f"wrote {request.out}")


def _row(row: EvaluatedSubnet) -> list[str]:
    from nasvit_edge.searching.evaluated import SceneRow

    shares = [row.accuracy, row.pixel_accuracy] if isinstance(row, SceneRow) else [row.accuracy]
    sizes = [show_count(row.macs), show_count(row.parameters)]
    return [row.name, row.config.line(), *sizes, *(f"{share:.2%}" for share in shares)]
