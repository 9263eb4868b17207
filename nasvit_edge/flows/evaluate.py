"""`evaluate --supernet`: the accuracy of subnets of a supernet, each calibrated by itself."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import random
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import field
from msgspec.structs import asdict

from nasvit_edge import data_sets, files, ops, sizes
from nasvit_edge.data_sets import mask_check
from nasvit_edge.data_sets.scenes import SceneSet
from nasvit_edge.data_sets.slices import Note, silent
from nasvit_edge.data_sets.splits import CALIBRATION_MOST, JUDGED
from nasvit_edge.data_sets.trained_on import Overlap
from nasvit_edge.errors import DataError, NasvitEdgeError, SpaceError
from nasvit_edge.flows import evaluate_scenes
from nasvit_edge.flows.cache import accuracy_store
from nasvit_edge.flows.evaluate_scenes import Majority
from nasvit_edge.preparation import PUBLISHED, checked_chain
from nasvit_edge.records import Record
from nasvit_edge.searching.images import ImageAccuracy, Source
from nasvit_edge.space import SearchSpace, SubnetConfig, load_space, space_names

SCHEMA = 1
CALIBRATION_IMAGES = CALIBRATION_MOST
DEFAULT = "min,max,random:20"
_MOST = 100_000
_FORM = "--subnets is min, max and random:N with commas between, or a JSON file"
_Named = list[tuple[str, SubnetConfig]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of `nasvit-edge evaluate --supernet`.

    Attributes:
        space: None: that of the run the weights are from (`space.toml` beside them), or the one they name.
        subnets: `min`, `max`, `random:N` with commas between, or a JSON file: a list of configs, or a result file.
        calibration_images: of the training images, at most; 64 batches of 64 are drawn from them.
        out: a CSV file of the table.
        chain: how the images that are judged on are prepared (`Preparation.chain`).
        in_order: class folders whose names do not say which label they are take the labels in order.
    """

    supernet: str
    data: str
    space: str | None = None
    subnets: str = DEFAULT
    seed: int = 0
    split: str = "validation"
    calibration_images: int = CALIBRATION_IMAGES
    workers: int | None = None
    out: Path | None = None
    chain: str = PUBLISHED
    in_order: bool = False


class Row(Record, frozen=True, kw_only=True):
    """A subnet: what it is called, and its top-1 or mean IoU."""

    name: str
    config: SubnetConfig
    accuracy: float
    macs: int
    parameters: int


class SceneRow(Row, frozen=True, kw_only=True):
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


class Summary(Record, frozen=True, kw_only=True):
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
    subnets: tuple[Row, ...]
    summary: Summary
    schema: int = SCHEMA
    kind: str = "supernet evaluation"
    tool_version: str = field(default_factory=lambda: importlib.metadata.version("nasvit-edge"))


class OfScenes(Evaluation, frozen=True, kw_only=True):
    """The same of segmenters; `masks`: what is in them, in lines."""

    subnets: tuple[SceneRow, ...]
    majority: Majority
    masks: tuple[str, ...]
    metric: str = "mean IoU"


def evaluate(
    request: Request,
    on_progress: Callable[[int, int, str], None] = lambda done, total, detail: None,
    note: Note = silent,
) -> Evaluation:
    """Measure and return the report; what was measured on validation images is kept in the cache.

    Raises:
        NasvitEdgeError: one line about options, weights, space or images that do not fit.
    """
    space = space_of(request.supernet, request.space)
    checked_chain(request.chain)
    if request.split not in JUDGED:
        raise DataError(f"--split is {request.split!r}; it is {' or '.join(JUDGED)}")
    listed = chosen(request.subnets, space, request.seed)
    if request.out is not None:
        files.writable_folder(request.out.parent)
    source, configs = _source(request, space, note), [config for _, config in listed]
    if isinstance(source.validation, SceneSet):
        told = mask_check.checked(source.validation, space, on_progress=on_progress)
        found = evaluate_scenes.confusions(source, configs, on_progress)
        plain = _report(request, space, source, listed, [float(c.mean_iou) for c in found])
        names = space.label_names()
        rows = [
            SceneRow(**asdict(row), **asdict(confusion.figures(names)))
            for row, confusion in zip(plain.subnets, found, strict=True)
        ]
        majority = evaluate_scenes.majority(found[0])
        report: Evaluation = OfScenes(
            **asdict(plain) | {"subnets": tuple(rows)}, majority=majority, masks=tuple(told)
        )
    else:
        report = _report(request, space, source, listed, _measured(source, configs, on_progress))
    if request.out is not None and source.writes:
        files.write_text(request.out, to_csv(report))
    return report


def space_of(weights: str, space: str | None) -> SearchSpace:
    """The space that is named; else of the run that made the weights, or the one that shipped weights are called after."""
    from nasvit_edge.model.checkpoint import resolve_weights
    from nasvit_edge.model.filling import spaces_of
    from nasvit_edge.model.weights_file import weights_file

    if space is not None:
        return load_space(space)
    path, key = files.file_and_key(weights)
    beside = Path(path).parent / "space.toml"
    if path in space_names():
        return load_space(path)
    if Path(path).is_file() and beside.is_file():
        return load_space(beside)
    like = ""
    if not path.startswith("random"):
        with weights_file(resolve_weights(path)) as file:
            name = file.metadata.get("space")
            if name in space_names():
                return load_space(str(name))
            like = " or ".join(map(repr, spaces_of(file, key)))
    told = f" (their keys are those of {like})" if like else ""
    raise SpaceError(
        f"weights {weights!r} do not say of which space they are{told}: add --space NAME or FILE.toml"
    )


def chosen(text: str, space: SearchSpace, seed: int) -> _Named:
    """The subnets that `--subnets` names, with what they are called in the report."""
    if text.endswith(".json") or Path(text).is_file():
        return _listed(Path(text), space)
    rng, found = random.Random(seed), list[tuple[str, SubnetConfig]]()
    for part in text.split(","):
        match = re.fullmatch(r"(min|max|random:([1-9][0-9]{0,5}))", part.strip())
        if match is None or int(match[2] or 1) > _MOST:
            raise NasvitEdgeError(f"--subnets {text!r}: {part.strip()!r} is not known; {_FORM}")
        if match[2]:
            found += [("random", space.sample(rng)) for _ in range(int(match[2]))]
        else:
            found.append(
                ("smallest", space.smallest()) if match[1] == "min" else ("largest", space.largest())
            )
    return found


def _listed(path: Path, space: SearchSpace) -> _Named:
    """The configs of a list, the one of a config file, or the winner of a result file."""
    try:
        values = files.loads(files.read_bytes(path, "subnets"))
    except (ValueError, RecursionError) as error:
        raise NasvitEdgeError(f"subnets {str(path)!r} is not valid JSON: {error}") from None
    if isinstance(values, dict) and values.get("kind") == "search result":
        best = values.get("best")
        return [
            (
                "winner",
                space.config_from(
                    best.get("config") if isinstance(best, dict) else None, f"best of {str(path)!r}"
                ),
            )
        ]
    listed = values if isinstance(values, list) else [values]
    if not 0 < len(listed) <= _MOST:
        raise NasvitEdgeError(f"subnets {str(path)!r} holds {len(listed)} configs; give 1 to {_MOST}")
    what = f"subnets {str(path)!r}: config"
    return [("listed", space.config_from(value, f"{what} {i + 1}")) for i, value in enumerate(listed)]


def _source(request: Request, space: SearchSpace, note: Note) -> ImageAccuracy:
    calibration, chain = request.calibration_images, request.chain
    asked = Source(request.supernet, space, request.data, request.split, calibration, chain, request.in_order)
    as_searched = request.split == "validation" and calibration >= CALIBRATION_IMAGES and chain == PUBLISHED
    source = asked.loaded(workers=request.workers, note=note)
    if as_searched and not request.supernet.startswith("random"):
        return source.keeping(accuracy_store(space, request.supernet, source))
    return source


def _measured(
    source: ImageAccuracy, configs: Sequence[SubnetConfig], on_progress: Callable[[int, int, str], None]
) -> list[float]:
    found: list[float] = []
    step = 1 if source.workers == 1 else 8
    try:
        for at in range(0, len(configs), step):
            found += source.many(configs[at : at + step])
            on_progress(len(found), len(configs), f"best {max(found):.2%}")
    finally:
        source.close()
    return found


def _report(
    request: Request, space: SearchSpace, source: ImageAccuracy, listed: _Named, accuracies: list[float]
) -> Evaluation:
    rows = [
        Row(
            name=name,
            config=config,
            accuracy=accuracy,
            macs=ops.macs(space, config),
            parameters=sizes.config_parameters(space, config),
        )
        for (name, config), accuracy in zip(listed, accuracies, strict=True)
    ]
    calibration = source.calibration
    return Evaluation(
        space=space.name,
        supernet=request.supernet,
        weights=source.supernet.source,
        data=source.validation.name,
        split=request.split,
        images=len(source.validation),
        trained_on=data_sets.overlap(source.supernet.trained_on, source.validation),
        chain=request.chain,
        calibration=CalibratedOn(data=calibration.name, images=len(calibration)),
        remarks=tuple(calibration.remarks(source.supernet)),
        seed=request.seed,
        subnets=tuple(rows),
        summary=summary(rows),
    )


def summary(rows: Sequence[Row]) -> Summary:
    """The ends, and mean and spread of the random subnets."""
    named = {row.name: row.accuracy for row in reversed(rows)}
    return Summary(
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


def _on_what(report: Evaluation) -> str:
    error = (0.9 * 0.1 / report.images) ** 0.5
    return (
        f"on {report.data} ({report.images} images, prepared as {report.chain}; a standard error is about {100 * error:.1f} points), "
        f"each calibrated on {report.calibration.data}"
    )


def remarks(report: Evaluation) -> list[str]:
    """What the table does not say: on what, and how good it can be."""
    lines = _of_scenes(report) if isinstance(report, OfScenes) else [_on_what(report)]
    lines.append(report.trained_on.told)
    if spread := report.summary.random:
        deviation = "" if spread.std is None else f", standard deviation {100 * spread.std:.2f} points"
        lines.append(
            f"{spread.count} random subnets (seed {report.seed}): mean {spread.mean:.2%}{deviation}, "
            f"{spread.lowest:.2%} to {spread.highest:.2%}"
        )
    if "note" in report.weights:
        lines.append(report.weights["note"])
    lines += report.remarks
    if report.weights.get("kind") == "random":
        lines.append("RANDOM WEIGHTS: these accuracies mean nothing")
    return lines


def _of_scenes(report: OfScenes) -> list[str]:
    """The baseline, and the classes of the best subnet."""
    best = max(report.subnets, key=lambda row: row.accuracy)
    classes = ", ".join(
        f"{name} {'does not occur' if value is None else format(value, '.0%')}"
        for name, value in best.ious.items()
    )
    base = report.majority
    return [
        *report.masks,
        f"on {report.data}, each calibrated on {report.calibration.data}",
        f"every pixel by the most frequent class: mean IoU {base.accuracy:.2%}, pixel accuracy {base.pixel_accuracy:.1%}",
        f"IoU of the best one's classes: {classes}",
    ]
