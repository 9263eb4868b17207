"""Charts as a page that holds everything it needs, so it opens without network, or as a picture."""

from __future__ import annotations

import html
from collections.abc import Sequence
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


def write_page(path: Path, title: str, facts: Sequence[tuple[str, str]], chart: Any) -> None:
    """A page with a table of two columns above an altair chart that was made of `veiled` data.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    require("vl_convert", "report")
    drawn = chart.to_html(inline=True, fullhtml=False).replace(f"\\u{ord(_VEIL):04x}", "\\u003c")
    rows = "".join(f"<tr><td>{html.escape(a)}</td><td>{html.escape(b)}</td></tr>" for a, b in facts)
    files.write_bytes(path, _PAGE.format(title=html.escape(title), rows=rows, chart=drawn).encode())


def write_picture(path: Path, title: str, chart: Any) -> None:
    """The chart as a PNG.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    altair, convert = require("altair", "report"), require("vl_convert", "report")
    version = ".".join(str(altair.SCHEMA_VERSION).lstrip("v").split(".")[:2])
    spec = chart.properties(title=title).to_json()
    files.write_bytes(path, convert.vegalite_to_png(spec, scale=2, vl_version=version))


def veiled(value: Any) -> Any:
    """`value` without any `<`, which could end the script that the chart's data stand in; put back as an escape."""
    if isinstance(value, dict):
        return {veiled(key): veiled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [veiled(item) for item in value]
    return value.replace("<", _VEIL) if isinstance(value, str) else value
