"""What subnets are calibrated on: batches of the training pipeline that made their weights (spec section 2, batch norm).

Statistics of images that were prepared otherwise are other statistics: the accuracy that the weights have is lost
without a word. So the recipe travels with the weights, and its augmentation makes the batches here as it did in training.

Legend: N images, B of a batch, S side of training images, h w size of crops of scenes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nasvit_edge import data_sets
from nasvit_edge.data_sets import Labelled
from nasvit_edge.data_sets.folders import MEMORY_BYTES
from nasvit_edge.data_sets.scenes import SceneSet
from nasvit_edge.data_sets.splits import CALIBRATION_MOST
from nasvit_edge.errors import RecipeError
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.space import SearchSpace, space_toml
from nasvit_edge.train.initial import SETTLED
from nasvit_edge.train.loading import Loader, Steps
from nasvit_edge.train.recipe import Recipe, parse_recipe, recipe_for
from nasvit_edge.train.scene_loading import SceneLoader

BATCHES = 64  # of at most BATCH images (spec section 2)
BATCH = 64
# Scenes have many more pixels, and statistics of all of them take longer than an epoch of training.
SCENE_BATCHES, SCENE_BATCH = 16, 8
FEW = 64  # distinct images below which accuracy is lost (docs/evaluating.md)
# Distance of images of the training set itself: below 0.02, of 64 of them 0.05, of 16 0.07; of inverted CIFAR-10 images
# 0.09 (AutoAugment inverts, too), of other sets 0.26 and more (docs/evaluating.md).
FAR, SPREAD = 0.06, 0.25
_LOOKED_AT = 16  # batches


class Calibration:
    """Batches for `model.evaluate.calibrated`, the same ones for every subnet and in every process.

    Attributes:
        images: those that are drawn from, in training's order of the seed 0, again and again until there are enough.
        recipe: whose augmentation varies them.
        name: both, for provenance.
    """

    def __init__(self, images: Labelled, recipe: Recipe, space: SearchSpace) -> None:
        self.images, self.recipe, self.space = images, recipe, space
        self.name = f"{images.name}, varied as recipe {recipe.name} does"
        self._made: list[Tensor] | None = None
        self._digest = ""

    def __len__(self) -> int:
        return len(self.images)

    def digest(self) -> str:
        """Of the images, whatever they are called (SHA-256); read once."""
        self._digest = self._digest or self.images.digest()
        return self._digest

    def key(self) -> str:
        """Of the images and of how they are varied."""
        how = json.dumps([self.recipe.to_dict(), space_toml(self.space)], sort_keys=True)
        return hashlib.sha256(f"{self.digest()} {how}".encode()).hexdigest()

    def remarks(self, supernet: Supernet) -> list[str]:
        """What a user should know of these images before trusting what comes of them; nothing where all is well."""
        lines = []
        if len(self) < FEW and not isinstance(self.images, SceneSet):
            lines.append(
                f"WARNING: {len(self)} images are few to calibrate on: 32 cost up to 0.8 points of top-1, 16 about 2, 4 about 11 "
                f"(measured on nano-cifar10); give {FEW} or more"
            )
        distance = self.distance(supernet)
        if distance is not None and distance > (limit := FAR + SPREAD / len(self) ** 0.5):
            lines.append(
                f"WARNING: the statistics of {self.images.name} are far from those of the training images (distance {distance:.2f}, "
                f"at most {limit:.2f} is usual): are they other images, inverted, too dark, or with other colours?"
            )
        return lines

    def distance(self, supernet: Supernet) -> float | None:
        """How far these images are from those that `supernet` was settled on, by what its first layer makes of both.

        The root mean square, over channels, of the difference of means in standard deviations, joined with that of half
        the logarithms of variances. None where the weights do not say that this pipeline settled them.
        """
        if SETTLED not in supernet.source or isinstance(self.images, SceneSet):
            return None
        stem: Any = supernet.get_submodule("first_conv")
        conv, norm = stem.body.conv, stem.body.norm
        outputs = []
        with torch.inference_mode():
            for x, _ in itertools.islice(self.batches(self.space, max(self.space.resolutions)), _LOOKED_AT):
                padded = x if stem.pad is None else stem.pad(x)
                outputs.append(F.conv2d(padded, conv.weight, stride=conv.stride, padding=conv.padding))
        values = torch.cat(outputs).transpose(0, 1).flatten(1)
        mean, variance = values.mean(1), values.var(1) + norm.eps
        expected = norm.running_var + norm.eps
        moved = ((mean - norm.running_mean) / expected.sqrt()).square().mean()
        spread = ((variance / expected).log() / 2).square().mean()
        return float((moved + spread).sqrt())

    def batches(self, space: SearchSpace, resolution: int, size: int = 0) -> Iterator[tuple[Tensor, None]]:
        """Normalised images (B, 3, *space.input_size(resolution)); there are no labels. `size` is the pipeline's own."""
        del size
        if self._made is None:
            self._made = [_bytes(batch, self.space) for batch in self._batches()]
        for pixels in self._made:
            yield _resized(data_sets.prepare(pixels, space), space.input_size(resolution)), None

    def _batches(self) -> Iterator[Tensor]:
        """Images (B, 3, S, S), or crops (B, 3, h, w), as a training step gets them."""
        with _loader(self.images, self.recipe, self.space) as loader:
            count = SCENE_BATCHES if isinstance(self.images, SceneSet) else BATCHES
            for (batch,) in loader.steps(0, count):
                yield batch.images


def calibration_for(
    supernet: Supernet, data: str, most: int = CALIBRATION_MOST, *, listener: Listener = SILENT
) -> Calibration:
    """The calibration of a supernet's subnets on the images of `data`, at most `most` of them.

    `note` is told what is in a folder.

    Raises:
        DataError: no images.
    """
    space, recipe = supernet.space, recipe_of(supernet.source, supernet.space)
    whole = recipe.augment.crop == "resized" and _trained_on_files(supernet.source, space)
    images = data_sets.calibration_images(data, space, most, whole=whole, listener=listener)
    return Calibration(images, recipe, space)


def recipe_of(source: Mapping[str, Any], space: SearchSpace) -> Recipe:
    """The recipe that weights say they were trained with (`Supernet.source`); of foreign ones the space's."""
    content = source.get("recipe")
    if isinstance(content, dict):
        try:
            return parse_recipe(content, "of the weights")
        except RecipeError:  # of another version
            pass
    return recipe_for(space)


def _trained_on_files(source: Mapping[str, Any], space: SearchSpace) -> bool:
    """Whether training cropped from whole files: sets that fit into memory are cropped from their middle."""
    images = source.get("images")
    return not isinstance(images, int) or images * 3 * space.image_size**2 > MEMORY_BYTES


def _loader(images: Labelled, recipe: Recipe, space: SearchSpace) -> Steps:
    if isinstance(images, SceneSet):
        size, batch = recipe.scenes.size(space), min(SCENE_BATCH, len(images))
        return SceneLoader(images, recipe.scenes, space, size=size, batch_size=batch, workers=0)
    batch = min(BATCH, len(images))
    return Loader(images, recipe.augment, space, size=space.image_size, batch_size=batch, workers=0)


def _bytes(images: Tensor, space: SearchSpace) -> Tensor:
    """Normalised images to bytes: a quarter of the memory; half a grey level changes no statistics, and erasing's noise ends at black and white."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (space.mean, space.std))
    return ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8).contiguous()


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """As inside the supernet."""
    if tuple(images.shape[-2:]) == size:
        return images
    return F.interpolate(images, size, mode="bicubic", align_corners=False)
