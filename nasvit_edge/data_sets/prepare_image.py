"""An image file to the numbers that a model takes, by the description that travels with the model.

Needs numpy and pillow alone: this very file lies beside exported models, where programs import it. The description is
the JSON of `preparation` in a model's metadata; nasvit_edge/preparation.py says what its keys mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

import numpy as np
from PIL import Image, JpegImagePlugin

LARGE = 50_000_000  # pixels: larger JPEG files are decoded at a half, a quarter or an eighth
MOST = 90_000_000  # pixels that are decoded, at 4 bytes each
_RESIZED = 16_000_000  # pixels that an image is resized to before it is cropped
_LIMIT = f"at most {MOST // 1_000_000} megapixels are taken, of JPEG files more: make it smaller"
_JPEG = b"\xff\xd8\xff"
# Pillow hands others to programs (PostScript to Ghostscript), whatever a file is called.
_KINDS = ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_ORIENTATION = 0x0112  # EXIF's
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_KNOWN = {"orientation": ("exif",), "color": ("RGB",), "filter": tuple(_FILTERS), "antialias": (True,)}
_LONGEST = 16384  # side of what is made, in pixels


class PreparationKeys(TypedDict, total=False):
    """What `preparation` in a model's metadata says."""

    resize: int | Sequence[int]
    crop: Sequence[int]
    size: Sequence[int]
    mean: Sequence[float]
    std: Sequence[float]
    crop_share: float
    orientation: str
    color: str
    background: Sequence[int]
    filter: str
    antialias: bool
    range: Sequence[float]
    chain: str


def described(metadata: Mapping[str, str]) -> PreparationKeys:
    """The description in a model's metadata.

    Raises:
        ValueError: there is none, it is damaged, or it asks for what is not done here.
    """
    if "preparation" not in metadata:
        raise ValueError(
            "the model does not say how images are prepared: an older nasvit-edge wrote it; export it again"
        )
    try:
        preparation = json.loads(metadata["preparation"])
        other = next((key for key, values in _KNOWN.items() if preparation[key] not in values), None)
        sound = _sound(preparation)
    except (KeyError, TypeError, ValueError, RecursionError):
        other, sound = None, False
    if other is not None:
        raise ValueError(
            f"the model wants images with {other} {preparation[other]!r}, and this program knows only "
            f"{' and '.join(map(repr, _KNOWN[other]))}; "
            "use the program that was bundled with the model"
        )
    if not sound:
        raise ValueError("what the model says of how images are prepared is damaged; export it again")
    return cast(PreparationKeys, preparation)


def _sound(preparation: Any) -> bool:
    """Whether every number is one that can be computed with."""
    resize, crop, size = preparation["resize"], preparation["crop"], preparation["size"]
    whole = [resize, resize] if type(resize) is int else resize
    floats = (preparation["mean"], preparation["std"], preparation["range"])
    return (
        all(
            len(pair) == 2 and all(type(n) is int and 0 < n <= _LONGEST for n in pair)
            for pair in (whole, crop, size)
        )
        and all(length <= side for length, side in zip(crop, whole, strict=True))
        and [len(values) for values in floats] == [3, 3, 2]
        and all(type(n) in (int, float) and abs(n) < 1e9 for values in floats for n in values)
        and all(n > 0 for n in preparation["std"])
        and len(preparation["background"]) == 3
        and all(type(n) is int and 0 <= n <= 255 for n in preparation["background"])
    )


def prepared(path: Any, preparation: PreparationKeys) -> np.ndarray:
    """An image file to what the model takes, (height, width, 3) float32."""
    return prepared_image(decoded(path, preparation), preparation)


def prepared_image(image: Image.Image, preparation: PreparationKeys) -> np.ndarray:
    """An upright RGB image to what the model takes, (height, width, 3) float32."""
    crop = np.asarray(fitted(image, preparation))
    return normalised(input_values(crop, preparation), preparation)


def pixels(path: Any, preparation: PreparationKeys) -> np.ndarray:
    """An image file to the bytes of `crop`, (height, width, 3)."""
    return np.asarray(fitted(decoded(path, preparation), preparation))


def decoded(path: Any, preparation: PreparationKeys) -> Image.Image:
    """An image file, upright in RGB, at least as large as `resize`."""
    resize = preparation["resize"]
    return upright(path, preparation["background"], resize if isinstance(resize, int) else min(resize))


def input_bytes(path: Any, preparation: PreparationKeys) -> np.ndarray:
    """An image file to the bytes of `size`, (height, width, 3), for models that take pixels."""
    values = input_values(pixels(path, preparation), preparation)
    return np.floor(values + np.float32(0.5)).clip(0, 255).astype(np.uint8)


def _kinds() -> list[str]:
    """Those of `_KINDS` that Pillow can open here."""
    Image.init()
    return [kind for kind in _KINDS if kind in Image.OPEN]


def opened(path: Any, side: int = 1) -> Image.Image:
    """An image file, not decoded yet; a large JPEG as small as keeps `side` pixels of its shorter side.

    Raises:
        ValueError: more pixels than memory should hold.
        Exception: of any kind, where it is no image.
    """
    with open(path, "rb") as stream:  # noqa: PTH123 - paths of bytes too
        jpeg = stream.read(3) == _JPEG
    try:
        image = JpegImagePlugin.JpegImageFile(path) if jpeg else Image.open(path, formats=_kinds())
    except Image.DecompressionBombError:  # Pillow refuses any kind of file from twice as many on
        raise ValueError(f"it has more than {2 * MOST // 1_000_000} megapixels; {_LIMIT}") from None
    if image.format == "TIFF":
        image.filename = (
            ""  # not mapped into memory, which Pillow 12 and 13 do by the sides of the turned image
        )
    width, height = image.size
    if not width or not height:
        raise ValueError(f"it has {width} x {height} pixels")
    share = decoded_share(width, height, side) if jpeg else 1
    if share > 1:
        image.draft(image.mode, (width // share, height // share))
    if image.width * image.height > MOST:
        size = f"{width * height / 1e6:.0f} megapixels, {4 * width * height / 1e9:.1f} GB decoded"
        raise ValueError(f"{width} x {height} are {size}; {_LIMIT}")
    return image


def decoded_share(width: int, height: int, side: int) -> int:
    """At what share (1, 2, 4, 8) of its size a JPEG is decoded: what is left has at least `side` pixels a side."""
    share = 1
    while width * height > LARGE * share**2 and share < 8 and min(width, height) >= 2 * share * side:
        share *= 2
    return share


def orientation_of(image: Image.Image) -> int:
    """What EXIF says, 1 to 8; 1 (upright) where it says nothing or is damaged."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - damaged EXIF fails in any way; the picture is whole
        return 1
    return orientation if orientation in _UPRIGHT else 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an opened image once it is upright."""
    if image.format == "TIFF":  # whose size Pillow gives as stored or as turned, by its version
        image.load()
        return image.size
    return image.size[::-1] if orientation_of(image) >= 5 else image.size


def upright(path: Any, background: Any, side: int = 1) -> Image.Image:
    """An image file decoded, upright, in RGB."""
    with opened(path, side) as image:
        image.load()  # a TIFF file is turned by Pillow
        return turned(rgb(image, background), orientation_of(image))


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """An image as it is stored, turned upright."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def rgb(image: Image.Image, background: Any) -> Image.Image:
    """An image of any mode in RGB."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.copy() if image.readonly else image
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion cuts them off at 255
        return _upper_byte(image)
    if image.mode == "F":
        raise ValueError("it holds floating-point values, whose range is unknown")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        if image.mode == "La":
            image = image.convert("LA")
        below = Image.new("RGBA", image.size, (*background, 255))
        below.alpha_composite(image.convert("RGBA"))
        return below.convert("RGB")
    return image.convert("RGB")


def _upper_byte(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError("its values do not fit 16 bits")
    return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")


def geometry(width: int, height: int, preparation: PreparationKeys) -> tuple[int, int, int, int]:
    """Width and height that the whole image is resized to, and left and top of the crop in that."""
    resize, (rows, columns) = preparation["resize"], preparation["crop"]
    if isinstance(resize, int):
        shorter = min(width, height)
        to_width, to_height = resize * width // shorter, resize * height // shorter
    else:
        to_height, to_width = resize
    return to_width, to_height, _half(to_width - columns), _half(to_height - rows)


def _half(free: int) -> int:
    """Half of it; of two whole numbers equally near the even one."""
    return (free + (free >> 1 & 1)) >> 1


def fitted(image: Image.Image, preparation: PreparationKeys) -> Image.Image:
    """An upright image to `crop`; of a thin one, which would become huge, only what is kept is resized."""
    rows, columns = preparation["crop"]
    to_width, to_height, left, top = geometry(image.width, image.height, preparation)
    if to_width * to_height > _RESIZED:
        return _thin(image, preparation)
    whole = _resized(image, (to_width, to_height), (0, 0, *image.size), preparation)
    return whole.crop((left, top, left + columns, top + rows))


def _thin(image: Image.Image, preparation: PreparationKeys) -> Image.Image:
    rows, columns = preparation["crop"]
    to_width, to_height, left, top = geometry(image.width, image.height, preparation)
    across, down = image.width / to_width, image.height / to_height
    first = max(
        0, int(top * down - 2 * max(down, 1)) - 1
    )  # at most two pixels of the wider grid have a part in an edge
    last = min(image.height, int((top + rows) * down + 2 * max(down, 1)) + 2)
    part = image.crop((0, first, image.width, last))
    right, bottom = min((left + columns) * across, image.width), min((top + rows) * down - first, part.height)
    return _resized(part, (columns, rows), (left * across, top * down - first, right, bottom), preparation)


def _resized(
    image: Image.Image,
    size: tuple[int, int],
    box: tuple[float, float, float, float],
    preparation: PreparationKeys,
) -> Image.Image:
    """Rows, then columns: Pillow 13 takes the columns of tall images first, which gives other bytes."""
    left, top, right, bottom = box
    how = _FILTERS[preparation["filter"]]
    narrow = image.resize((size[0], image.height), how, (left, 0, right, image.height))
    return narrow.resize(size, how, (0, top, size[0], bottom))


def input_values(crop: np.ndarray, preparation: PreparationKeys) -> np.ndarray:
    """Bytes of `crop` to `size`, (height, width, 3) float32 from 0 to 255 (bicubic: a little beyond)."""
    rows, columns = preparation["size"]
    tall = np.tensordot(_cubic_weights(crop.shape[0], rows), crop.astype(np.float32), (1, 0))
    whole: np.ndarray = np.tensordot(tall, _cubic_weights(crop.shape[1], columns), (1, 1)).transpose(0, 2, 1)
    return whole


def _cubic_weights(length: int, size: int) -> np.ndarray:
    """(size, length): what each output pixel takes of each input pixel."""
    if length == size:
        return np.eye(size, dtype=np.float32)
    places = (np.arange(size) + 0.5) * length / size - 0.5
    weights = np.zeros((size, length))
    for tap in range(-1, 3):
        sources = np.floor(places).astype(int) + tap
        weight = _cubic(np.abs(places - sources))
        np.add.at(weights, (np.arange(size), sources.clip(0, length - 1)), weight)
    return weights.astype(np.float32)


def _cubic(x: np.ndarray) -> np.ndarray:
    """The bicubic kernel with a = -0.75 at distances from 0 to 2."""
    a = -0.75
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    weights: np.ndarray = np.where(x <= 1, near, far)
    return weights


def normalised(values: np.ndarray, preparation: PreparationKeys) -> np.ndarray:
    """Values from 0 to 255, (height, width, 3), to `range`, minus `mean`, over `std`; float32."""
    low, high = preparation["range"]
    mean, std = (np.array(values, np.float32) for values in (preparation["mean"], preparation["std"]))
    scaled = values.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)
    result: np.ndarray = (scaled - mean) / std
    return result
