"""A document as a page that holds everything it needs, so it opens without network."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nasvit_edge import files
from nasvit_edge.errors import require
from nasvit_edge.report.drawing import as_json
from nasvit_edge.report.model import Cell, Document, Drawing, Form, Row, Table, pieces

if TYPE_CHECKING:
    from jinja2 import Template


def write_html(document: Document, path: Path) -> None:
    """A page whose charts are drawn by one copy of Vega inside of it; it asks no network for anything.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    sections = document.shown(Form.PAGE)
    figures = [f for s in sections for p in s.parts if isinstance(p, Drawing) for f in p.figures]
    charts = [{"spec": figure.spec, "renderer": "canvas" if figure.dense else "svg"} for figure in figures]
    content = _template().render(
        document=document,
        sections=sections,
        style=_part("page.css"),
        program=_part("page.js"),
        charts=as_json(charts).replace("<", "\\u003c") if charts else "",
        vega=_vega() if charts else "",
    )
    files.write_text(path, content)


@functools.cache
def _template() -> Template:
    require("jinja2", "report")
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {"pieces": pieces, "marks": _marks, "groups": _groups, "PAGE": Form.PAGE}
    environment.tests |= {"table": lambda part: isinstance(part, Table)}
    return environment.from_string(_part("frame.html"))


def _groups(table: Table) -> Iterator[list[Row]]:
    """Rows that share their keys; without keys each alone."""
    for _, rows in itertools.groupby(table.rows, lambda row: row.cells[: table.keys] or id(row)):
        yield list(rows)


def _marks(row: Row) -> list[Cell]:
    """The verdicts of a row, whose colour stands in front of it for screens too narrow for their column."""
    return [cell for cell in row.cells if isinstance(cell, Cell) and cell.kind == "mark"]


def _part(name: str) -> str:
    return files.data("page", name).read_text(encoding="utf-8")


@functools.cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script: 0.9 MB, made in a second or more."""
    return str(require("vl_convert", "report").javascript_bundle()).replace("</script", "<\\/script")
