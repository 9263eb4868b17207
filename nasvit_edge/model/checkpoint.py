"""Weights in and out: published checkpoints, our safetensors, seeded generic weights."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nasvit_edge import files
from nasvit_edge.errors import CheckpointError
from nasvit_edge.model.foreign import read_tensors
from nasvit_edge.model.supernet import Supernet, resize_positions
from nasvit_edge.space import SearchSpace

_RANDOM = re.compile(r"random(?::(\d+))?")
_IGNORED = ("bn_tracking", "relative_position_index", "num_batches_tracked", "mobile_inverted_conv.rescale")


def load_supernet(weights: str | Path, space: SearchSpace, *, seed: int = 0) -> Supernet:
    """A supernet of `space` in eval mode with the weights of a file, or generic ones.

    Args:
        weights: a published training checkpoint (.pth; nothing in it is executed), a safetensors
            file of ours or with published names, `"nano"`-like names of shipped weights, or
            `"random"` / `"random:SEED"`: seeded generic values in which every branch matters,
            marked as random in everything made from them.

    Raises:
        CheckpointError: one line that names the file and the key.
    """
    match = _RANDOM.fullmatch(str(weights))
    if match is not None:
        return random_supernet(space, int(match.group(1) or seed))
    path = resolve_weights(weights)
    tensors, metadata = read_weights(path)
    supernet = Supernet(space, str(metadata.get("scaling", "switchable")))
    load_tensors(supernet, tensors, str(path))
    supernet.source = {"kind": "file", **metadata, "sha256": files.sha256(path)}
    return supernet.eval()


def resolve_weights(weights: str | Path) -> Path:
    """Shipped weights by name, or a path as given."""
    names = sorted(p.stem for p in files.data("weights").glob("*.safetensors"))
    if str(weights) in names:
        return files.data("weights", f"{weights}.safetensors")
    if re.fullmatch(r"[\w-]{1,64}", str(weights)) and not Path(weights).exists():
        raise CheckpointError(
            f"no weights {str(weights)!r}: give a checkpoint file, 'random', or shipped weights ({', '.join(names)})"
        )
    return Path(weights)


def random_supernet(space: SearchSpace, seed: int = 0) -> Supernet:
    """Generic weights: fixed by `seed` and the names alone; no accuracy means anything with them."""
    supernet = Supernet(space)
    fill_generic(supernet, seed)
    supernet.source = {"kind": "random", "seed": seed, "warning": "RANDOM WEIGHTS: not trained"}
    return supernet.eval()


def fill_generic(module: torch.nn.Module, seed: int = 0) -> None:
    """Seeded values in which every branch matters, for checks and for profiling.

    A freshly initialised network must not be used for either: its residual branches end in zeros,
    and converters delete what is multiplied by zero.
    """
    with torch.no_grad():
        for name, tensor in module.state_dict(keep_vars=False).items():
            if not name.endswith("num_batches_tracked"):
                tensor.copy_(torch.from_numpy(_generic(name, tuple(tensor.shape), seed)))


def _generic(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    u = np.random.default_rng([seed, zlib.crc32(name.encode())]).uniform(-1, 1, shape)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        value = 1 + 0.5 * u
    elif name.endswith("mix_weights.bias"):
        value = 0.003 * u  # added to each of N weights that sum to 1: more would drown them
    elif leaf in ("running_mean", "bias"):
        value = 0.1 * u
    elif leaf in ("scale_attention", "scale_mlp"):
        value = 12 + 6 * u
    elif leaf == "position_table":
        value = 0.5 * u
    elif leaf == "weight" and len(shape) == 1:
        value = (0.4 if ".project.norm." in name else 1.0) * (1 + 0.2 * u)
    else:
        gain = 0.5 if ".shortcut." in name else 1.5
        value = gain * np.sqrt(3 / max(1, int(np.prod(shape[1:])))) * u
    return value.astype(np.float32)


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Name -> tensor and our metadata (empty for foreign files), from safetensors or a torch pickle."""
    with open_weights(path) as stream:
        head = stream.read(512)
    if not head:
        raise CheckpointError(f"weights {str(path)!r}: the file is empty")
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype|!--|html|head|\?xml)", head, re.IGNORECASE):
        raise CheckpointError(
            f"weights {str(path)!r}: this is a web page, not a checkpoint; the download failed, fetch it again in a browser"
        )
    if path.suffix == ".safetensors" or (head[8:9] == b"{" and not head.startswith(b"PK")):
        return _read_safetensors(path)
    return _read_pickle(path), {}


def open_weights(path: Path) -> Any:
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise CheckpointError(f"weights {str(path)!r}: {error.strerror or error}") from None


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"weights {str(path)!r} is not a whole safetensors file: {error}") from None
    try:
        ours = json.loads(metadata.get("nasvit_edge", "{}"))
    except ValueError:
        ours = {}
    return tensors, ours if isinstance(ours, dict) else {}


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        tensors = read_tensors(path)
    except CheckpointError:
        raise
    except MemoryError:
        raise CheckpointError(f"weights {str(path)!r}: not enough memory to read it") from None
    except Exception as error:  # noqa: BLE001 - a damaged pickle can fail in any way; none is ours
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"weights {str(path)!r} is damaged or not a torch checkpoint ({reason[:160]}); fetch it again"
        ) from None
    if not tensors:
        raise CheckpointError(f"weights {str(path)!r}: no tensors under 'model_ema', 'model' or at the top")
    return tensors


# -- names ------------------------------------------------------------------------------------------


_TRANSFORMER = {
    "norm1": "norm1",
    "norm2": "norm2",
    "norm3": "norm3",
    "attention.query": "attn.q.linear",
    "attention.key": "attn.k.linear",
    "attention.value": "attn.v.linear",
    "attention.value_conv": "attn.vconv",
    "attention.mix_logits": "attn.proj_l.linear",
    "attention.mix_weights": "attn.proj_w.linear",
    "attention.project": "attn.proj.linear",
    "mlp1.inner": "mlp1.linear1.linear",
    "mlp1.outer": "mlp1.linear2.linear",
    "mlp2.inner": "mlp2.linear1.linear",
    "mlp2.outer": "mlp2.linear2.linear",
    "attention.position_table": "attn.relative_position_bias_table",
    "scale_attention": "rescale_attn",
    "scale_mlp": "rescale_mlp",
}
_MBCONV = {
    "expand.conv": "mobile_inverted_conv.inverted_bottleneck.conv.conv",
    "expand.norm": "mobile_inverted_conv.inverted_bottleneck.bn.bn",
    "depthwise.conv": "mobile_inverted_conv.depth_conv.conv.conv",
    "depthwise.norm": "mobile_inverted_conv.depth_conv.bn.bn",
    "se.reduce": "mobile_inverted_conv.depth_conv.se.fc.reduce",
    "se.expand": "mobile_inverted_conv.depth_conv.se.fc.expand",
    "project.conv": "mobile_inverted_conv.point_linear.conv.conv",
    "project.norm": "mobile_inverted_conv.point_linear.bn.bn",
    "shortcut.conv": "shortcut.conv.conv",
}
_DECODER = ("lateral.", "pixel_classifier.")
_ENDS = {
    "first_conv.body.conv": "first_conv.conv.conv",
    "first_conv.body.norm": "first_conv.bn.bn",
    "last_conv.expand.conv": "last_conv.final_expand_layer.conv.conv",
    "last_conv.expand.norm": "last_conv.final_expand_layer.bn.bn",
    "last_conv.features": "last_conv.feature_mix_layer.conv.conv",
    "classifier.linear": "classifier.linear.linear",
}
_PARTS = _TRANSFORMER | _MBCONV


def published_names(supernet: Supernet) -> dict[str, str]:
    """Our name -> published name, for every entry of the supernet that the published one has."""
    numbers = {name: i for i, name in enumerate(n for n in supernet.ops if "." in n)}
    return {
        name: _published_name(name, numbers)
        for name in supernet.state_dict()
        if not name.endswith("num_batches_tracked")
    }


def _published_name(name: str, numbers: Mapping[str, int]) -> str:
    for ours, theirs in _ENDS.items():
        if name.startswith(f"{ours}."):
            return theirs + name[len(ours) :]
    if name.startswith(_DECODER):
        return name  # nothing published has one
    stage, index, rest = name.split(".", 2)
    block = f"blocks.{numbers[f'{stage}.{index}']}"
    if rest in _PARTS:
        return f"{block}.{_PARTS[rest]}"
    part, leaf = rest.rsplit(".", 1)
    return f"{block}.{_PARTS[part]}.{leaf}"


def published_state(supernet: Supernet) -> dict[str, Tensor]:
    """The weights under published names and in published shapes (linear layers as (out, in))."""
    names = published_names(supernet)
    state = supernet.state_dict()
    return {theirs: _published_shape(theirs, state[ours]) for ours, theirs in names.items()}


def _published_shape(name: str, tensor: Tensor) -> Tensor:
    if name.endswith(".linear.weight"):
        return tensor.flatten(1)
    if name == "last_conv.feature_mix_layer.conv.conv.weight":
        return tensor[:, :, None, None]
    return tensor


def is_segmenter(tensors: Mapping[str, Tensor]) -> bool:
    """Whether weights have a decoder."""
    return any(name.startswith(_DECODER) for name in tensors)


def load_stages(supernet: Supernet, tensors: Mapping[str, Tensor], where: str) -> None:
    """Give a supernet the stages of weights whose stem and head are others; CheckpointError where one does not fit."""
    names = published_names(supernet)
    stages = {stage.name for stage in supernet.space.stages}
    kept = {re.sub(r"^(module\.)+", "", name): value for name, value in tensors.items()}
    foreign = any(name.startswith(("blocks.", "first_conv.conv.")) for name in kept)
    state = supernet.state_dict()
    for ours, theirs in names.items():
        name = theirs if foreign else ours
        if ours.split(".")[0] in stages:
            if name not in kept:
                raise CheckpointError(
                    f"weights {where!r}: key {name!r} is missing; their stages are not those of space {supernet.space.name!r}"
                )
            state[ours] = _fitting(kept[name], state[ours], name, where)
    supernet.load_state_dict(state)


def load_tensors(supernet: Supernet, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load entries under our names or published ones; CheckpointError names the first that does not fit."""
    names = published_names(supernet)
    tensors = {re.sub(r"^(module\.)+", "", name): value for name, value in tensors.items()}
    foreign = any(name.startswith(("blocks.", "first_conv.conv.")) for name in tensors)
    own = supernet.state_dict()
    wanted = {(theirs if foreign else ours): ours for ours, theirs in names.items()}
    for name in tensors:
        if name not in wanted and not any(part in name for part in _IGNORED):
            raise CheckpointError(
                f"weights {where!r}: unknown key {name!r} for space {supernet.space.name!r}"
            )
    state = dict(own)
    for name, ours in wanted.items():
        if name not in tensors:
            raise CheckpointError(
                f"weights {where!r}: key {name!r} is missing for space {supernet.space.name!r}"
            )
        state[ours] = _fitting(tensors[name], own[ours], name, where)
    supernet.load_state_dict(state)


def _fitting(tensor: Tensor, own: Tensor, name: str, where: str) -> Tensor:
    """`tensor` in the shape of `own`: same numbers in a 1x1 kernel or linear form, or a resized position table."""
    if not tensor.is_floating_point():
        raise CheckpointError(f"weights {where!r}: key {name!r} holds {tensor.dtype}, not floating point")
    if name.endswith(("position_table", "relative_position_bias_table")) and tensor.dim() == 2:
        tensor = _fitting_positions(tensor, own)
    if _squeezed(tensor.shape) != _squeezed(own.shape):
        raise CheckpointError(
            f"weights {where!r}: key {name!r} has shape {tuple(tensor.shape)}; {tuple(own.shape)} is expected"
        )
    if not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(f"weights {where!r}: key {name!r} holds NaN or infinity")
    return tensor.to(own.dtype).reshape(own.shape)


def _squeezed(shape: torch.Size) -> tuple[int, ...]:
    """A shape without the trailing 1 x 1 of a pointwise kernel."""
    return tuple(shape[:2]) if len(shape) == 4 and shape[2:] == (1, 1) else tuple(shape)


def _fitting_positions(table: Tensor, own: Tensor) -> Tensor:
    side, wanted = round(table.shape[0] ** 0.5), round(own.shape[0] ** 0.5)
    if side == wanted or side * side != table.shape[0] or side == 0:
        return table
    image = table.view(side, side, -1)
    return resize_positions(image.float(), (wanted, wanted)).reshape(wanted * wanted, -1)


def save_supernet(supernet: Supernet, path: Path, metadata: Mapping[str, Any]) -> None:
    """Our safetensors: our names, no counters, `metadata` as one JSON entry."""
    from safetensors.torch import save

    state = {
        n: v.contiguous() for n, v in supernet.state_dict().items() if not n.endswith("num_batches_tracked")
    }
    files.write_bytes(
        path,
        save(
            state,
            metadata={"nasvit_edge": json.dumps({**metadata, "scaling": supernet.scaling}, sort_keys=True)},
        ),
    )


def shipped_weights(sha256: str) -> str | None:
    """The name of the shipped weights with this hash, if there are any."""
    for path in sorted(files.data("weights").glob("*.safetensors")):
        if files.sha256(path) == sha256:
            return path.stem
    return None
