"""What commands print: results on stdout, progress and notes on stderr."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasvit_edge.cli.time_left import TimeLeft
from nasvit_edge.listening import Listener
from nasvit_edge.units import show_seconds

if TYPE_CHECKING:
    from nasvit_edge.report.model import Table

_LINE_SECONDS = 10.0
_WRAPPED = ("subnet", "found", "what to do", "about", "value")
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # escapes, reversed writing
_LEFT = ("artifact", "device", "step", "", "field", *_WRAPPED)


def speak(stream: io.TextIOWrapper) -> None:
    """Have a stream take any text: names of files may hold what is none, and a console may know few characters.

    What Windows redirects to a file or another program is UTF-8, not the console's code page.
    """
    redirected = sys.platform == "win32" and not stream.isatty() and "PYTHONIOENCODING" not in os.environ
    stream.reconfigure(encoding="utf-8" if redirected else None, errors="backslashreplace")


def harmless(text: str) -> str:
    """`text` without what a terminal obeys: names and notes in files may be anybody's."""
    return _OBEYED.sub("?", text)


def note(text: str) -> None:
    """A line for the person, on stderr."""
    sys.stderr.write(f"{harmless(text)}\n")


TERMINAL = Listener(note=note)


def note_unchecked(path: Path, checked: bool) -> None:
    """Where an artifact's sidecar was not there, that nothing was checked by it."""
    if not checked:
        note(
            f"{path.name}.json, its sidecar, is not here: whether {path.name} is just the file that was exported was not checked"
        )


def print_json(value: Any) -> None:
    """A JSON result: a record, or what JSON holds."""
    from nasvit_edge.records import content

    sys.stdout.write(json.dumps(content(value), indent=1, sort_keys=True, allow_nan=False) + "\n")


def print_table(columns: list[str], rows: list[list[str]], title: str | None = None) -> None:
    """A table as wide as the terminal, or as it needs where the output is no terminal."""
    _print(columns, rows, title, [name not in _LEFT for name in columns])


def show_table(table: Table, title: str | None = None) -> None:
    """A report's table, likewise."""
    from nasvit_edge.report.model import Form, pieces

    places = table.shown(Form.TERMINAL)
    names = [table.columns[place] for place in places]
    rows = [[", ".join(piece.text for piece in pieces(row.cells[p])) for p in places] for row in table.rows]
    _print(names, rows, title, [table.of_figures(place) for place in places])


def _print(names: list[str], rows: list[list[str]], title: str | None, right: list[bool]) -> None:
    from rich.console import Console
    from rich.table import Table as Shown

    table = Shown(title=None if title is None else harmless(title), title_justify="left")
    for name, flushed in zip(names, right, strict=True):
        table.add_column(harmless(name), justify="right" if flushed else "left", no_wrap=name not in _WRAPPED)
    for row in rows:
        table.add_row(*map(harmless, row))
    width = None if sys.stdout.isatty() else 140
    Console(width=width, highlight=False, markup=False, emoji=False).print(table)


@contextlib.contextmanager
def progress(what: str) -> Iterator[Listener]:
    """Notes, and a bar on stderr from the first progress on."""
    with progresses() as started:
        yield started(what)


@contextlib.contextmanager
def progresses() -> Iterator[Callable[[str], Listener]]:
    """A function from what is done to its listener, as `progress`; the bars stand below each other."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines
        return
    words = (TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("left", "detail"))
    bars = Progress(*columns, *words, console=console)

    def started(what: str) -> Listener:
        task, time_left = bars.add_task(what, total=None, left="", detail=""), TimeLeft()

        def show(done: int, total: int, detail: str = "") -> None:
            bars.start()  # does nothing the second time
            time_left.progress(done, total, detail)
            bars.update(task, completed=done, total=total, left=_left(time_left), detail=detail)

        return Listener(note=note, progress=show, plan=time_left.plan)

    try:
        yield started
    finally:
        if bars.live.is_started:
            bars.stop()


def _lines(what: str) -> Listener:
    """Progress for log files: a line now and then, with the time that is left."""
    last, time_left = time.monotonic(), TimeLeft()

    def show(done: int, total: int, detail: str = "") -> None:
        nonlocal last
        time_left.progress(done, total, detail)
        if time.monotonic() - last > _LINE_SECONDS:
            last = time.monotonic()
            left = _left(time_left)
            note(f"{what}: {done} of {total}{f' ({left})' if left else ''} {detail}".rstrip())

    return Listener(note=note, progress=show, plan=time_left.plan)


def _left(time_left: TimeLeft) -> str:
    """`12 min left`; empty where that is not known, or nothing is."""
    seconds = time_left.seconds()
    return f"{show_seconds(seconds)} left" if seconds else ""


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """A spinner on stderr for work that cannot say how far it is."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        note(f"{what} ...")
        yield
        return
    with console.status(what, spinner="dots" if console.encoding.startswith("utf") else "line"):
        yield
