"""A network of others as the one subnet of a space: what timm or the user's function says of it, counted and checked."""

from __future__ import annotations

import importlib.metadata
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nasvit_edge import files
from nasvit_edge.adopting.sources import PRETRAINED, UNKNOWN
from nasvit_edge.data_sets.labels import IMAGENET
from nasvit_edge.errors import CheckpointError, SpaceError, require
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.model.counting import counted
from nasvit_edge.model.networks import NetworkBlock, made_by, reason, specified, timm_config
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.model.weights_file import weights_file
from nasvit_edge.network_ops import PLACE
from nasvit_edge.preparation import PUBLISHED_SHARE
from nasvit_edge.space import SearchSpace
from nasvit_edge.trusting import TIMM

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FILTERS = ("bicubic", "bilinear")


@dataclass(frozen=True, slots=True)
class MakerFacts:
    """What the maker of a network says of it.

    Attributes:
        classes: as many as it has unless it is asked for others; None: its output says so.
        classifier: the layer that gives the logits, by name; empty where that is not said.
        resize: what an image's shorter side becomes before its middle is kept, in pixels.
        notes: what does not become as its maker has it.
    """

    classes: int | None
    classifier: str
    size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    filter: str
    notes: tuple[str, ...]


def facts(source: str, size: int | None) -> MakerFacts:
    """SpaceError where it takes no square pictures in colour, or nothing says how large they are."""
    if source.startswith(TIMM):
        return _of_timm(source.removeprefix(TIMM), size)
    if size is None:
        raise SpaceError(f"{source} does not say how large its images are: add --size 224")
    resize = round(size / PUBLISHED_SHARE)
    note = (
        f"images are prepared as is usual with ImageNet (mean {_listed(IMAGENET_MEAN)}, std {_listed(IMAGENET_STD)}, the middle "
        f"{PUBLISHED_SHARE:.1%}); if {source} was trained otherwise, change that in space.toml"
    )
    return MakerFacts(None, "", size, resize, IMAGENET_MEAN, IMAGENET_STD, "bicubic", (note,))


def _of_timm(name: str, size: int | None) -> MakerFacts:
    config = timm_config(name)
    channels, height, width = config.input_size
    if channels != 3 or height != width:
        raise SpaceError(
            f"{name} takes {channels} channels of {height} x {width}; only square pictures in RGB are prepared here"
        )
    side = size or height
    notes = []
    if config.interpolation not in _FILTERS:
        notes.append(f"timm resizes its images by {config.interpolation!r}; here it is bicubic")
    if (config.crop_mode or "center") != "center" and config.crop_pct < 1:
        notes.append(f"timm crops its images by {config.crop_mode!r}; here the middle is kept")
    return MakerFacts(
        config.num_classes,
        config.classifier if isinstance(config.classifier, str) else (config.classifier or ("",))[0],
        side,
        math.floor(side / config.crop_pct),
        tuple(config.mean),
        tuple(config.std),
        config.interpolation if config.interpolation in _FILTERS else "bicubic",
        tuple(notes),
    )


def space_of(source: str, known: MakerFacts, classes: int | None, labels: Sequence[str]) -> SearchSpace:
    """The space of one network, made, run once and counted.

    Args:
        classes: as many as are wanted; None: as its maker has them.

    Raises:
        SpaceError: it cannot be made, does not run on such images, gives something else than logits, or other classes than wanted.
    """
    body = made_by(source, classes, known.size)
    block = NetworkBlock(body, source)
    outputs = _outputs(block, known.size)
    if classes is not None and outputs != classes:
        raise SpaceError(f"{source} gives {outputs} classes, not {classes}")
    kept = labels or (IMAGENET if outputs == known.classes == 1000 else "numbers")
    return SearchSpace(
        name=_name(source, known, outputs),
        resolutions=(known.size,),
        classes=outputs,
        mean=known.mean,
        std=known.std,
        labels=kept if isinstance(kept, str) else tuple(kept),
        crop_share=min(1.0, known.size / known.resize),
        filter=known.filter,  # type: ignore[arg-type]
        network=specified(body, source, counted(block, known.size)),
    )


def _outputs(block: NetworkBlock, side: int) -> int:
    """How many logits an image gets."""
    image = torch.zeros(1, 3, side, side)
    try:
        with torch.no_grad():
            logits: Any = block.eval()(image)
    except Exception as error:  # noqa: BLE001 - whatever a layer raises of a size
        raise SpaceError(
            f"{block.source} does not run on images of {side} x {side}: {reason(error)}"
        ) from None
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2 or len(logits) != 1:
        what = (
            f"a tensor of shape {tuple(logits.shape)}"
            if isinstance(logits, torch.Tensor)
            else f"a {type(logits).__name__}"
        )
        raise SpaceError(
            f"{block.source} gives {what} for an image; a classifier gives logits of shape (1, classes)"
        )
    return int(logits.shape[1])


def _name(source: str, known: MakerFacts, classes: int) -> str:
    """As the network, with its classes where they are others."""
    name = re.sub("[^A-Za-z0-9_-]", "-", source.removeprefix(TIMM))
    return name if known.classes in (None, classes) else f"{name}-{classes}c"


def classes_of(weights: str, known: MakerFacts) -> int | None:
    """As many as the classifier of a file of weights has; None where it has none that is called so, and of random weights."""
    if weights == PRETRAINED or re.fullmatch(r"random(:\d+)?", weights) or not known.classifier:
        return None
    path, _ = files.file_and_key(weights)
    with weights_file(Path(path)) as file:
        name = f"{known.classifier}.weight"
        shapes = {stored.shape for key, stored in file.tensors.items() if f".{key}".endswith(f".{name}")}
    return next(iter(shapes))[0] if len(shapes) == 1 else None


def filled(space: SearchSpace, weights: str) -> Supernet:
    """The network with its weights: of a file, generic ones, or those that timm fetches or the function gives.

    Raises:
        CheckpointError: one line about weights that do not fit or cannot be fetched.
    """
    assert space.network is not None
    source = space.network.source
    if weights != PRETRAINED:
        supernet = load_supernet(weights, space)
    else:
        supernet = Supernet(space).eval()
        supernet.source = {"kind": "function"}
        if source.startswith(TIMM):
            supernet.get_submodule(f"{PLACE}.body").load_state_dict(
                _fetched(source.removeprefix(TIMM), space).state_dict()
            )
            supernet.source = {"kind": "timm"}
    if supernet.source.get("kind") != "random":
        supernet.trained_on = None
    supernet.source |= {"network": source, "licences": licences(source, weights)}
    return supernet


def _fetched(name: str, space: SearchSpace) -> nn.Module:
    timm: Any = require("timm", "train")
    config = timm_config(name)
    if not config.has_weights:
        raise CheckpointError(
            f"timm has no weights of {name}", "give some: --weights FILE, or --weights random"
        )
    if config.num_classes != space.classes:
        raise CheckpointError(
            f"timm's weights of {name} are for {config.num_classes} classes, not {space.classes}: give your own with --weights FILE, "
            "or --weights random"
        )
    options: dict[str, object] = (
        {} if config.input_size[-1] == space.resolutions[0] else {"img_size": space.resolutions[0]}
    )
    try:
        with files.patience():
            try:
                return timm.create_model(name, pretrained=True, **options)
            except TypeError:  # convolutions take any size
                return timm.create_model(name, pretrained=True)
    except Exception as error:  # noqa: BLE001 - no network, no such weights, a full disk: each library has its own
        raise CheckpointError(
            f"timm could not fetch the weights of {name} ({reason(error)})",
            "fetch them where there is a network and give --weights FILE, or try it with --weights random",
        ) from None


def licences(source: str, weights: str) -> dict[str, dict[str, str]]:
    """What is stated of a network's code and weights, and by whom; `unknown` where nothing is."""
    nothing = {"licence": UNKNOWN, "stated_by": "nobody"}
    if not source.startswith(TIMM):
        return {"code": nothing, "weights": nothing}
    version = importlib.metadata.version("timm")
    about = importlib.metadata.metadata("timm")
    code = next((about[key] for key in ("License-Expression", "License") if key in about), UNKNOWN)
    stated = {"code": {"licence": code.splitlines()[0], "stated_by": f"the package timm {version}"}}
    if weights:
        kind = (
            {"licence": "none: random numbers", "stated_by": "-"} if weights.startswith("random") else nothing
        )
        return stated | {"weights": kind}
    config = timm_config(source.removeprefix(TIMM))
    weights_of = {"licence": config.license or UNKNOWN, "stated_by": f"timm {version}, pretrained_cfg"}
    place = config.hf_hub_id or config.url
    return stated | {"weights": weights_of | ({"from": str(place)} if place else {})}


def _listed(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)
