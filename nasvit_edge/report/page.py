"""Charts as a page that holds everything it needs, so it opens without network, or as a picture."""

from __future__ import annotations

import functools
import html
import json
import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasvit_edge import files
from nasvit_edge.errors import require

_VEIL = "\ue000"  # of the private use area
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem; color: #1a202c }}
h1 {{ font-size: 1.3rem }} td {{ padding: .1rem 1.5rem .1rem 0; vertical-align: top }}
td:first-child {{ color: #4a5568; white-space: nowrap }}</style></head>
<body><h1>{title}</h1><table>{rows}</table>
{chart}
</body></html>
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart of a document, with what it shows in words.

    Attributes:
        spec: Vega-Lite, as wide as its container. dense: so many marks that they are pixels, not shapes.
        square: as high as it is wide, where there is room.
    """

    title: str
    caption: str
    spec: dict[str, Any]
    dense: bool = False
    square: bool = False


def figure_of(
    title: str, caption: str, chart: Any, data: Mapping[str, list[dict[str, Any]]], **look: bool
) -> Figure:
    """A figure of an altair chart whose data only have names; `data` is name -> rows.

    Named, because altair would check every row against its schema. Layers without rows are left out: Vega warns of them.
    """
    spec = chart.to_dict()
    spec.pop("$schema", None)
    if "layer" in spec:
        spec["layer"] = [
            layer for layer in spec["layer"] if data[layer.get("data", spec.get("data"))["name"]]
        ]
    spec |= {"description": title, "datasets": {name: rows for name, rows in data.items() if rows}}
    return Figure(title=title, caption=caption, spec=spec, **look)


def placed(figure: Figure, number: int) -> str:
    """The place of the figure with this number in a document's body."""
    kind = "square" if figure.square else "full"
    return (
        f'<figure class="{kind}"><div class="chart" data-chart="{number}"></div>'
        f"<figcaption>{shown(figure.caption, 2000)}</figcaption></figure>"
    )


class Body:
    """A document's sections of HTML in their order, and the figures that they place."""

    def __init__(self) -> None:
        self.sections: list[tuple[str, str]] = []  # title, content
        self.figures: list[Figure] = []

    def add(self, title: str, *parts: str) -> None:
        """A section; none where there is nothing in it."""
        if any(parts):
            self.sections.append((title, "\n".join(parts)))

    def draw(self, figure: Figure | None) -> str:
        """The place of a figure."""
        if figure is None:
            return ""
        self.figures.append(figure)
        return placed(figure, len(self.figures) - 1)

    def html(self, head: str) -> str:
        """`head`, links to the sections, and the sections."""
        links = "".join(f'<a href="#part-{i}">{title}</a>' for i, (title, _) in enumerate(self.sections))
        told = [
            f'<section id="part-{i}"><h2>{title}</h2>\n{content}</section>'
            for i, (title, content) in enumerate(self.sections)
        ]
        return "\n".join([head, f"<nav>{links}</nav>", *told])


def shown(text: object, most: int = 200) -> str:
    """Any text as HTML that is only text, its middle left out where it is very long."""
    told = str(text)
    if len(told) > most:
        told = f"{told[: most // 2]} … {told[-most // 2 :]}"
    return html.escape(told)


def write_document(path: Path, title: str, body: str, figures: Sequence[Figure]) -> None:
    """A page of HTML whose `placed` figures are drawn by one copy of Vega inside of it; it asks no network for anything.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    charts = [{"spec": figure.spec, "renderer": "canvas" if figure.dense else "svg"} for figure in figures]
    listed = json.dumps(_finite(charts), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    scripts = [
        f'<script type="application/json" id="charts">{listed}</script>',
        f"<script>{_vega()}</script>",
        f"<script>{_part('page.js')}</script>",
        "<noscript><p>The charts need JavaScript; the tables do not.</p></noscript>",
    ]
    page = string.Template(_part("frame.html")).substitute(
        title=shown(title),
        style=_part("page.css"),
        body=body,
        scripts="\n".join(scripts) if figures else "",
    )
    files.write_bytes(path, page.encode("utf-8", "replace"))  # half a surrogate pair has no bytes


def _part(name: str) -> str:
    return files.data("page", name).read_text()


@functools.cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script: 0.9 MB, made in a second or more."""
    script = require("vl_convert", "report").javascript_bundle(vl_version=_version())
    return str(script).replace("</script", "<\\/script")


def _version() -> str:
    """Of Vega-Lite, as altair writes it."""
    altair = require("altair", "report")
    return ".".join(str(altair.SCHEMA_VERSION).lstrip("v").split(".")[:2])


def _finite(value: Any) -> Any:
    """`value` with null for what is no number in JSON."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_page(path: Path, title: str, facts: Sequence[tuple[str, str]], chart: Any) -> None:
    """A page with a table of two columns above an altair chart that was made of `veiled` data.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    require("vl_convert", "report")
    drawn = chart.to_html(inline=True, fullhtml=False).replace(f"\\u{ord(_VEIL):04x}", "\\u003c")
    rows = "".join(f"<tr><td>{html.escape(a)}</td><td>{html.escape(b)}</td></tr>" for a, b in facts)
    files.write_text(path, _PAGE.format(title=html.escape(title), rows=rows, chart=drawn))


def write_picture(path: Path, title: str, chart: Any) -> None:
    """The chart as a PNG.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    convert = require("vl_convert", "report")
    text = title.encode(errors="backslashreplace").decode()  # of names of files, which may be none
    spec = chart.properties(title=text).to_json()
    files.write_bytes(path, convert.vegalite_to_png(spec, scale=2, vl_version=_version()))


def veiled(value: Any) -> Any:
    """`value` without any `<`, which could end the script that the chart's data stand in; put back as an escape."""
    if isinstance(value, dict):
        return {veiled(key): veiled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [veiled(item) for item in value]
    return value.replace("<", _VEIL) if isinstance(value, str) else value
