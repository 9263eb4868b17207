"""A small dense space whose levels are no whole multiples of each other, and a segmenter of it."""

from __future__ import annotations

import functools

import numpy as np
from conftest import TINY, edited, require_module, space_of

from nasvit_edge.data_sets.scenes import in_memory
from nasvit_edge.model.accuracy import calibrated
from nasvit_edge.model.checkpoint import random_supernet
from nasvit_edge.model.subnet import materialise

TEXT = edited(
    TINY,
    ('name = "tiny"', 'name = "tiny-dense"\naspect = [4, 3]\nlabels = ["sky", "road", "tree", "car"]'),
    ("resolutions = [8, 12]", "resolutions = [24, 36]"),
    ("[head]\nwidth = [16, 32]\nexpand_ratio = 2", '[head]\nkind = "mlp"\nwidth = [16]'),
)
SPACE = space_of(TEXT)
CONFIG = SPACE.config(
    resolution=36, width=(8, 8, 16, 16), depth=(1, 2), kernel_size=(3, 3), expand_ratio=(1, 2)
)  # 36 x 48 pixels, attention


@functools.cache
def supernet():
    return random_supernet(SPACE, 1)


@functools.cache
def subnet(config=CONFIG):
    return calibrated(materialise(supernet(), config), scenes())


@functools.cache
def scenes(count=8):
    """Scenes of noise, one class a row of the patchwork."""
    rng = np.random.default_rng(0)
    height, width = SPACE.input_size(36)
    pixels = rng.integers(0, 256, (count, 3, height, width), np.uint8)
    masks = np.broadcast_to((np.arange(height) * 4 // height).astype(np.uint8)[:, None], (height, width))
    return in_memory("noise", [(image, masks.copy()) for image in pixels])


def picture(path, height, width, seed=0):
    """An image file of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    require_module("PIL.Image").fromarray(pixels).save(path)
    return path


def scene_folder(root, height=40, width=50):
    """A folder as CamVid is, its images of several sizes; `root`."""
    for split, count in (("train", 6), ("val", 1), ("test", 3)):
        for i in range(count):
            picture(root / split / "images" / f"{i}.png", height, width + i, seed=i)
            mask = np.resize(np.array([0, 1, 2, 3, 255], np.uint8), (height, width + i))
            path = root / split / "masks" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            require_module("PIL.Image").fromarray(mask).save(path)
    return root


def blank(path):
    """A mask file whose pixels have no class, as large as it was."""
    image = require_module("PIL.Image").open(path)
    image.point(lambda value: 255).save(path)
