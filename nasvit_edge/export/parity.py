"""Does an artifact compute what the elastic supernet computes?

The reference is always `supernet(x, config, statistics)`, never the module that was converted, so a
fault in materialising or folding shows as well as one in the converter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nasvit_edge import data_sets
from nasvit_edge.space import SearchSpace, SubnetConfig

if TYPE_CHECKING:
    from torch import Tensor

    from nasvit_edge.model.supernet import Supernet

INPUTS, SCENES = 16, 4  # of a segmenter fewer: a label a pixel is many
_Array = np.ndarray[Any, np.dtype[np.float32]]


def inputs(space: SearchSpace, resolution: int, seed: int = 0) -> tuple[_Array, int]:
    """Images (16, 3, H, W), of a dense space 4, and how many of them are real: half where the space has bundled ones.

    The others are seeded noise over an 8 x 8 patchwork, so that pooled features differ as well.
    """
    rng = np.random.default_rng(seed)
    real = _real_images(space, resolution, seed)
    height, width = space.input_size(resolution)
    count = (SCENES if space.is_dense else INPUTS) - len(real)
    patches = rng.uniform(-1.6, 1.6, (count, 3, 8, 8))
    rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
    synthetic = rng.normal(0, 0.3, (count, 3, height, width)) + patches[:, :, rows][:, :, :, columns]
    return on_pixel_grid(np.concatenate([real, synthetic.astype(np.float32)]), space), len(real)


def on_pixel_grid(images: _Array, space: SearchSpace) -> _Array:
    """The nearest images that 8-bit pixels can hold: formats that take pixels see just the same ones."""
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (space.mean, space.std))
    pixels = np.rint((images * std + mean) * 255).clip(0, 255)
    return ((pixels / 255 - mean) / std).astype(np.float32)


def _real_images(space: SearchSpace, resolution: int, seed: int) -> _Array:
    if not data_sets.has_bundled(space):
        return np.empty((0, 3, *space.input_size(resolution)), np.float32)
    images = data_sets.bundled("validation", space)
    start = seed * 131 % (len(images) - INPUTS // 2)
    chosen = images.pixels[start : start + INPUTS // 2]
    return data_sets.prepare(chosen, space, resolution).numpy()


def reference(
    supernet: Supernet, config: SubnetConfig, statistics: Mapping[str, Tensor], images: _Array
) -> _Array:
    """The elastic supernet's logits with a subnet's batch-norm statistics: (B, classes), or (B, classes, H', W')."""
    import torch

    with torch.no_grad():
        logits: _Array = supernet.eval()(torch.from_numpy(images), config, statistics).numpy()
    return logits


def in_batches(call: Callable[[_Array], _Array], size: int) -> Callable[[_Array], _Array]:
    """A function of any number of images (n, ...) from one that takes just `size`; the last ones are padded."""

    def run(images: _Array) -> _Array:
        outputs = []
        for start in range(0, len(images), size):
            part = images[start : start + size]
            padded = np.concatenate([part, np.repeat(part[-1:], size - len(part), 0)])
            outputs.append(call(padded)[: len(part)])
        return np.concatenate(outputs)

    return run


def relative_error(logits: _Array, expected: _Array) -> float:
    """The largest absolute difference over the standard deviation of the expected logits; inf for another shape or NaN."""
    if logits.shape != expected.shape or not np.isfinite(logits).all():
        return float("inf")
    return float(np.abs(logits - expected).max() / expected.std())


def typical_error(logits: _Array, expected: _Array) -> float:
    """The root mean square difference of the median input (n, ...), over the spread of all; inf as for `relative_error`."""
    if logits.shape != expected.shape or not np.isfinite(logits).all():
        return float("inf")
    squares = (logits.astype(np.float64) - expected).reshape(len(logits), -1) ** 2
    return float(np.sqrt(np.median(squares.mean(1))) / expected.std())


def snr_db(logits: _Array, expected: _Array, real: int = 0) -> float:
    """Signal-to-noise ratio of logits in dB; -inf for another shape or values that are not finite.

    Where the first `real` inputs are images, it is theirs: noise leaves the ranges that int8 was calibrated to, as no camera does.
    """
    if logits.shape != expected.shape or not np.isfinite(logits).all():
        return float("-inf")
    count = real or len(expected)
    logits, expected = logits[:count], expected[:count]
    noise = float(((logits.astype(np.float64) - expected) ** 2).sum())
    signal = float((expected.astype(np.float64) ** 2).sum())
    return float(10 * np.log10(signal / noise)) if noise > 0 else float("inf")


def choices(
    run: Callable[[_Array], _Array], images: data_sets.Images, space: SearchSpace, resolution: int
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The top-1 class of each image (n,)."""
    classes = [run(batch.numpy()).argmax(1) for batch, _ in images.batches(space, resolution)]
    return np.concatenate(classes)


def hits(
    run: Callable[[_Array], _Array], images: data_sets.Images, space: SearchSpace, resolution: int
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which images get their label (n,)."""
    return choices(run, images, space, resolution) == images.labels.numpy()
