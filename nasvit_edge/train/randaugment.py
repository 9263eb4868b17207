"""RandAugment of a whole batch: every image draws its own operations, images of one operation are done together.

The operations and their strengths are torchvision's (`v2.RandAugment`), 14 of them in 31 steps of strength; only
the drawing is ours, since theirs draws one operation for all images of a batch.

Legend: B images, C 1 or 3 channels, H W.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

BINS = 31
OPERATIONS = (
    *("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color"),
    *("Contrast", "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"),
)
_STRONGEST = {"ShearX": 0.3, "ShearY": 0.3, "Rotate": 30.0}
_STRONGEST |= dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), 0.9)
_TRANSLATE = 150.0 / 331.0  # share of the side
_Function = Callable[[Tensor], Tensor]


def randaugment(pixels: Tensor, operations: Tensor, negative: Tensor, magnitude: int) -> Tensor:
    """Apply one operation to each image.

    Args:
        pixels: (B, C, H, W) bytes; not changed.
        operations: (B,) indices into `OPERATIONS`.
        negative: (B,) bool; where true, an operation with a sign goes the other way.
        magnitude: 0 to 30.
    """
    made = pixels.clone()
    kinds = operations * 2 + negative
    for kind in sorted(set(kinds.tolist())):
        name, sign = OPERATIONS[kind // 2], -1.0 if kind % 2 else 1.0
        if name != "Identity":
            members = (kinds == kind).nonzero()[:, 0]
            made[members] = _function(name, sign, magnitude, pixels.shape[-2:])(pixels[members])
    return made


def _function(name: str, sign: float, magnitude: int, size: torch.Size) -> _Function:
    """Bytes to bytes, (B, C, H, W)."""
    if name.startswith(("Shear", "Translate", "Rotate")):
        return _moving(name, sign, magnitude, size)
    from torchvision.transforms.v2 import functional as v2

    factor = 1.0 + sign * _level(_STRONGEST.get(name, 0.0), magnitude)
    bits = int((8 - torch.arange(BINS) / ((BINS - 1) / 4)).round()[magnitude])
    threshold = 255.0 * float(torch.linspace(1.0, 0.0, BINS)[magnitude])
    functions: dict[str, _Function] = {
        "Brightness": lambda x: v2.adjust_brightness(x, factor),
        "Color": lambda x: v2.adjust_saturation(x, factor),
        "Contrast": lambda x: v2.adjust_contrast(x, factor),
        "Sharpness": lambda x: v2.adjust_sharpness(x, factor),
        "Posterize": lambda x: v2.posterize(x, bits),
        "Solarize": lambda x: v2.solarize(x, threshold),
        "AutoContrast": v2.autocontrast,
        "Equalize": v2.equalize,
    }
    return functions[name]


def _moving(name: str, sign: float, magnitude: int, size: torch.Size) -> _Function:
    """Nearest pixel; what comes in from outside is black."""
    from torchvision.transforms.v2 import functional as v2

    if name == "Rotate":
        angle = sign * _level(_STRONGEST[name], magnitude)
        return lambda x: v2.rotate(x, angle)
    values: dict[str, Any] = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    axis = 0 if name.endswith("X") else 1
    if name.startswith("Shear"):
        values["shear"][axis] = math.degrees(math.atan(sign * _level(_STRONGEST[name], magnitude)))
        values["center"] = [0, 0]
    else:
        values["translate"][axis] = int(sign * _level(_TRANSLATE * size[1 - axis], magnitude))
        if not values["translate"][axis]:
            return lambda x: x  # small images and weak operations: less than a pixel
    return lambda x: v2.affine(x, **values)


def _level(strongest: float, magnitude: int) -> float:
    return float(torch.linspace(0.0, strongest, BINS)[magnitude])
