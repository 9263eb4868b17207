"""The conflicts of one or several runs as a page or a picture: over training, by kind of layer, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from nasvit_edge.report import page
from nasvit_edge.report.conflicts import Signs, Summary, over_time, summarise
from nasvit_edge.report.drawing import apart, colours, figure_of
from nasvit_edge.report.drawing import write_png as write_figures
from nasvit_edge.report.model import (
    Cell,
    Column,
    Datum,
    Document,
    Drawing,
    Figure,
    Section,
    Table,
    figure,
    own,
    table,
)
from nasvit_edge.train.conflict_file import Array, Conflicts
from nasvit_edge.train.conflicts import KINDS

_EACH, _WHOLE = "layer by layer", "all parameters together"
_CURVE_BINS, _MAP_BINS = 80, 60
_MOST_LAYERS = 200  # rows of a heat map; larger networks are shown by block
_MOST_TEXTS = 3  # runs whose bars have room for their figures


def write_html(runs: Sequence[Conflicts], path: Path, title: str) -> None:
    """A page that shows figures where the pointer rests.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    facts = [(run.name, told(summarise(run))) for run in runs]
    facts.append(("conflict", "the gradients of the largest subnet and of the others have a negative cosine"))
    sections = tuple(Section(figure.title, (Drawing((figure,)),)) for figure in _figures(runs))
    page.write_html(Document(title=title, facts=tuple(facts), sections=sections), path)


def write_png(runs: Sequence[Conflicts], path: Path, title: str) -> None:
    """The same as a picture.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    write_figures(_figures(runs), path, title)


def told(summary: Summary) -> str:
    """What a run is, and its figures over all, in one line."""
    about = {"space": summary.space, "recipe": summary.recipe, "data": summary.data}
    what = [f"{key} {value}" for key, value in about.items() if value]
    what.append(f"steps {summary.first_step} to {summary.last_step} ({summary.steps} measured)")
    figures = {"by layer": summary.layers, "all parameters": summary.all}
    what += [f"{name} {percent(signs.negative)} in conflict" for name, signs in figures.items()]
    return ", ".join(what)


def percent(share: float | None) -> str:
    """41.2 %; - where nothing was measured."""
    return "-" if share is None else f"{100 * share:.1f} %"


def named(runs: Sequence[Conflicts]) -> list[str]:
    """A name for each run, no two alike."""
    return apart([run.name for run in runs])


def by_layer(names: Sequence[str], summaries: Sequence[Summary]) -> Table:
    """A row a stage and kind of layer, then all layers, then all parameters as one vector; the runs side by side."""
    tables = [{(s.stage or "", s.kind or ""): s for s in summary.groups} for summary in summaries]
    stages = list(dict.fromkeys(stage for figures in tables for stage, _ in figures))
    keys = sorted(
        dict.fromkeys(key for figures in tables for key in figures), key=lambda key: stages.index(key[0])
    )
    rows: list[tuple[str, list[Signs | None]]] = [
        (kind if kind == stage else f"{stage} {kind}", [figures.get((stage, kind)) for figures in tables])
        for stage, kind in keys
    ]
    rows.append(("every layer", [summary.layers for summary in summaries]))
    rows.append(("all parameters", [summary.all for summary in summaries]))
    columns = [
        Column(f"{name}: {what}" if len(names) > 1 else what, partial(_signs, place, what))
        for place, name in enumerate(names)
        for what in ("layers", "negative", "mean cosine")
    ]
    return table(rows, Column("", lambda row: own(row[0])), *columns)


def _signs(place: int, what: str, row: tuple[str, list[Signs | None]]) -> Cell:
    label, signs = row[0], row[1][place]
    if signs is None or signs.negative is None or signs.mean_cosine is None:
        return figure("-")
    if what == "layers":
        return figure("" if label == "all parameters" else str(signs.layers))
    return figure(percent(signs.negative) if what == "negative" else f"{signs.mean_cosine:+.3f}")


def _figures(runs: Sequence[Conflicts]) -> list[Figure]:
    of = dict(zip(named(runs), runs, strict=True))
    shades = {
        "runs": list(of),
        "colours": colours(len(of)),
        "legend": {"orient": "top"} if len(of) > 1 else None,
    }
    maps = (_map(run, name, f"map {i}") for i, (name, run) in enumerate(of.items()))
    return [_curves(of, shades), _bars(of, shades), *maps]


def _curves(runs: Mapping[str, Conflicts], shades: Mapping[str, object]) -> Figure:
    """The share of steps in conflict, as training goes on."""
    rows: list[Datum] = []
    for name, run in runs.items():
        for what, columns in ((_EACH, run.layers), (_WHOLE, [0])):
            for step, negative, mean in over_time(run, columns, _CURVE_BINS):
                figures = _rounded(_mean(negative), _mean(mean))
                if figures["negative"] is not None:
                    rows.append({"run": name, "what": what, "step": step, **figures})
    data: dict[str, list[Datum]] = {"curves": rows, "half": [{"half": 0.5}]}
    title, caption = (
        "Conflicts over training",
        "The share of steps whose two gradients have a cosine below 0.",
    )
    return figure_of("conflicts", title, caption, data, {"kinds": [_EACH, _WHOLE], **shades})


def _bars(runs: Mapping[str, Conflicts], shades: Mapping[str, object]) -> Figure:
    """The share of layers and steps in conflict, by kind of layer."""
    rows: list[Datum] = []
    for name, run in runs.items():
        summary = summarise(run)
        signs = {group.kind: group for group in summary.kinds}
        signs |= {"every layer": summary.layers, "all parameters": summary.all}
        rows += [
            {"run": name, "kind": kind, **_rounded(group.negative, group.mean_cosine)}
            for kind, group in signs.items()
            if group.negative is not None
        ]
    data = {"bars": rows, "texts": rows if len(runs) <= _MOST_TEXTS else []}
    order = [*KINDS, "every layer", "all parameters"]
    return figure_of(
        "conflict_kinds",
        "By kind of layer",
        "The share of layers and steps.",
        data,
        {"kinds": order, **shades},
    )


def _map(run: Conflicts, name: str, data: str) -> Figure:
    """The share of steps in conflict, layer by layer and part by part of the training."""
    by_layer = len(run.layers) <= _MOST_LAYERS
    columns, what = (run.layers, "layer") if by_layer else (run.blocks, "block")
    places = [run.places[i] for i in columns]
    parts = over_time(run, columns, _MAP_BINS)
    half = (parts[1][0] - parts[0][0] if len(parts) > 1 else 1) / 2
    rows: list[Datum] = [
        {"layer": place, "step": step - half, "end": step + half, **_rounded(negative[i], mean[i])}
        for step, negative, mean in parts
        for i, place in enumerate(places)
        if not np.isnan(negative[i])
    ]
    title, caption = f"{name}: {what} by {what}", "The share of steps of each part of the training."
    return figure_of(
        "conflict_map",
        title,
        caption,
        {data: rows},
        {"data": data, "places": places, "height": 10 * len(places)},
        dense=True,
    )


def _rounded(negative: float | None, mean: float | None) -> Datum:
    shares = {"negative": negative, "mean": mean}
    return {key: None if value is None else round(float(value), 4) for key, value in shares.items()}


def _mean(values: Array) -> float | None:
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else None
