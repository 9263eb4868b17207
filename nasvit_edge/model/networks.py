"""Networks that are taken as they are: made by timm, or by a function of the user's own, which is run only if the user names it.

Legend: B images, H W side of the input.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasvit_edge.errors import SpaceError, require
from nasvit_edge.network_ops import WholeNetwork
from nasvit_edge.specs import NetworkSpec
from nasvit_edge.trusting import TIMM, is_trusted


class NetworkBlock(nn.Module):
    """Images (B, 3, H, W) -> logits (B, classes) by a network of others.

    Attributes:
        body: as whoever wrote it made it. `source`: who that is.
    """

    def __init__(self, body: nn.Module, source: str) -> None:
        super().__init__()
        self.body, self.source = body, source

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x)
        return logits

    def deployed(self) -> NetworkBlock:
        """A copy as it ships: branches that timm knows how to merge (RepVGG, MobileOne, LeViT, ...) are one layer.

        Batch norm behind convolutions stays for the converters, each of which folds it.
        """
        body = copy.deepcopy(self.body).eval()
        if self.source.startswith(TIMM):
            body = require("timm.utils.model", "train").reparameterize_model(body)
        return NetworkBlock(body, self.source).eval()


def network(op: WholeNetwork) -> NetworkBlock:
    """The network of an op, with the weights that its maker gives it.

    Raises:
        SpaceError: the maker is not here, makes another network than the op's, or is a program that the user did not name.
    """
    spec = op.spec
    body = made_by(spec.source, op.classes, op.height)
    here = digest(body, spec.source)
    if here != spec.digest:
        why = "its file was changed" if spec.is_program else "another version of timm made it"
        raise SpaceError(
            f"{spec.source} is another network today ({here}) than the one that was adopted ({spec.digest}): {why}; adopt it again"
        )
    return NetworkBlock(body, spec.source)


def made_by(source: str, classes: int | None, side: int) -> nn.Module:
    """A network in eval mode by its source, `classes` of timm's (None: as many as timm says); torch's own generator stays as it was.

    Raises:
        SpaceError: one line on what cannot be made.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if source.startswith(TIMM):
            return _by_timm(source.removeprefix(TIMM), classes, side).eval()
        return _by_function(source).eval()


def _by_timm(name: str, classes: int | None, side: int) -> nn.Module:
    timm: Any = require("timm", "train")
    options: dict[str, object] = {} if classes is None else {"num_classes": classes}
    if timm_config(name).input_size[-1] != side:
        options |= {"img_size": side}
    try:
        return timm.create_model(name.partition(".")[0], **options)
    except TypeError:  # convolutions take any size
        options.pop("img_size", None)
    except Exception as error:  # noqa: BLE001 - whatever timm's builders raise
        raise SpaceError(f"timm cannot make {name} for images of {side} x {side}: {reason(error)}") from None
    try:
        return timm.create_model(name.partition(".")[0], **options)
    except Exception as error:  # noqa: BLE001
        raise SpaceError(f"timm cannot make {name} for images of {side} x {side}: {reason(error)}") from None


def timm_config(name: str) -> Any:
    """What timm says of a network and its weights; SpaceError where it knows none of this name."""
    timm: Any = require("timm", "train")
    plain, dot, tag = name.partition(".")
    tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{plain}.*")]
    if timm.is_model(plain) and (not dot or tag in tags):
        return timm.get_pretrained_cfg(name)
    near = [f"{plain}.{each}" for each in tags] or timm.list_models(f"{plain[:6]}*")
    like = f"; there are {', '.join(near[:5])}" if near else "; timm.list_models() has the names"
    raise SpaceError(f"timm {timm.__version__} knows no network {name!r}{like}")


def _by_function(source: str) -> nn.Module:
    if not is_trusted(source):
        raise SpaceError(
            f"the space runs a program, {source}, which could do whatever you can: if you trust it, "
            f"write nasvit-edge --trust-code {source} before the command"
        )
    name, _, path = source.partition(":")
    value: Any = _imported(name)
    for part in path.split("."):
        value = getattr(value, part, None)
    if not callable(value):
        raise SpaceError(f"{source}: module {name!r} has no function {path!r}")
    try:
        module = value()
    except Exception as error:  # noqa: BLE001 - the user's own code
        raise SpaceError(f"{source} failed: {type(error).__name__}: {reason(error)}") from None
    if not isinstance(module, nn.Module):
        raise SpaceError(f"{source} gives a {type(module).__name__}; it has to give a torch.nn.Module")
    return module


def _imported(name: str) -> Any:
    """A module of the folder that the program is run in, or one that is installed."""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise SpaceError(f"module {name!r} needs {error.name!r}, which is not installed") from None
        raise SpaceError(
            f"there is no module {name!r} in {str(Path.cwd())!r}, nor among those that are installed"
        ) from None
    except Exception as error:  # noqa: BLE001 - the user's own code
        raise SpaceError(f"module {name!r} failed: {type(error).__name__}: {reason(error)}") from None


def digest(module: nn.Module, source: str) -> str:
    """Sixteen digits of a network: names and shapes of its weights, settings of its layers; of a function also the file it stands in."""
    lines = [*_described(module), "" if source.startswith(TIMM) else _code(source)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _described(module: nn.Module) -> Iterator[str]:
    for name, value in module.state_dict().items():
        yield f"{name} {tuple(value.shape)} {value.dtype}"
    for name, child in module.named_modules():
        if not list(child.children()):
            yield f"{name} {child!r}"


def _code(source: str) -> str:
    try:
        return inspect.getsource(sys.modules[source.partition(":")[0]])
    except (OSError, TypeError):  # compiled
        return ""


def specified(module: nn.Module, source: str, counts: dict[str, int]) -> NetworkSpec:
    """What a space says of a network; `counts` as `counting.counted` gives them."""
    return NetworkSpec(source=source, digest=digest(module, source), **counts)


def reason(error: Exception) -> str:
    """The first line of an error, for a line of ours."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:160]
