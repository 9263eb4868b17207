"""Images with a class for every pixel: CamVid, Cityscapes, ADE20K, folders of your own.

Legend: N pairs of a set, B of a batch, H W a file's size, h w that of a model's images.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from nasvit_edge import digests
from nasvit_edge.data_sets import scene_layouts
from nasvit_edge.data_sets.decoding import Pixels, check_header, decode, fitted, orientation, turned
from nasvit_edge.data_sets.masks import IGNORE, LABELS, Coding, Counts, decode_mask, histogram, mask_size
from nasvit_edge.data_sets.scene_layouts import FolderPair, Layout
from nasvit_edge.data_sets.sets import Paths, prepare
from nasvit_edge.errors import DataError
from nasvit_edge.space import SearchSpace

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["IGNORE", "SceneSet", "check", "frequencies", "in_memory", "load_scenes"]

SPLITS = ("train", "validation", "test")
HELD_SHARE, HELD_MOST = 0.1, 1000  # of the training images, where no validation images come with them
MEMORY_BYTES = 2_000_000_000  # larger sets stay files
_COUNTED = 1000  # pairs that tell how frequent classes are
_TOGETHER = 32  # pairs that are decoded at a time, so that Ctrl-C need not wait for all of them
_Places = np.ndarray[Any, np.dtype[np.int64]]
_Made = TypeVar("_Made")
Pair: TypeAlias = tuple[Pixels, Pixels]  # image (3, H, W), mask (H, W) of classes or IGNORE


@dataclass(frozen=True, slots=True)
class Files:
    """Pairs of files, decoded when they are asked for."""

    images: Paths  # (N,) as os.fsencode gives them
    masks: Paths  # (N,)
    sizes: _Places  # (N, 2) height and width
    coding: Coding

    def pair(self, place: int) -> Pair:
        """An image and its mask, upright; DataError names a damaged file or an unknown value."""
        image_path, path = os.fsdecode(self.images[place]), os.fsdecode(self.masks[place])
        image, mask = decode(image_path), decode_mask(path, self.coding)
        mask = turned(mask, _turn(image_path, image.shape[1:], mask.shape))
        if mask.shape != image.shape[1:]:
            raise DataError(_other_size(path, mask.shape, image.shape[1:]))
        return image, mask

    def histogram(self, place: int) -> Counts:
        """How many pixels of a mask have each value, (256,); DataError as `pair`."""
        return histogram(os.fsdecode(self.masks[place]), self.coding)


@dataclass(frozen=True, slots=True)
class Memory:
    """Pairs in memory."""

    pairs: tuple[Pair, ...]
    sizes: _Places  # (N, 2) height and width

    def pair(self, place: int) -> Pair:
        """An image and its mask."""
        return self.pairs[place]

    def histogram(self, place: int) -> Counts:
        """How many pixels of a mask have each label, (256,)."""
        return np.bincount(self.pairs[place][1].ravel(), minlength=256)

    @property
    def coding(self) -> Coding:
        """Masks in memory hold labels."""
        return LABELS


@dataclass(frozen=True, slots=True)
class SceneSet:
    """Images and masks; `name` says which, for provenance."""

    name: str
    source: Files | Memory
    places: _Places  # (N,) of the source
    left_out: str = ""  # of its folders, for people

    def __len__(self) -> int:
        return len(self.places)

    def take(self, name: str, chosen: Tensor | slice | _Places | Sequence[int]) -> SceneSet:
        """A part of the set."""
        places = self.places[chosen if isinstance(chosen, slice) else np.asarray(chosen, np.int64)]
        return SceneSet(name, self.source, places)

    def pair(self, index: int) -> Pair:
        """Image (3, H, W) RGB bytes and mask (H, W) of class ids or IGNORE.

        Raises:
            DataError: a file that cannot be read, a value of the mask that is no class.
        """
        return self.source.pair(int(self.places[index]))

    def digest(self) -> str:
        """Of the content of images and masks, and of what the masks' values mean."""
        if isinstance(self.source, Files):
            places, coding = self.places, self.source.coding
            paths = [*self.source.images[places].tolist(), *self.source.masks[places].tolist()]
            return digests.of_set(paths, coding.table)
        hasher = hashlib.sha256()
        for place in self.places.tolist():
            for array in self.source.pair(place):
                hasher.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
        return hasher.hexdigest()

    @property
    def sizes(self) -> _Places:
        """Height and width of every pair, (N, 2)."""
        return self.source.sizes[self.places]

    def decoded(self) -> Iterator[Pair]:
        """Every pair in order, a few of them at once on all cores."""
        yield from self._on_all_cores(self.source.pair)

    def histograms(self) -> Iterator[Counts]:
        """Of every mask in order how many pixels have each value of the file, (256,); images are not decoded.

        Raises:
            DataError: as `pair`.
        """
        yield from self._on_all_cores(self.source.histogram)

    def _on_all_cores(self, function: Callable[[int], _Made]) -> Iterator[_Made]:
        """What it makes of every place of the source, in order."""
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(self), _TOGETHER):
                yield from pool.map(function, self.places[start : start + _TOGETHER].tolist())

    def loaded(self) -> SceneSet:
        """The same set in memory, or as it is where it would take more than 2 GB."""
        if isinstance(self.source, Memory) or 4 * int(self.sizes.prod(1).sum()) > MEMORY_BYTES:
            return self
        return in_memory(self.name, tuple(self.decoded()))

    def batches(self, space: SearchSpace, resolution: int, size: int = 8) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images (B, 3, h, w) as the space prepares them, and masks (B, H, W) int64 at the files' size.

        In order, at most `size` together: a batch ends where the files' size changes.
        """
        import torch

        rule = space.preparation(resolution)
        for start, stop in self._runs(size):
            images, masks = zip(*map(self.pair, range(start, stop)), strict=True)
            pixels = torch.from_numpy(np.stack([fitted(image, rule) for image in images]))
            yield prepare(pixels, space), torch.from_numpy(np.stack(masks)).long()

    def _runs(self, size: int) -> Iterator[tuple[int, int]]:
        """(start, stop) of neighbours of one size, at most `size` of them."""
        start = 0
        for _, same in itertools.groupby(self.sizes.tolist()):
            end = start + sum(1 for _ in same)
            yield from ((first, min(first + size, end)) for first in range(start, end, size))
            start = end


def in_memory(name: str, pairs: Sequence[Pair]) -> SceneSet:
    """A set of images (3, H, W) and masks (H, W) of classes or IGNORE, both bytes."""
    sizes = np.array([mask.shape for _, mask in pairs], np.int64).reshape(-1, 2)
    return SceneSet(name, Memory(tuple(pairs), sizes), np.arange(len(pairs)))


def load_scenes(data: str, split: str, space: SearchSpace) -> SceneSet:
    """The `train`, `validation` or `test` pairs of a folder, whose layout is recognised (`scene_layouts`).

    Where no validation masks come with the training masks, 10 % of these (at most 1,000, a fixed random choice) are held
    out. Where there are no test masks the validation masks stand in, and the set's name says so. Files' headers are
    read, so that sizes are known to fit; masks' values are checked as they are decoded, or all by `check`.

    Raises:
        DataError: one line about the first file or folder that is wrong.
    """
    if split not in SPLITS:
        raise DataError(f"there is no split {split!r} of scenes; there are {', '.join(SPLITS)}")
    layout = scene_layouts.layout(data, space)
    if split == "test":
        return _test(data, layout)
    if split == "validation" and layout.validation is not None:
        return _read(layout.validation)
    if layout.train is None:
        raise DataError(f"scenes {data!r}: there are no training images in it")
    if layout.validation is not None:
        return _read(layout.train)
    pairs, left_out = scene_layouts.pairs(layout.train)
    rest, held = _held_out(data, len(pairs))
    if split == "train":
        return _of_files(layout.train, [pairs[i] for i in rest], left_out=left_out)
    return _of_files(layout.train, [pairs[i] for i in held], "held out of training")


def check(scenes: SceneSet, on_progress: Callable[[int, int], None] = lambda done, total: None) -> _Places:
    """Decode every pair; DataError about the first that is wrong.

    Returns:
        How many pixels are of each value, (256,): classes first, the last one IGNORE.
    """
    counts = np.zeros(256, np.int64)
    for done, (_, mask) in enumerate(scenes.decoded(), 1):
        counts += np.bincount(mask.ravel(), minlength=256)
        on_progress(done, len(scenes))
    return counts


def frequencies(scenes: SceneSet, classes: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Of each class, (C,): its share of the labelled pixels of the images that it is in; 0 where it is in none.

    From at most `_COUNTED` pairs, evenly from all.
    """
    pixels, of = np.zeros(classes), np.zeros(classes)
    for _, mask in scenes.take(scenes.name, slice(None, None, -(-len(scenes) // _COUNTED))).decoded():
        counts = np.bincount(mask.ravel(), minlength=256)[:classes]
        pixels += counts
        of += np.where(counts > 0, counts.sum(), 0)
    return pixels / np.maximum(of, 1)


def _test(data: str, layout: Layout) -> SceneSet:
    if layout.test is not None:
        return _read(layout.test)
    if layout.validation is None:
        raise DataError(f"scenes {data!r}: {layout.without_test}; judge on the split 'validation'")
    return _read(layout.validation, note=f"validation: {layout.without_test}")


def _held_out(data: str, count: int) -> tuple[list[int], list[int]]:
    """Which pairs are trained on, and which are held out; both in order."""
    held = min(max(1, int(HELD_SHARE * count)), HELD_MOST)
    if held >= count:
        raise DataError(
            f"scenes {data!r}: {count} pair is too few to hold some out for validation; give a folder 'val'"
        )
    order = np.random.default_rng(0).permutation(count).tolist()
    return sorted(order[held:]), sorted(order[:held])


def _read(part: FolderPair, note: str = "") -> SceneSet:
    """All pairs of a part."""
    pairs, left_out = scene_layouts.pairs(part)
    return _of_files(part, pairs, note, left_out)


def _of_files(part: FolderPair, pairs: list[tuple[str, str]], note: str = "", left_out: str = "") -> SceneSet:
    """These pairs of a part; sizes are compared."""
    sizes = np.array([_size(image, mask) for image, mask in pairs], np.int64)
    images, masks = (np.array([os.fsencode(path) for path in paths]) for paths in zip(*pairs, strict=True))
    name = f"{part.name} ({len(pairs)} images{f', {note}' if note else ''})"
    return SceneSet(name, Files(images, masks, sizes, part.coding), np.arange(len(pairs)), left_out)


def _size(image: str, mask: str) -> tuple[int, int]:
    size, mask_shape = check_header(image), mask_size(mask)
    upright = mask_shape[::-1] if _turn(image, size, mask_shape) >= 5 else mask_shape
    if size != upright:
        raise DataError(_other_size(mask, mask_shape, size))
    return size


def _turn(image: str, size: tuple[int, ...], mask: tuple[int, ...]) -> int:
    """How a mask (H, W) is to be turned to lie on its image, `size` once upright: as the image, where it is stored so.

    One that has the sides of the upright image alone was drawn on that.
    """
    how = orientation(image)
    stored = size[::-1] if how >= 5 else size
    return how if mask == stored else 1


def _other_size(mask: str, mask_shape: tuple[int, ...], size: tuple[int, ...]) -> str:
    return f"mask {mask!r} has {mask_shape[1]} x {mask_shape[0]} pixels, its image {size[1]} x {size[0]}; they must be the same"
