"""A format is a module of this package, a folder in `export/` with its `format.toml`, and an extra.

`Converter` is what the module has; of a format whose `chained` is true it has what `Chaining` lists besides.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, cast

import numpy as np
from msgspec import Meta, field

from nasvit_edge import files, records, systems
from nasvit_edge.errors import ExportError, MissingExtraError, require
from nasvit_edge.latency.names import MIXED, PRECISIONS, Precision, check_choice
from nasvit_edge.records import Amount, Name, Share, Strict
from nasvit_edge.runtimes import RUNTIMES

if TYPE_CHECKING:
    from torch import nn

    from nasvit_edge.export.layers import Layer
    from nasvit_edge.export.placement import Placement

Content = bytes | dict[str, bytes]  # of a file, or of the files of a folder by relative path
Run = Callable[[np.ndarray[Any, np.dtype[np.float32]]], np.ndarray[Any, np.dtype[np.float32]]]


class Threshold(Strict, frozen=True, kw_only=True):
    """What a file must keep to pass; None where a limit does not apply.

    Attributes:
        error: largest difference of a logit from the elastic supernet's, over the logits' standard deviation.
        snr_db: lowest signal-to-noise ratio of the logits, in dB.
        agreement: lowest share of images with the supernet's top-1.
        top1_drop: largest loss of top-1 on labelled images, of a segmenter of mean IoU on labelled scenes (a fraction).
        pixels: of a segmenter, lowest share of pixels with the supernet's label.
        int8_macs: of int8, lowest share of the multiply-accumulates of layers with weights that are in 8 bits.
        reproduction: largest change of the file's own outputs since export on another processor or runtime: where
            `reproduction_db` is given, of what it gives plainly (`reproduction.Reproduction.plain_change`).
        reproduction_db, reproduction_agreement: there, of a precision that processors compute in different ways: lowest
            signal-to-noise ratio to the logits at export, and lowest share of images with the class of then (of pixels `pixels`).
    """

    error: Amount | None = None
    snr_db: Amount | None = None
    agreement: Share | None = None
    top1_drop: Share | None = None
    pixels: Share | None = None
    int8_macs: Share | None = None
    reproduction: Amount = 1e-3
    reproduction_db: Amount | None = None
    reproduction_agreement: Share | None = None


class Mixed(Strict, frozen=True, kw_only=True):
    """What stages of one file may be in, `of` which precisions, the exact one first; and the limits of such a file."""

    of: Annotated[tuple[Precision, ...], Meta(min_length=2)]
    threshold: Threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """How a module is converted.

    Attributes:
        precision: one of the format's, or mixed.
        mixed: of a mixed one, op (`mb3.1`) -> its precision.
        dynamic_batch: leave the batch axis open.
        calibration: images (n, 3, H, W), float32, for the ranges of int8 activations.
        kept: ops (`mb3.1`) that stay in floating point where the rest is int8.
        mean, std, labels: for formats that hold normalisation and classes in the graph.
        output: of a segmenter `labels` (the module ends in them) or `logits`; else empty.
    """

    precision: str = "fp32"
    dynamic_batch: bool = False
    calibration: np.ndarray[Any, np.dtype[np.float32]] | None = None
    kept: tuple[str, ...] = ()
    mixed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    labels: tuple[str, ...] = ()
    output: str = ""


class Converter(Protocol):
    """The module of a format; `tests/export/test_formats.py` holds every one to it."""

    def convert(self, module: nn.Module, shape: tuple[int, ...], recipe: Conversion | None = None) -> Any:
        """The content of an artifact of a folded module for inputs of `shape`, (B, 3, H, W)."""

    def device_model(self, module: nn.Module, shape: tuple[int, ...], recipe: Conversion) -> Any:
        """The model alone, as a device is given it to be timed."""

    def write_metadata(self, model: Any, metadata: Mapping[str, str], /) -> Any:
        """The content with metadata in it."""

    def read_metadata(self, path: Path) -> dict[str, str]:
        """What an artifact says of itself; VerifyError where it is damaged."""

    def runner(self, path: Path, threads: int = 1) -> Run:
        """Images (B, 3, H, W) -> logits (B, classes), or what else the model gives, as it is deployed."""

    def plain_runner(self, path: Path, threads: int = 1) -> Run:
        """As `runner`, of what the file holds, without what a runtime makes of it."""

    def layers(self, path: Path) -> list[Layer]:
        """What multiplies in an artifact."""

    def placements(self, path: Path) -> list[Placement]:
        """What targets make of an artifact."""


class Chaining(Converter, Protocol):
    """A module whose models are put together of those of ops, since converting a whole subnet takes half a minute."""

    def chained(
        self, models: Sequence[bytes], names: Sequence[str], sources: Sequence[int], recipe: Conversion
    ) -> bytes:
        """One model of those of its ops."""

    def resized(self, model: bytes, shape: tuple[int, ...], recipe: Conversion) -> bytes:
        """An op's model for another side."""


class PerStage(Converter, Protocol):
    """A module whose files may have a precision a stage."""

    def at_precision(self, model: bytes, batch: int, recipe: Conversion) -> bytes:
        """A model in floating point, as `convert` makes it, at the precision of the recipe."""


class Package(Strict, frozen=True, kw_only=True):
    """What pip calls a module, and which of our extras brings it."""

    distribution: Name
    extra: Name


class Format(Strict, frozen=True, kw_only=True):
    """What `format.toml` says.

    Attributes:
        suffix: of its files. `model`: where in an artifact that is a folder the model is that devices are given.
        runtime: what runs it, unless another is asked for. `layout`: of images in a graph.
        dynamic_batch: the batch axis can be left open.
        packages: by module: the first one converts, the second one runs files on this machine.
        graph_packages: distributions that decide what a converted op's graph is, besides our own code.
        slow: converting an op takes about a second.
        chained: the module is a `Chaining`.
        thresholds: the limits of each precision.
        mixed: where the module is a `PerStage`.
        layouts: by precision, raised when the same op is written in other numbers, so that its latency is measured anew.
    """

    schema: Literal[3]
    name: Name
    suffix: Annotated[str, Meta(pattern=r"^[.][a-z]+$(?!\n)", description="a file name's ending, as '.onnx'")]
    runtime: Name
    layout: Literal["NCHW", "NHWC"]
    dynamic_batch: bool
    packages: Annotated[dict[str, Package], Meta(min_length=1)]
    graph_packages: tuple[str, ...] = ()
    model: str = ""
    slow: bool = False
    chained: bool = False
    thresholds: dict[str, Threshold] = field(name="threshold")
    layouts: dict[str, int] = field(name="written", default_factory=dict)
    mixed: Mixed | None = None

    def __post_init__(self) -> None:
        for key, names in (("threshold", self.thresholds), ("written", self.layouts)):
            unknown = [name for name in names if name not in PRECISIONS]
            if unknown:
                raise ValueError(f"key {key!r} is of {unknown[0]!r}; possible are {', '.join(PRECISIONS)}")

    def needs(self, *, here: bool) -> None:
        """MissingExtraError where what converts is not installed or, `here`, what runs files; of a format that is not
        promised on this system NasvitEdgeError."""
        systems.require_format(self.name)
        modules = list(self.packages.items())
        for module, package in modules[1:2] if here else ():
            require(module, package.extra)
        module, package = modules[0]
        if importlib.util.find_spec(module) is None:  # seconds to import
            raise MissingExtraError(
                f"{module} is not installed; run: pip install 'nasvit-edge[{package.extra}]'"
            )

    @property
    def model_suffix(self) -> str:
        """Of the model that devices are given."""
        return Path(self.model).suffix or self.suffix

    def model_in(self, artifact: Path) -> Path:
        """The model that devices are given."""
        return artifact / self.model if self.model else artifact

    def module(self) -> Converter:
        """The code."""
        return cast(Converter, importlib.import_module(f"nasvit_edge.export.{self.name}"))

    def chaining(self) -> Chaining:
        """The code of a format that is `chained`."""
        return cast(Chaining, self.module())

    def per_stage(self) -> PerStage:
        """The code of a format that has `mixed`."""
        return cast(PerStage, self.module())

    def threshold(self, precision: str) -> Threshold:
        """The limits of a precision; ExportError lists the format's precisions."""
        if precision == MIXED and self.mixed is not None:
            return self.mixed.threshold
        if precision not in self.thresholds:
            known = ", ".join([*self.thresholds, *([MIXED] if self.mixed else [])])
            raise ExportError(f"format {self.name!r} has no precision {precision!r}; it has {known}")
        return self.thresholds[precision]


def format_names() -> list[str]:
    """The formats that can be written."""
    return sorted(path.parent.name for path in files.shipped("export").glob("*/format.toml"))


def load_format(name: str) -> Format:
    """A format by name; ExportError lists what there is."""
    if name not in format_names():
        raise ExportError(f"unknown format {name!r}; there are {', '.join(format_names())}")
    return _read(files.shipped("export") / name / "format.toml")


@functools.cache
def _read(path: Path) -> Format:
    return records.read(Format, path, "format")


def format_for(runtime: str) -> Format:
    """The format that a runtime reads."""
    check_choice("runtime", runtime, RUNTIMES)
    return load_format(RUNTIMES[runtime].form)


def format_of(suffix: str) -> Format:
    """The format of an artifact by its file name's ending."""
    formats = [load_format(name) for name in format_names()]
    for form in formats:
        if form.suffix == suffix:
            return form
    endings = ", ".join(form.suffix for form in formats)
    raise ExportError(f"no format writes files ending in {suffix!r}; there are {endings}")


def node_prefix(op_name: str) -> str:
    """How the names of an op's nodes begin in a traced graph: `mb3.1` -> `mb3_1_`."""
    return re.sub(r"\W", "_", op_name) + "_"
