"""Masks: 8-bit PNG files whose values are class ids; whatever is wrong with one is one line with its path."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasvit_edge.data_sets.decoding import Pixels, check_sides, unreadable
from nasvit_edge.errors import DataError, require

IGNORE = 255  # the label of pixels that count nowhere
_UNKNOWN = 254  # in a table: no value of the format
MOST_CLASSES = 254
PLAIN, ADE20K, CITYSCAPES_IDS = "plain", "ade20k", "cityscapes ids"  # kinds of codings
_HEADER = struct.Struct(
    ">8s4s4sIIBB"
)  # signature, length and name of a PNG's first chunk, and what it starts with
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3
_COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with transparency", 6: "RGBA"}
_OTHERS = "where they have other values, list these as mask_values in the space's TOML"
Counts = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Coding:
    """What the values of a mask file mean."""

    classes: int
    table: bytes  # (256,) value -> class, IGNORE or _UNKNOWN
    meaning: str  # for messages
    kind: str = (
        ""  # of data set, whose usual mistakes are looked for (`mask_check`); "": what the user says holds
    )

    @staticmethod
    def of(ids: dict[int, int], classes: int, meaning: str, kind: str = "") -> Coding:
        """The coding in which value v is class `ids[v]`; any other is an error."""
        return Coding(classes, bytes(ids.get(value, _UNKNOWN) for value in range(256)), meaning, kind)

    def per_class(self, pixels: Counts) -> Counts:
        """Of pixels of each value, (256,), those of each class, (C,)."""
        return np.bincount(np.frombuffer(self.table, np.uint8), pixels, 256)[: self.classes].astype(np.int64)

    def ignored(self, pixels: Counts) -> Counts:
        """Of pixels of each value, (256,), those without a class, (256,)."""
        return np.where(np.frombuffer(self.table, np.uint8) == IGNORE, pixels, 0)

    def value_of(self, label: int) -> int:
        """The (first) value of a class."""
        return self.table.index(label)


LABELS = Coding(MOST_CLASSES, bytes(range(256)), "labels")  # of masks that are decoded


def plain(classes: int, values: Sequence[int] = ()) -> Coding:
    """Values are classes; 255 is ignored, and 11 beside eleven classes, as CamVid has it.

    Or the classes have these values, in order, and all others are ignored.
    """
    if values:
        ids = dict.fromkeys(range(256), IGNORE) | {value: label for label, value in enumerate(values)}
        listed = ", ".join(map(str, values))
        return Coding.of(ids, classes, f"the space says that classes have mask_values = [{listed}]")
    ignored = {11: IGNORE, IGNORE: IGNORE} if classes == 11 else {IGNORE: IGNORE}
    meaning = f"classes are 0 to {classes - 1}, and {' and '.join(map(str, ignored))} for pixels without one"
    ids = {value: value for value in range(classes)} | ignored
    return Coding.of(ids, classes, f"{meaning}; {_OTHERS}", PLAIN)


def mask_size(path: str) -> tuple[int, int]:
    """Height and width of a mask, from the file's first bytes.

    Raises:
        DataError: no file, no 8-bit PNG of one channel.
    """
    try:
        with Path(path).open("rb") as stream:
            head = stream.read(_HEADER.size)
        if len(head) < _HEADER.size:
            raise ValueError("it is no PNG file")
        signature, _, chunk, width, height, depth, colour = _HEADER.unpack(head)
        if signature != _SIGNATURE or chunk != b"IHDR":
            raise ValueError("it is no PNG file")
        check_sides(width, height)
        if colour != _PALETTE and (colour, depth) != (_GREY, 8):  # fewer bits of grey would be scaled to 255
            kind = _COLOURS.get(colour, "an unknown kind")
            raise ValueError(
                f"it has {depth} bits of {kind}; a mask is an 8-bit grey or palette PNG of class ids"
            )
    except (OSError, ValueError) as error:
        raise unreadable(path, error, "mask") from None
    return height, width


def decode_mask(path: str, coding: Coding) -> Pixels:
    """The mask (H, W), classes or IGNORE.

    Raises:
        DataError: no file, no mask, cut short, a value that the coding does not know.
    """
    return coded(path, _values(path), coding)


def histogram(path: str, coding: Coding) -> Counts:
    """How many pixels of a mask have each value, (256,); errors as `decode_mask`."""
    pixels = np.bincount(_values(path).ravel(), minlength=256)
    coded(path, np.flatnonzero(pixels).astype(np.uint8), coding)  # names a value that it does not know
    return pixels


def _values(path: str) -> Pixels:
    """The values (H, W) of a mask's pixels."""
    image_module: Any = require("PIL.Image", "train")
    size = mask_size(path)
    try:
        with image_module.open(path) as image:
            values = np.asarray(image)
    except Exception as error:  # noqa: BLE001 - a damaged file fails in any way
        raise unreadable(path, error, "mask") from None
    if values.shape != size or values.dtype != np.uint8:
        raise unreadable(path, ValueError("it holds more than one number a pixel"), "mask")
    return values


def coded(path: str, values: Pixels, coding: Coding) -> Pixels:
    """Values (H, W) of a mask as classes or IGNORE; DataError names a value that is neither."""
    labels: Pixels = np.frombuffer(coding.table, np.uint8)[values]
    if (labels == _UNKNOWN).any():
        value = int(values[labels == _UNKNOWN].min())
        raise DataError(f"mask {path!r} holds the value {value}: {coding.meaning}")
    return labels
