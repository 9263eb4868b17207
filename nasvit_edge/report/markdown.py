"""A document as a comment on a pull request: its first table, and the rest behind folds, in as many bytes as a comment may have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nasvit_edge.report.model import Cell, Document, Form, Table, pieces

_JOINER = "\u2060"  # not seen; breaks what would become a mention, a link or an emoji
_LINKED = re.compile(r"([@#:]|www(?=\.))(?=\S)", re.IGNORECASE)
_MARKUP = re.compile(r"[\\`*_{}\[\]()<>#!|~&$^=\"']")
_SIGNS = {
    "regression": "🔴",
    "invalid": "🟠",
    "inconclusive": "🟡",
    "improvement": "🟢",
    "equivalent": "⚪",
    "within": "✅",
    "exceeded": "❌",
    "too close": "❌",
    "unknown": "❔",
}
_WARNS = {"exceeded": "⚠️", "too close": "⚠️"}  # of budgets that do not fail
_FIRM = ("regression", "invalid")


def markdown(document: Document, top: str, most: int, *more: Fold) -> str:
    """`top`, and below it the tables and `more` in at most `most` bytes: the longest ones give way first."""
    sections = document.shown(Form.MARKDOWN)
    folds = [
        _fold(section.title, part)
        for section in sections
        for part in section.parts
        if isinstance(part, Table)
    ]
    return top + fitted([*folds, *more], most - len(top.encode()))


def code(text: str) -> str:
    """A name as code in a table's cell: nothing in it is markup, a mention or a link."""
    # a pipe is escaped by a backslash even in code; one behind a backslash cannot be, so it becomes a broken bar
    escaped = text.replace("\\|", "\\¦").replace("|", "\\|")
    ticks = "`" * (max(map(len, re.findall("`+", escaped)), default=0) + 1)
    pad = " " if escaped.startswith("`") or escaped.endswith("`") else ""
    return f"{ticks}{pad}{escaped}{pad}{ticks}"


def prose(text: str) -> str:
    """A sentence in a table's cell in which nothing is markup, a mention or a link."""
    broken = _LINKED.sub(rf"\1{_JOINER}", text)
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", broken)


def _cell(cell: Cell) -> str:
    match cell.kind:
        case "name":
            return code(cell.text)
        case "own":
            return cell.text
        case "figure":
            sign = "" if cell.tone == "equivalent" else _SIGNS.get(cell.tone, "")
            return _unbroken(f"{cell.text} {sign}".strip())
        case "mark":
            return _mark(cell)
        case "link" if re.fullmatch(r"https?://[\w./:%?=-]{1,500}", cell.text, re.ASCII):
            return f"[{cell.text}]({cell.text})"
        case "link":
            return code(cell.text)
        case _:
            return prose(cell.text)


def _mark(cell: Cell) -> str:
    if not cell.tone:
        return cell.text
    sign = _SIGNS[cell.tone] if cell.decides else _WARNS.get(cell.tone, _SIGNS[cell.tone])
    text = f"{sign} **{cell.text}**" if cell.decides and cell.tone in _FIRM else f"{sign} {cell.text}"
    return f"{_unbroken(text.strip())} {cell.after}".strip()


def _unbroken(text: str) -> str:
    """A figure that no line break divides, but before its interval."""
    return text.replace(" ", "\u00a0").replace("\u00a0(", " (")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """A section whose lines may be left out where they are too many.

    Attributes:
        title: what is seen of it before it is opened; empty: it is always open.
        head, tail: kept lines. lines: each with its rank; those of the lowest rank are kept longest.
    """

    title: str = ""
    head: Sequence[str] = ()
    lines: Sequence[tuple[int, str]] = ()
    tail: Sequence[str] = ()

    @property
    def size(self) -> int:
        """Bytes, when whole."""
        return len(self.text(len(self.lines)).encode())

    def within(self, room: int) -> str:
        """As much as fits into `room` bytes, and how many lines do not; the head and tail are there anyway."""
        if self.size <= room:
            return self.text(len(self.lines))
        low, high = 0, len(self.lines) - 1
        while low < high:  # the most lines that fit
            middle = (low + high + 1) // 2
            low, high = (middle, high) if len(self.text(middle).encode()) <= room else (low, middle - 1)
        return self.text(max(low, 0))

    def text(self, count: int) -> str:
        """With `count` of the lines, the most urgent ones in their order."""
        urgent = sorted(range(len(self.lines)), key=lambda place: (self.lines[place][0], place))[:count]
        body = [*self.head, *(self.lines[place][1] for place in sorted(urgent)), *self.tail]
        if missing := len(self.lines) - count:
            note = f"{missing} of {len(self.lines)} lines left out, the least urgent ones: "
            body += ["", f"*{note}a comment holds no more. The page and the JSON of the report have all.*"]
        if not self.title:
            return "\n".join([*body, ""])
        return "\n".join(
            [f"<details><summary>{self.title}</summary>", "", *body, "", "</details>", ""],
        )


def fenced(title: str, lines: Sequence[str]) -> Fold:
    """Commands, as they are."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return Fold(title=title, head=[f"{fence}sh"], lines=list(enumerate(lines)), tail=[fence])


def _fold(title: str, table: Table) -> Fold:
    """A table; below it what its figures mean."""
    head, rows = head_and_rows(table)
    lines = [(row.rank, line) for row, line in zip(table.rows, rows, strict=True)]
    tail = ["", prose(table.note)] if table.note else []
    return Fold(title=f"{title} ({len(lines)})" if title else "", head=head, lines=lines, tail=tail)


def head_and_rows(table: Table) -> tuple[list[str], list[str]]:
    """The lines of a table: the two of its head, and one a row."""
    places = table.shown(Form.MARKDOWN)
    head = [
        _line(table.columns[place] for place in places),
        _line("---:" if table.of_figures(place) else "---" for place in places),
    ]
    return head, [_line("<br>".join(map(_cell, pieces(row.cells[p]))) for p in places) for row in table.rows]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def fitted(folds: Sequence[Fold], room: int) -> str:
    """The folds in at most `room` bytes."""
    texts: dict[int, str] = {}
    by_size = sorted(range(len(folds)), key=lambda place: folds[place].size)
    for number, place in enumerate(by_size):  # what the short ones do not need is left for the long ones
        share = room // (len(by_size) - number)
        texts[place] = folds[place].within(share - 1)
        room -= len(texts[place].encode()) + 1
    return "\n".join(texts[place] for place in range(len(folds)))
