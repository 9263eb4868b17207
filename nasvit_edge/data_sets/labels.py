"""Which of a model's labels a class folder is: by its name, by its number, or in order where the user says so."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nasvit_edge.data_sets.names import numeric, some
from nasvit_edge.errors import DataError
from nasvit_edge.hints import RESULT, command
from nasvit_edge.space import SearchSpace

IMAGENET = "imagenet-1k"
_MOST = 20  # pairs of a mapping that are told


BY_NAME, BY_NUMBER, BY_ID, IN_ORDER = "name", "number", "id", "order"


@dataclass(frozen=True, slots=True)
class Match:
    """Of each class folder its place among the model's labels, and how it was found."""

    places: tuple[int, ...]
    how: str

    def renamed(self, classes: Sequence[str], space: SearchSpace) -> str:
        """`folder = label` of the folders that are called otherwise than their labels; ids are no news."""
        names = space.label_names()
        pairs = [pair for pair in zip(classes, self.places, strict=True) if pair[0] != names[pair[1]]]
        return "" if self.how == BY_ID else _mapping(pairs, names)


def matched(classes: Sequence[str], space: SearchSpace, data: str, *, in_order: bool = False) -> Match:
    """Which label each class folder of `data` is; labels may have no folder.

    Folders that `recognised` does not know are taken in order where as many labels are left and `in_order` says so.

    Raises:
        DataError: it shows what the order would make of the folders, or names those that are no labels.
    """
    known = recognised(classes, space)
    if known is not None:
        return known
    names = space.label_names()
    named = {} if numeric(classes) else _by_name(classes, names)
    rest = [i for i in range(len(classes)) if i not in named]
    free = sorted(set(range(len(names))) - set(named.values()))
    if len(rest) != len(free):
        raise DataError(_foreign(data, classes, [classes[i] for i in rest], space))
    places = named | dict(zip(rest, free, strict=True))
    match = Match(tuple(places[i] for i in range(len(classes))), IN_ORDER)
    if in_order:
        return match
    listed = _mapping([(classes[i], places[i]) for i in rest], names)
    raise DataError(
        f"images {data!r}: {len(rest)} class folders are called otherwise than the labels of space {space.name!r}; in order they "
        f"would be {listed} (folder = label); if that is right add --labels-in-order, else rename the folders"
    )


def recognised(classes: Sequence[str], space: SearchSpace) -> Match | None:
    """Which label each class folder is where their names say so; else None.

    The same name, also spelled with other capitals, spaces and punctuation (`T-shirt_top` is `T-shirt/top`); numbers of
    the same values, or as many in the order of their values; the WordNet ids of ImageNet's classes.
    """
    names = space.label_names()
    named = _by_name(classes, names)
    if len(named) == len(classes):
        return Match(tuple(named[i] for i in range(len(classes))), BY_NAME)
    return _by_number(classes, names, space) or _by_id(classes, space)


def keeps_labels(classes: Sequence[str], space: SearchSpace) -> bool:
    """Whether images of these class folders train the labels that the space has already."""
    match = recognised(classes, space)
    if match is None or len(classes) != space.classes or match.how == IN_ORDER:
        return False
    return match.how != BY_NUMBER or numeric(space.label_names())


def named(classes: Sequence[str], names: Sequence[str]) -> tuple[int, ...] | None:
    """Places of class folders among others; None where one of them is not there."""
    places = _by_name(classes, names)
    return tuple(places[i] for i in range(len(classes))) if len(places) == len(classes) else None


def key(name: str) -> str:
    """What stays of a name however it is spelled: no capitals, spaces, punctuation; nothing of one without a letter.

    What tells names apart stays: `+` and `#` (`C++`), what is between two digits (`1.0` is not `10`), a minus sign.
    """
    text = unicodedata.normalize("NFKC", name).casefold()
    text = re.sub(r"(?<=\d)[\W_]+(?=\d)|(?<![^\W_])-(?=\d)", "~", text)
    letters = "".join(char for char in text if _tells_apart(char))
    return letters if re.search(r"[^\W\d_]", letters) else ""


def _tells_apart(char: str) -> bool:
    return (
        char.isalnum() or char in "+#~" or unicodedata.category(char).startswith("M")
    )  # M: vowels of some scripts


def _by_name(classes: Sequence[str], names: Sequence[str]) -> dict[int, int]:
    """Place in `classes` -> place in `names`, of those that are the same and the only ones of it on both sides."""
    texts = [unicodedata.normalize("NFC", name) for name in names]
    return _same([key(name) for name in classes], [key(name) for name in texts]) | _same(classes, texts)


def _same(left: Sequence[str], right: Sequence[str]) -> dict[int, int]:
    places = _single(right)
    return {place: places[name] for name, place in _single(left).items() if name in places}


def _single(names: Sequence[str]) -> dict[str, int]:
    """Name -> place, of those that occur once."""
    often = Counter(names)
    return {name: place for place, name in enumerate(names) if name and often[name] == 1}


def _by_number(classes: Sequence[str], names: Sequence[str], space: SearchSpace) -> Match | None:
    if not numeric(classes) or len(set(map(int, classes))) < len(classes):
        return None
    values, whole = list(map(int, classes)), len(classes) == len(names)
    by_value = {int(name): i for i, name in enumerate(names)} if numeric(names) else {}
    if not by_value and whole:
        by_value = dict(enumerate(range(len(names))))
    if by_value.keys() >= set(values):
        return Match(tuple(by_value[value] for value in values), BY_NUMBER)
    if whole and (
        isinstance(space.labels, str) or not numeric(names)
    ):  # labels without names, or named by words
        ranks = {value: i for i, value in enumerate(sorted(values))}
        return Match(tuple(ranks[value] for value in values), IN_ORDER)
    return None


def _by_id(classes: Sequence[str], space: SearchSpace) -> Match | None:
    if space.labels != IMAGENET or not all(re.fullmatch("n[0-9]{8}", name) for name in classes):
        return None
    listed = _imagenet_ids() or (sorted(classes) if len(classes) == space.classes else [])
    places = {name: i for i, name in enumerate(listed)}
    if len(listed) != space.classes or not places.keys() >= set(classes):
        return None
    return Match(tuple(places[name] for name in classes), BY_ID)


@functools.cache
def _imagenet_ids() -> list[str]:
    """The WordNet ids of ImageNet's 1000 classes in their order, from timm's files; empty where it is not installed."""
    spec = importlib.util.find_spec("timm")
    for folder in (spec and spec.submodule_search_locations) or ():
        with contextlib.suppress(OSError, ValueError):
            return Path(folder, "data", "_info", "imagenet_synsets.txt").read_text(encoding="utf-8").split()
    return []


def _mapping(pairs: Sequence[tuple[str, int]], names: Sequence[str]) -> str:
    """`folder = label, ...`, of many the first ones."""
    listed = [f"{name} = {names[place]}" for name, place in pairs]
    return some(listed, _MOST if len(listed) <= _MOST else _MOST // 2)


def _foreign(data: str, classes: Sequence[str], rest: Sequence[str], space: SearchSpace) -> str:
    names = space.label_names()
    return (
        f"images {data!r} have {len(classes)} classes; space {space.name!r} has {space.classes} ({some(names)}), and "
        f"{some(rest)} {'is' if len(rest) == 1 else 'are'} none of them; rename the folders as the labels are, or give a model "
        f"these classes first: {command('finetune', RESULT, data=data, out='runs/finetuned')}"
    )
