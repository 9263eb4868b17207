"""External teachers: what the largest subnet learns from instead of the labels (spec section 4, step 1).

B images, S the side they come with; a teacher sees the very images that the supernet sees, normalised and resized
as it was trained. Nothing in a teacher's file is executed, except for TorchScript, which cannot reach outside itself.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasvit_edge import files
from nasvit_edge.errors import CheckpointError, require
from nasvit_edge.model.checkpoint import load_supernet, open_weights, read_weights, resolve_weights
from nasvit_edge.model.subnet import fold, materialise
from nasvit_edge.space import SearchSpace, load_space, space_names

_FORMS = (
    "timm:NAME, torchvision:NAME, either with @FILE for weights of your own, a TorchScript file (.pt, .pth, .ts), "
    "or supernet weights (.safetensors, a run's folder)"
)


@dataclass(frozen=True, slots=True)
class Member:
    """One teacher; without `mean` it takes images as the space normalises them, without `size` of any size."""

    name: str
    module: nn.Module
    size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


class Teacher:
    """The mean of the members' softmax(scale * logits).

    Raises:
        CheckpointError: a member that does not take the space's images, or has other classes.
    """

    def __init__(self, members: Sequence[Member], space: SearchSpace, scale: float = 5.0) -> None:
        self.members, self.space, self.scale = tuple(members), space, scale
        for member in members:
            member.module.eval()
            for parameter in member.module.parameters():  # scripted modules have no requires_grad_
                parameter.requires_grad_(False)
            self._check(member)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Probabilities (B, classes), float32, of images (B, 3, S, S) as the supernet gets them; no gradients."""
        parts = [(self.scale * self._logits(m, images).float()).softmax(-1) for m in self.members]
        return torch.stack(parts).mean(0)

    def _logits(self, member: Member, images: Tensor) -> Tensor:
        member.module.to(images.device)
        if member.mean is not None and member.std is not None:
            images = renormalised(images, (self.space.mean, self.space.std), (member.mean, member.std))
        if member.size is not None and tuple(images.shape[-2:]) != (member.size, member.size):
            side = (member.size, member.size)
            images = F.interpolate(images, side, mode="bicubic", align_corners=False, antialias=True)
        logits: Tensor = member.module(images)
        return logits

    def _check(self, member: Member) -> None:
        """One small batch, before hours are spent."""
        side = self.space.image_size
        try:
            with torch.no_grad():
                logits = self._logits(member, torch.zeros(2, 3, side, side))
        except Exception as error:  # noqa: BLE001 - a foreign module can fail in any way
            raise CheckpointError(
                f"teacher {member.name!r} does not take batches of {side} x {side} images: {_reason(error)}"
            ) from None
        if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != 2:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise CheckpointError(
                f"teacher {member.name!r} is no image classifier: it answers 2 images with {shape}"
            )
        if logits.shape[1] != self.space.classes:
            raise CheckpointError(
                f"teacher {member.name!r} has {logits.shape[1]} classes; the data have {self.space.classes}: "
                "give one that was trained on these classes"
            )


def load_teacher(names: str, space: SearchSpace, *, scale: float = 5.0) -> Teacher:
    """The teacher of a run, several separated by commas.

    Args:
        names: timm:NAME or torchvision:NAME with the library's own weights (fetched once), or those of
            NAME@FILE; a TorchScript file; weights of a supernet of ours, of which the largest subnet teaches.
        space: the classes to teach, and how images are normalised.
        scale: of the logits (recipe key loss.teacher_scale).

    Raises:
        CheckpointError: unknown, unreadable, not to be fetched, or for other classes.
        MissingExtraError: timm or torchvision is not installed.
    """
    parts = [name.strip() for name in names.split(",")]
    if not all(parts):
        raise CheckpointError(f"teacher {names!r} names nothing; give {_FORMS}")
    return Teacher([_member(name, space) for name in parts], space, scale)


def renormalised(images: Tensor, old: Sequence[Sequence[float]], new: Sequence[Sequence[float]]) -> Tensor:
    """(B, 3, H, W) minus the old mean over the old std -> minus the new mean over the new std."""
    (mean, std), (new_mean, new_std) = (images.new_tensor(pair)[:, :, None, None] for pair in (old, new))
    anew: Tensor = images * (std / new_std) + (mean - new_mean) / new_std
    return anew


def _member(name: str, space: SearchSpace) -> Member:
    library, colon, rest = name.partition(":")
    if colon and library in ("timm", "torchvision"):
        model, _, weights = rest.partition("@")
        made = _timm if library == "timm" else _torchvision
        return made(name, model, weights, space)
    path = Path(name)
    if path.is_dir() or path.suffix == ".safetensors" or re.fullmatch(r"[\w-]{1,64}", name):
        return _supernet(name, space)
    if path.suffix in (".pt", ".pth", ".ts", ".pt2"):
        return _script(name)
    raise CheckpointError(f"unknown teacher {name!r}; give {_FORMS}")


def _timm(name: str, model: str, path: str, space: SearchSpace) -> Member:
    timm: Any = require("timm", "train")
    if not timm.is_model(model.partition(".")[0]):
        raise CheckpointError(
            f"unknown teacher {name!r}; timm.list_models() has the names, like timm:resnet50"
        )

    if path:
        untagged = model.partition(".")[0]
        module = _filled(timm.create_model(untagged, num_classes=space.classes), path)
    else:
        module = _fetched(name, lambda: timm.create_model(model, pretrained=True))
    wants = timm.data.resolve_model_data_config(module)
    return Member(name, module, wants["input_size"][-1], tuple(wants["mean"]), tuple(wants["std"]))


def _torchvision(name: str, model: str, path: str, space: SearchSpace) -> Member:
    models: Any = require("torchvision.models", "train")
    if model not in models.list_models(module=models):  # without detection, segmentation and video
        raise CheckpointError(
            f"unknown teacher {name!r}; torchvision's classifiers have names like torchvision:resnet50"
        )
    weights = models.get_model_weights(model).DEFAULT
    if path:
        module = _filled(models.get_model(model, weights=None, num_classes=space.classes), path)
    else:
        module = _fetched(name, lambda: models.get_model(model, weights=weights, progress=False))
    wants = weights.transforms()
    return Member(name, module, wants.crop_size[0], tuple(wants.mean), tuple(wants.std))


def _fetched(name: str, fetch: Callable[[], Any]) -> Any:
    try:
        with files.patience():
            return fetch()
    except Exception as error:  # noqa: BLE001 - no network, no such weights, a full disk: each library has its own
        raise CheckpointError(
            f"the weights of teacher {name!r} could not be fetched ({_reason(error)}); "
            f"fetch them where there is a network and give {name}@FILE"
        ) from None


def _filled(module: Any, path: str) -> Any:
    """`module` with the weights of a file: a state dict or a training checkpoint."""
    tensors, _ = read_weights(Path(path))
    own = module.state_dict()
    for key in [*tensors, *own]:
        counter = key.endswith("num_batches_tracked")
        if key not in own or (key not in tensors and not counter):
            state = "unknown to this model" if key not in own else "missing"
            raise CheckpointError(f"weights {path!r}: key {key!r} is {state}; is it the model they are of?")
        if key in tensors and tensors[key].shape != own[key].shape:
            raise CheckpointError(
                f"weights {path!r}: key {key!r} has shape {tuple(tensors[key].shape)}; {tuple(own[key].shape)} "
                "is expected for this model and the data's classes"
            )
    module.load_state_dict(tensors, strict=False)
    return module


def _supernet(name: str, space: SearchSpace) -> Member:
    path = Path(name) / "supernet.safetensors" if Path(name).is_dir() else resolve_weights(name)
    beside = path.parent / "space.toml"
    own = space
    if beside.exists() or name in space_names():  # shipped weights are of the space of their name
        own = load_space(beside if beside.exists() else name)
    if own is not space and own.label_names() != space.label_names():
        raise CheckpointError(
            f"teacher {name!r} knows the classes {_some(own)}; the data have {_some(space)}: "
            "give one that was trained on these classes"
        )
    try:
        largest = fold(materialise(load_supernet(path, own), own.largest()))
    except CheckpointError as error:
        raise CheckpointError(
            f"teacher {name!r} is none of space {own.name!r} with {own.classes} classes: {error}"
        ) from None
    return Member(name, largest, max(own.resolutions), own.mean, own.std)


def _some(space: SearchSpace) -> str:
    names = space.label_names()
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _script(name: str) -> Member:
    inside = _inside(Path(name))
    if any(entry.endswith(("/archive_format", "serialized_exported_program.json")) for entry in inside):
        raise CheckpointError(
            f"teacher {name!r} is a torch.export program, and torch runs what is pickled in those; "
            "save it as TorchScript, or its state dict for timm:NAME@FILE"
        )
    if not any("/code/" in entry for entry in inside):
        raise CheckpointError(
            f"teacher {name!r} is not TorchScript; where it is a state dict, name its model too, "
            f"like timm:resnet18@{name}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # deprecated, and still what people have
            module: Any = torch.jit.load(name, map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        raise CheckpointError(f"teacher {name!r} is damaged or of another torch: {_reason(error)}") from None
    return Member(name, module)


def _inside(path: Path) -> list[str]:
    """The names in a zip archive; none for other files."""
    with open_weights(path) as stream:
        try:
            return zipfile.ZipFile(stream).namelist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            return []


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1 if "Traceback" in str(error) else 0][:160]
