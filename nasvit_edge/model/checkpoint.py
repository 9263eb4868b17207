"""Weights in and out: checkpoints as people have them, our safetensors, seeded generic weights."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nasvit_edge import files, records
from nasvit_edge.data_sets.trained_on import TrainedOn, from_json
from nasvit_edge.errors import CheckpointError, DataError
from nasvit_edge.model.filling import load_weights
from nasvit_edge.model.finding import plain
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.model.weights_file import TRAINED_ON, Found, WeightsFile, weights_file
from nasvit_edge.network_ops import PLACE
from nasvit_edge.space import SearchSpace, load_space, space_names

_STATISTICS = ("running_mean", "running_var")
_RANDOM = re.compile(r"random(?::(\d+))?")


def load_supernet(
    weights: str | Path, space: SearchSpace, *, seed: int = 0, key: str | None = None
) -> Supernet:
    """A supernet of `space` in eval mode with the weights of a file, or generic ones.

    Args:
        weights: a training checkpoint (.pth; nothing in it is executed) or a safetensors file, with our
            names or published ones, wrapped in whatever prefixes; `"nano"`-like names of shipped weights;
            or `"random"` / `"random:SEED"`: seeded generic values in which every branch matters, marked
            as random in everything made from them.
        key: which weights of the file, where it holds several that fit and none is called an average;
            `"FILE::KEY"` says the same.

    Returns:
        Its `source` says which weights were taken (`weights_key`), and what there was to choose (`note`).

    Raises:
        CheckpointError: one line that names the file and the key, or the space that the weights are of.
    """
    file, inner = files.file_and_key(weights)
    key = inner if key is None else key
    match = _RANDOM.fullmatch(file)
    if match is not None:
        if key is not None:
            raise CheckpointError(f"weights {file!r} have no part {key!r}: --weights-key is for files")
        return random_supernet(space, int(match.group(1) or seed))
    with weights_file(resolve_weights(file)) as opened:
        supernet = loaded(opened, space, key)
    _refuse_other_labels(opened, space)
    return supernet


def loaded(file: WeightsFile, space: SearchSpace, key: str | None = None) -> Supernet:
    """As `load_supernet`, from an open file; its space may be another with the same shapes."""
    supernet = Supernet(space, str(file.metadata.get("scaling", "switchable")))
    match = load_weights(supernet, file, key)
    supernet.source = source_of("file", file, match)
    supernet.trained_on = trained_on_of(file)
    return supernet.eval()


def trained_on_of(file: WeightsFile) -> TrainedOn | None:
    """The images that trained the weights of a file, of shipped ones by what is shipped beside them; None where they are not known.

    Raises:
        CheckpointError: the file says it, but is damaged.
    """
    text, beside = file.trained_on, images_beside(file.path)
    if not text and file.path.parent == files.data("weights") and beside.exists():
        text = files.read_bytes(beside, "digests").decode()
    if not text:
        return None
    try:
        return from_json(json.loads(text), f"weights {str(file.path)!r}")
    except (ValueError, RecursionError):
        raise CheckpointError(
            f"weights {str(file.path)!r}: {TRAINED_ON!r} in them is no JSON; fetch them again"
        ) from None
    except DataError as error:
        raise CheckpointError(f"{error}; fetch them again") from None


def images_beside(path: Path) -> Path:
    """Where digests of the images that trained shipped weights are: beside them, since those stay as they are."""
    return path.with_suffix(".images.json")


def source_of(kind: str, file: WeightsFile, match: Found) -> dict[str, object]:
    """What a supernet says of where its weights are from."""
    of_another_file = ("weights_key", "note")  # weights that were saved after they were found somewhere
    source = {"kind": kind, **{k: v for k, v in file.metadata.items() if k not in of_another_file}}
    source["sha256"] = files.sha256(file.path)
    if plain(match.place.prefix):
        source["weights_key"] = match.place.prefix
    if match.note:
        source["note"] = match.note
    return source


def resolve_weights(weights: str | Path) -> Path:
    """Shipped weights by name, or the path of a file, which may be given as `FILE::KEY`."""
    weights = files.file_and_key(weights)[0]
    names = sorted(p.stem for p in files.data("weights").glob("*.safetensors"))
    if weights in names:
        return files.data("weights", f"{weights}.safetensors")
    if re.fullmatch(r"[\w-]{1,64}", weights) and not Path(weights).exists():
        raise CheckpointError(
            f"no weights {weights!r}: give a checkpoint file, 'random', or shipped weights ({', '.join(names)})"
        )
    return Path(weights)


def random_supernet(space: SearchSpace, seed: int = 0) -> Supernet:
    """Generic weights: fixed by `seed` and the names alone; no accuracy means anything with them."""
    supernet = Supernet(space)
    fill_generic(supernet, seed)
    if space.network is not None:
        settle(supernet.get_submodule(PLACE), space.input_size(space.resolutions[0]))
    supernet.source = {"kind": "random", "seed": seed, "warning": "RANDOM WEIGHTS: not trained"}
    return supernet.eval()


def fill_generic(module: torch.nn.Module, seed: int = 0) -> None:
    """Seeded values in which every branch matters, for checks and for profiling.

    A freshly initialised network must not be used for either: its residual branches end in zeros,
    and converters delete what is multiplied by zero.
    """
    constants = {name for name, value in module.named_buffers() if not name.endswith(_STATISTICS)}
    with torch.no_grad():
        for name, tensor in module.state_dict(keep_vars=False).items():
            if name not in constants:
                tensor.copy_(torch.from_numpy(_generic(name, tuple(tensor.shape), seed)))


def settle(block: torch.nn.Module, size: tuple[int, int]) -> None:
    """Make a network of others with generic weights one in which rounding errors stay small, as they do in trained ones.

    Weights are halved, so that no softmax sees large numbers; batch norms keep noise at its size, but leave means where they
    are: with them subtracted every layer makes errors a fifth larger (Yang et al., A Mean Field Theory of Batch Normalization,
    2019), and after fifty layers no two runtimes agree.
    """

    def keep_size(norm: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        values = inputs[0].transpose(0, 1).flatten(1)
        norm.get_buffer("running_mean").zero_()
        norm.get_buffer("running_var").copy_(values.square().mean(1).clamp_min(1e-6))

    norms = [m for m in block.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    hooks = [norm.register_forward_pre_hook(keep_size) for norm in norms if norm.track_running_stats]
    generator = torch.Generator().manual_seed(0)
    patches = torch.nn.functional.interpolate(torch.rand(8, 3, 8, 8, generator=generator) * 3.2 - 1.6, size)
    noise = torch.randn(patches.shape, generator=generator) * 0.3
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.mul_(0.5)
        block.eval()(patches + noise)
    for hook in hooks:
        hook.remove()


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


def _refuse_other_labels(file: WeightsFile, space: SearchSpace) -> None:
    """CheckpointError where both spaces are shipped ones with equal shapes, but other classes: nano, nano-cifar10."""
    space_name = file.metadata.get("space")
    if space_name == space.name or space_name not in space_names() or space.name not in space_names():
        return
    if space == load_space(space.name) and load_space(str(space_name)).label_names() != space.label_names():
        raise CheckpointError(
            f"weights {str(file.path)!r} are of space {space_name!r}, whose classes are not those of {space.name!r}: "
            f"give --space {space_name}"
        )


def save_supernet(supernet: Supernet, path: Path, metadata: Mapping[str, Any]) -> None:
    """Our safetensors: our names, no counters, `metadata` as one JSON entry, and another one of what trained the weights."""
    from safetensors.torch import save

    state = {
        n: v.contiguous() for n, v in supernet.state_dict().items() if not n.endswith("num_batches_tracked")
    }
    header = {"nasvit_edge": json.dumps({**metadata, "scaling": supernet.scaling}, sort_keys=True)}
    if supernet.trained_on is not None:
        header[TRAINED_ON] = json.dumps(records.content(supernet.trained_on.saved()))
    files.write_bytes(path, _in_order(save(state, metadata=header)))


def _in_order(content: bytes) -> bytes:
    """The same safetensors with its metadata in order of their keys; the library writes several in any order, a new one each time."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text + content[start:]


def shipped_weights(sha256: str) -> str | None:
    """The name of the shipped weights with this hash, if there are any."""
    for path in sorted(files.data("weights").glob("*.safetensors")):
        if files.sha256(path) == sha256:
            return path.stem
    return None


def shipped_trained_on(sha256: str) -> TrainedOn | None:
    """The images that trained the shipped weights with this hash; None where there are no such weights."""
    name = shipped_weights(sha256)
    if name is None:
        return None
    with weights_file(resolve_weights(name)) as file:
        return trained_on_of(file)
