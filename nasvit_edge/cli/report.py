"""`nasvit-edge report`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasvit_edge.cli import options
from nasvit_edge.cli.errors import reported
from nasvit_edge.cli.output import note, print_json, print_table
from nasvit_edge.errors import NasvitEdgeError

if TYPE_CHECKING:
    from nasvit_edge.report.conflicts import Conflicts

report = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="What benchmarks and training runs left behind."
)


@report.command("conflicts", short_help="How often subnets and supernet pull a layer in opposite directions.")
@reported
def conflicts(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs trained with --conflicts.")],
    steps: Annotated[
        str | None, typer.Option(help="Only these steps, like 1000:5000; either end may be left out.")
    ] = None,
    from_epoch: Annotated[int | None, typer.Option(min=0, help="Only from this epoch on, from 0.")] = None,
    to_epoch: Annotated[int | None, typer.Option(min=0, help="Only up to this epoch.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page that opens without network.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write a picture.")] = None,
    as_json: options.Json = False,
) -> None:
    """Example:  nasvit-edge report conflicts runs/hybrid runs/cnn --html conflicts.html

    How often, and where, the gradients of the largest subnet and of the others have a negative cosine:
    over all parameters, and by stage and kind of layer. Several runs are put side by side.
    """
    from nasvit_edge.report.conflicts import read_conflicts, summarise

    chosen = [_chosen(read_conflicts(run), steps, from_epoch, to_epoch) for run in runs]
    title = f"Gradient conflicts: {', '.join(run.name for run in chosen)}"
    written = _written(chosen, title, html, png)
    summaries = [summarise(run) for run in chosen]
    if as_json:
        print_json({"schema": 1, "runs": summaries})
    else:
        _print(chosen, summaries)
    for path in written:
        note(f"wrote {path}")


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


def _print(runs: list[Conflicts], summaries: list[dict[str, Any]]) -> None:
    from nasvit_edge.report.conflict_page import named, told

    names = named(runs)
    for name, summary in zip(names, summaries, strict=True):
        note(f"{name}: {told(summary)}")
    columns = ["", *(f"{name}: {what}" for name in names for what in _WHAT)]
    print_table(columns if len(names) > 1 else ["", *_WHAT], _rows(summaries))
    note("negative: share of layers and steps whose two gradients have a cosine below 0")


_WHAT = ("layers", "negative", "mean cosine")


def _rows(summaries: list[dict[str, Any]]) -> list[list[str]]:
    """A row a stage and kind of layer, then all layers, then all parameters as one vector."""
    tables = [{(g["stage"], g["kind"]): g for g in summary["groups"]} for summary in summaries]
    keys = dict.fromkeys(key for table in tables for key in table)
    rows = []
    for stage, kind in sorted(keys, key=lambda key: _stage_order(key[0], tables)):
        label = kind if kind == stage else f"{stage} {kind}"
        rows.append([label, *_cells([table.get((stage, kind)) for table in tables])])
    rows.append(["every layer", *_cells([summary["layers"] for summary in summaries])])
    rows.append(["all parameters", *_cells([summary["all"] | {"layers": None} for summary in summaries])])
    return rows


def _stage_order(stage: str, tables: list[dict[tuple[str, str], Any]]) -> int:
    """The stage's place in the first run that has it; kinds keep their order."""
    return min(
        list(dict.fromkeys(s for s, _ in t)).index(stage) for t in tables if any(stage == s for s, _ in t)
    )


def _cells(groups: list[dict[str, Any] | None]) -> list[str]:
    from nasvit_edge.report.conflict_page import percent

    cells = []
    for group in groups:
        if group is None or group["negative"] is None:
            cells += ["-", "-", "-"]
        else:
            layers = "" if group["layers"] is None else str(group["layers"])
            cells += [layers, percent(group["negative"]), f"{group['mean_cosine']:+.3f}"]
    return cells
