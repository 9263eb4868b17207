"""`nasvit-edge cache`."""

from __future__ import annotations

from typing import Annotated

import typer

from nasvit_edge.cli import options
from nasvit_edge.cli.output import note, print_json, print_table
from nasvit_edge.errors import NasvitEdgeError


def cache(
    action: Annotated[str, typer.Argument(help="show or clear.")] = "show", as_json: options.Json = False
) -> None:
    """Example:  nasvit-edge cache show

    What was converted and exported before is kept; show it, or clear it.
    """
    from nasvit_edge.flows import cache as flow

    if action not in ("show", "clear"):
        raise NasvitEdgeError(f"unknown action {action!r}; there are show, clear")
    if action == "clear":
        freed = flow.clear()
        note(f"freed {freed / 1e6:.1f} MB in {flow.root()}")
        return
    entries = flow.contents()
    if as_json:
        print_json(entries)
        return
    rows = [[e["folder"], str(e["entries"]), f"{e['bytes'] / 1e6:.1f} MB"] for e in entries]
    print_table(["folder", "entries", "size"], rows)
