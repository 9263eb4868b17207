"""One image file to bytes; whatever is wrong with it is one line with its path."""

from __future__ import annotations

from typing import Any

import numpy as np

from nasvit_edge.errors import DataError, require

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
_MOST_PIXELS = 89_478_485  # what Pillow warns of; three times as many as a large camera's


def decode(path: str, size: int | None = None) -> Pixels:
    """The image (3, H, W), RGB bytes; with `size` (3, size, size), as a model is evaluated.

    An image that is `size` x `size` is taken as it is, any other with its shorter side at size * 256 / 224
    (bicubic), of which the centre is kept. Transparency is dropped, 16-bit values keep their upper byte.

    Raises:
        DataError: no file, no image, cut short, too large.
    """
    image_module: Any = require("PIL.Image", "train")
    try:
        with image_module.open(path) as image:
            check_sides(*image.size)
            rgb = _rgb(image, image_module)
            fitted = rgb if size is None else _fitted(rgb, size, image_module)
            return np.ascontiguousarray(np.asarray(fitted).transpose(2, 0, 1))
    except Exception as error:  # noqa: BLE001 - a damaged file fails in any way
        raise unreadable(path, error) from None


def check_header(path: str) -> tuple[int, int]:
    """Height and width of an image, which is not decoded; the errors of `decode` that show up there."""
    image_module: Any = require("PIL.Image", "train")
    try:
        with image_module.open(path) as image:
            check_sides(*image.size)
            return (image.height, image.width)
    except Exception as error:  # noqa: BLE001 - a damaged file fails in any way
        raise unreadable(path, error) from None


def unreadable(path: str, error: Exception, what: str = "image") -> DataError:
    """The error of a file that could not be read, in one line."""
    reason = (str(error).splitlines() or [""])[0] or type(error).__name__
    if type(error).__name__ == "UnidentifiedImageError":
        reason = "it is not an image, or one of a kind that Pillow does not know"
    return DataError(f"{what} {path!r} cannot be read: {reason}; replace the file or remove it")


def check_sides(width: int, height: int) -> None:
    """ValueError for an image without pixels, or with too many."""
    if width * height > _MOST_PIXELS:
        raise ValueError(f"{width} x {height} pixels are too many")
    if not width or not height:
        raise ValueError(f"it has {width} x {height} pixels")


def _rgb(image: Any, image_module: Any) -> Any:
    if image.mode == "RGB":
        image.load()
        return image
    if image.mode.startswith("I"):  # 16 bits in 32; Pillow's own conversion cuts them off at 255
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError("its values do not fit 16 bits")
        return image_module.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("it holds floating-point values, whose range is unknown")
    if "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")  # at once it is a warning of Pillow's
    return image.convert("RGB")


def _fitted(image: Any, size: int, image_module: Any) -> Any:
    """torchvision's Resize and CenterCrop, by Pillow."""
    width, height = image.size
    if (width, height) == (size, size):
        return image
    shorter = round(size * 256 / 224)
    if width <= height:
        resized = (shorter, max(shorter, int(shorter * height / width)))
    else:
        resized = (max(shorter, int(shorter * width / height)), shorter)
    image = image.resize(resized, image_module.Resampling.BICUBIC)
    left, top = (round((side - size) / 2.0) for side in resized)
    return image.crop((left, top, left + size, top + size))
