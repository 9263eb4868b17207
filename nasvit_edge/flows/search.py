"""`search` from start to end: prepared, searched and, where that is asked for, measured; the result file and its pictures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from msgspec.structs import replace

from nasvit_edge import files, records
from nasvit_edge.flows import confirm
from nasvit_edge.flows.prepared import Prepared, go, prepare
from nasvit_edge.report import front, search_text
from nasvit_edge.requests.search import Request
from nasvit_edge.searching.saved import ResultFile

Note = Callable[[str], None]
Progress = Callable[[str], AbstractContextManager[Callable[[int, int, str], None]]]


def search(request: Request, command: tuple[str, ...], *, note: Note, progress: Progress) -> ResultFile:
    """Search, and write what was found; `command` is what the result file says that it was asked by.

    Raises:
        InfeasibleError: no subnet of the space is within the limits.
        NasvitEdgeError: options that do not fit, before anything is measured.
    """
    for path in (request.out, request.html, request.png):
        if path is not None:
            files.writable_folder(path.parent)
    with progress("measuring ops") as show:
        prepared = prepare(request, note, show)
    _tell(prepared, note)
    partial = request.out.with_name(f"{request.out.name}.partial")
    with progress("searching") as show:
        searched = go if request.confirm is None else confirm.go
        result = searched(prepared, resume_at=partial, on_progress=show, note=note)
    result = replace(result, command=command)
    records.write(request.out, result)
    if request.html is not None:
        front.write_html(result, request.html, search_text.title(result), search_text.remarks(result))
        note(f"wrote {request.html}")
    if request.png is not None:
        front.write_png(result, request.png, search_text.title(result))
        note(f"wrote {request.png}")
    return result


def _tell(prepared: Prepared, note: Note) -> None:
    """What was left out, and how good accuracies are."""
    setting = prepared.setting
    if setting.filled:
        filled = ", ".join(f"{key} {value}" for key, value in setting.filled.items())
        note(f"left out, and filled in: {filled}")
    quality = getattr(prepared.problem.accuracy, "quality", "accuracy")
    good_to = f"good to about {100 * setting.accuracy_uncertainty:.1f} points"
    note(f"{quality}: {setting.accuracy_source} ({good_to})")
