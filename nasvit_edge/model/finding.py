"""Where in a file the weights of a network stand: whatever they are wrapped in, they are known by their keys.

A file is a set of tensors with dotted names: the keys of its nested dictionaries, joined. A place is a prefix under
which the keys of the network stand; wrappers such as `module.` may come before, after and in between.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
_AVERAGED = {"ema", "swa", "shadow", "polyak", "average", "averaged", "avg"}
_COUNTER = "n_averaged"  # what torch's AveragedModel keeps beside the weights, which it calls `module`
_OPTIMIZER = re.compile(r"optim(i[sz]er)?s?(_|$)")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of a file that is not read yet.

    Attributes:
        holder: the name of the dictionary that it stands in.
        shape: as the file says; nothing is sure before it is read.
        same: equal for two that are the same numbers of the file.
        read: CheckpointError where it is damaged or holds no plain numbers.
    """

    holder: str
    shape: tuple[int, ...]
    same: Hashable
    read: Callable[[], Tensor]


@dataclass(frozen=True, slots=True)
class Location:
    """A prefix, and what of a network stands under it.

    Attributes:
        names: name in the network -> name in the file.
        missing: what the file would have to have besides.
        unknown: what stands beside them and is of another network; told only where nothing is missing.
        twice: two names of the file for one of the network.
        averaged: whether they are called averages of training's weights.
    """

    prefix: str
    names: Mapping[str, str]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    twice: tuple[str, str] | None
    averaged: bool

    @property
    def whole(self) -> bool:
        """Whether it is the network, and nothing but it."""
        return not self.missing and not self.unknown and self.twice is None

    def named(self, key: str) -> bool:
        """Whether `key` names this very place, wrappers aside."""
        return plain(self.prefix) == plain(key)

    def within(self, key: str) -> bool:
        """Whether `key` names this place, or one around it."""
        return self.named(key) or self.prefix.startswith(f"{key}.")


def plain(name: str) -> str:
    """A name without wrappers."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def places(
    stored: Mapping[str, StoredTensor],
    wanted: Mapping[str, str],
    *,
    ignored: Callable[[str], bool] = lambda name: False,
    strict: bool = True,
) -> list[Location]:
    """Every place in which at least one wanted key stands.

    Args:
        wanted: name as a file has it -> name in the network.
        ignored: names that may stand beside them.
        strict: whether anything else beside them is `unknown`.
    """
    by_prefix, twice = _matched(stored, wanted)
    large = [prefix for prefix, names in by_prefix.items() if 2 * len(names) >= len(wanted)]
    averages = {name.removesuffix(_COUNTER) for name in stored if name.rpartition(".")[2] == _COUNTER}
    locations = []
    for prefix, names in by_prefix.items():
        begin = f"{prefix}." if prefix else ""
        missing = tuple(begin + name for name, parameter in wanted.items() if parameter not in names)
        unknown: tuple[str, ...] = ()
        if strict and not missing:
            deeper = tuple(f"{other}." for other in large if other != prefix and other.startswith(begin))
            beside = _beside(stored, names.values(), begin, deeper)
            unknown = tuple(n for n in beside if not _allowed(n[len(begin) :], ignored))
        locations.append(
            Location(prefix, names, missing, unknown, twice.get(prefix), _is_averaged(begin, averages))
        )
    return locations


def best(
    locations: Sequence[Location],
    stored: Mapping[str, StoredTensor],
    fits: Callable[[str, StoredTensor], bool],
) -> list[Location]:
    """The whole places that are to be preferred: of the right shapes, then averaged; several where nothing decides.

    Args:
        fits: whether an entry has the shape of the network's of that name.
    """
    whole = [place for place in locations if place.whole]
    sized = [p for p in whole if all(fits(parameter, stored[name]) for parameter, name in p.names.items())]
    chosen = sized or whole
    return _distinct([place for place in chosen if place.averaged] or chosen, stored)


def _matched(
    stored: Mapping[str, StoredTensor], wanted: Mapping[str, str]
) -> tuple[dict[str, dict[str, str]], dict[str, tuple[str, str]]]:
    """Prefix -> name in the network -> name in the file, and prefix -> two names for one."""
    known = {plain(name): parameter for name, parameter in wanted.items()}
    by_prefix: dict[str, dict[str, str]] = {}
    twice: dict[str, tuple[str, str]] = {}
    for full in stored:
        parts = full.split(".")
        for at, part in enumerate(parts):
            parameter = None if part in WRAPPERS else known.get(plain(".".join(parts[at:])))
            if parameter is not None:
                prefix = ".".join(parts[:at])
                names = by_prefix.setdefault(prefix, {})
                if parameter in names and stored[names[parameter]].same != stored[full].same:
                    twice[prefix] = (names[parameter], full)
                names[parameter] = full
            if _OPTIMIZER.match(part):
                break  # moments have the names of what they are of
    return by_prefix, twice


def _beside(
    stored: Mapping[str, StoredTensor], names: Collection[str], begin: str, deeper: tuple[str, ...]
) -> Iterable[str]:
    """Names with the same prefix in the same dictionaries that are not taken, nor in a large place further in."""
    holders, known = {stored[name].holder for name in names}, set(names)
    for name, entry in stored.items():
        inside = entry.holder in holders and name.startswith(begin) and not name.startswith(deeper)
        if inside and name not in known:
            yield name


def _allowed(name: str, ignored: Callable[[str], bool]) -> bool:
    return name.rpartition(".")[2] == _COUNTER or ignored(name)


def _is_averaged(begin: str, averages: Collection[str]) -> bool:
    """Whether a place (its prefix with the dot) is called an average, or stands where AveragedModel keeps one."""
    if any(begin == at or begin.startswith(f"{at}module.") for at in averages):
        return True
    words = [word.lower() for word in _WORD.findall(begin)]
    return any(w in _AVERAGED and before != "exp" for before, w in zip(["", *words], words, strict=False))


def _distinct(locations: Sequence[Location], stored: Mapping[str, StoredTensor]) -> list[Location]:
    """Without places whose numbers are those of an earlier one."""
    distinct: dict[Hashable, Location] = {}
    for place in locations:
        numbers = frozenset((parameter, stored[name].same) for parameter, name in place.names.items())
        distinct.setdefault(numbers, place)
    return list(distinct.values())
