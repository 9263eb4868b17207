"""Charts: `data/charts/NAME.json` is Vega-Lite in which `"$word"` stands for a definition of the file or for a given value."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from nasvit_edge import files
from nasvit_edge.errors import require
from nasvit_edge.report.model import Datum, Figure

_WIDE = 860  # pixels of a picture's charts
_LOOK = {
    "legend": {"orient": "top", "symbolOpacity": 1},
    "title": {"anchor": "start", "fontSize": 13},
    "view": {"stroke": "#e2e8f0"},
    "style": {"label": {"fill": "#4a5568"}, "quiet": {"stroke": "#718096"}, "tile": {"stroke": "white"}},
}


COLOURS = ("#c05621", "#2b6cb0", "#2f855a", "#805ad5", "#b7791f", "#2c7a7b", "#97266d", "#4a5568")


def colours(count: int) -> list[str]:
    """One for each of several runs."""
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def apart(names: Sequence[str]) -> list[str]:
    """Of several runs, no two names alike: those that several have are numbered."""
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]


def figure_of(
    chart: str,
    title: str,
    caption: str,
    rows: Mapping[str, Sequence[Datum]],
    options: Mapping[str, object],
    *,
    dense: bool = False,
    square: bool = False,
) -> Figure:
    """A chart of rows by the names of its data; layers without rows are left out, as Vega warns of them."""
    template = files.read_json(files.data("charts", f"{chart}.json"), "chart")
    spec = _filled(template["chart"], template["define"], options)
    assert isinstance(spec, dict)
    if "layer" in spec:
        spec["layer"] = [layer for layer in spec["layer"] if rows[layer["data"]["name"]]]
    spec |= {"width": "container", "description": title}
    spec["datasets"] = {name: list(values) for name, values in rows.items() if values}
    return Figure(title=title, caption=caption, spec=spec, dense=dense, square=square)


def _filled(value: object, define: Mapping[str, object], options: Mapping[str, object]) -> object:
    if isinstance(value, str) and value.startswith("$"):
        name = value[1:]
        return options[name] if name in options else _filled(define[name], define, options)
    if isinstance(value, dict):
        return {key: _filled(item, define, options) for key, item in value.items()}
    return [_filled(item, define, options) for item in value] if isinstance(value, list) else value


def write_png(figures: Sequence[Figure], path: Path, title: str) -> None:
    """Figures below each other as a picture; no two of them name their data alike.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    convert = require("vl_convert", "report")
    rows: dict[str, object] = {}
    for figure in figures:
        rows |= figure.rows
    parts = [{**figure.spec, "title": figure.title, "width": _WIDE, "datasets": {}} for figure in figures]
    spec = {
        "title": {"text": title.encode(errors="backslashreplace").decode(), "fontSize": 15},
        "vconcat": parts,
        "spacing": 28,
        "datasets": rows,
        "resolve": {"scale": {"color": "independent", "strokeDash": "independent"}},
        "config": _LOOK,
    }
    files.write_bytes(path, convert.vegalite_to_png(as_json(spec), scale=2))


def as_json(value: object) -> str:
    """As JSON, with null for what is no number there."""
    return json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
