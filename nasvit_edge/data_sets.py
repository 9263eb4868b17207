"""Images: the bundled ones, Fashion-MNIST, and folders of image files.

An image set is held as bytes in memory: pixels (N, C, S, S) uint8 with C 1 or 3, labels (N,).
"""

from __future__ import annotations

import gzip
import io
import math
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nasvit_edge import files
from nasvit_edge.errors import DataError, require
from nasvit_edge.space import SearchSpace

if TYPE_CHECKING:
    from torch import Tensor

FASHION_MNIST = "fashion-mnist"
BUNDLED = "bundled"
CALIBRATION_IMAGES, VALIDATION_IMAGES, TEST_IMAGES = 512, 1000, 2000  # in the bundled file
FASHION_LABELS = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_SYSTEM_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # Debian's dataset-fashion-mnist
_FOLDER_BYTES = 8 << 30


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images with labels; `name` says which, for provenance."""

    name: str
    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, name: str, chosen: Tensor | slice) -> ImageSet:
        """A part of the set."""
        return ImageSet(name, self.pixels[chosen], self.labels[chosen])

    def batches(
        self, space: SearchSpace, resolution: int, size: int = 256
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images (B, 3, r, r) and labels (B,), in order."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield prepare(self.pixels[part], space, resolution), self.labels[part]


def prepare(pixels: Tensor, space: SearchSpace, resolution: int | None = None) -> Tensor:
    """Bytes (B, C, H, W) to normalised floats (B, 3, r, r): RGB in [0, 1], minus mean, over std, then bicubic.

    Resizing is as in the supernet (align_corners false, no antialias). `resolution` None keeps the size.
    """
    import torch
    from torch.nn import functional as F

    mean = torch.tensor(space.mean)[:, None, None]
    std = torch.tensor(space.std)[:, None, None]
    images = (pixels.float() / 255 - mean) / std  # one grey channel becomes three
    if resolution is not None and tuple(images.shape[-2:]) != (resolution, resolution):
        images = F.interpolate(images, (resolution, resolution), mode="bicubic", align_corners=False)
    return images


def has_bundled(space: SearchSpace) -> bool:
    """Whether the bundled images are of this space's classes."""
    return space.labels == FASHION_LABELS


def bundled(split: str) -> ImageSet:
    """`calibration`, `validation` or `test`: Fashion-MNIST images that come with the package."""
    import torch

    path = files.data("images", "fashion-mnist.npz")
    try:
        with np.load(io.BytesIO(files.read_bytes(path, "bundled images")), allow_pickle=False) as arrays:
            pixels, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    except (ValueError, KeyError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"bundled images {str(path)!r} are damaged ({error}); reinstall nasvit-edge"
        ) from None
    name = f"{FASHION_MNIST} {split} ({len(labels)} bundled images)"
    return ImageSet(name, torch.from_numpy(pixels)[:, None], torch.from_numpy(labels).long())


def fashion_mnist(*, train: bool, download_to: Path | None = None) -> ImageSet:
    """The full Fashion-MNIST: 60,000 training or 10,000 test images, 28 x 28, grey."""
    import torch

    prefix = "train" if train else "t10k"
    folder = _fashion_mnist_folder(download_to)
    pixels = _read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", dimensions=3)
    labels = _read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", dimensions=1)
    if len(pixels) != len(labels):
        raise DataError(f"{str(folder)!r}: {len(pixels)} images but {len(labels)} labels")
    return ImageSet(
        f"{FASHION_MNIST} {'train' if train else 'test'}",
        torch.from_numpy(pixels)[:, None],
        torch.from_numpy(labels).long(),
    )


def fashion_mnist_splits() -> tuple[ImageSet, ImageSet, ImageSet]:
    """The training images as (train, calibration, validation): the last two are never trained on."""
    import torch

    everything = fashion_mnist(train=True)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(everything)))
    held = CALIBRATION_IMAGES + VALIDATION_IMAGES
    return (
        everything.take(f"{FASHION_MNIST} train", order[held:]),
        everything.take(f"{FASHION_MNIST} calibration", order[:CALIBRATION_IMAGES]),
        everything.take(f"{FASHION_MNIST} validation", order[CALIBRATION_IMAGES:held]),
    )


def image_folder(folder: Path, size: int) -> ImageSet:
    """A folder with one folder of image files per class: shorter side to size * 256 / 224, centre crop.

    Bicubic; the classes are the sorted folder names.
    """
    import torch

    datasets = require("torchvision.datasets", "train")
    transforms = require("torchvision.transforms.v2", "train")
    bomb = require("PIL.Image", "train").DecompressionBombError
    bicubic = transforms.InterpolationMode.BICUBIC
    steps = [transforms.Resize(round(size * 256 / 224), interpolation=bicubic, antialias=True)]
    steps += [transforms.CenterCrop(size), transforms.PILToTensor()]
    try:
        found = datasets.ImageFolder(str(folder), transform=transforms.Compose(steps))
    except (OSError, RuntimeError) as error:
        raise DataError(f"images {str(folder)!r}: {str(error).splitlines()[0]}") from None
    if len(found) * 3 * size * size > _FOLDER_BYTES:
        raise DataError(f"images {str(folder)!r}: {len(found)} images do not fit in memory; use fewer")
    pixels = []
    for path, _ in found.samples:
        try:
            pixels.append(found.transform(found.loader(path)))
        except (OSError, ValueError, SyntaxError, bomb) as error:
            raise DataError(f"image {path!r} cannot be read: {error}") from None
    labels = torch.tensor([label for _, label in found.samples])
    return ImageSet(f"{folder.name} ({len(labels)} images)", torch.stack(pixels), labels)


def training_splits(data: str, space: SearchSpace) -> tuple[ImageSet, ImageSet, ImageSet]:
    """(train, calibration, validation) of `fashion-mnist` or a folder.

    A folder's validation images are those of its folder `val` or `test`; where there is none, a tenth
    of the images (a fixed random choice) is held out of training.
    """
    import torch

    if data == FASHION_MNIST:
        return fashion_mnist_splits()
    images = load_images(data, "train", space)
    if _split_folder(Path(data), "validation") != _split_folder(Path(data), "train"):
        return images, images, load_images(data, "validation", space)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(images)))
    held = max(1, len(images) // 10)
    train = images.take(f"{images.name}, nine tenths", order[held:])
    return train, train, images.take(f"{images.name}, a tenth held out", order[:held])


def load_images(data: str, split: str, space: SearchSpace, size: int | None = None) -> ImageSet:
    """Images by the name a user gives: `bundled`, `fashion-mnist`, or a folder.

    `split` is `train`, `calibration`, `validation` or `test`; a folder may hold folders `train` and `val`/`test`.
    """
    if data == BUNDLED:
        images = bundled(split)
    elif data == FASHION_MNIST:
        images = fashion_mnist(train=False) if split == "test" else _training_part(split)
    else:
        images = image_folder(_split_folder(Path(data), split), size or max(space.resolutions))
    highest = int(images.labels.max())
    if highest >= space.classes:
        raise DataError(
            f"images {data!r} have {highest + 1} classes; space {space.name!r} has {space.classes}"
        )
    return images


def _training_part(split: str) -> ImageSet:
    parts = dict(zip(("train", "calibration", "validation"), fashion_mnist_splits(), strict=True))
    return parts[split]


def _split_folder(folder: Path, split: str) -> Path:
    if not folder.is_dir():
        raise DataError(
            f"images {str(folder)!r}: no such folder; give 'bundled', 'fashion-mnist' or a folder with one folder per class"
        )
    names = {"validation": ("val", "validation", "test"), "test": ("test", "val")}.get(split, ("train",))
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    return folder


def _fashion_mnist_folder(download_to: Path | None) -> Path:
    if _SYSTEM_FASHION_MNIST.is_dir():
        return _SYSTEM_FASHION_MNIST
    from platformdirs import user_cache_path

    root = download_to or user_cache_path("nasvit-edge")
    datasets = require("torchvision.datasets", "train")
    try:
        datasets.FashionMNIST(str(root), download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"Fashion-MNIST cannot be downloaded ({str(error).splitlines()[0]}); "
            "on Debian: apt-get install dataset-fashion-mnist"
        ) from None
    return Path(root) / "FashionMNIST" / "raw"


def _read_idx(path: Path, dimensions: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """An IDX file of bytes: two zeros, type 8, the number of dimensions, big-endian sizes, the bytes."""
    try:
        raw = gzip.decompress(files.read_bytes(path, "images"))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{str(path)!r} is damaged: {error}") from None
    head = 4 + 4 * dimensions
    if len(raw) < head or raw[:4] != bytes((0, 0, 8, dimensions)):
        raise DataError(f"{str(path)!r} is not an IDX file of bytes with {dimensions} dimensions")
    shape = tuple(np.frombuffer(raw[4:head], ">u4").tolist())
    if len(raw) - head != math.prod(shape):
        raise DataError(f"{str(path)!r} is cut short: {len(raw) - head} bytes for shape {shape}")
    return np.frombuffer(raw, np.uint8, offset=head).reshape(shape).copy()


def write_bundled(path: Path) -> None:
    """Make the bundled file from the full data set (`benchmarks/bundle_images.py`)."""
    _, calibration, validation = fashion_mnist_splits()
    test = fashion_mnist(train=False)
    test = test.take("test", np_order(len(test))[:TEST_IMAGES])
    buffer = io.BytesIO()
    arrays = {}
    for split, images in (("calibration", calibration), ("validation", validation), ("test", test)):
        arrays[f"{split}_images"] = images.pixels[:, 0].numpy()
        arrays[f"{split}_labels"] = images.labels.numpy().astype(np.uint8)
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    files.write_bytes(path, buffer.getvalue())


def np_order(count: int) -> Tensor:
    """A fixed shuffle."""
    import torch

    return torch.from_numpy(np.random.default_rng(1).permutation(count))
