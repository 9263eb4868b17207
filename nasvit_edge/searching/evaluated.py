"""What evaluating subnets of a supernet gives: records, and the table as CSV."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import field

from nasvit_edge.data_sets.confusion import Confusion
from nasvit_edge.data_sets.scenes import SceneSet
from nasvit_edge.data_sets.trained_on import Overlap
from nasvit_edge.listening import Listener
from nasvit_edge.records import Record
from nasvit_edge.space import SubnetConfig

if TYPE_CHECKING:
    from nasvit_edge.searching.images import ImageAccuracy

SCHEMA = 1


class Majority(Record, frozen=True, kw_only=True):
    """A baseline: mean IoU and the share of pixels."""

    accuracy: float
    pixel_accuracy: float


class EvaluatedSubnet(Record, frozen=True, kw_only=True):
    """A subnet: what it is called, and its top-1 or mean IoU."""

    name: str
    config: SubnetConfig
    accuracy: float
    macs: int
    parameters: int


class SceneRow(EvaluatedSubnet, frozen=True, kw_only=True):
    """A segmenter, with the figures of `Ious`."""

    mean_iou: float
    pixel_accuracy: float
    ious: dict[str, float | None]


class Spread(Record, frozen=True, kw_only=True):
    """Accuracies of random subnets; `std`: the sample's standard deviation, None for one."""

    count: int
    mean: float
    std: float | None
    lowest: float
    highest: float


class AccuracySummary(Record, frozen=True, kw_only=True):
    """Accuracies of the ends, and of the random subnets; what was not asked for is left out."""

    smallest: float | None = None
    largest: float | None = None
    random: Spread | None = None


class CalibratedOn(Record, frozen=True, kw_only=True):
    """The images that each subnet was calibrated on."""

    data: str
    images: int


class Evaluation(Record, frozen=True, kw_only=True, omit_defaults=False):
    """What was measured, and on what."""

    space: str
    supernet: str
    weights: Mapping[str, Any]  # where they are from
    data: str
    split: str
    images: int
    trained_on: Overlap
    chain: str
    calibration: CalibratedOn
    remarks: tuple[str, ...]
    seed: int
    subnets: tuple[EvaluatedSubnet, ...]
    summary: AccuracySummary
    schema: int = SCHEMA
    kind: str = "supernet evaluation"
    tool_version: str = field(default_factory=lambda: importlib.metadata.version("nasvit-edge"))


class OfScenes(Evaluation, frozen=True, kw_only=True):
    """The same of segmenters; `masks`: what is in them, in lines."""

    subnets: tuple[SceneRow, ...]
    majority: Majority
    masks: tuple[str, ...]
    metric: str = "mean IoU"


def summary(rows: Sequence[EvaluatedSubnet]) -> AccuracySummary:
    """The ends, and mean and spread of the random subnets."""
    named = {row.name: row.accuracy for row in reversed(rows)}
    return AccuracySummary(
        smallest=named.get("smallest"),
        largest=named.get("largest"),
        random=_spread([row.accuracy for row in rows if row.name == "random"]),
    )


def _spread(values: list[float]) -> Spread | None:
    if not values:
        return None
    std = statistics.stdev(values) if len(values) > 1 else None
    mean = statistics.fmean(values)
    return Spread(count=len(values), mean=mean, std=std, lowest=min(values), highest=max(values))


def to_csv(report: Evaluation) -> str:
    """A line a subnet; the config as JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["subnet", "accuracy", "macs", "parameters", "config"])
    for row in report.subnets:
        config = json.dumps(row.config.to_dict(), sort_keys=True)
        writer.writerow([row.name, row.accuracy, row.macs, row.parameters, config])
    return text.getvalue()


def confusions(source: ImageAccuracy, configs: Sequence[SubnetConfig], listener: Listener) -> list[Confusion]:
    """What each subnet, calibrated by itself, calls the pixels of the validation scenes."""
    from nasvit_edge.model.accuracy import calibrated, confusion
    from nasvit_edge.model.subnet import fold, materialise

    assert isinstance(source.validation, SceneSet)
    results: list[Confusion] = []
    for config in configs:
        subnet = fold(calibrated(materialise(source.supernet, config), source.calibration))
        results.append(confusion(subnet, source.validation))
        listener.progress(len(results), len(configs), f"best mean IoU {max(c.mean_iou for c in results):.2%}")
    return results


def majority(confusion: Confusion) -> Majority:
    """What calling every pixel by the most frequent class of these scenes would score."""
    truth = confusion.counts.sum(1)
    share = float(truth.max() / max(1, truth.sum()))
    return Majority(accuracy=share / max(1, int(np.count_nonzero(truth))), pixel_accuracy=share)
