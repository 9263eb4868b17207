"""`nasvit-edge report history`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from nasvit_edge.cli.output import harmless, note, print_json, show_table
from nasvit_edge.requests.report import History

if TYPE_CHECKING:
    from nasvit_edge.report.history_line import Line


def history(request: History, as_json: bool) -> None:
    """Example:  nasvit-edge report history bench-history --device jetson --metric latency_p50 --html history.html

    Every run that `report bench --history` kept: the levels of each artifact's figure, since when and which commit,
    and what else changed there. A step is no verdict: exit code 0.
    """
    from nasvit_edge.flows import history as flow

    lines = flow.read_lines(request)
    if as_json:
        print_json(flow.to_dict(lines))
    else:
        for line in lines:
            _show(line)
    if request.html is not None:
        note(f"wrote {request.html}")


def _show(line: Line) -> None:
    """What the line is, its picture, and a table of a row a level."""
    from nasvit_edge.report import history_line as text

    picture = text.sparkline([point.value for point in line.points])
    typer.echo(f"{harmless(line.name)}\n{harmless(text.summary(line))}\n{picture}")
    show_table(text.level_table(line))
