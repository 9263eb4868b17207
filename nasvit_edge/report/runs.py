"""Runs beside each other: accuracy and loss over training, on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nasvit_edge.report import page
from nasvit_edge.report.drawing import apart, colours, figure_of
from nasvit_edge.report.drawing import write_png as write_figures
from nasvit_edge.report.model import (
    Column,
    Datum,
    Document,
    Drawing,
    Figure,
    Section,
    Table,
    figure,
    name,
    own,
    table,
)
from nasvit_edge.train.run_logs import CurvePoint, Logs


def ends(runs: Sequence[Logs]) -> Table:
    """A row a run and subnet: the last accuracy, the best, and when that was."""
    rows = [
        (run, label, subnet, points)
        for run, label in _labelled(runs)
        for subnet, points in run.accuracies.items()
    ]
    return table(
        rows,
        Column("run", lambda row: name(row[1])),
        Column("recipe", lambda row: name(_recipe(row[0]))),
        Column("subnet", lambda row: own(row[2])),
        Column("last", lambda row: figure(f"{row[3][-1].value:.2%}")),
        Column("best", lambda row: figure(f"{_best(row[3]).value:.2%}")),
        Column("at epoch", lambda row: figure(f"{_best(row[3]).epoch:.4g}")),
    )


def write_html(runs: Sequence[Logs], path: Path) -> None:
    """A page that opens without network; MissingExtraError without the extra `report`."""
    facts = tuple((label, _about(run)) for run, label in _labelled(runs))
    sections = [Section("Accuracy at the end", (ends(runs),))]
    sections += [Section(each.title, (Drawing((each,)),)) for each in _figures(runs)]
    page.write_html(Document(title=title_of(runs), facts=facts, sections=tuple(sections)), path)


def write_png(runs: Sequence[Logs], path: Path) -> None:
    """The curves as a picture; MissingExtraError without the extra `report`."""
    write_figures(_figures(runs), path, title_of(runs))


def title_of(runs: Sequence[Logs]) -> str:
    return f"Training: {', '.join(label for _, label in _labelled(runs))}"


def _labelled(runs: Sequence[Logs]) -> list[tuple[Logs, str]]:
    return list(zip(runs, apart([run.name for run in runs]), strict=True))


def _figures(runs: Sequence[Logs]) -> list[Figure]:
    accuracies = [(label, run.accuracies) for run, label in _labelled(runs)]
    losses = [(label, run.losses) for run, label in _labelled(runs)]
    figures = [
        _curves(
            "accuracy",
            "Accuracy over training",
            "On the validation slice, of the averaged weights.",
            accuracies,
            ".0%",
            ".2%",
            points=True,
        ),
        _curves(
            "loss",
            "Loss over training",
            "Of the largest subnet, and the mean of the others.",
            losses,
            ".3~g",
            ".4f",
            points=False,
        ),
    ]
    return [each for each in figures if each is not None]


def _curves(
    what: str,
    title: str,
    caption: str,
    runs: Sequence[tuple[str, dict[str, list[CurvePoint]]]],
    form: str,
    exact: str,
    *,
    points: bool,
) -> Figure | None:
    rows: list[Datum] = [
        {"run": label, "what": whose, "epoch": epoch, "value": value}
        for label, curves in runs
        for whose, values in curves.items()
        for epoch, value in values
    ]
    if not rows:
        return None
    options = {
        "runs": [label for label, _ in runs],
        "colours": colours(len(runs)),
        "whats": list(dict.fromkeys(str(row["what"]) for row in rows)),
        "title": what,
        "format": form,
        "exact": exact,
        "points": points,
    }
    return figure_of("runs", title, caption, {"curves": rows}, options)


def _best(points: Sequence[CurvePoint]) -> CurvePoint:
    return max(points, key=lambda point: point.value)


def _recipe(run: Logs) -> str:
    return (run.about.recipe.name if run.about.recipe else None) or "-"


def _about(run: Logs) -> str:
    about = {"space": run.about.space, "recipe": _recipe(run), "data": run.about.data}
    return ", ".join(f"{key} {value}" for key, value in about.items() if value)
