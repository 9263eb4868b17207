"""`nasvit-edge accuracy`."""

from __future__ import annotations

import typer

from nasvit_edge.cli.adapter import adapted
from nasvit_edge.cli.output import note, print_json, print_table, progress
from nasvit_edge.hints import command
from nasvit_edge.requests.accuracy import Request

accuracy = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Example:  nasvit-edge accuracy fit --supernet W --data D\n\n"
    "Accuracy predictors, so that searching does not have to measure.",
)


def fit(request: Request, as_json: bool) -> None:
    """Example:  nasvit-edge accuracy fit --supernet nano.safetensors --data fashion-mnist --samples 200

    Measure subnets on images, each calibrated by itself, and fit a predictor that `search --accuracy FILE` takes.
    Reports its error on subnets left out. Kill it when you like: what was measured is kept.
    """
    from nasvit_edge.flows import fitting

    with progress("measuring subnets") as show:
        fitted = fitting.fit(request, listener=show)
    if as_json:
        print_json(fitted)
    else:
        validation = fitted.validation
        rows = [
            ["subnets measured", str(validation.subnets)],
            ["error on subnets left out (RMSE)", f"{100 * validation.rmse:.2f} points"],
            ["largest", f"{100 * validation.largest:.2f} points"],
            ["Kendall tau", "-" if validation.tau is None else f"{validation.tau:.3f}"],
        ]
        print_table(["predictor", ""], rows, fitted.source)
    following = command("search", space=request.space, accuracy=request.out, latency="20ms")
    note(f"wrote {request.out}; next: {following}")


accuracy.command("fit", short_help="Fit a predictor to measured subnets.")(adapted(fit))
