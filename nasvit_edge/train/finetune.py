"""Fine-tuning one subnet: taken out of its supernet, given the classes of its data, trained alone.

A subnet in training is the supernet of a space that has it alone (`model/narrow.py`), so everything that trains,
checks and exports supernets does the same with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from msgspec.structs import asdict
from torch import Tensor, nn
from torch.nn import functional as F

from nasvit_edge import data_sets
from nasvit_edge.data_sets import Labelled, chosen, labels
from nasvit_edge.errors import TrainingError
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.model.accuracy import Batches, subnet_accuracy
from nasvit_edge.model.checkpoint import load_supernet, save_supernet
from nasvit_edge.model.narrow import narrowed
from nasvit_edge.model.subnet import fold, materialise
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.space import SearchSpace, SubnetConfig, load_space
from nasvit_edge.train import run
from nasvit_edge.train.calibration import Calibration, recipe_of
from nasvit_edge.train.initial import initialised, settle
from nasvit_edge.train.quantised import QuantisedSupernet
from nasvit_edge.train.teacher import Member, Teacher

PRECISIONS = ("int8",)
_WEIGHTS = "supernet.safetensors"
_EPS = 1e-5  # of batch norm
_ROUNDS = 8  # a norm's statistics depend on those before it
ITSELF = "itself"  # the name of the teacher that is the subnet before training


def known_labels(
    space: SearchSpace, classes: Sequence[str], data: str, *, in_order: bool = False
) -> list[str] | None:
    """The labels of a classifier that is for these classes of `data` already, in its order; None where it is for others.

    They are the space's where the classes' names say which is which, else (where they are numbers, or `in_order` says
    that order does) these names.

    Raises:
        DataError: `in_order`, and the classes are not as many as the labels.
    """
    if labels.keeps_labels(classes, space):
        return space.label_names()
    match = labels.recognised(classes, space)
    if match is None and in_order:
        match = labels.matched(classes, space, data, in_order=True)
    if match is None or len(classes) != space.classes:
        return None
    return [name for _, name in sorted(zip(match.places, classes, strict=True))]


def taken(
    supernet: Supernet, config: SubnetConfig, data: str, seed: int, *, in_order: bool = False
) -> Supernet:
    """The subnet as a supernet of its own, for the classes of `data`.

    Where it does not know them (`known_labels`), the classifier is new, with the training initialisation fixed by `seed`.
    """
    narrow = narrowed(supernet, config)
    classes = data_sets.classes(data, narrow.space)
    names = known_labels(narrow.space, classes, data, in_order=in_order)
    known, space = names is not None, narrow.space
    if names != space.label_names():
        space = space.with_labels(names) if names is not None else space.for_classes(classes)
    single = initialised(space, seed, narrow.scaling)
    weights = {n: v for n, v in narrow.state_dict().items() if known or not n.startswith("classifier.")}
    single.load_state_dict(single.state_dict() | weights)
    single.trained_on = narrow.trained_on
    single.source = narrow.source if known else {**narrow.source, "classifier": "new"}
    return single.eval()


@dataclass(slots=True)
class Tuning:
    """What is done to the subnet between its initial weights and its training; `before` is measured on the way.

    Attributes:
        freeze_below: the first stage that is trained; what comes before it stays as it is. "": all is trained.
        quantise: "" or "int8": train in 8-bit arithmetic.
        itself: what it says before, in floating point, is what it learns from.
        scale: of the logits it then learns from, as `Teacher`.
        before: accuracies on validation images, each a fraction: `fp32`, and `int8` as training rounds.
    """

    freeze_below: str = ""
    quantise: str = ""
    itself: bool = False
    scale: float = 1.0
    before: dict[str, float] = field(default_factory=dict)
    _quantised: tuple[dict[str, Tensor], Calibration, Labelled] | None = (
        None  # statistics, calibration, validation
    )

    def prepare(
        self, supernet: Supernet, train: Labelled, validation: Labelled
    ) -> tuple[Supernet, Teacher | None]:
        """The supernet to train and its own teacher, as `train.run.Request.prepare`."""
        config = supernet.space.largest()
        calibration = Calibration(chosen(train), recipe_of(supernet.source, supernet.space), supernet.space)
        self.before = {"fp32": subnet_accuracy(supernet, config, calibration, validation)}
        settle(supernet, calibration)
        teacher = own_teacher(supernet, self.scale) if self.itself else None
        if self.quantise:
            supernet = QuantisedSupernet(supernet)
            statistics = {name: value.clone() for name, value in supernet.named_buffers()}
            self._quantised = (statistics, calibration, validation)
            self.before["int8"] = rounded_accuracy(supernet, validation)
        freeze(supernet, self.freeze_below)
        return supernet.train(), teacher

    def after(self, report: run.Trained, space: SearchSpace) -> dict[str, float]:
        """As `before`, of the trained weights; quantised ones are first written anew (`keep_function`)."""
        if self._quantised is None:
            return {"fp32": report.accuracy["largest"]}
        path, (statistics, before, validation) = Path(report.out, _WEIGHTS), self._quantised
        trained = load_supernet(path, space)
        calibration = Calibration(before.images, recipe_of(trained.source, space), space)
        keep_function(trained, statistics, calibration)
        save_supernet(trained, path, {k: v for k, v in trained.source.items() if k != "sha256"})
        return {
            "fp32": subnet_accuracy(trained, space.largest(), calibration, validation),
            "int8": rounded_accuracy(QuantisedSupernet(trained), validation),
        }


def keep_function(supernet: Supernet, statistics: Mapping[str, Tensor], images: Batches) -> None:
    """Make the only subnet of a space compute, settled on `images`, what it computes with `statistics`; in place.

    Whoever takes a subnet estimates its statistics anew. Weights that were trained around fixed ones would lose by
    that, so the norms' own weights take up the difference.
    """
    state = supernet.state_dict()  # shares its storage
    norms = [name.removesuffix("running_var") for name in state if name.endswith("running_var")]
    before = {f"{n}{part}": state[f"{n}{part}"].clone() for n in norms for part in ("weight", "bias")}
    for _ in range(_ROUNDS):
        settle(supernet, images)
        for n in norms:
            deviation = (statistics[f"{n}running_var"] + _EPS).sqrt()
            moved = state[f"{n}running_mean"] - statistics[f"{n}running_mean"]
            state[f"{n}weight"].copy_(
                before[f"{n}weight"] * (state[f"{n}running_var"] + _EPS).sqrt() / deviation
            )
            state[f"{n}bias"].copy_(before[f"{n}bias"] + before[f"{n}weight"] * moved / deviation)
    settle(supernet, images)


def own_teacher(supernet: Supernet, scale: float = 1.0) -> Teacher:
    """What the only subnet of a space says now, whatever becomes of `supernet`: softmax(scale * logits).

    Args:
        supernet: with its subnet's calibrated statistics.
    """
    space = supernet.space
    now = fold(materialise(supernet, space.largest()))
    return Teacher(
        [Member(ITSELF, _Resized(now, space.input_size(space.largest().resolution)))], space, scale
    )


class _Resized(nn.Module):
    """A subnet that takes images of any size to its own, as the supernet does."""

    def __init__(self, subnet: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.subnet, self.size = subnet, size

    def forward(self, images: Tensor) -> Tensor:
        if tuple(images.shape[-2:]) != self.size:
            images = F.interpolate(images, self.size, mode="bicubic", align_corners=False)
        logits: Tensor = self.subnet(images)
        return logits


def freeze(supernet: Supernet, below: str) -> None:
    """Keep the weights of everything before the stage `below` as they are; TrainingError lists the stages."""
    names = list(supernet.ops)
    stages = list(dict.fromkeys(name.partition(".")[0] for name in names))
    if below and below not in stages[1:]:
        raise TrainingError(
            f"--freeze-below {below!r} is no stage after the first; there are {', '.join(stages[1:])}"
        )
    for name, parameter in supernet.named_parameters():
        if below and stages.index(name.partition(".")[0]) < stages.index(below):
            parameter.requires_grad_(False)


def rounded_accuracy(supernet: QuantisedSupernet, images: Labelled) -> float:
    """The share of images that the subnet gets right in 8-bit arithmetic, as training rounds it."""
    supernet.train()
    config, hits = supernet.space.largest(), 0
    with torch.no_grad():
        for x, labels in images.batches(supernet.space, config.resolution):
            hits += int((supernet(x, config).argmax(1) == labels).sum())
    return hits / len(images)


class Tuned(run.Trained, frozen=True, kw_only=True):
    """What came out of fine-tuning; accuracies by arithmetic, `fp32` and `int8`."""

    before: dict[str, float]
    after: dict[str, float]


def tune(request: run.TrainingRequest, tuning: Tuning, *, listener: Listener = SILENT) -> Tuned | None:
    """Train as `train.run.run` does; None on other processes than the first.

    Args:
        request: its weights are of a space with one subnet (`taken`).
    """
    prepared = replace(request, prepare=tuning.prepare)
    report = run.run(prepared, listener=listener)
    if report is None:
        return None
    after = tuning.after(report, load_space(request.space))
    return Tuned(**asdict(report), before=tuning.before, after=after)
