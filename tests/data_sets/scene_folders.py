"""Made-up folders of images and masks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from conftest import TINY, edited, require_module, space_of

from nasvit_edge.space import SearchSpace

HEAD = """[head]
width = [16, 32]
expand_ratio = 2
"""


def dense(classes: int = 4, aspect: str = "[3, 2]") -> SearchSpace:
    """The tiny space as a segmenter: images of 12 x 8 and 18 x 12."""
    return space_of(
        edited(
            TINY,
            (HEAD, '[head]\nkind = "mlp"\nwidth = [16]\n'),
            ("classes = 4\n", f"classes = {classes}\naspect = {aspect}\n"),
        )
    )


def image(path: Path, height: int = 8, width: int = 12, seed: int = 0) -> Path:
    """An image of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return save(path, pixels)


def mask(path: Path, values: Iterable[int] = range(4), height: int = 8, width: int = 12) -> Path:
    """A grey mask that holds the values in turn."""
    return save(path, np.resize(np.array(list(values), np.uint8), (height, width)))


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    require_module("PIL.Image").fromarray(pixels).save(path)
    return path


def plain(root: Path, **counts: int) -> Path:
    """`plain(root, train=3, val=1)`: a folder as CamVid is; `root`."""
    for split, count in counts.items():
        for i in range(count):
            image(root / split / "images" / f"{i:03}.png", seed=i)
            mask(root / split / "masks" / f"{i:03}.png")
    return root


def cityscapes(root: Path, ending: str = "labelIds", values: Iterable[int] = range(34)) -> Path:
    """Two cities for `train`, one for `val` and `test`; `root`."""
    for split, cities in {"train": ("aachen", "ulm"), "val": ("lindau",), "test": ("bonn",)}.items():
        for city in cities:
            name = f"{city}_000000_000019"
            image(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")
            mask(root / "gtFine" / split / city / f"{name}_gtFine_{ending}.png", values)
            mask(root / "gtFine" / split / city / f"{name}_gtFine_instanceIds.png", [200])
    return root


def ade20k(root: Path, count: int = 4) -> Path:
    """Training and validation images, values 0 to 150; `root`."""
    for split in ("training", "validation"):
        for i in range(count):
            image(root / "images" / split / f"ADE_{i:08}.jpg", 8 + i, 20)
            mask(root / "annotations" / split / f"ADE_{i:08}.png", range(151), 8 + i, 20)
    return root
