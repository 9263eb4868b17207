"""A search space's TOML as records, and what no type says of it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, structs

from nasvit_edge.errors import SpaceError
from nasvit_edge.genes import GENES, listed
from nasvit_edge.preparation import Filter
from nasvit_edge.records import RecordError, Strict, parse
from nasvit_edge.specs import (
    Activation,
    AttentionSpec,
    HeadSpec,
    NetworkSpec,
    Part,
    Plain,
    SqueezeSpec,
    StageSpec,
    StemSpec,
)

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # line breaks among them
_TAKEN = ("bfloat16", "first_conv", "last_conv", "classifier")  # a module's own, other parts
_LONGEST = 400  # of what an error quotes
# keys that are written even where they are as they need not be
_ALWAYS = ("attention", "labels", "head_width", "value_ratio", "window")

_Side = Annotated[int, Meta(ge=1, le=4096, description="[width, height], like [4, 3]")]
_Pixels = Annotated[int, Meta(ge=8, le=4096, description="numbers from 8 to 4096, a list rising")]
_Mean = Annotated[float, Meta(gt=-1e6, lt=1e6, description="three numbers")]
_Std = Annotated[float, Meta(gt=0, lt=1e6, description="three positive numbers")]
_MASKS = "the value of each class in masks, different numbers from 0 to 255"


_Classes = Annotated[int, Meta(ge=1, le=1_000_000, description="a number from 1 to 1000000")]
_Means = Annotated[tuple[_Mean, ...], Meta(min_length=3, max_length=3, description="three numbers")]
_Stds = Annotated[tuple[_Std, ...], Meta(min_length=3, max_length=3, description="three positive numbers")]
_Crop = Annotated[float, Meta(ge=0.1, le=1, description="a number from 0.1 to 1")]


class SpaceFile(Strict, frozen=True, kw_only=True):
    """A space's TOML."""

    schema: Literal[1]
    name: Plain
    resolutions: Annotated[tuple[_Pixels, ...], Meta(min_length=1, description="a rising list of 8 to 4096")]
    stem: StemSpec
    head: HeadSpec
    attention: AttentionSpec = AttentionSpec()
    classes: _Classes
    mean: _Means
    std: _Stds
    labels: str | tuple[str, ...] = "numbers"
    aspect: Annotated[
        tuple[_Side, ...], Meta(min_length=2, max_length=2, description="[width, height], like [4, 3]")
    ] = (1, 1)
    image_size: _Pixels | None = None
    crop_share: _Crop | None = None
    filter: Filter = "bicubic"
    mask_values: (
        Annotated[
            tuple[Annotated[int, Meta(ge=0, le=255, description=_MASKS)], ...],
            Meta(min_length=1, description=_MASKS),
        ]
        | None
    ) = None
    activation: Activation = "silu"
    squeeze: SqueezeSpec = SqueezeSpec()
    widths_rise: bool = False
    padding: Literal["even", "same"] = "even"
    norm_eps: Annotated[float, Meta(ge=1e-8, le=0.1, description="a number from 1e-8 to 0.1")] = 1e-5
    stage: Annotated[tuple[StageSpec, ...], Meta(min_length=1, description="at least one [[stage]]")]


class NetworkFile(Strict, frozen=True, kw_only=True):
    """The TOML of a space of one network, which sees images at one size."""

    schema: Literal[1]
    name: Plain
    resolutions: Annotated[
        tuple[_Pixels, ...], Meta(min_length=1, max_length=1, description="a list of one number, 8 to 4096")
    ]
    classes: _Classes
    mean: _Means
    std: _Stds
    labels: str | tuple[str, ...] = "numbers"
    crop_share: _Crop | None = None
    filter: Filter = "bicubic"
    network: NetworkSpec


def read_network(table: dict[str, Any], path: Path) -> NetworkFile:
    """`read` of a space of one network."""
    where = f"space {str(path)!r}"
    try:
        file = parse(NetworkFile, table, where)
    except RecordError as error:
        raise SpaceError(str(error)) from None
    if isinstance(file.labels, tuple):
        _check_labels(file.labels, file.classes, where)
    return file


def _check_labels(labels: tuple[str, ...], classes: int, where: str) -> None:
    if len(labels) != classes:
        raise SpaceError(f"{where}: key 'labels' has {len(labels)} names for {classes} classes")
    try:
        checked_labels(labels, "key 'labels': ")
    except SpaceError as error:
        raise SpaceError(f"{where}: {error}") from None


def read(table: dict[str, Any], path: Path) -> SpaceFile:
    """Check every key of a space's TOML, and fill in what stages need not say; SpaceError names file and key."""
    where = f"space {str(path)!r}"
    try:
        file = parse(SpaceFile, table, where)
    except RecordError as error:
        raise SpaceError(str(error)) from None
    stages = zip(file.stage, table["stage"], strict=True)
    file = structs.replace(file, stage=tuple(_whole(file, stage, stage_keys) for stage, stage_keys in stages))
    for key, wrong in _wrong(file):
        raise SpaceError(f"{where}: key {key!r} {_short(wrong)}")
    if isinstance(file.labels, tuple):
        _check_labels(file.labels, file.classes, where)
    return file


def _whole(file: SpaceFile, stage: StageSpec, stage_keys: dict[str, Any]) -> StageSpec:
    """A stage with what it need not say."""
    if stage.expands is None:
        stage = structs.replace(stage, expands=_most(stage.expand_ratio) > 1)
    if not stage.hybrid:
        return stage
    fields = {key: getattr(stage.attention, key) for key in stage_keys.get("attention", ())}
    return structs.replace(stage, attention=structs.replace(file.attention, **fields))


def _numbers(values: Any) -> list[Any]:
    """The numbers of a choice, one or in lists."""
    return [n for value in values for n in _numbers(value)] if isinstance(values, tuple) else [values]


def _most(values: Any) -> Any:
    return max(_numbers(values))


def _wrong(file: SpaceFile) -> Iterator[tuple[str, str]]:
    """Keys, and what is wrong with them."""
    if not _rises(file.resolutions):
        yield "resolutions", f"is {list(file.resolutions)!r}; it must be a rising list"
    yield from _wrong_part("stem", file.stem)
    for i, stage in enumerate(file.stage):
        yield from _wrong_part(f"stage[{i}]", stage)
        yield from _wrong_stage(f"stage[{i}]", stage)
        if stage.attention is not None:
            yield from _wrong_attention(f"stage[{i}]", stage, stage.attention)
    yield from _wrong_part("head", file.head)
    yield from _wrong_head(file.head)
    names = [stage.name for stage in file.stage]
    if len(set(names)) != len(names):
        yield "stage.name", f"is {names!r}; stages must have different names"
    if file.widths_rise:
        yield from _wrong_order((file.stem, *file.stage))
    yield from _wrong_images(file)
    yield from _wrong_classes(file)


def _rises(values: Sequence[Any]) -> bool:
    return sorted(set(values)) == list(values)


def _wrong_part(where: str, part: Part) -> Iterator[tuple[str, str]]:
    for kind in GENES:
        values = listed(part, kind)
        nested = isinstance(values, tuple) and isinstance(values[0], tuple)
        for each in values if nested else (values,) if isinstance(values, tuple) else ():
            if not isinstance(each, tuple) or any(isinstance(v, tuple) for v in each):
                yield f"{where}.{kind}", "mixes numbers and lists; give one list, or a list for each block"
            elif not _rises(each):
                yield f"{where}.{kind}", f"is {list(each)!r}; it must be a rising list"
    kernels = getattr(part, "kernel_size", 1)
    if any(k % 2 == 0 for k in _numbers(kernels)):
        yield f"{where}.kernel_size", f"has {_numbers(kernels)!r}; kernels must be odd"


def _short(text: str) -> str:
    """Without the middle of what is long: values come from files."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 100]} ... {text[-80:]}"


def _wrong_stage(where: str, stage: StageSpec) -> Iterator[tuple[str, str]]:
    # a name for modules: with a digit, as `mb1`, so that it is none of a module's own attributes
    if not re.search(r"[0-9]", stage.name) or stage.name in _TAKEN:
        yield f"{where}.name", f"is {stage.name!r}; it must hold a digit, like 'mb1'"
    if _most(stage.expand_ratio) > 1 and not stage.expands:
        yield f"{where}.expands", "is False; an expand_ratio above 1 expands"
    if stage.form == "fused" and not stage.expands and stage.se is not False:
        yield f"{where}.se", "must be false: a fused convolution that does not expand has no room for it"
    for kind in ("kernel_size", "expand_ratio"):
        values = getattr(stage, kind)
        if isinstance(values, tuple) and isinstance(values[0], tuple):
            if stage.hybrid:
                yield f"{where}.{kind}", "has a list for each block; a hybrid stage has one MBConv"
            elif len(values) < _most(stage.depth):
                yield (
                    f"{where}.{kind}",
                    f"has {len(values)} lists; {_most(stage.depth)} blocks need one each",
                )
    if not stage.hybrid and stage.attention is not None:
        yield f"{where}.attention", "is for hybrid stages"
    if not stage.hybrid and not stage.counts_first:
        yield f"{where}.counts_first", "is for hybrid stages"


def _wrong_attention(where: str, stage: StageSpec, attention: AttentionSpec) -> Iterator[tuple[str, str]]:
    if stage.width == "same":
        yield f"{where}.width", "is 'same'; a hybrid stage has widths of its own"
    elif any(width % attention.head_width for width in _numbers(stage.width)):
        of = f"multiples of the head_width, {attention.head_width}"
        yield f"{where}.width", f"is {_numbers(stage.width)!r}; the widths of attention are {of}"


def _wrong_order(parts: Sequence[StemSpec | StageSpec]) -> Iterator[tuple[str, str]]:
    """Every choice must be possible where no width falls."""
    low = high = 0
    for place, part in enumerate(parts):
        widths = _numbers(part.width) if part.width != "same" else [low, high]
        if widths[0] < low or widths[-1] < high:
            yield (
                f"stage[{place - 1}].width",
                f"is {widths!r}; where widths rise, its least and its most may not be below those before, {low} and {high}",
            )
        low, high = widths[0], widths[-1]


def _wrong_head(head: HeadSpec) -> Iterator[tuple[str, str]]:
    if head.kind == "classifier" and not head.expand_ratio:
        yield "head.expand_ratio", "is missing or 0; a classifier has one from 1 to 32"
    if head.kind == "mlp" and len(head.width) > 1:  # all laterals would depend on it
        yield "head.width", f"is {list(head.width)!r}; a decoder has one width"
    for key in ("expand_ratio", "bias"):
        if head.kind != "classifier" and getattr(head, key):
            yield f"head.{key}", 'is unknown; only kind = "classifier" has one'


def _wrong_images(file: SpaceFile) -> Iterator[tuple[str, str]]:
    if any(r * file.aspect[0] % file.aspect[1] for r in file.resolutions):
        yield (
            "aspect",
            f"is {list(file.aspect)!r}: the widths at resolutions {list(file.resolutions)!r} are no whole pixels",
        )
    if file.head.kind == "mlp":
        for key in ("image_size", "crop_share"):
            if getattr(file, key) is not None:
                yield key, "is for classifiers; scenes are seen whole"


def _wrong_classes(file: SpaceFile) -> Iterator[tuple[str, str]]:
    values = file.mask_values
    if values is None:
        return
    if file.head.kind != "mlp":
        yield "mask_values", 'is for segmenters, which have [head] kind = "mlp"'
    elif len(set(values)) != len(values):
        yield "mask_values", f"is {list(values)!r}; it must be {_MASKS}"
    elif len(values) != file.classes:
        yield (
            "mask_values",
            f"has {len(values)} values for {file.classes} classes; give one for each class, in order",
        )


def content(file: SpaceFile | NetworkFile) -> dict[str, Any]:
    """A space's TOML, without what need not be said."""
    values = _said(file)
    if isinstance(file, NetworkFile):
        return values | {"network": structs.asdict(file.network)}
    stages = values.pop("stage")
    parts = {key: _said(values[key]) for key in ("stem", "head", "attention", "squeeze") if key in values}
    return values | parts | {"stage": [_said_of_stage(stage, file.attention) for stage in stages]}


def _said(record: Any) -> dict[str, Any]:
    """Key -> value, but for those that are as if they were left out."""
    plain = {field.name: field.default for field in structs.fields(record)}
    values = structs.asdict(record).items()
    return {k: value for k, value in values if value is not None and (k in _ALWAYS or value != plain[k])}


def _said_of_stage(stage: StageSpec, common: AttentionSpec) -> dict[str, object]:
    values = _said(stage)
    if stage.expands == (_most(stage.expand_ratio) > 1):
        values.pop("expands", None)
    if stage.attention is not None:
        usual = structs.asdict(common)
        changes = {k: v for k, v in structs.asdict(stage.attention).items() if v != usual[k]}
        values |= {"attention": changes} if changes else {}
        values = {key: value for key, value in values.items() if key != "attention" or changes}
    return values


def checked_labels(names: Sequence[str], where: str = "") -> tuple[str, ...]:
    """The names of classes.

    Raises:
        SpaceError: one is empty, no text or holds a control character, which files with a name a line cannot; or two are one.
    """
    numbers: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if not name or re.search("[\ud800-\udfff]", name):  # a file name that is no text
            raise SpaceError(f"{where}class name {_short(repr(name))} is empty or not valid text; rename it")
        if _CONTROL.search(name):
            raise SpaceError(
                f"{where}class name {_short(repr(name))} holds a line break or another control character; rename it"
            )
        first = numbers.setdefault(unicodedata.normalize("NFC", name), number)
        if first != number:
            raise SpaceError(
                f"{where}classes {first} and {number} are both named {_short(repr(name))}; rename one"
            )
    return tuple(names)


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
