"""`nasvit-edge accuracy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasvit_edge.cli import options
from nasvit_edge.cli.errors import reported
from nasvit_edge.cli.output import note, print_json, print_table, progress
from nasvit_edge.hints import command

accuracy = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Example:  nasvit-edge accuracy fit --supernet W --data D\n\n"
    "Accuracy predictors, so that searching does not have to measure.",
)


@options.with_weights_key
def fit(
    supernet: options.Supernet = None,
    data: Annotated[
        str | None,
        typer.Option(help="Images to measure on: bundled, fashion-mnist, a folder; scenes (mean IoU)."),
    ] = None,
    labels_in_order: options.LabelsInOrder = False,
    space: options.Space = "nano",
    samples: Annotated[int, typer.Option(help="Subnets to measure.")] = 200,
    out: options.Out = Path("accuracy.json"),
    measured: Annotated[
        Path | None,
        typer.Option(help="A CSV or JSON of subnets measured before, by evaluate --supernet W --out FILE."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="Processes that measure.")] = None,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Example:  nasvit-edge accuracy fit --supernet nano.safetensors --data fashion-mnist --samples 200

    Measure subnets on images, each calibrated by itself, and fit a predictor that `search --accuracy FILE` takes.
    Reports its error on subnets left out. Kill it when you like: what was measured is kept.
    """
    from nasvit_edge import files
    from nasvit_edge.flows import fitting

    files.writable_folder(out.parent)
    with progress("measuring subnets") as show:
        found = fitting.fit(
            space=space,
            supernet=supernet,
            data=data,
            samples=samples,
            seed=seed,
            out=out,
            workers=workers,
            measured=measured,
            in_order=labels_in_order,
            on_progress=show,
            note=note,
        )
    if as_json:
        print_json(found)
    else:
        validation = found["validation"]
        rows = [
            ["subnets measured", str(validation["subnets"])],
            ["error on subnets left out (RMSE)", f"{100 * validation['rmse']:.2f} points"],
            ["largest", f"{100 * validation['largest']:.2f} points"],
            ["Kendall tau", "-" if validation["tau"] is None else f"{validation['tau']:.3f}"],
        ]
        print_table(["predictor", ""], rows, found["source"])
    note(f"wrote {out}; next: {command('search', space=space, accuracy=out, latency='20ms')}")


accuracy.command("fit", short_help="Fit a predictor to measured subnets.")(reported(fit))
