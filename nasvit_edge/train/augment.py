"""Training images, varied at random.

What all images of a batch have in common is done to the whole batch (shift and flip by one gather); per image what differs in
size or policy (random resized crops, RandAugment, AutoAugment, erasing). Whatever is drawn is drawn beforehand (`Draws`), or from
generators that are seeded for one image and put back afterwards.

Legend: B images of a batch, C 1 or 3 channels, S the side that leaves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nasvit_edge.data_sets import prepare
from nasvit_edge.errors import require
from nasvit_edge.space import SearchSpace
from nasvit_edge.train.policies import erasing, policies, seeded
from nasvit_edge.train.recipe import Augment

_CROP, _POLICY, _ERASE = range(3)  # rows of Draws.seeds


@dataclass(frozen=True, slots=True)
class Draws:
    """What a recipe draws for each of B images."""

    shift: Tensor  # (2, B) rows and columns, 0 to 2 * padding
    flip: Tensor  # (B,) bool
    erase: Tensor  # (B,) bool
    seeds: list[list[int]]  # (3, B) for what torchvision and timm draw by themselves

    @staticmethod
    def make(augment: Augment, count: int, rng: np.random.Generator, part: slice) -> Draws:
        """Draw for `count` images and keep those of `part`: a share of a batch draws as the whole does."""
        drawn = [
            rng.integers(0, 2 * augment.padding + 1, (2, count)),
            rng.random(count) < augment.flip,
            rng.random(count) < augment.erasing,
        ]
        seeds = rng.integers(0, 2**63, (3, count))
        shift, flip, erase = (torch.from_numpy(x[..., part].copy()) for x in drawn)
        return Draws(shift, flip, erase, seeds[:, part].tolist())


class Augmenter:
    """Images of any size to normalised batches, by a recipe's augmentation.

    Everything it does is a function of the draws and seeds it is given; torch's generator is left as it was.
    """

    def __init__(self, augment: Augment, space: SearchSpace, size: int) -> None:
        """`size`: the side S of the images that leave, in pixels."""
        self.augment, self.space, self.size = augment, space, size
        v2 = require("torchvision.transforms.v2", "train")
        scale = (augment.smallest_crop, 1.0)
        how = {"interpolation": v2.InterpolationMode(space.filter), "antialias": True}
        self._resize = v2.Resize((size, size), **how)
        self._crop = v2.RandomResizedCrop(size, scale=scale, **how)
        self._policies = policies(augment, space.mean, size)
        self._erasing = erasing(augment.erasing_fill)
        kinds = ((augment.mixup, v2.MixUp), (augment.cutmix, v2.CutMix))
        self._mixing = [kind(alpha=alpha, num_classes=space.classes) for alpha, kind in kinds if alpha]

    def image_bytes(self) -> int:
        """What a finished image and its target take."""
        target = 4 * self.space.classes if self._mixing else 8
        return 4 * 3 * self.size * self.size + target

    def images(self, pixels: Tensor | Sequence[Tensor], draws: Draws) -> Tensor:
        """Bytes (B, C, H, W), or B times (C, H, W), to floats (B, 3, S, S): RGB minus mean, over std."""
        varied = self._flipped(self._cropped(pixels, draws), draws)
        if self._policies:
            varied = _each(self._policy, varied, draws.seeds[_POLICY])
        prepared = prepare(varied, self.space).contiguous(memory_format=torch.channels_last)
        for index in draws.erase.nonzero()[:, 0].tolist():
            with seeded(draws.seeds[_ERASE][index]):
                prepared[index] = self._erasing(prepared[index])
        return prepared

    def mixed(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Mixup or cutmix of (B, 3, S, S), one of both at random where both are on.

        Returns:
            Images, and targets: probabilities (B, classes) float32; classes (B,) int64 where neither is on.
        """
        if not self._mixing:
            return images, labels
        with seeded(seed):
            kind = self._mixing[int(torch.randint(len(self._mixing), ()))]
            mixed, targets = kind(images, labels)
        return mixed.contiguous(memory_format=torch.channels_last), targets.float()

    def _policy(self, image: Tensor) -> Tensor:
        return functools.reduce(lambda changed, policy: policy(changed), self._policies, image)

    def _cropped(self, pixels: Tensor | Sequence[Tensor], draws: Draws) -> Tensor:
        """(B, C, S, S)."""
        if self.augment.crop == "resized":
            return _each(self._crop, pixels, draws.seeds[_CROP])
        batch = pixels if isinstance(pixels, Tensor) else torch.stack(list(pixels))
        return batch if batch.shape[-2:] == (self.size, self.size) else self._resize(batch)

    def _flipped(self, pixels: Tensor, draws: Draws) -> Tensor:
        if self.augment.crop == "padded":
            return moved(pixels, self.augment.padding, draws.shift, draws.flip)
        return torch.where(draws.flip[:, None, None, None], pixels.flip(-1), pixels)


def moved(pixels: Tensor, padding: int, shift: Tensor, flip: Tensor) -> Tensor:
    """Zero padding, a crop of the same size at `shift` (2, B), then a flip; (B, C, H, W) bytes in and out."""
    count, _, height, width = pixels.shape
    padded = F.pad(pixels, (padding,) * 4)
    columns = torch.arange(width).expand(count, -1)
    columns = torch.where(flip[:, None], columns.flip(1), columns) + shift[1, :, None]
    rows = torch.arange(height)[None] + shift[0, :, None]
    crops = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return crops.permute(0, 3, 1, 2)  # (B, C, H, W)


def _each(function: Callable[[Any], Any], images: Tensor | Sequence[Tensor], seeds: list[int]) -> Tensor:
    """`function` of every image, each with its own seed."""
    results = []
    for image, seed in zip(images, seeds, strict=True):
        with seeded(seed):
            results.append(function(image))
    return torch.stack(results)
