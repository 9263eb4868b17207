"""CIFAR-10 and CIFAR-100, downloaded by torchvision once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nasvit_edge import cache, files
from nasvit_edge.data_sets.sets import ImageSet
from nasvit_edge.errors import DataError, require

CIFAR = ("cifar10", "cifar100")


def cifar(name: str, *, train: bool, root: Path | None = None) -> tuple[ImageSet, tuple[str, ...]]:
    """50,000 training or 10,000 test images, 32 x 32, and the names of their classes."""
    import torch

    data_set = _load(name, train, root)
    pixels = torch.from_numpy(data_set.data).permute(0, 3, 1, 2).contiguous()  # (N, 3, 32, 32)
    images = ImageSet(f"{name} {'train' if train else 'test'}", pixels, torch.tensor(data_set.targets))
    return images, tuple(data_set.classes)


def _load(name: str, train: bool, root: Path | None) -> Any:
    datasets = require("torchvision.datasets", "train")
    folder = root or cache.root() / "cifar"
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    try:
        with files.patience():
            return kind(str(folder), train=train, download=True)
    except Exception as error:  # noqa: BLE001 - network, disk, archive, pickle: each its own kind
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise DataError(
            f"{name} cannot be had ({reason}); download it elsewhere into {str(folder)!r}, or give a folder of images"
        ) from None
