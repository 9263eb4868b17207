"""Made-up image folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from conftest import require_module

from nasvit_edge.data_sets import folders
from nasvit_edge.preparation import Preparation

ABCD = ("a", "b", "c", "d")  # as many classes as the tiny space has


def make(root: Path, names: Sequence[str] = ABCD, count: int = 2, side: int = 12, seed: int = 0) -> Path:
    """One folder a class with `count` images of noise each; `root`."""
    pillow = require_module("PIL.Image")
    rng = np.random.default_rng(seed)
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            pillow.fromarray(pixels).save(root / name / f"{i:03}.png")
    return root


def rule(side: int) -> Preparation:
    """The middle `side` x `side`, all of the shorter side."""
    return Preparation(resize=side, crop=(side, side), size=(side, side), mean=(0.5,) * 3, std=(0.25,) * 3)


def read(root: Path, side: int = 12):
    """All images of a folder of classes."""
    return folders.read(folders.listing(root), rule(side))
