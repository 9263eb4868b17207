"""The parts of a search space's TOML, checked key by key."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from nasvit_edge.errors import SpaceError
from nasvit_edge.specs import AttentionSpec, HeadSpec, StageSpec, StemSpec
from nasvit_edge.toml_table import TomlTable

HEADS = ("classifier", "mlp")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # line breaks among them
_LARGEST = {"width": 4096, "depth": 64, "kernel_size": 31, "expand_ratio": 32}


def attention(table: TomlTable) -> AttentionSpec:
    spec = AttentionSpec(
        head_width=table.integer("head_width", 1, 256, 8),
        value_ratio=table.integer("value_ratio", 1, 16, 4),
        window=table.integer("window", 1, 256, 18),
    )
    table.done()
    return spec


def stem(table: TomlTable) -> StemSpec:
    width, kernel = (
        table.choices("width", 1, _LARGEST["width"]),
        table.odd("kernel_size", _LARGEST["kernel_size"]),
    )
    stride = table.integer("stride", 1, 4)
    table.done()
    return StemSpec(width=width, kernel_size=kernel, stride=stride)


def stage(table: TomlTable, attention: AttentionSpec) -> StageSpec:
    kind = table.take("kind", str)
    if kind not in ("mbconv", "hybrid"):
        raise SpaceError(f"key '{table.where}kind' is {kind!r}; it must be 'mbconv' or 'hybrid'")
    kernels = table.choices("kernel_size", 1, _LARGEST["kernel_size"])
    if any(k % 2 == 0 for k in kernels):
        raise SpaceError(f"key '{table.where}kernel_size' is {list(kernels)!r}; kernels must be odd")
    ratios = table.choices("expand_ratio", 1, _LARGEST["expand_ratio"])
    expands = table.take("expands", bool, max(ratios) > 1)
    if max(ratios) > 1 and not expands:
        raise SpaceError(f"key '{table.where}expands' is False; an expand_ratio above 1 expands")
    spec = StageSpec(
        name=_stage_name(table),
        hybrid=kind == "hybrid",
        width=table.choices("width", 1, _LARGEST["width"], attention.head_width if kind == "hybrid" else 1),
        depth=table.choices("depth", 1, _LARGEST["depth"]),
        kernel_size=kernels,
        expand_ratio=ratios,
        se=table.take("se", bool),
        stride=table.integer("stride", 1, 2),
        expands=expands,
    )
    table.done()
    return spec


def head(table: TomlTable) -> HeadSpec:
    kind = table.take("kind", str, "classifier")
    if kind not in HEADS:
        raise SpaceError(f"key '{table.where}kind' is {kind!r}; it must be {' or '.join(map(repr, HEADS))}")
    width = table.choices("width", 1, 65536)
    if kind == "classifier":
        expand_ratio = table.integer("expand_ratio", 1, _LARGEST["expand_ratio"])
        table.done()
        return HeadSpec(width=width, expand_ratio=expand_ratio)
    if len(width) > 1:  # all laterals would depend on it
        raise SpaceError(f"key '{table.where}width' is {list(width)!r}; a decoder has one width")
    table.done()
    return HeadSpec(width=width, kind=kind)


def aspect(root: TomlTable) -> tuple[int, int]:
    sides = root.take("aspect", list, [1, 1])
    if len(sides) != 2 or not all(type(side) is int and 0 < side <= 4096 for side in sides):
        raise SpaceError(f"key 'aspect' is {sides!r}; it must be [width, height], like [4, 3]")
    return (sides[0], sides[1])


def share(root: TomlTable) -> float:
    share = root.take("crop_share", (int, float), 0.0)
    if "crop_share" in root.values and not 0.1 <= share <= 1:
        raise SpaceError(f"key 'crop_share' is {share!r}; it must be 0.1 to 1")
    return float(share)


def mask_values(root: TomlTable) -> tuple[int, ...]:
    values = root.take("mask_values", list, [])
    good = all(type(value) is int and 0 <= value <= 255 for value in values)
    if "mask_values" in root.values and not (values and good and len(set(values)) == len(values)):
        raise SpaceError(
            f"key 'mask_values' is {values!r}; it must be the value of each class in masks, different numbers from 0 to 255"
        )
    return tuple(values)


def labels(table: TomlTable) -> str | tuple[str, ...]:
    labels = table.take("labels", (str, list), "numbers")
    if isinstance(labels, str):
        return labels
    if not all(isinstance(name, str) for name in labels):
        raise SpaceError(f"key 'labels' must be a list of names, not {labels!r}")
    return checked_labels(labels, "key 'labels': ")


def checked_labels(names: Sequence[str], where: str = "") -> tuple[str, ...]:
    """The names of classes.

    Raises:
        SpaceError: one is empty, no text or holds a control character, which files with a name a line cannot; or two are one.
    """
    numbers: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if not name or re.search("[\ud800-\udfff]", name):  # a file name that is no text
            raise SpaceError(f"{where}class name {name!r} is empty or not valid text; rename it")
        if _CONTROL.search(name):
            raise SpaceError(
                f"{where}class name {name!r} holds a line break or another control character; rename it"
            )
        first = numbers.setdefault(unicodedata.normalize("NFC", name), number)
        if first != number:
            raise SpaceError(f"{where}classes {first} and {number} are both named {name!r}; rename one")
    return tuple(names)


def _stage_name(table: TomlTable) -> str:
    """A name for modules: with a digit, as `mb1`, so that it is none of a module's own attributes."""
    name = table.name("name")
    if not re.search(r"[0-9]", name) or name in ("bfloat16", "first_conv", "last_conv", "classifier"):
        raise SpaceError(f"key '{table.where}name' is {name!r}; it must hold a digit, like 'mb1'")
    return name


def foreign_labels(name: str, classes: int) -> list[str]:
    """Names that come with torchvision, where it is installed (extra `train`)."""
    if name == "imagenet-1k":
        try:
            from torchvision.models._meta import _IMAGENET_CATEGORIES  # pyright: ignore
        except (ImportError, RuntimeError, OSError, AttributeError):  # not there, or not of this torch
            pass
        else:
            if len(_IMAGENET_CATEGORIES) == classes:
                return list(_IMAGENET_CATEGORIES)
    return [str(index) for index in range(classes)]
