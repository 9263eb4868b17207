"""Labelled images: bytes in memory, or files that are decoded when they are needed.

Legend: N images of a set, B of a batch, C 1 or 3 channels, H W, S the side that a space's images have.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nasvit_edge import digests
from nasvit_edge.data_sets.decoding import Pixels, decode, fitted
from nasvit_edge.preparation import Preparation
from nasvit_edge.space import SearchSpace

if TYPE_CHECKING:
    from torch import Tensor

_TOGETHER = 128
_KNOWN_BY = ("paths", "marks")
_WORTH_THREADS = 96  # smaller images are mostly Python's work, which threads only hinder
Marks = np.ndarray[Any, np.dtype[np.uint32]]  # 32 bits of a digest of each image's content
Paths = np.ndarray[Any, np.dtype[np.bytes_]]  # one block: 1.3 million texts would be copied by every worker


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images with labels, in memory; `name` says which, for provenance.

    Attributes:
        paths: the files that they were decoded from; None of a set that is stored otherwise.
        marks: of such a set, what its images are known by; None: `pixels` are as they are stored.
        size: height and width that they are stored in, where `pixels` are not.
    """

    name: str
    pixels: Tensor  # (N, C, S, S) uint8
    labels: Tensor  # (N,) int64
    paths: Paths | None = None
    marks: Marks | None = None
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, name: str, chosen: Tensor | slice) -> ImageSet:
        """A part of the set."""
        places = chosen if isinstance(chosen, slice) else chosen.numpy()
        fields = {key: None if (array := getattr(self, key)) is None else array[places] for key in _KNOWN_BY}
        return replace(self, name=name, pixels=self.pixels[chosen], labels=self.labels[chosen], **fields)

    def some(self, chosen: Tensor, *, whole: bool = False) -> Tensor:  # noqa: ARG002 - as FileSet's
        """Bytes (B, C, S, S) of the chosen images."""
        return self.pixels[chosen]

    @property
    def stored_size(self) -> tuple[int, int]:
        """Height and width of the images as they are stored."""
        height, width = self.pixels.shape[-2:]
        return self.size or (int(height), int(width))

    def digest(self) -> str:
        """Of pixels and labels: what the set holds, whatever it is called."""
        shape = str(tuple(self.pixels.shape)).encode()
        parts = (shape, self.pixels.contiguous().numpy().data, self.labels.numpy().tobytes())
        hasher = hashlib.sha256()
        for part in parts:
            hasher.update(part)
        return hasher.hexdigest()

    def fitted(self, preparation: Preparation) -> ImageSet:
        """The same images as `preparation` keeps them, whatever their size."""
        import torch

        if tuple(self.pixels.shape[-2:]) == preparation.crop == (preparation.resize,) * 2:
            return self
        images = [torch.from_numpy(fitted(image, preparation)) for image in self.pixels.numpy()]
        marks = self.marks
        if self.paths is None and marks is None:  # of what is stored
            marks = pixel_marks(self.pixels.numpy())
        pixels, size = torch.stack(images), self.stored_size
        return ImageSet(self.name, pixels, self.labels, self.paths, marks, size)

    def batches(
        self, space: SearchSpace, resolution: int, size: int = 256
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images (B, 3, r, r) and labels (B,), in order."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield prepare(self.pixels[part], space, resolution), self.labels[part]


@dataclass(frozen=True, slots=True)
class FileSet:
    """Image files with labels, too many for memory: decoded when they are asked for."""

    name: str
    paths: Paths  # (N,) as os.fsencode gives them
    labels: Tensor  # (N,) int64
    preparation: Preparation  # of the images that leave, (3, *crop)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, name: str, chosen: Tensor | slice) -> FileSet:
        """A part of the set."""
        places = chosen if isinstance(chosen, slice) else chosen.numpy()
        return FileSet(name, self.paths[places], self.labels[chosen], self.preparation)

    def digest(self) -> str:
        """Of the files' content, the labels and the preparation."""
        how = json.dumps(self.preparation.to_dict(), sort_keys=True).encode()
        return digests.of_set(self.paths.tolist(), self.labels.numpy().tobytes(), how)

    def some(self, chosen: Tensor | slice, *, whole: bool = False) -> Tensor | list[Tensor]:
        """Bytes of the chosen images: (B, 3, *crop), or each as large as its file, (3, H, W).

        Raises:
            DataError: a file that is no whole image.
        """
        import torch

        rule = None if whole else self.preparation
        places = chosen if isinstance(chosen, slice) else chosen.numpy()
        images = [torch.from_numpy(decode(os.fsdecode(path), rule)) for path in self.paths[places]]
        return images if whole else torch.stack(images)

    def loaded(self) -> ImageSet:
        """The same images in memory."""
        import torch

        pixels = torch.empty((len(self), 3, *self.preparation.crop), dtype=torch.uint8)
        for start, decoded in _decoded(self.paths, self.preparation):
            pixels[start : start + len(decoded)] = torch.from_numpy(np.stack(decoded))
        return ImageSet(self.name, pixels, self.labels, self.paths)

    def batches(
        self, space: SearchSpace, resolution: int, size: int = 256
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images (B, 3, r, r) and labels (B,), in order."""
        for start in range(0, len(self), size):
            part = self.take(self.name, slice(start, start + size)).loaded()
            yield prepare(part.pixels, space, resolution), part.labels


def _decoded(paths: Paths, preparation: Preparation) -> Iterator[tuple[int, list[Pixels]]]:
    """(start, images) of a few files at a time, so that Ctrl-C need not wait for all of them."""
    with ThreadPoolExecutor() as pool:
        each = map if min(preparation.crop) < _WORTH_THREADS else pool.map
        for start in range(0, len(paths), _TOGETHER):
            part = map(os.fsdecode, paths[start : start + _TOGETHER])
            yield start, list(each(decode, part, itertools.repeat(preparation)))


def pixel_mark(image: Pixels) -> int:
    """32 bits of a digest of an image (C, H, W), of 1 or 3 channels: of its RGB bytes and its size."""
    size = f"{image.shape[1]}x{image.shape[2]}".encode()
    pixels = np.broadcast_to(image, (3, *image.shape[1:])).tobytes()
    return int.from_bytes(hashlib.sha256(size + pixels).digest()[:4])


def pixel_marks(images: Pixels) -> Marks:
    """The same of each of (N, C, H, W)."""
    return np.array([pixel_mark(image) for image in images], np.uint32)


Images: TypeAlias = ImageSet | FileSet


def prepare(pixels: Tensor, space: SearchSpace, resolution: int | None = None) -> Tensor:
    """Bytes (B, C, H, W), as a preparation keeps them, to normalised floats (B, 3, *space.input_size(resolution)).

    The last steps of a `Preparation`: RGB in [0, 1], minus mean, over std, then bicubic as in the supernet
    (align_corners false, no antialias). `resolution` None keeps the size.
    """
    import torch
    from torch.nn import functional as F

    mean = torch.tensor(space.mean)[:, None, None]
    std = torch.tensor(space.std)[:, None, None]
    images = (pixels.float() / 255 - mean) / std  # one grey channel becomes three
    size = tuple(images.shape[-2:]) if resolution is None else space.input_size(resolution)
    if tuple(images.shape[-2:]) != size:
        images = F.interpolate(images, size, mode="bicubic", align_corners=False)
    return images
