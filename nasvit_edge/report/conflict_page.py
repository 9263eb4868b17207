"""The conflicts of one or several runs as a page or a picture: over training, by kind of layer, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nasvit_edge.errors import require
from nasvit_edge.report import page
from nasvit_edge.report.conflicts import KINDS, Conflicts, over_time, summarise

_COLOURS = ("#c05621", "#2b6cb0", "#2f855a", "#805ad5", "#b7791f", "#2c7a7b", "#97266d", "#4a5568")
_EACH, _WHOLE = "layer by layer", "all parameters together"
_WIDTH = 860
_CURVE_BINS, _MAP_BINS = 80, 60
_MOST_LAYERS = 200  # rows of a heat map; larger networks are shown by block


def write_html(runs: Sequence[Conflicts], path: Path, title: str) -> None:
    """A page that shows figures where the pointer rests.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    facts = [(run.name, told(summarise(run))) for run in runs]
    facts.append(("conflict", "the gradients of the largest subnet and of the others have a negative cosine"))
    page.write_page(path, title, facts, _chart(runs))


def write_png(runs: Sequence[Conflicts], path: Path, title: str) -> None:
    """The same as a picture.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    page.write_picture(path, title, _chart(runs))


def told(summary: dict[str, Any]) -> str:
    """What a run is, and its figures over all, in one line."""
    what = [f"{key} {summary[key]}" for key in ("space", "recipe", "data") if summary[key]]
    what.append(f"steps {summary['first_step']} to {summary['last_step']} ({summary['steps']} measured)")
    figures = [(name, summary[key]) for name, key in (("by layer", "layers"), ("all parameters", "all"))]
    what += [f"{name} {percent(own['negative'])} in conflict" for name, own in figures]
    return ", ".join(what)


def percent(share: float | None) -> str:
    """41.2 %; - where nothing was measured."""
    return "-" if share is None else f"{100 * share:.1f} %"


def named(runs: Sequence[Conflicts]) -> list[str]:
    """A name for each run, no two alike."""
    names = [run.name for run in runs]
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]


def _chart(runs: Sequence[Conflicts]) -> Any:
    altair = require("altair", "report")
    require("vl_convert", "report")
    names = page.veiled(named(runs))
    colours = [_COLOURS[i % len(_COLOURS)] for i in range(len(names))]
    legend = altair.Legend(orient="top") if len(names) > 1 else None
    scale = altair.Scale(domain=names, range=colours)
    colour = altair.Color("run:N", title=None, scale=scale, legend=legend)
    parts = [_curves(altair, runs, names, colour), _bars(altair, runs, names, colour)]
    parts += [_map(altair, run, name) for run, name in zip(runs, names, strict=True)]
    chart = altair.vconcat(*parts, spacing=28).resolve_scale(color="independent", x="independent")
    return chart.configure_title(anchor="start", fontSize=13).configure_view(stroke="#e2e8f0")


def _share(title: str) -> dict[str, Any]:
    return {"title": title, "scale": {"domain": [0, 1]}, "axis": {"format": ".0%"}}


def _curves(altair: Any, runs: Sequence[Conflicts], names: Sequence[str], colour: Any) -> Any:
    """The share of steps in conflict, as training goes on."""
    values = []
    for run, name in zip(runs, names, strict=True):
        for what, columns in ((_EACH, lambda c: c.layers), (_WHOLE, lambda c: [0])):
            for step, negative, mean in over_time(run, columns, _CURVE_BINS):
                point = {"run": name, "what": what, "step": step}
                values.append(point | _figures(_mean(negative), _mean(mean)))
    values = [value for value in values if value["negative"] is not None]
    dash = altair.StrokeDash(
        "what:N",
        title=None,
        scale=altair.Scale(domain=[_EACH, _WHOLE], range=[[1, 0], [4, 3]]),
        legend=altair.Legend(orient="top", symbolStrokeColor="#4a5568"),
    )
    lines = (
        altair.Chart(altair.Data(values=values))
        .mark_line(interpolate="monotone", strokeWidth=1.6)
        .encode(
            x=altair.X("step:Q", title="training step", scale=altair.Scale(nice=False)),
            y=altair.Y("negative:Q", **_share("share in conflict")),
            color=colour,
            strokeDash=dash,
            tooltip=_tips(altair, "run", "what", "step"),
        )
    )
    half = altair.Chart(altair.Data(values=[{"half": 0.5}])).mark_rule(color="#a0aec0").encode(y="half:Q")
    return altair.layer(half, lines).properties(width=_WIDTH, height=240, title="Conflicts over training")


def _bars(altair: Any, runs: Sequence[Conflicts], names: Sequence[str], colour: Any) -> Any:
    """The share of layers and steps in conflict, by kind of layer."""
    values = []
    for run, name in zip(runs, names, strict=True):
        summary = summarise(run)
        rows = [*summary["kinds"], {"kind": "every layer", **summary["layers"]}]
        for own in [*rows, {"kind": "all parameters", **summary["all"]}]:
            if own["negative"] is not None:
                figures = _figures(own["negative"], own["mean_cosine"])
                values.append({"run": name, "kind": own["kind"], **figures})
    order = [*KINDS, "every layer", "all parameters"]
    base = altair.Chart(altair.Data(values=values)).encode(
        x=altair.X("kind:N", title=None, sort=order, axis=altair.Axis(labelAngle=0, labelLimit=110)),
        xOffset=altair.XOffset("run:N", sort=list(names)),
        y=altair.Y("negative:Q", **_share("share in conflict")),
    )
    bars = base.mark_bar().encode(color=colour, tooltip=_tips(altair, "run", "kind"))
    texts = base.mark_text(dy=-6, fontSize=9, color="#4a5568").encode(
        text=altair.Text("negative:Q", format=".0%")
    )
    layers = [bars, texts] if len(names) <= 3 else [bars]
    return altair.layer(*layers).properties(width=_WIDTH, height=200, title="By kind of layer")


def _map(altair: Any, run: Conflicts, name: str) -> Any:
    """The share of steps in conflict, layer by layer and part by part of the training."""
    by_layer = len(run.layers) <= _MOST_LAYERS
    columns = run.layers if by_layer else run.blocks
    places = [run.places[i] for i in columns]
    parts = over_time(run, lambda c: columns, _MAP_BINS)
    width = parts[1][0] - parts[0][0] if len(parts) > 1 else 1
    values = [
        {"layer": place, "step": step - width / 2, "end": step + width / 2, **_figures(negative[i], mean[i])}
        for step, negative, mean in parts
        for i, place in enumerate(places)
        if not np.isnan(negative[i])
    ]
    scale = altair.Scale(domain=[0, 1], scheme="redblue", reverse=True)
    legend = altair.Legend(format=".0%", gradientLength=160)
    what = "layer" if by_layer else "block"
    return (
        altair.Chart(altair.Data(values=values))
        .mark_rect()
        .encode(
            x=altair.X("step:Q", title="training step", scale=altair.Scale(nice=False, zero=False)),
            x2="end:Q",
            y=altair.Y("layer:N", title=None, sort=places, axis=altair.Axis(labelFontSize=8, labelLimit=190)),
            color=altair.Color("negative:Q", title="in conflict", scale=scale, legend=legend),
            tooltip=_tips(altair, "layer", "step"),
        )
        .properties(width=_WIDTH - 130, height=altair.Step(10), title=f"{name}: {what} by {what}")
    )


def _figures(negative: float | None, mean: float | None) -> dict[str, Any]:
    shares = {"negative": negative, "mean": mean}
    return {key: None if value is None else round(float(value), 4) for key, value in shares.items()}


def _mean(values: Any) -> float | None:
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else None


def _tips(altair: Any, *names: str) -> list[Any]:
    figures = [
        altair.Tooltip("negative:Q", title="in conflict", format=".1%"),
        altair.Tooltip("mean:Q", title="mean cosine", format="+.3f"),
    ]
    return [*(altair.Tooltip(f"{name}:{'Q' if name == 'step' else 'N'}") for name in names), *figures]
