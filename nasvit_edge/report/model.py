"""What a report says, before it is written: sections of tables, charts and sentences, which each form walks once."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Flag, auto
from typing import Generic, Literal, NamedTuple, TypeVar

T = TypeVar("T")
Datum = dict[str, str | float | bool | None]  # a row of a chart's data


class Form(Flag):
    """Where something is shown."""

    MARKDOWN = auto()
    PAGE = auto()
    TERMINAL = auto()
    EVERY = MARKDOWN | PAGE | TERMINAL


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of text, and what it is: each form escapes and shows it by that.

    Attributes:
        kind: a sentence or a `name` of anybody's; a word of our `own`; a figure with its interval in brackets; the `mark` of a
            verdict or a budget; the address of a `link`.
        tone: of a mark or figure: the verdict or status, which has a colour and a sign. decides: whether it counts.
        after: words behind a mark. about: what the pointer tells.
    """

    text: str
    kind: Literal["text", "name", "own", "figure", "mark", "link"] = "text"
    tone: str = ""
    decides: bool = False
    after: str = ""
    about: str = ""


def plain(text: object, most: int = 120) -> str:
    """One line of at most `most` characters, which every encoding of Unicode and XML 1.0 can hold.

    Characters of control, unpaired surrogates and marks that turn the direction of writing are removed; a long text
    loses its middle, as the end of a file's name tells as much as its start.
    """
    whole = str(text)
    if len(whole) > 8 * most:
        whole = whole[: 4 * most] + whole[-4 * most :]
    words = "".join(c if c.isspace() or unicodedata.category(c)[0] != "C" else "" for c in whole).split()
    line = " ".join(words) or "?"
    return line if len(line) <= most else f"{line[: most // 2]}…{line[len(line) - (most - most // 2 - 1) :]}"


Cells = Cell | tuple[Cell, ...]  # several are below each other


def name(value: object, most: int = 80) -> Cell:
    """A name that may be anything, on one line."""
    return Cell(plain(value, most), "name")


def text(value: object, most: int = 300) -> Cell:
    """A sentence that may hold such names; empty where there is nothing to say."""
    return Cell(plain(value, most) if value not in (None, "") else "")


def own(value: object, about: str = "") -> Cell:
    """A word of ours, or a number."""
    return Cell(str(value), "own", about=about)


def figure(value: str, tone: str = "") -> Cell:
    """`1.2 ms (1.1 ms .. 1.3 ms)`."""
    return Cell(value, "figure", tone)


def mark(tone: str, decides: bool, words: str | None = None, after: str = "") -> Cell:
    """A verdict or the status of a budget."""
    return Cell(tone if words is None else words, "mark", tone, decides, after)


def link(address: str | None) -> Cell:
    """An address; as a link only where one may be followed."""
    target = plain(address, 2000) if address else ""
    return Cell(target, "link" if re.match("https?://", target) else "text")


def pieces(cell: Cells) -> tuple[Cell, ...]:
    """The lines of a cell."""
    return cell if isinstance(cell, tuple) else (cell,)


class Column(NamedTuple, Generic[T]):
    """A column, and the cell of an item in it; `forms`: where it is shown, unless all of its cells are empty."""

    name: str
    cell: Callable[[T], Cells]
    forms: Form = Form.EVERY


class Row(NamedTuple):
    """`rank`: rows of the lowest are kept longest where there is no room for all."""

    cells: tuple[Cells, ...]
    rank: int = 0


class Table(NamedTuple):
    """Rows below the names of their columns.

    Attributes:
        keys: so many columns name what a row is of; a page shows them once, above all rows that share them.
        note: what the figures mean, in sentences.
    """

    columns: tuple[str, ...]
    forms: tuple[Form, ...]
    rows: tuple[Row, ...]
    keys: int = 0
    note: str = ""

    def shown(self, form: Form) -> list[int]:
        """The columns that a form has: those that are for it and not empty."""
        places = (place for place, forms in enumerate(self.forms) if form in forms)
        return [p for p in places if any(piece.text or piece.tone for piece in self._pieces(p))]

    def of_figures(self, place: int) -> bool:
        """Whether a column holds figures, which are flushed right."""
        return any(piece.kind == "figure" for piece in self._pieces(place))

    def _pieces(self, place: int) -> Iterable[Cell]:
        return (piece for row in self.rows for piece in pieces(row.cells[place]))


def table(
    items: Iterable[T],
    *columns: Column[T],
    rank: Callable[[T], int] = lambda _: 0,
    keys: int = 0,
    note: str = "",
) -> Table:
    """A row an item."""
    rows = tuple(Row(tuple(column.cell(item) for column in columns), rank(item)) for item in items)
    return Table(tuple(c.name for c in columns), tuple(c.forms for c in columns), rows, keys, note)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart, with what it shows in words.

    Attributes:
        spec: Vega-Lite, as wide as its container. dense: so many marks that they are pixels, not shapes.
        square: as high as it is wide, where there is room.
    """

    title: str
    caption: str
    spec: Mapping[str, object]
    dense: bool = False
    square: bool = False

    @property
    def rows(self) -> dict[str, list[Datum]]:
        """Its data by their names."""
        datasets = self.spec["datasets"]
        assert isinstance(datasets, dict)
        return datasets


class Drawing(NamedTuple):
    """Charts side by side below what they are of."""

    figures: tuple[Figure, ...]
    heading: tuple[Cell, ...] = ()


Part = Table | Drawing | str  # text: a sentence


class Section(NamedTuple):
    """Parts with a title; empty tables are left out, and a section of nothing is."""

    title: str
    parts: Sequence[Part]
    forms: Form = Form.EVERY


class Document(NamedTuple):
    """A whole report.

    Attributes:
        word, headline: the result in a word (`pass`, `fail`, ...) and a line.
        notes: lines below, quiet. facts: key and value, above the sections.
    """

    title: str
    sections: Sequence[Section]
    word: str = ""
    headline: str = ""
    notes: tuple[Cell, ...] = ()
    facts: Sequence[tuple[str, str]] = ()

    def shown(self, form: Form) -> list[Section]:
        """The sections that a form has, with the parts that hold something."""
        sections = []
        for section in self.sections:
            parts = [part for part in section.parts if not isinstance(part, Table) or part.rows]
            if parts and form in section.forms:
                sections.append(section._replace(parts=parts))
        return sections
