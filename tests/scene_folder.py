"""A folder of small scenes whose classes can be told by colour, and a space for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from conftest import TINY, edited
from PIL import Image

COLOURS = np.array([[40, 60, 200], [90, 90, 90], [200, 60, 40], [40, 180, 60]], np.uint8)
SCENE_TINY = edited(
    TINY,
    ('name = "tiny"', 'name = "tiny-scenes"'),
    ("resolutions = [8, 12]", "resolutions = [24, 32]\naspect = [3, 2]"),
    ("[head]\nwidth = [16, 32]\nexpand_ratio = 2", '[head]\nkind = "mlp"\nwidth = [16]'),
)


def scene(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Two fields and some boxes of the four classes, with noise; a strip at the bottom is not labelled."""
    mask = np.zeros((height, width), np.uint8)
    mask[rng.integers(height // 3, 2 * height // 3) :] = 1
    for _ in range(4):
        y, x = rng.integers(0, height - 6), rng.integers(0, width - 6)
        mask[y : y + rng.integers(4, height // 2), x : x + rng.integers(4, width // 2)] = rng.integers(2, 4)
    image = COLOURS[mask].astype(int) + rng.integers(-25, 26, (height, width, 3))
    mask[-2:] = 255
    return np.clip(image, 0, 255).astype(np.uint8), mask


def write_scenes(folder: Path, *, size: tuple[int, int] = (32, 48), **counts: int) -> Path:
    """`{split}/images/N.png` and `{split}/masks/N.png`, as many as `counts` says of each split."""
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        for part in ("images", "masks"):
            (folder / split / part).mkdir(parents=True)
        for number in range(count):
            image, mask = scene(rng, *size)
            Image.fromarray(image).save(folder / split / "images" / f"{number:03}.png")
            Image.fromarray(mask).save(folder / split / "masks" / f"{number:03}.png")
    return folder
