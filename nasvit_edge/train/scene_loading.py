"""Batches of crops of scenes for training, made as `loading` makes batches of images.

A crop is cut from the image as a model would see it: resized to the space's largest images, scaled at random, cut out at
random, mirrored at random. Only what is kept is resized: the window of the file that a crop shows goes straight to
the crop's size. Where the scaled image is smaller than the crop, the rest is the mean colour, labelled IGNORE.

Legend: B crops of a batch, H W the file's size, h w the crop's, N pairs of a step, T tries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nasvit_edge.data_sets.scenes import IGNORE, SceneSet
from nasvit_edge.errors import require
from nasvit_edge.space import SearchSpace
from nasvit_edge.train.loading import IMAGES, Slices, Steps
from nasvit_edge.train.making import Batch
from nasvit_edge.train.recipe import SceneCrops

_TRIES = 10  # crops that are drawn for one that has enough labels
_GREY = (0.2989, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601, as torchvision has it
_Floats = np.ndarray[Any, np.dtype[np.float64]]


class SceneLoader(Steps):
    """Batches of crops: images (B, 3, h, w) float32, channels last, normalised; targets (B, h, w) int64 with IGNORE."""

    def __init__(
        self,
        scenes: SceneSet,
        augment: SceneCrops,
        space: SearchSpace,
        *,
        size: tuple[int, int],
        batch_size: int,
        parts: int = 1,
        rank: int = 0,
        world: int = 1,
        seed: int = 0,
        workers: int = 1,
    ) -> None:
        """A step takes `batch_size * parts * world` pairs; rank r's part p is slice `r * parts + p` of them.

        A set of up to 2 GB is decoded once, here, into memory that the workers share where processes fork.

        Args:
            size: height and width of the crops in pixels.
            workers: processes that make batches; 0: none, they are made while the step waits.

        Raises:
            DataError: fewer pairs than one step takes, a file that is damaged, a value of a mask that is no class.
        """
        slices = _SceneSlices(scenes, Cropper(augment, space, size), batch_size, parts * world, seed)
        super().__init__(slices, parts=parts, rank=rank, workers=workers)


class _SceneSlices(Slices):
    """Of pairs and a cropper."""

    def __init__(self, scenes: SceneSet, cropper: Cropper, batch_size: int, slices: int, seed: int) -> None:
        super().__init__(scenes.name, len(scenes), batch_size, slices, seed)
        self.scenes, self.cropper = scenes.loaded(), cropper

    def batch_bytes(self) -> int:
        height, width = self.cropper.size
        return self.batch_size * height * width * (4 * 3 + 8)  # floats of three channels, int64 of the mask

    def made(self, step: int, index: int) -> Batch:
        part = self.part(index)
        draws = CropDraws.make(self.batch_size * self.slices, self.rng(IMAGES, step), part)
        images, masks = [], []
        for place, chosen in enumerate(self.chosen(step, part)):
            image, mask = self.cropper(*self.scenes.pair(int(chosen)), draws.of(place))
            images.append(image)
            masks.append(mask)
        stacked = torch.stack(images).contiguous(memory_format=torch.channels_last)
        return Batch(stacked, torch.stack(masks).long())


@dataclass(frozen=True, slots=True)
class CropDraws:
    """Uniform numbers in [0, 1) for each of B crops."""

    windows: _Floats  # (B, T, 3) scale, top, left
    flip: _Floats  # (B,)
    colours: _Floats  # (B, 3) brightness, contrast, saturation

    @staticmethod
    def make(count: int, rng: np.random.Generator, part: slice) -> CropDraws:
        """Draw for `count` crops and keep those of `part`: a share of a batch draws as the whole does."""
        drawn = rng.random((count, _TRIES, 3)), rng.random(count), rng.random((count, 3))
        return CropDraws(*(numbers[part] for numbers in drawn))

    def of(self, place: int) -> tuple[_Floats, float, _Floats]:
        """The numbers of one crop: windows (T, 3), flip, colours (3,)."""
        return self.windows[place], float(self.flip[place]), self.colours[place]


@dataclass(frozen=True, slots=True)
class Span:
    """Along one side: which pixels of the file go to which of the crop."""

    start: int
    stop: int
    to_start: int
    to_stop: int

    @staticmethod
    def make(source: int, scaled: int, target: int, place: float) -> Span:
        """`source` pixels seen as `scaled`, of which `target` are kept, or put among `target`; `place` in [0, 1)."""
        free = int(place * (abs(scaled - target) + 1))
        if scaled <= target:
            return Span(0, source, free, free + scaled)
        length = max(1, round(target * source / scaled))
        return Span(start := min(round(free * source / scaled), source - length), start + length, 0, target)


class Cropper:
    """A pair to a crop of it; a function of the draws alone."""

    def __init__(self, augment: SceneCrops, space: SearchSpace, size: tuple[int, int]) -> None:
        """`size`: height and width (h, w) of the crops, in pixels."""
        self.augment, self.size = augment, size
        self.whole = space.input_size(max(space.resolutions))  # what scale 1 is
        self._mean = torch.tensor(space.mean)[:, None, None] * 255
        self._std = torch.tensor(space.std)[:, None, None] * 255
        v2 = require("torchvision.transforms.v2", "train")
        self._resize: Any = v2.functional.resize
        self._bilinear, self._nearest = v2.InterpolationMode.BILINEAR, v2.InterpolationMode.NEAREST_EXACT

    def __call__(
        self,
        image: np.ndarray[Any, Any],
        mask: np.ndarray[Any, Any],
        draws: tuple[_Floats, float, _Floats],
    ) -> tuple[Tensor, Tensor]:
        """Image (3, H, W) and mask (H, W), bytes, to a normalised crop (3, h, w) and its mask (h, w), bytes."""
        windows, flip, colours = draws
        rows, columns = self._window(mask, windows)
        cut = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
        to = [rows.to_stop - rows.to_start, columns.to_stop - columns.to_start]
        pixels, labels = torch.from_numpy(image[:, *cut]), torch.from_numpy(mask[None, *cut])
        pixels = self._resize(pixels, to, interpolation=self._bilinear, antialias=True)
        labels = self._resize(labels, to, interpolation=self._nearest)[0]
        pixels = (self._coloured(pixels, colours) - self._mean) / self._std
        # padding in the mean colour is zero once normalised
        crop, target = torch.zeros(3, *self.size), torch.full(self.size, IGNORE, dtype=torch.uint8)
        place = slice(rows.to_start, rows.to_stop), slice(columns.to_start, columns.to_stop)
        crop[:, place[0], place[1]], target[place] = pixels, labels
        return (crop.flip(-1), target.flip(-1)) if flip < self.augment.flip else (crop, target)

    def _window(self, mask: np.ndarray[Any, Any], windows: _Floats) -> tuple[Span, Span]:
        """The first window with enough labels, or the one with most of them."""
        best, best_spans = -1.0, None
        for drawn in windows:
            spans = self._spans(mask.shape, drawn)
            rows, columns = spans
            share = (mask[rows.start : rows.stop, columns.start : columns.stop] != IGNORE).mean()
            if share >= self.augment.smallest_share:
                return spans
            if share > best:
                best, best_spans = float(share), spans
        assert best_spans is not None
        return best_spans

    def _spans(self, sides: tuple[int, ...], drawn: _Floats) -> tuple[Span, Span]:
        low, high = self.augment.smallest_scale, self.augment.largest_scale
        scale = low + (high - low) * float(drawn[0])
        rows, columns = (
            Span.make(source, max(1, round(whole * scale)), target, float(place))
            for source, whole, target, place in zip(sides, self.whole, self.size, drawn[1:], strict=True)
        )
        return rows, columns

    def _coloured(self, pixels: Tensor, colours: _Floats) -> Tensor:
        """Bytes (3, h, w) to floats of the same range: brightness, contrast and saturation as torchvision's, in one pass.

        Each blends with black, the mean grey, or the pixel's grey (`adjust_brightness` and its siblings); without the
        roundings between them the three are one linear map.
        """
        floats = pixels.float()
        if not self.augment.jitter:
            return floats
        brightness, contrast, saturation = (1 + self.augment.jitter * (2 * colours - 1)).tolist()
        sums = pixels.sum((1, 2)).tolist()  # whole numbers: the same however many threads add them
        mean = sum(w * s for w, s in zip(_GREY, sums, strict=True)) / (pixels.shape[1] * pixels.shape[2])
        red, green, blue = (channel * weight for channel, weight in zip(floats, _GREY, strict=True))
        grey = (red + green + blue) * (brightness * contrast * (1 - saturation))
        varied = floats * (brightness * contrast * saturation) + grey
        varied += (1 - contrast) * brightness * mean
        return varied.clamp_(0, 255)
