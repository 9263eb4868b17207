"""A format is a module of this package and a folder in `export/` with its `format.toml`."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from nasvit_edge import files
from nasvit_edge.errors import ExportError

Content = bytes | dict[str, bytes]  # of a file, or of the files of a folder by relative path
_KEYS: dict[str, type] = {
    "schema": int,
    "name": str,
    "suffix": str,
    "runtime": str,
    "layout": str,
    "dynamic_batch": bool,
    "threshold": dict,
}
_LIMITS = {
    *("error", "snr_db", "agreement", "top1_drop", "pixels", "int8_macs"),
    *("reproduction", "reproduction_db", "reproduction_agreement"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
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

    error: float | None = None
    snr_db: float | None = None
    agreement: float | None = None
    top1_drop: float | None = None
    pixels: float | None = None
    int8_macs: float | None = None
    reproduction: float = 1e-3
    reproduction_db: float | None = None
    reproduction_agreement: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a module is converted.

    Attributes:
        precision: one of the format's.
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
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    labels: tuple[str, ...] = ()
    output: str = ""


@dataclass(frozen=True, slots=True)
class Format:
    """What `format.toml` says; `thresholds` has one entry a precision."""

    name: str
    suffix: str
    runtime: str
    layout: str
    dynamic_batch: bool
    thresholds: Mapping[str, Threshold]

    def module(self) -> ModuleType:
        """The code: `convert`, `write_metadata`, `read_metadata`, `runner`, `plain_runner`."""
        return importlib.import_module(f"nasvit_edge.export.{self.name}")

    def threshold(self, precision: str) -> Threshold:
        """The limits of a precision; ExportError lists the format's precisions."""
        if precision not in self.thresholds:
            known = ", ".join(self.thresholds)
            raise ExportError(f"format {self.name!r} has no precision {precision!r}; it has {known}")
        return self.thresholds[precision]


def format_names() -> list[str]:
    """The formats that can be written."""
    return sorted(path.parent.name for path in files.shipped("export").glob("*/format.toml"))


def load_format(name: str) -> Format:
    """A format by name; ExportError lists what there is."""
    if name not in format_names():
        raise ExportError(f"unknown format {name!r}; there are {', '.join(format_names())}")
    path = files.shipped("export") / name / "format.toml"
    table = files.read_table(path, "format", _KEYS)
    limits = {precision: _threshold(limit, str(path)) for precision, limit in table["threshold"].items()}
    return Format(
        **{key: table[key] for key in _KEYS if key not in ("schema", "threshold")}, thresholds=limits
    )


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


def _threshold(limits: Any, path: str) -> Threshold:
    unknown = sorted(set(limits) - _LIMITS) if isinstance(limits, dict) else [str(limits)]
    if unknown:
        raise ExportError(f"format {path!r}: unknown limit {unknown[0]!r}; there are {sorted(_LIMITS)}")
    for key, value in limits.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ExportError(f"format {path!r}: limit {key!r} is {value!r}, not a number")
    return Threshold(**{key: float(value) for key, value in limits.items()})
