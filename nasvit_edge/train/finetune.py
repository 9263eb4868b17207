"""Fine-tuning one subnet: taken out of its supernet, given the classes of its data, trained alone.

A subnet in training is the supernet of a space that has it alone (`model/narrow.py`), so everything that trains,
checks and exports supernets does the same with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from nasvit_edge.data_sets import Images, ImageSet
from nasvit_edge.errors import TrainingError
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.model.evaluate import subnet_accuracy
from nasvit_edge.model.narrow import narrowed
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.space import SearchSpace, SubnetConfig, load_space
from nasvit_edge.train import run
from nasvit_edge.train.initial import initialised, settle
from nasvit_edge.train.quantised import QuantisedSupernet

PRECISIONS = ("int8",)


def taken(supernet: Supernet, config: SubnetConfig, data: str, seed: int) -> Supernet:
    """The subnet as a supernet of its own, for the classes of `data`.

    Where they are others than the space's, the classifier is new, with the training initialisation fixed by `seed`.
    """
    narrow = narrowed(supernet, config)
    space = run.space_for(narrow.space, data)
    if space.label_names() == narrow.space.label_names():
        return narrow
    made = initialised(space, seed, narrow.scaling)
    kept = {n: v for n, v in narrow.state_dict().items() if not n.startswith("classifier.")}
    made.load_state_dict(made.state_dict() | kept)
    made.source = {**narrow.source, "classifier": "new"}
    return made.eval()


@dataclass(slots=True)
class Tuning:
    """What is done to the subnet between its initial weights and its training; `before` is measured on the way.

    Attributes:
        freeze_below: the first stage that is trained; what comes before it stays as it is. "": all is trained.
        quantise: "" or "int8": train in 8-bit arithmetic.
        before: accuracies on validation images, each a fraction: `fp32`, and `int8` as training rounds.
    """

    freeze_below: str = ""
    quantise: str = ""
    before: dict[str, float] = field(default_factory=dict)
    _images: tuple[Images, Images] | None = None

    def prepare(self, supernet: Supernet, calibration: Images, validation: Images) -> Supernet:
        """The supernet to train, as `train.run.Request.prepare`."""
        config, self._images = supernet.space.largest(), (calibration, validation)
        self.before = {"fp32": subnet_accuracy(supernet, config, calibration, validation)}
        settle(supernet, _loaded(calibration))
        if self.quantise:
            supernet = QuantisedSupernet(supernet, _loaded(calibration))
            self.before["int8"] = rounded_accuracy(supernet, validation)
        freeze(supernet, self.freeze_below)
        return supernet.train()

    def after(self, report: dict[str, Any], space: SearchSpace) -> dict[str, float]:
        """As `before`, of the trained weights."""
        found = {"fp32": float(report["accuracy"]["largest"])}
        if self.quantise and self._images is not None:
            trained = load_supernet(f"{report['out']}/supernet.safetensors", space)
            calibration, validation = self._images
            found["int8"] = rounded_accuracy(QuantisedSupernet(trained, _loaded(calibration)), validation)
        return found


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


def rounded_accuracy(supernet: QuantisedSupernet, images: Images) -> float:
    """The share of images that the subnet gets right in 8-bit arithmetic, as training rounds it."""
    supernet.train()
    config, found = supernet.space.largest(), 0
    with torch.no_grad():
        for x, labels in images.batches(supernet.space, config.resolution):
            found += int((supernet(x, config).argmax(1) == labels).sum())
    return found / len(images)


def tune(
    request: run.Request,
    tuning: Tuning,
    *,
    on_progress: Callable[[int, int, str], None] = lambda done, total, detail: None,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Train as `train.run.run` does; its report, with `before` and `after`.

    Args:
        request: its weights are of a space with one subnet (`taken`).
    """
    prepared = replace(request, prepare=tuning.prepare)
    report = run.run(prepared, on_progress=on_progress, note=note)
    return report | {"before": tuning.before, "after": tuning.after(report, load_space(request.space))}


def _loaded(images: Images) -> ImageSet:
    return images if isinstance(images, ImageSet) else images.loaded()
