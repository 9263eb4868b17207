"""`search` from start to end: prepared, searched and, where that is asked for, measured; the result file and its pictures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from msgspec.structs import replace

from nasvit_edge import files, records
from nasvit_edge.flows import confirm
from nasvit_edge.flows.prepared import Prepared, prepare, search_prepared
from nasvit_edge.listening import Listener
from nasvit_edge.report import front, search_text
from nasvit_edge.requests.search import Request
from nasvit_edge.searching.saved import ResultFile

Started = Callable[[str], AbstractContextManager[Listener]]


def search(request: Request, command: tuple[str, ...], started: Started) -> ResultFile:
    """Search, and write what was found; `command` is what the result file says that it was asked by, `started` makes what hears of a part of the work.

    Raises:
        InfeasibleError: no subnet of the space is within the limits.
        NasvitEdgeError: options that do not fit, before anything is measured.
    """
    for path in (request.out, request.html, request.png):
        if path is not None:
            files.writable_folder(path.parent)
    with started("measuring ops" if request.minutes is None else "preparing") as listener:
        prepared = prepare(request, listener)
    _tell(prepared, listener)
    partial = request.out.with_name(f"{request.out.name}.partial")
    with started("searching") as listener:
        searched = search_prepared if request.confirm is None else confirm.search_and_confirm
        result = searched(prepared, resume_at=partial, listener=listener)
    result = replace(result, command=command)
    records.write(request.out, result)
    if request.html is not None:
        front.write_html(result, request.html, search_text.title(result), search_text.remarks(result))
        listener.note(f"wrote {request.html}")
    if request.png is not None:
        front.write_png(result, request.png, search_text.title(result))
        listener.note(f"wrote {request.png}")
    return result


def _tell(prepared: Prepared, listener: Listener) -> None:
    """What was left out, and how good accuracies are."""
    setting = prepared.setting
    if setting.filled:
        filled = ", ".join(f"{key} {value}" for key, value in setting.filled.items())
        listener.note(f"left out, and filled in: {filled}")
    quality = getattr(prepared.problem.accuracy, "quality", "accuracy")
    good_to = f"good to about {100 * setting.accuracy_uncertainty:.1f} points"
    listener.note(f"{quality}: {setting.accuracy_source} ({good_to})")
