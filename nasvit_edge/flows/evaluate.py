"""`evaluate --supernet`: the accuracy of subnets of a supernet, each calibrated by itself."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import random
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasvit_edge import data_sets, files, ops, sizes
from nasvit_edge.data_sets import mask_check
from nasvit_edge.data_sets.scenes import SceneSet
from nasvit_edge.data_sets.slices import Note, silent
from nasvit_edge.data_sets.splits import CALIBRATION_MOST, JUDGED
from nasvit_edge.errors import DataError, NasvitEdgeError, SpaceError
from nasvit_edge.flows import evaluate_scenes
from nasvit_edge.flows.cache import accuracy_store
from nasvit_edge.preparation import PUBLISHED, checked_chain
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


def evaluate(
    request: Request,
    on_progress: Callable[[int, int, str], None] = lambda done, total, detail: None,
    note: Note = silent,
) -> dict[str, Any]:
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
        report = _report(request, space, source, listed, [float(c.mean_iou) for c in found])
        for row, confusion in zip(report["subnets"], found, strict=True):
            row |= confusion.figures(space.label_names())
        report |= {"metric": "mean IoU", "majority": evaluate_scenes.majority(found[0]), "masks": told}
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
) -> dict[str, Any]:
    rows = [
        {
            "name": name,
            "config": config.to_dict(),
            "accuracy": accuracy,
            "macs": ops.macs(space, config),
            "parameters": sizes.config_parameters(space, config),
        }
        for (name, config), accuracy in zip(listed, accuracies, strict=True)
    ]
    calibration = source.calibration
    return {
        "schema": SCHEMA,
        "kind": "supernet evaluation",
        "tool_version": importlib.metadata.version("nasvit-edge"),
        "space": space.name,
        "supernet": request.supernet,
        "weights": source.supernet.source,
        "data": source.validation.name,
        "split": request.split,
        "images": len(source.validation),
        "trained_on": data_sets.overlap(source.supernet.trained_on, source.validation).to_dict(),
        "chain": request.chain,
        "calibration": {"data": calibration.name, "images": len(calibration)},
        "remarks": calibration.remarks(source.supernet),
        "seed": request.seed,
        "subnets": rows,
        "summary": summary(rows),
    }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The ends, and mean and spread of the random subnets (the sample's standard deviation; None for one)."""
    by_name = {
        name: [row["accuracy"] for row in rows if row["name"] == name] for name in ("smallest", "largest")
    }
    found: dict[str, Any] = {name: values[0] for name, values in by_name.items() if values}
    random_ones = [row["accuracy"] for row in rows if row["name"] == "random"]
    if random_ones:
        found["random"] = {
            "count": len(random_ones),
            "mean": statistics.fmean(random_ones),
            "std": statistics.stdev(random_ones) if len(random_ones) > 1 else None,
            "lowest": min(random_ones),
            "highest": max(random_ones),
        }
    return found


def to_csv(report: dict[str, Any]) -> str:
    """A line a subnet; the config as JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["subnet", "accuracy", "macs", "parameters", "config"])
    for row in report["subnets"]:
        config = json.dumps(row["config"], sort_keys=True)
        writer.writerow([row["name"], row["accuracy"], row["macs"], row["parameters"], config])
    return text.getvalue()


def _on_what(report: dict[str, Any]) -> str:
    images, calibration = report["images"], report["calibration"]
    error = (0.9 * 0.1 / images) ** 0.5
    return (
        f"on {report['data']} ({images} images, prepared as {report['chain']}; a standard error is about {100 * error:.1f} points), "
        f"each calibrated on {calibration['data']}"
    )


def remarks(report: dict[str, Any]) -> list[str]:
    """What the table does not say: on what, and how good it can be."""
    found = report["summary"]
    lines = evaluate_scenes.lines(report) if "majority" in report else [_on_what(report)]
    lines.append(report["trained_on"]["told"])
    if "random" in found:
        spread = found["random"]
        deviation = "" if spread["std"] is None else f", standard deviation {100 * spread['std']:.2f} points"
        lines.append(
            f"{spread['count']} random subnets (seed {report['seed']}): mean {spread['mean']:.2%}{deviation}, "
            f"{spread['lowest']:.2%} to {spread['highest']:.2%}"
        )
    if "note" in report["weights"]:
        lines.append(report["weights"]["note"])
    lines += report["remarks"]
    if report["weights"].get("kind") == "random":
        lines.append("RANDOM WEIGHTS: these accuracies mean nothing")
    return lines
