"""Policies that change single images before they are normalised: RandAugment and AutoAugment, of timm or of torchvision.

The published recipes mean timm's: magnitudes of 10, each operation applied with probability 0.5 and normal noise on its magnitude, what
comes in from outside filled with the mean colour, bicubic. torchvision's has 31 steps of strength, always applies, and fills with black.

An image is (C, H, W) bytes of 1 or 3 channels. What is drawn comes from the generators of torch, numpy and Python, seeded by `seeded`.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nasvit_edge.errors import require

if TYPE_CHECKING:
    from nasvit_edge.train.recipe import Augment

Policy = Callable[[Tensor], Tensor]
_NOISE = 0.5  # standard deviation on a magnitude of 10, as published


def policies(augment: Augment, mean: tuple[float, ...], size: int) -> list[Policy]:
    """What is done to each image, in order.

    Args:
        mean: RGB from 0 to 1, the colour that timm's operations fill with.
        size: of the images, in pixels.
    """
    steps: list[Policy] = []
    if augment.autoaugment:
        steps.append(_autoaugment(augment.autoaugment, mean, size))
    if augment.randaugment_ops and augment.ops == "timm":
        words = f"rand-m{augment.randaugment_magnitude}-n{augment.randaugment_ops}-mstd{_NOISE}"
        words += "-inc1" if augment.randaugment_increasing else ""
        steps.append(_of_timm("rand_augment_transform", words, mean, size))
    elif augment.randaugment_ops:
        v2 = require("torchvision.transforms.v2", "train")
        steps.append(v2.RandAugment(augment.randaugment_ops, augment.randaugment_magnitude))
    return steps


def _autoaugment(name: str, mean: tuple[float, ...], size: int) -> Policy:
    if name == "v0":
        return _of_timm("auto_augment_transform", "v0", mean, size)
    v2 = require("torchvision.transforms.v2", "train")
    kinds = {"imagenet": v2.AutoAugmentPolicy.IMAGENET, "cifar10": v2.AutoAugmentPolicy.CIFAR10}
    return v2.AutoAugment(kinds[name])


def _of_timm(function: str, words: str, mean: tuple[float, ...], size: int) -> Policy:
    """timm's transform of a Pillow image, of and to bytes."""
    auto_augment = require("timm.data.auto_augment", "train")
    image = require("PIL.Image", "train")
    bicubic = image.Resampling.BICUBIC
    fill = tuple(min(255, round(255 * value)) for value in mean)
    # the farthest shift in pixels, of those operations that do not take a share of the side
    options = {"translate_const": int(0.45 * size), "img_mean": fill, "interpolation": bicubic}
    transform = getattr(auto_augment, function)(words, options)
    rules = getattr(transform, "ops", None) or itertools.chain(*transform.policy)
    for operation in rules:
        if operation.name.startswith("Posterize"):
            operation.aug_fn = _posterized
    return functools.partial(_transformed, transform)  # which can go to a process that is no fork


def _transformed(transform: Callable[[Any], Any], pixels: Tensor) -> Tensor:
    """What a transform of Pillow images makes of bytes (C, H, W)."""
    channels = len(pixels)
    rgb = pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous()
    changed = transform(require("PIL.Image", "train").fromarray(rgb.numpy()))
    result = torch.from_numpy(np.array(changed.convert("RGB" if channels == 3 else "L")))
    return result.permute(2, 0, 1) if channels == 3 else result[None]


def _posterized(image: Any, bits: int, **_: Any) -> Any:
    """No bits are left at low magnitudes, which Pillow 12 refuses and earlier ones make black."""
    if not bits:
        return require("PIL.Image", "train").new(image.mode, image.size)
    return image if bits >= 8 else require("PIL.ImageOps", "train").posterize(image, bits)


def erasing(fill: str) -> Policy:
    """Erases a rectangle of (3, H, W) normalised floats: with normal noise (timm's, as published), or the mean (torchvision's)."""
    eraser: Policy
    if fill == "noise":
        eraser = require("timm.data.random_erasing", "train").RandomErasing(1.0, mode="pixel", device="cpu")
    else:
        eraser = require("torchvision.transforms.v2", "train").RandomErasing(p=1.0)
    return eraser


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What is drawn from the CPU generators of torch, numpy and Python inside depends on `seed` alone; their states are put back."""
    generator = torch.default_generator
    states = generator.get_state(), np.random.get_state(), random.getstate()
    try:
        generator.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        yield
    finally:
        generator.set_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
