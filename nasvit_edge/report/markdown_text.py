"""Markdown as GitHub and GitLab read it: tables, text that is no markup, and what fits into a comment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nasvit_edge.report.labels import plain

_JOINER = "\u2060"  # not seen; breaks what would become a mention, a link or an emoji
_LINKED = re.compile(r"([@#:]|www(?=\.))(?=\S)", re.IGNORECASE)
_MARKUP = re.compile(r"[\\`*_{}\[\]()<>#!|~&$^=\"']")


def code(text: object, most: int = 80) -> str:
    """A name as code in a table's cell: nothing in it is markup, a mention or a link."""
    # a pipe is escaped by a backslash even in code; one behind a backslash cannot be, so it becomes a broken bar
    shown = plain(text, most).replace("\\|", "\\¦").replace("|", "\\|")
    ticks = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{ticks}{pad}{shown}{pad}{ticks}"


def prose(text: object, most: int = 300) -> str:
    """A sentence in a table's cell in which nothing is markup, a mention or a link."""
    broken = _LINKED.sub(rf"\1{_JOINER}", plain(text, most))
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", broken)


def firm(text: str) -> str:
    """A figure that no line break divides, but before its interval."""
    return text.replace(" ", "\u00a0").replace("\u00a0(", " (")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a comment whose lines may be left out where they are too many.

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
        return _size(self.text(len(self.lines)))

    def within(self, room: int) -> str:
        """As much as fits into `room` bytes, and how many lines do not; the head and tail are there anyway."""
        if self.size <= room:
            return self.text(len(self.lines))
        low, high = 0, len(self.lines) - 1
        while low < high:  # the most lines that fit
            middle = (low + high + 1) // 2
            low, high = (middle, high) if _size(self.text(middle)) <= room else (low, middle - 1)
        return self.text(max(low, 0))

    def text(self, count: int) -> str:
        """With `count` of the lines, the most urgent ones in their order."""
        urgent = sorted(range(len(self.lines)), key=lambda place: (self.lines[place][0], place))[:count]
        body = [*self.head, *(self.lines[place][1] for place in sorted(urgent)), *self.tail]
        if missing := len(self.lines) - count:
            told = f"{missing} of {len(self.lines)} lines left out, the least urgent ones: "
            body += ["", f"*{told}a comment holds no more. The page and the JSON of the report have all.*"]
        if not self.title:
            return "\n".join([*body, ""])
        return "\n".join(
            [f"<details><summary>{self.title}</summary>", "", *body, "", "</details>", ""],
        )


def table(
    columns: Sequence[str],
    lines: Sequence[tuple[int, Sequence[str]]],
    title: str = "",
    tail: Sequence[str] = (),
) -> Section:
    """A table as a section; columns whose name starts with `>` are flushed right, those without any text left out."""
    kept = [place for place in range(len(columns)) if any(cells[place] for _, cells in lines)]
    names = [columns[place] for place in kept]
    rule = ["---:" if name.startswith(">") else "---" for name in names]
    head = (_row([name.removeprefix(">") for name in names]), _row(rule)) if kept else ()
    rows = [(rank, _row([cells[place] for place in kept])) for rank, cells in lines]
    return Section(title=title, head=head, lines=rows, tail=tail)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def fitted(sections: Sequence[Section], room: int) -> str:
    """The sections in at most `room` bytes: the longest ones give way first."""
    shown: dict[int, str] = {}
    by_size = sorted(range(len(sections)), key=lambda place: sections[place].size)
    for number, place in enumerate(by_size):  # what the short ones do not need is left for the long ones
        share = room // (len(by_size) - number)
        shown[place] = sections[place].within(share - 1)
        room -= _size(shown[place]) + 1
    return "\n".join(shown[place] for place in range(len(sections)))


def _size(text: str) -> int:
    return len(text.encode())
