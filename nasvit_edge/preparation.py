"""How an image file becomes what a model sees: one description, kept in the space and in every exported file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from nasvit_edge.errors import DataError

PUBLISHED, DEPLOYED = "published", "deployed"
CHAINS = (PUBLISHED, DEPLOYED)
Filter = Literal["bicubic", "bilinear"]
SMALL_IMAGES = 64  # pixels: images of this size are seen whole (CIFAR), of larger ones the middle
PUBLISHED_SHARE = 0.875  # 224 of 256 pixels (spec section 2, input)
WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What is done to an image, in this order; `data_sets.prepare_image` does it.

    Attributes:
        orientation: "exif": it is turned upright as its EXIF says.
        color: "RGB": grey, palette and CMYK are converted, embedded profiles are not applied, of 16 bits the upper
            byte is kept.
        background: RGB, what shows through where it is transparent.
        resize: its shorter side gets so many pixels, the longer one int(resize * longer / shorter); or height and
            width of the whole image.
        filter, antialias: of that, as Pillow has it: "bicubic" with a = -0.5, or "bilinear" (a triangle over a pixel to
            each side); wider when it shrinks, rounded to bytes.
        crop: height and width of the middle that is kept; of a half pixel the even side.
        crop_share: how much of the shorter side that is (for people: `resize` and `crop` say it exactly).
        size: height and width of the model's input: where it is not `crop`, resized to it in floats, bicubic with
            a = -0.75, not wider when it shrinks, edges repeated (align_corners false).
        range: the values of the bytes 0 and 255, before `mean` is subtracted and `std` divides.
        chain: "published": by the space's own image size, as supernets are trained and judged (spec section 2);
            "deployed": straight to the subnet's resolution.
    """

    resize: int | tuple[int, int]
    crop: tuple[int, int]
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_share: float = 1.0
    orientation: str = "exif"
    color: str = "RGB"
    background: tuple[int, int, int] = WHITE
    filter: Filter = "bicubic"
    antialias: bool = True
    range: tuple[float, float] = (0.0, 1.0)
    chain: str = PUBLISHED

    def to_dict(self) -> dict[str, Any]:
        """As JSON, what a model's metadata hold under `preparation`."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def bytes_alone(self) -> dict[str, object]:
        """What decides the bytes of `crop`: all steps before the last resizing."""
        names = ("resize", "crop", "orientation", "color", "background", "filter", "antialias")
        return {name: getattr(self, name) for name in names}


def shorter_side(image_size: int, crop_share: float) -> int:
    """What an image's shorter side is resized to, so that `image_size` of it are `crop_share`: 224 at 0.875 are 256."""
    return max(image_size, round(image_size / crop_share))


def checked_chain(chain: str) -> str:
    """DataError for a chain that there is not."""
    if chain not in CHAINS:
        raise DataError(f"--chain is {chain!r}; it is {' or '.join(CHAINS)}")
    return chain
