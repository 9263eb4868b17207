"""`nasvit-edge evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasvit_edge.cli import options
from nasvit_edge.cli.export import print_scenes
from nasvit_edge.cli.output import (
    note,
    note_unchecked,
    print_json,
    print_table,
    progress,
    waiting,
)
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.preparation import PUBLISHED
from nasvit_edge.units import show_count

if TYPE_CHECKING:
    from nasvit_edge.flows.evaluate import Row


@options.with_weights_key
def evaluate(
    artifact: Annotated[Path | None, typer.Argument(help="An exported model file.")] = None,
    supernet: options.Supernet = None,
    data: Annotated[
        str,
        typer.Option(
            help="Labelled images: bundled, fashion-mnist, cifar10, cifar100, or a folder with one folder per class; scenes with their masks."
        ),
    ] = "bundled",
    labels_in_order: options.LabelsInOrder = False,
    subnets: Annotated[
        str | None,
        typer.Option(
            show_default="min,max,random:20",
            help="Of the supernet: min, max, random:N, or a JSON file (a list of configs, or a result file).",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            show_default="test; of a supernet validation",
            help="The images judged on: test, validation, or all of a folder that has no splits.",
        ),
    ] = None,
    calibration_images: Annotated[
        int | None,
        typer.Option(
            min=1, max=4096, show_default="4096", help="Training images that each subnet is calibrated on."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=256, show_default="a core each", help="Processes that measure subnets."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the subnets as CSV.")] = None,
    chain: Annotated[
        str,
        typer.Option(
            help="How images are prepared: published (as trained: by the space's image size) or deployed (straight to the subnet's resolution)."
        ),
    ] = PUBLISHED,
    seed: Annotated[
        int | None, typer.Option(min=0, show_default="0", help="Of random:N; same seed, same subnets.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=256, show_default="1", help="Of an exported file's runtime.")
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="The space of the supernet, or the TOML of a space of your own.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Example:  nasvit-edge evaluate model.onnx --data bundled

    Top-1 of an exported file on test images (of a segmenter mean IoU on scenes), by the file's own runtime; or,
    with --supernet W instead of a file, of subnets of a supernet, each with its batch norm calibrated:

    nasvit-edge evaluate --supernet nano --data bundled --subnets min,max,random:20
    """
    own = {
        "--subnets": subnets,
        "--calibration-images": calibration_images,
        "--workers": workers,
        "--out": out,
        "--seed": seed,
    }
    if (artifact is None) == (supernet is None):
        raise NasvitEdgeError(
            "evaluate takes either an exported file or --supernet WEIGHTS: give one of them"
        )
    both = {"data": data, "in_order": labels_in_order, "chain": chain}
    if supernet is None:
        given = [name for name, value in own.items() if value is not None]
        if given:
            raise NasvitEdgeError(f"{given[0]} is for evaluate --supernet WEIGHTS, not for an exported file")
        assert artifact is not None
        own_options = {"threads": threads or 1, "space_path": space, "split": split or "test"}
        _artifact(artifact, own_options | both, as_json)
        return
    if threads is not None:
        raise NasvitEdgeError(f"--threads {threads} is for an exported file; with --supernet give --workers")
    given_values = {
        name.strip("-").replace("-", "_"): value for name, value in own.items() if value is not None
    }
    asked = {"supernet": supernet, "space": space, "split": split or "validation"} | both
    _supernet(asked | given_values, as_json)


def _artifact(artifact: Path, values: dict[str, Any], as_json: bool) -> None:
    from nasvit_edge.export import arithmetic, verification

    with waiting("evaluating"):
        report = verification.evaluate(artifact, note=note, **values)
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


def _supernet(values: dict[str, Any], as_json: bool) -> None:
    from nasvit_edge.data_sets.slices import silent
    from nasvit_edge.flows import evaluate as flow
    from nasvit_edge.searching.images import is_first

    request = flow.Request(**values)
    with progress("measuring subnets") as show:
        report = flow.evaluate(request, show, note if is_first() else silent)
    if not is_first():
        return
    if as_json:
        print_json(report)
    else:
        metrics = ["mean IoU", "pixels"] if isinstance(report, flow.OfScenes) else ["top-1"]
        print_table(
            ["about", "subnet", "MACs", "parameters", *metrics], [_row(row) for row in report.subnets]
        )
    for line in flow.remarks(report):
        note(line)
    if request.out is not None:
        note(f"wrote {request.out}")


def _row(row: Row) -> list[str]:
    from nasvit_edge.flows.evaluate import SceneRow

    shares = [row.accuracy, row.pixel_accuracy] if isinstance(row, SceneRow) else [row.accuracy]
    sizes = [show_count(row.macs), show_count(row.parameters)]
    return [row.name, row.config.line(), *sizes, *(f"{share:.2%}" for share in shares)]
