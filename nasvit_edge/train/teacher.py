"""External teachers: what the largest subnet learns from instead of the labels (spec section 4, step 1).

B images, S the side they come with; a teacher sees the very images that the supernet sees, normalised and resized
as it was trained. State dicts, safetensors and ONNX are data, of which nothing is executed. A TorchScript file and a
pickled model are programs, which can do whatever the user can: they are loaded only where the user says so.
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
from nasvit_edge.files import file_and_key
from nasvit_edge.model.checkpoint import load_supernet, resolve_weights
from nasvit_edge.model.subnet import fold, materialise
from nasvit_edge.model.weights_file import find, open_weights, weights_file
from nasvit_edge.space import SearchSpace, load_space, space_names
from nasvit_edge.train.onnx_teacher import OnnxClassifier

_FORMS = (
    "timm:NAME, torchvision:NAME, either with @FILE for weights of your own, an ONNX file, supernet weights "
    "(.safetensors, a run's folder), or with --trust-teacher a TorchScript file or pickled model (.pt, .pth, .ts)"
)
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True, slots=True)
class Member:
    """One teacher; without `mean` it takes images as the space normalises them, without `size` of any size.

    `note` says which weights of its file were taken, where there was a choice.
    """

    name: str
    module: nn.Module
    size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    note: str = ""


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
        return member.module(images)

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


def load_teacher(names: str, space: SearchSpace, *, scale: float = 5.0, trust: bool = False) -> Teacher:
    """The teacher of a run, several separated by commas.

    Args:
        names: timm:NAME or torchvision:NAME with the library's own weights (fetched once), or those of
            NAME@FILE; an ONNX file; weights of a supernet of ours, of which the largest subnet teaches; a program.
        space: the classes to teach, and how images are normalised.
        scale: of the logits (recipe key loss.teacher_scale).
        trust: whether files that are programs (TorchScript, pickled models) may run; no file can say so.

    Raises:
        CheckpointError: unknown, unreadable, not to be fetched, for other classes, or a program that is not trusted.
        MissingExtraError: timm or torchvision is not installed.
    """
    parts = [name.strip() for name in names.split(",")]
    if not all(parts):
        raise CheckpointError(f"teacher {names!r} names nothing; give {_FORMS}")
    return Teacher([_member(name, space, trust) for name in parts], space, scale)


def renormalised(images: Tensor, old: Sequence[Sequence[float]], new: Sequence[Sequence[float]]) -> Tensor:
    """(B, 3, H, W) minus the old mean over the old std -> minus the new mean over the new std."""
    (mean, std), (new_mean, new_std) = (images.new_tensor(pair)[:, :, None, None] for pair in (old, new))
    return images * (std / new_std) + (mean - new_mean) / new_std


def _member(name: str, space: SearchSpace, trust: bool) -> Member:
    library, colon, rest = name.partition(":")
    if colon and library in ("timm", "torchvision"):
        model, _, weights = rest.partition("@")
        build = _timm if library == "timm" else _torchvision
        return build(name, model, weights, space)
    path = Path(file_and_key(name)[0])
    if path.is_dir() or path.suffix == ".safetensors" or re.fullmatch(r"[\w-]{1,64}", name):
        return _supernet(name, space)
    if path.suffix == ".onnx":
        return _onnx(name, space)
    if path.suffix in (".pt", ".pth", ".ts", ".pt2"):
        return _program(name, trust)
    raise CheckpointError(f"unknown teacher {name!r}; give {_FORMS}")


def _timm(name: str, model: str, path: str, space: SearchSpace) -> Member:
    timm: Any = require("timm", "train")
    if not timm.is_model(model.partition(".")[0]):
        raise CheckpointError(
            f"unknown teacher {name!r}; timm.list_models() has the names, like timm:resnet50"
        )

    note = ""
    if path:
        untagged = model.partition(".")[0]
        module, note = _filled(timm.create_model(untagged, num_classes=space.classes), path)
    else:
        module = _fetched(name, lambda: timm.create_model(model, pretrained=True))
    wants = timm.data.resolve_model_data_config(module)
    return Member(name, module, wants["input_size"][-1], tuple(wants["mean"]), tuple(wants["std"]), note)


def _torchvision(name: str, model: str, path: str, space: SearchSpace) -> Member:
    models: Any = require("torchvision.models", "train")
    if model not in models.list_models(module=models):  # without detection, segmentation and video
        raise CheckpointError(
            f"unknown teacher {name!r}; torchvision's classifiers have names like torchvision:resnet50"
        )
    weights, note = models.get_model_weights(model).DEFAULT, ""
    if path:
        module, note = _filled(models.get_model(model, weights=None, num_classes=space.classes), path)
    else:
        module = _fetched(name, lambda: models.get_model(model, weights=weights, progress=False))
    wants = weights.transforms()
    return Member(name, module, wants.crop_size[0], tuple(wants.mean), tuple(wants.std), note)


def _fetched(name: str, fetch: Callable[[], Any]) -> Any:
    try:
        with files.patience():
            return fetch()
    except Exception as error:  # noqa: BLE001 - no network, no such weights, a full disk: each library has its own
        raise CheckpointError(
            f"the weights of teacher {name!r} could not be fetched ({_reason(error)}); "
            f"fetch them where there is a network and give {name}@FILE"
        ) from None


def _filled(module: Any, weights: str) -> tuple[Any, str]:
    """`module` with the weights of a file (or FILE::KEY), and which they are, where there was a choice."""
    path, key = file_and_key(weights)
    state = {n: v for n, v in module.state_dict().items() if not n.endswith(_COUNTER)}
    with weights_file(Path(path)) as file:
        match = find(
            file,
            [{name: name for name in state}],
            lambda name, entry: entry.shape == state[name].shape,
            "this model",
            key=key,
            ignored=lambda name: name.endswith(_COUNTER),
        )
        tensors = {}
        for name, stored in match.place.names.items():
            entry = file.tensors[stored]
            if entry.shape != state[name].shape:
                raise CheckpointError(
                    f"weights {path!r}: key {stored!r} has shape {entry.shape}; {tuple(state[name].shape)} "
                    "is expected for this model and the data's classes"
                )
            tensors[name] = file.floats(stored) if state[name].is_floating_point() else entry.read()
    module.load_state_dict(tensors, strict=False)
    return module, match.note


def _supernet(name: str, space: SearchSpace) -> Member:
    weights = f"{name}/supernet.safetensors" if Path(name).is_dir() else name
    path = resolve_weights(weights)
    beside = path.parent / "space.toml"
    taught = space
    if beside.exists() or name in space_names():  # shipped weights are of the space of their name
        taught = load_space(beside if beside.exists() else name)
    if taught is not space:
        _refuse_others(name, taught.label_names(), space)
    try:
        supernet = load_supernet(weights, taught)
    except CheckpointError as error:
        raise CheckpointError(
            f"teacher {name!r} is none of space {taught.name!r} with {taught.classes} classes: {error}"
        ) from None
    largest = fold(materialise(supernet, taught.largest()))
    return Member(
        name, largest, max(taught.resolutions), taught.mean, taught.std, str(supernet.source.get("note", ""))
    )


def _onnx(name: str, space: SearchSpace) -> Member:
    module = OnnxClassifier(Path(name))
    labels, normal = module.labels(), module.normalisation()
    if labels is not None:
        _refuse_others(name, labels, space)
    mean, std = normal or (None, None)
    return Member(name, module, module.size, mean, std)


def _refuse_others(name: str, labels: Sequence[str], space: SearchSpace) -> None:
    """CheckpointError where a teacher's own classes are others than those of the data."""
    if list(labels) != space.label_names():
        raise CheckpointError(
            f"teacher {name!r} knows the classes {_some(labels)}; the data have {_some(space.label_names())}: "
            "give one that was trained on these classes"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _program(name: str, trust: bool) -> Member:
    """A file that torch runs: TorchScript, or a pickled model."""
    inside = _inside(Path(name))
    if any(entry.endswith(("/archive_format", "serialized_exported_program.json")) for entry in inside):
        raise CheckpointError(
            f"teacher {name!r} is a torch.export program, and torch runs what is pickled in those; "
            "save it as ONNX, or its state dict for timm:NAME@FILE"
        )
    scripted = any("/code/" in entry for entry in inside)
    if not scripted and not _is_pickled_model(Path(name)):
        raise CheckpointError(
            f"teacher {name!r} is not TorchScript; where it is a state dict, name its model too, "
            f"like timm:resnet18@{name}"
        )
    if not trust:
        raise CheckpointError(
            f"teacher {name!r} is a {'TorchScript file' if scripted else 'pickled model'}, which is a program and could do "
            "whatever you can: add --trust-teacher if you trust who made it, or save it as ONNX or its state dict for timm:NAME@FILE"
        )
    try:
        module = _scripted(name) if scripted else torch.load(name, map_location="cpu", weights_only=False)
    except Exception as error:  # noqa: BLE001 - a program can fail in any way
        raise CheckpointError(f"teacher {name!r} is damaged or of another torch: {_reason(error)}") from None
    if not isinstance(module, nn.Module):
        raise CheckpointError(f"teacher {name!r} holds no model but a {type(module).__name__}")
    return Member(name, module)


def _scripted(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated, and still what people have
        return torch.jit.load(name, map_location="cpu")  # type: ignore[no-untyped-call]


def _is_pickled_model(path: Path) -> bool:
    """Whether `torch.save` wrote an object that only running its pickle gives back; nothing is run."""
    try:
        with weights_file(path) as file:
            return not file.tensors and any(file.top.values())
    except CheckpointError:
        return False


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
