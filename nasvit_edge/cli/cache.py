"""`nasvit-edge cache`."""

from __future__ import annotations

from nasvit_edge.cli.output import note, print_json, print_table
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.requests.cache import Request


def cache(request: Request, as_json: bool) -> None:
    """Example:  nasvit-edge cache show

    What was converted and exported before is kept; show it, or clear it.
    """
    from nasvit_edge import cache as flow

    action = request.action
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
    rows = [[e.folder, str(e.entries), f"{e.bytes / 1e6:.1f} MB"] for e in entries]
    print_table(["folder", "entries", "size"], rows)
