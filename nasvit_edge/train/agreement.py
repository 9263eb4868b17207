"""Do the gradients of the largest subnet and of the others agree once many images are taken together?

A cosine of single batches mixes two things: noise of the batches, which makes it small whatever the gradients are, and a conflict, which
stays. Over 4, 16, 64 batches the noise averages out: what then is below 0 is a conflict, what rises was noise.
"""

from __future__ import annotations

import random
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

_SIZES = (1, 4, 16, 64, 256, 1024)


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
    sizes = sorted({size for size in (*_SIZES, count) if size <= count})
    sums: dict[int, tuple[Gradient, Gradient]] = {}
    found: dict[int, list[dict[str, float]]] = defaultdict(list)
    images = 0
    try:
        for done, batch in enumerate(batches, 1):
            rng = random.Random(seed * 1_000_003 + done - 1)
            passed = passes(batch.images, batch.targets, sandwich(supernet.space, recipe.subnets, rng))
            images = len(batch.images)
            for size in sizes:
                old = sums.get(size)
                pair = passed.largest, passed.subnets
                sums[size] = pair if old is None else (added(old[0], pair[0]), added(old[1], pair[1]))
                if done % size == 0:
                    found[size].append(_cosines(*sums.pop(size), names))
            listener.progress(done, count, "")
            if done == count:
                break
    finally:
        passes.close()
    return [_mean(size, images, each) for size, each in found.items()]


def _cosines(largest: Gradient, subnets: Gradient, names: Sequence[str]) -> dict[str, float]:
    """Over all parameters and by kind of layer; of a kind without gradients nothing."""
    made = products(largest, subnets)
    table = torch.stack([made.dot, made.subnets, made.largest]).double().cpu()
    places: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        places[ALL].append(i)
        places[kind(layer(name))].append(i)
    sums = {place: table[:, own].sum(1).tolist() for place, own in places.items()}
    return {place: dot / (s * t) ** 0.5 for place, (dot, s, t) in sums.items() if s and t}


def _mean(size: int, images: int, each: Sequence[dict[str, float]]) -> Agreement:
    places = dict.fromkeys(place for cosines in each for place in cosines)
    values = {place: [cosines[place] for cosines in each if place in cosines] for place in places}
    means = {place: sum(own) / len(own) for place, own in values.items()}
    return Agreement(batches=size, images=size * images, groups=len(each), cosines=means)
