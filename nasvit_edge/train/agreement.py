"""Do the gradients of the largest subnet and of the others agree once many images are taken together?

A cosine of single batches mixes two things: noise of the batches, which makes it small whatever the gradients are, and a conflict, which
stays. Over 4, 16, 64 batches the noise averages out: what then is below 0 is a conflict, what rises was noise.
"""

from __future__ import annotations

import functools
import itertools
import random
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch

from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.train.conflicts import ALL, Agreement, kind, layer
from nasvit_edge.train.making import Batch
from nasvit_edge.train.merge import Gradient, added, products
from nasvit_edge.train.recipe import Recipe
from nasvit_edge.train.step import Passes, sandwich

_Pair = tuple[Gradient, Gradient]
_SIZES = (1, 4, 16, 64, 256, 1024)


class _Group:
    """Both gradients summed over `size` batches, again and again; the only group of its size also in quarters, for its error."""

    def __init__(self, size: int, count: int, names: Sequence[str]) -> None:
        self.size, self.names, self.parts = size, names, 4 if size >= 4 and count < 2 * size else 1
        self.sums: list[_Pair | None] = [None] * self.parts
        self.cosines: list[dict[str, float]] = []
        self.without: list[float] = []  # over all parameters, each quarter left out in turn

    def add(self, done: int, pair: _Pair) -> None:
        """The gradients of batch `done`, from 1."""
        place = (done - 1) % self.size * self.parts // self.size
        old = self.sums[place]
        self.sums[place] = pair if old is None else _plus(old, pair)
        if done % self.size == 0:
            parts = [part for part in self.sums if part is not None]
            self.cosines.append(_cosines(*functools.reduce(_plus, parts), self.names))
            if self.parts > 1:
                others = (parts[:i] + parts[i + 1 :] for i in range(self.parts))
                self.without = [
                    _cosines(*functools.reduce(_plus, gradients), self.names)[ALL] for gradients in others
                ]
            self.sums = [None] * self.parts

    def agreement(self, images: int) -> Agreement:
        """The mean of the groups; `images` of a batch."""
        places = dict.fromkeys(place for cosines in self.cosines for place in cosines)
        values = {place: [cosines[place] for cosines in self.cosines if place in cosines] for place in places}
        return Agreement(
            batches=self.size,
            images=self.size * images,
            groups=len(self.cosines),
            cosines={place: statistics.mean(cosines) for place, cosines in values.items()},
            error=self._error(values[ALL]),
        )

    def _error(self, values: Sequence[float]) -> float | None:
        if len(values) > 1:
            return float(statistics.stdev(values) / len(values) ** 0.5)
        if not self.without:
            return None
        return float(((self.parts - 1) * statistics.pvariance(self.without)) ** 0.5)


def agreements(
    supernet: Supernet,
    recipe: Recipe,
    batches: Iterable[Batch],
    count: int,
    *,
    seed: int = 0,
    threads: int = 1,
    listener: Listener = SILENT,
) -> list[Agreement]:
    """Of weights as they are: 1, 4, 16, ... batches up to `count`, each with the smallest and new random subnets, as a step takes them."""
    passes = Passes(supernet.train(), recipe, threads=threads)
    names = [name for name, p in supernet.named_parameters() if p.requires_grad]
    groups = [_Group(size, count, names) for size in sorted({*_SIZES, count}) if size <= count]
    images = 0
    try:
        for done, batch in enumerate(itertools.islice(batches, count), 1):
            rng = random.Random(seed * 1_000_003 + done - 1)
            passed = passes(batch.images, batch.targets, sandwich(supernet.space, recipe.subnets, rng))
            for group in groups:
                group.add(done, (passed.largest, passed.subnets))
            images = len(batch.images)
            listener.progress(done, count, "")
    finally:
        passes.close()
    return [group.agreement(images) for group in groups if group.cosines]


def _plus(one: _Pair, other: _Pair) -> _Pair:
    return added(one[0], other[0]), added(one[1], other[1])


def _cosines(largest: Gradient, subnets: Gradient, names: Sequence[str]) -> dict[str, float]:
    """Over all parameters and by kind of layer; of a kind without gradients nothing."""
    dots = products(largest, subnets)
    table = torch.stack([dots.dot, dots.subnets, dots.largest]).double().cpu()
    places: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        places[ALL].append(i)
        places[kind(layer(name))].append(i)
    sums = {place: table[:, columns].sum(1).tolist() for place, columns in places.items()}
    return {place: dot / (s * t) ** 0.5 for place, (dot, s, t) in sums.items() if s and t}
