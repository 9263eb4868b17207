"""`nasvit-edge report history`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nasvit_edge.cli import options
from nasvit_edge.cli.output import harmless, note, print_json, show_table

if TYPE_CHECKING:
    from nasvit_edge.report.history_line import Line


def history(
    path: Annotated[
        Path, typer.Argument(help="What `report bench --history` appends to: a file or a folder.")
    ],
    device: Annotated[
        str | None, typer.Option(show_default="all", help="Only this device; * and ? are possible.")
    ] = None,
    artifact: Annotated[
        str | None, typer.Option(show_default="all", help="Only this artifact; * and ? are possible.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(show_default="latency_p50", help="latency_p90, size, top1, ...; repeatable."),
    ] = None,
    last: Annotated[int | None, typer.Option(min=1, help="Only so many runs of each line.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page that opens without network.")] = None,
    as_json: options.Json = False,
) -> None:
    """Example:  nasvit-edge report history bench-history --device jetson --metric latency_p50 --html history.html

    Every run that `report bench --history` kept: the levels of each artifact's figure, since when and which commit,
    and what else changed there. A step is no verdict: exit code 0.
    """
    from nasvit_edge.flows import history as flow

    request = flow.Request(
        path=path,
        device=device,
        artifact=artifact,
        metrics=tuple(dict.fromkeys(metric or ("latency_p50",))),
        last=last,
        html=html,
    )
    lines = flow.go(request)
    if as_json:
        print_json(flow.to_dict(lines))
    else:
        for line in lines:
            _show(line)
    if html is not None:
        note(f"wrote {html}")


def _show(line: Line) -> None:
    """What the line is, its picture, and a table of a row a level."""
    from nasvit_edge.report import history_line as text

    picture = text.sparkline([point.value for point in line.points])
    typer.echo(f"{harmless(line.name)}\n{harmless(text.summary(line))}\n{picture}")
    show_table(text.level_table(line))
