"""One image file to bytes; whatever is wrong with it is one line with its path."""

from __future__ import annotations

import contextlib
import functools
import importlib
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from nasvit_edge.errors import DataError, require
from nasvit_edge.preparation import WHITE, Preparation

if TYPE_CHECKING:
    from nasvit_edge.data_sets.prepare_image import PreparationKeys

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
HEIF = (".heic", ".heics", ".heif", ".heifs", ".hif")  # what phones write; read by an optional package


@functools.cache
def pillow() -> Any:
    """Pillow's module `Image`, which reads HEIF too where pillow-heif is installed."""
    image_module = require("PIL.Image", "train")
    with contextlib.suppress(Exception):  # not there, or it does not fit this Pillow
        importlib.import_module("pillow_heif").register_heif_opener()
    return image_module


def _keys(preparation: Preparation) -> PreparationKeys:
    return cast("PreparationKeys", preparation.to_dict())


def decode(path: str, preparation: Preparation | None = None) -> Pixels:
    """The image (3, H, W), RGB bytes, upright and whole; with a preparation what it keeps, (3, *crop).

    Raises:
        DataError: no file, no image, cut short, too large.
    """
    pillow()
    from nasvit_edge.data_sets import prepare_image

    try:
        if preparation is None:
            pixels = np.asarray(prepare_image.upright(path, WHITE))
        else:
            pixels = prepare_image.pixels(path, _keys(preparation))
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))
    except Exception as error:  # noqa: BLE001 - a damaged file fails in any way
        raise unreadable(path, error) from None


def fitted(image: Pixels, preparation: Preparation) -> Pixels:
    """Bytes of an upright image, (C, H, W) of 1 or 3 channels, as `preparation` keeps them, (C, *crop)."""
    from PIL import Image

    from nasvit_edge.data_sets import prepare_image

    picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    array = np.array(prepare_image.fitted(picture, _keys(preparation)))  # a copy, which may be written to
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def check_header(path: str) -> tuple[int, int]:
    """Height and width of an image once it is upright; it is not decoded. The errors of `decode` that show up there."""
    pillow()
    from nasvit_edge.data_sets import prepare_image

    try:
        with prepare_image.opened(path) as image:
            width, height = prepare_image.upright_size(image)
            return (height, width)
    except Exception as error:  # noqa: BLE001 - a damaged file fails in any way
        raise unreadable(path, error) from None


def orientation(path: str) -> int:
    """How the file's pixels lie, as EXIF counts: 1 upright, 5 to 8 with its sides exchanged."""
    from nasvit_edge.data_sets import prepare_image

    try:
        with prepare_image.opened(path) as image:
            turned_by_itself = image.format == "TIFF"  # as it is decoded
            return 1 if turned_by_itself else prepare_image.orientation_of(image)
    except Exception as error:  # noqa: BLE001 - a damaged file fails in any way
        raise unreadable(path, error) from None


def turned(pixels: Pixels, how: int) -> Pixels:
    """Bytes (H, W) as they are stored, turned upright (`orientation`)."""
    if how == 1:
        return pixels
    from PIL import Image

    from nasvit_edge.data_sets import prepare_image

    return np.array(prepare_image.turned(Image.fromarray(pixels), how))


def check_sides(width: int, height: int) -> None:
    """ValueError for an image without pixels, or with too many."""
    from nasvit_edge.data_sets.prepare_image import MOST

    if width * height > MOST:
        raise ValueError(f"{width} x {height} pixels are too many (at most {MOST / 1e6:.0f} megapixels)")
    if not width or not height:
        raise ValueError(f"it has {width} x {height} pixels")


def unreadable(path: str, error: Exception, what: str = "image") -> DataError:
    """The error of a file that could not be read, in one line."""
    reason = (str(error).splitlines() or [""])[0] or type(error).__name__
    if type(error).__name__ == "UnidentifiedImageError":
        reason = "it is not an image, or one of a kind that Pillow does not know"
        if _is_heif(path):
            reason = "it is HEIF, which takes pillow-heif: pip install 'nasvit-edge[heif]'"
    return DataError(f"{what} {path!r} cannot be read: {reason}; replace the file or remove it")


def _is_heif(path: str) -> bool:
    """Whether it begins as what phones write, often called .jpg."""
    try:
        with open(path, "rb") as stream:  # noqa: PTH123 - of a name that may be no text
            head = stream.read(12)
    except (OSError, ValueError):
        return False
    return head[4:8] == b"ftyp" and head[8:] in (b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1")
