"""Fashion-MNIST: a part of it comes with the package, all of it from Debian or by torchvision."""

from __future__ import annotations

import functools
import gzip
import io
import math
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nasvit_edge import cache, files
from nasvit_edge.data_sets.sets import ImageSet
from nasvit_edge.errors import DataError, require
from nasvit_edge.preparation import Preparation
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
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # Debian's dataset-fashion-mnist


def has_bundled(space: SearchSpace) -> bool:
    """Whether the bundled images are of this space's classes."""
    return space.labels == FASHION_LABELS


def bundled(split: str, space: SearchSpace) -> ImageSet:
    """`calibration`, `validation` or `test`: Fashion-MNIST images that come with the package, as `space` has images."""
    images = _bundled(split, space.preparation())
    return replace(images, pixels=images.pixels.clone(), labels=images.labels.clone())


@functools.lru_cache(maxsize=4)  # an export asks for the same ones six times
def _bundled(split: str, preparation: Preparation) -> ImageSet:
    return bundled_as_stored(split).fitted(preparation)


def bundled_as_stored(split: str) -> ImageSet:
    """The bundled images at 28 x 28, grey."""
    import torch

    if split not in ("calibration", "validation", "test"):
        raise DataError(f"no {split} images are bundled; give {FASHION_MNIST!r} or a folder")
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
    count = CALIBRATION_IMAGES + VALIDATION_IMAGES
    return (
        everything.take(f"{FASHION_MNIST} train", order[count:]),
        everything.take(f"{FASHION_MNIST} calibration", order[:CALIBRATION_IMAGES]),
        everything.take(f"{FASHION_MNIST} validation", order[CALIBRATION_IMAGES:count]),
    )


def _fashion_mnist_folder(download_to: Path | None) -> Path:
    if SYSTEM_FOLDER.is_dir():
        return SYSTEM_FOLDER
    root = download_to or cache.root()
    datasets = require("torchvision.datasets", "train")
    try:
        with files.patience():
            datasets.FashionMNIST(str(root), download=True)
    except (OSError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"Fashion-MNIST cannot be downloaded ({reason}); on Debian: apt-get install dataset-fashion-mnist"
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
