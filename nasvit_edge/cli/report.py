"""`nasvit-edge report`."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nasvit_edge import records
from nasvit_edge.cli.adapter import adapted
from nasvit_edge.cli.output import note, print_json, print_table, progress, show_table
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.requests.report import ConflictsRequest as Asked
from nasvit_edge.requests.report import Runs

if TYPE_CHECKING:
    from nasvit_edge.report.conflicts import Summary
    from nasvit_edge.train.conflict_file import Conflicts

report = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="What benchmarks and training runs left behind."
)


def conflicts(request: Asked, as_json: bool) -> None:
    """Example:  nasvit-edge report conflicts runs/hybrid runs/cnn --html conflicts.html

    How often, and where, the gradients of the largest subnet and of the others have a negative cosine:
    over all parameters, and by stage and kind of layer. Several runs are put side by side.
    With --at STEP (or end) and --data: their cosine over 1, 4, 16, ... batches by kind of layer, which tells conflict from noise.
    """
    if request.at is not None:
        _show_agreement(request, as_json)
        return
    if request.data is not None or request.batches is not None:
        raise NasvitEdgeError(
            "--data and --batches are of --at, which says whose gradients are measured: add that"
        )
    from nasvit_edge.report.conflicts import summarise
    from nasvit_edge.train.conflict_file import read_conflicts

    chosen = [
        _chosen(read_conflicts(run), request.steps, request.from_epoch, request.to_epoch)
        for run in request.runs
    ]
    title = f"Gradient conflicts: {', '.join(run.name for run in chosen)}"
    paths = _written(chosen, title, request.html, request.png)
    summaries = [summarise(run) for run in chosen]
    if as_json:
        print_json({"schema": 1, "runs": [records.content(summary) for summary in summaries]})
    else:
        _show(chosen, summaries)
    for path in paths:
        note(f"wrote {path}")


def _show_agreement(request: Asked, as_json: bool) -> None:
    from nasvit_edge.flows import agreement as flow

    with progress("gradients") as show:
        agreed = flow.agreed(request, listener=show)
    if as_json:
        print_json(records.content(agreed))
        return
    kinds = list(dict.fromkeys(kind for each in agreed.agreements for kind in each.cosines))
    rows = [
        [
            f"{each.batches:,}",
            f"{each.images:,}",
            str(each.groups),
            "-" if each.error is None else f"{each.error:.2f}",
        ]
        + [f"{each.cosines[kind]:+.2f}" if kind in each.cosines else "-" for kind in kinds]
        for each in agreed.agreements
    ]
    title = f"cosine of the gradients of largest and others: {agreed.run} at {agreed.at}, {agreed.data}"
    print_table(["batches", "images", "groups", "error", *kinds], rows, title)
    note(agreed.verdict())


def _chosen(run: Conflicts, steps: str | None, first: int | None, last: int | None) -> Conflicts:
    if steps is None:
        return run.epochs(first, last)
    match = re.fullmatch(r"\s*([0-9]{0,15})\s*:\s*([0-9]{0,15})\s*", steps)
    if match is None:
        raise NasvitEdgeError(f"--steps {steps!r} is not a range of steps; for example: --steps 1000:5000")
    low, high = int(match[1] or 0), int(match[2] or run.steps[-1])
    if low > high:
        raise NasvitEdgeError(f"--steps {steps!r} ends before it starts; for example: --steps 1000:5000")
    return run.between(low, high).epochs(first, last)


def _written(runs: list[Conflicts], title: str, html: Path | None, png: Path | None) -> list[Path]:
    if html is None and png is None:
        return []
    from nasvit_edge.report import conflict_page

    if html is not None:
        conflict_page.write_html(runs, html, title)
    if png is not None:
        conflict_page.write_png(runs, png, title)
    return [path for path in (html, png) if path is not None]


def _show(runs: list[Conflicts], summaries: list[Summary]) -> None:
    from nasvit_edge.report.conflict_page import by_layer, named, told

    names = named(runs)
    for name, summary in zip(names, summaries, strict=True):
        note(f"{name}: {told(summary)}")
    show_table(by_layer(names, summaries))
    note("negative: share of layers and steps whose two gradients have a cosine below 0")


def runs(request: Runs, as_json: bool) -> None:
    """Example:  nasvit-edge report runs runs/nasvit runs/naive --html runs.html

    Accuracy and loss of several training runs over their epochs, on one page; the last and the best accuracy of each.
    """
    from nasvit_edge.report import runs as drawn
    from nasvit_edge.train.run_logs import read_logs

    logs = [read_logs(run) for run in request.runs]
    if request.html is not None:
        drawn.write_html(logs, request.html)
    if request.png is not None:
        drawn.write_png(logs, request.png)
    if as_json:
        print_json(
            {"schema": 1, "runs": [asdict(run) | {"about": records.content(run.about)} for run in logs]}
        )
    else:
        show_table(drawn.ends(logs), drawn.title_of(logs))
    for path in (request.html, request.png):
        if path is not None:
            note(f"wrote {path}")


report.command("runs", short_help="Accuracy and loss of training runs over their epochs.")(adapted(runs))
report.command("conflicts", short_help="How often subnets and supernet pull a layer in opposite directions.")(
    adapted(conflicts)
)
