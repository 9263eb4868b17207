"""What the masks of a set hold, before anything is learned from them or judged on them.

A mask's values may be taken for others than they are, and a segmenter that learns or is judged then has fine figures and
is of no use: foreground that is 255, and so counts as unlabelled; ids that are one too small. This is told by name.

Legend: C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from nasvit_edge.data_sets.masks import ADE20K, CITYSCAPES_IDS, IGNORE, PLAIN, Coding, Counts
from nasvit_edge.data_sets.scenes import SceneSet
from nasvit_edge.errors import DataError
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.space import SearchSpace
from nasvit_edge.units import show_count

MOST_PIXELS = (
    8_000_000_000  # that are counted, in about a minute of a core; of larger sets every so many-th mask
)
_RARE_LABEL_IDS = [
    9,
    10,
    14,
    15,
    16,
    18,
    IGNORE,
]  # parking, rails, bridges and the like; 255 never; 10 is the sky's train id
_NAMED = 5  # classes or values that a message lists


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskCounts:
    """The values of the masks of a set.

    Attributes:
        name: of the set.
        labels: names of the classes.
        pixels: that have each value, (256,).
        masks: that were looked at, of `total`.
        empty: of those, how many have no labelled pixel.
        left_out: of the set's folders, for people.
    """

    name: str
    coding: Coding
    labels: tuple[str, ...]
    pixels: Counts
    masks: int
    total: int
    empty: int
    left_out: str = ""

    @property
    def per_class(self) -> Counts:
        """How many pixels each class has, (C,)."""
        return self.coding.per_class(self.pixels)[: len(self.labels)]

    @property
    def values(self) -> list[int]:
        """Those that occur."""
        return np.flatnonzero(self.pixels).tolist()

    @property
    def unlabelled(self) -> float:
        """The share of pixels without a class."""
        return float(self.coding.ignored(self.pixels).sum() / self.pixels.sum())

    def summary(self) -> str:
        """Pixels per class, in a line."""
        whole = int(self.pixels.sum())
        shares = [f"{name} {_share(n / whole)}" for name, n in zip(self.labels, self.per_class, strict=True)]
        ignored = np.flatnonzero(self.coding.ignored(self.pixels)).tolist()
        shares += [f"no class {_share(self.unlabelled)} ({_listed(ignored)})"] if ignored else []
        return f"masks of {self.name}{self._sampled()}, {show_count(whole)} pixels: {', '.join(shares)}"

    def _sampled(self) -> str:
        return "" if self.masks == self.total else f", {self.masks} masks evenly from all"


def counted(scenes: SceneSet, space: SearchSpace, listener: Listener = SILENT) -> MaskCounts:
    """Count the values of a set's masks, on all cores; of more than `MOST_PIXELS` those of some, evenly from all.

    Raises:
        DataError: a mask that cannot be read, or with a value that its data set does not have.
    """
    some = _some(scenes)
    pixels, empty = np.zeros(256, np.int64), 0
    for done, histogram in enumerate(some.histograms(), 1):
        pixels += histogram
        empty += not some.source.coding.per_class(histogram).any()
        listener.progress(done, len(some), f"looking at the masks of {scenes.name}")
    return MaskCounts(
        name=scenes.name,
        coding=some.source.coding,
        labels=tuple(space.label_names()),
        pixels=pixels,
        masks=len(some),
        total=len(scenes),
        empty=empty,
        left_out=scenes.left_out,
    )


def _some(scenes: SceneSet) -> SceneSet:
    """The masks that are looked at."""
    share = MOST_PIXELS / max(1, int(scenes.sizes.prod(1).sum()))
    if share >= 1:
        return scenes
    count = max(1, int(share * len(scenes)))
    return scenes.take(scenes.name, [i * len(scenes) // count for i in range(count)])


def checked(
    scenes: SceneSet, space: SearchSpace, *, training: bool = False, listener: Listener = SILENT
) -> list[str]:
    """Look at the masks of a set; what a person should know of them: pixels per class, and what is odd.

    Args:
        training: the set is to be learned from, not judged on.

    Raises:
        DataError: masks that nothing can be learned from or judged on, or whose values mean something else.
    """
    counts = counted(scenes, space, listener)
    refuse(counts, training=training)
    return [counts.summary(), *remarks(counts, training=training)]


def refuse(counts: MaskCounts, *, training: bool = False) -> None:
    """DataError where nothing can be learned or judged."""
    what, occur = f"masks of {counts.name}", np.flatnonzero(counts.per_class)
    if not len(occur):
        raise DataError(
            f"{what} have no pixel with a class, only {_listed(counts.values)}: {counts.coding.meaning}"
        )
    mistake = _MISTAKES.get(counts.coding.kind)
    if mistake is not None and (hint := mistake(counts)):
        raise DataError(f"{what} {hint}")
    if training and len(occur) == 1:
        raise DataError(
            f"{what} have one class alone, {counts.labels[occur[0]]!r}: there is nothing to learn. They hold {_shares(counts)}; {counts.coding.meaning}"
        )


def remarks(counts: MaskCounts, *, training: bool = False) -> Iterator[str]:
    """What is odd, but may be right."""
    per_class, masks = counts.per_class, _masks(counts)
    missing = np.flatnonzero(per_class == 0).tolist()
    if missing and training:
        names = [f"{counts.labels[i]!r} (value {counts.coding.value_of(i)})" for i in missing]
        what = "class {} occurs" if len(names) == 1 else "classes {} occur"
        yield f"WARNING: {what.format(_some_of(names))} in none of {masks}: nothing is learned of what is never seen"
    if len(missing) == len(per_class) - 1:
        yield f"WARNING: one class alone in {masks}: figures say little on them"
    if counts.unlabelled > 0.5:
        yield f"WARNING: {counts.unlabelled:.0%} of the pixels have no class: they are neither learnt from nor counted"
    if missing and _as_many_values_as_classes(counts):
        yield f"note: there are as many values as classes, 255 among them; if 255 is a class: {_option(counts)}"
    if counts.empty:
        yield f"note: {counts.empty} of {masks} have no pixel with a class"
    if counts.left_out:
        yield f"left out of {counts.name}: {counts.left_out}"


def _only_255(counts: MaskCounts) -> str:
    """Two classes whose values are 0 and 255, which is how many tools write them."""
    if len(counts.labels) != 2 or not _as_many_values_as_classes(counts):
        return ""
    seen, unseen = (counts.labels[i] for i in np.argsort(-counts.per_class))
    return (
        f"hold {_listed(counts.values)} alone, and 255 is for pixels without a class: all that counts is {seen!r}, and {unseen!r} "
        f"is never seen; if 255 is a class: {_option(counts)}"
    )


def _as_many_values_as_classes(counts: MaskCounts) -> bool:
    """Whether 255, which is no class, would be the last one."""
    is_plain = counts.coding.kind == PLAIN and counts.coding.table[IGNORE] == IGNORE
    return is_plain and counts.pixels[IGNORE] > 0 and len(counts.values) == len(counts.labels)


def _reduced(counts: MaskCounts) -> str:
    """ADE20K whose ids were made one smaller, 0 being 255, as many programs do it before they train."""
    if not counts.pixels[IGNORE] or counts.pixels[len(counts.labels)]:
        return ""
    return (
        "are reduced already (0 to 149 are the classes and 255 none, where ADE20K has 1 to 150 and 0): every class would be "
        "taken for the one before it. Take the annotations as they are published, or name the folders as your own data has "
        "them, whose classes count from 0: images/training train/images, annotations/training train/masks, and so on"
    )


def _train_ids(counts: MaskCounts) -> str:
    """Cityscapes whose files for label ids hold train ids: no tree (21), sky (23) or car (26), but what label ids hardly have."""
    if counts.pixels[19:34].any() or not counts.pixels[_RARE_LABEL_IDS].any():
        return ""
    return (
        "hold train ids (0 to 18, and 255) in files called labelIds, whose values are 0 to 33 (road 7, sky 23, car 26): "
        "rename them to *_gtFine_labelTrainIds.png, or make the label ids anew by cityscapesscripts"
    )


_MISTAKES: dict[str, Callable[[MaskCounts], str]] = {
    PLAIN: _only_255,
    ADE20K: _reduced,
    CITYSCAPES_IDS: _train_ids,
}


def _option(counts: MaskCounts) -> str:
    return f"add mask_values = {counts.values} to the space's TOML"


def _masks(counts: MaskCounts) -> str:
    if counts.masks == counts.total:
        return f"the {counts.total} masks"
    return f"the {counts.masks} masks that were looked at ({counts.total} in all)"


def _listed(values: list[int]) -> str:
    return f"value{'' if len(values) == 1 else 's'} {_some_of(list(map(str, values)))}"


def _some_of(names: list[str]) -> str:
    """The first few."""
    if len(names) <= _NAMED + 1:
        return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"


def _shares(counts: MaskCounts) -> str:
    """The values that occur most, and how much."""
    order = sorted(counts.values, key=lambda value: -int(counts.pixels[value]))
    whole = counts.pixels.sum()
    return _some_of([f"value {value} {_share(counts.pixels[value] / whole)}" for value in order])


def _share(part: float) -> str:
    return "<0.1%" if 0 < part < 0.0005 else f"{part:.1%}"
