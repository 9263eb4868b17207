"""Giving a supernet its weights, under our names or published ones, and telling of which space weights are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

import torch
from torch import Tensor

from nasvit_edge.errors import CheckpointError
from nasvit_edge.model.finding import StoredTensor, places
from nasvit_edge.model.published import DECODER, published_names
from nasvit_edge.model.supernet import Supernet, resize_positions
from nasvit_edge.model.weights_file import Found, MisfitError, WeightsFile, find
from nasvit_edge.space import SearchSpace, load_space, space_names

_IGNORED = ("bn_tracking", "relative_position_index", "num_batches_tracked", "mobile_inverted_conv.rescale")
_HEADS = ("classifier.", "pixel_classifier.")


def is_segmenter(names: Iterable[str]) -> bool:
    """Whether the names of weights have a decoder's among them."""
    return any(f".{part}" in f".{name}" for name in names for part in DECODER)


def load_weights(supernet: Supernet, file: WeightsFile, key: str | None = None) -> Found:
    """Give a supernet its weights, under our names or published ones, wherever in the file they are.

    Raises:
        CheckpointError: the key that does not fit, or the space that the weights are of.
    """
    return _filled(supernet, file, published_names(supernet), f"space {supernet.space.name!r}", key)


def load_stages(supernet: Supernet, file: WeightsFile, key: str | None = None) -> Found:
    """Give a supernet the stages of weights whose stem and head are others; CheckpointError where one does not fit."""
    stages = {stage.name for stage in supernet.space.stages}
    names = {o: t for o, t in published_names(supernet).items() if o.split(".")[0] in stages}
    what = f"the stages of space {supernet.space.name!r}"
    return _filled(supernet, file, names, what, key, strict=False)


def _filled(
    supernet: Supernet,
    file: WeightsFile,
    names: Mapping[str, str],
    what: str,
    key: str | None,
    strict: bool = True,
) -> Found:
    """`names`: our name -> published name."""
    state = supernet.state_dict()

    def fits(parameter: str, entry: StoredTensor) -> bool:
        return _fits(entry.shape, state[parameter].shape, parameter)

    try:
        match = find(file, _wanted(names), fits, what, key=key, ignored=_is_ignored, strict=strict)
        for parameter, name in match.place.names.items():
            if not fits(parameter, file.tensors[name]):
                raise MisfitError(_misshapen(file, name, state[parameter].shape))
    except MisfitError:
        _say_of_which_space(file, supernet.space, key)
        raise
    for parameter, name in match.place.names.items():
        state[parameter] = _fitting(file.floats(name), state[parameter], name, str(file.path))
    supernet.load_state_dict(state)
    return match


def _wanted(names: Mapping[str, str]) -> list[dict[str, str]]:
    """Names in a file -> our names: for our own files, and for published ones."""
    return [
        {parameter: parameter for parameter in names},
        {theirs: parameter for parameter, theirs in names.items()},
    ]


def _is_ignored(name: str) -> bool:
    return any(part in name for part in _IGNORED)


def _misshapen(file: WeightsFile, name: str, expected: tuple[int, ...]) -> str:
    shape = file.tensors[name].shape
    line = f"weights {str(file.path)!r}: key {name!r} has shape {shape}; {tuple(expected)} is expected"
    if name.endswith(("classifier.linear.linear.weight", "classifier.linear.weight")):
        line += f": {shape[0]} classes for the space's {expected[0]}"
    return line


# -- other spaces -----------------------------------------------------------------------------------


def spaces_of(file: WeightsFile, key: str | None = None) -> list[str]:
    """The known spaces whose supernet has these weights, whatever the number of classes.

    Where several have the same shapes, the one that a file of ours names alone.
    """
    fitting = [name for name in space_names() if _is_of(file, name, key)]
    space_name = file.metadata.get("space")
    return [str(space_name)] if space_name in fitting else fitting


def _is_of(file: WeightsFile, space: str, key: str | None) -> bool:
    wanted, shapes = _known(space, str(file.metadata.get("scaling", "switchable")))

    def fits(parameter: str, shape: tuple[int, ...]) -> bool:
        if not parameter.startswith(_HEADS):
            return _fits(shape, shapes[parameter], parameter)
        return (
            _squeezed(shape)[1:] == _squeezed(shapes[parameter])[1:]
        )  # another number of classes is no other space

    return len(file.tensors) >= len(wanted[0]) and any(
        place.whole
        and (key is None or place.within(key))
        and all(fits(parameter, file.tensors[name].shape) for parameter, name in place.names.items())
        for names in wanted
        for place in places(file.tensors, names, ignored=_is_ignored)
    )


@lru_cache
def _known(space: str, scaling: str) -> tuple[list[dict[str, str]], dict[str, torch.Size]]:
    """Of a known space: `_wanted`, and the shapes by our names."""
    with torch.device("meta"):
        supernet = Supernet(load_space(space), scaling)
    shapes = {name: tensor.shape for name, tensor in supernet.state_dict().items()}
    return _wanted(published_names(supernet)), shapes


def _say_of_which_space(file: WeightsFile, space: SearchSpace, key: str | None) -> None:
    """CheckpointError where weights that do not fit are those of a known space."""
    others = spaces_of(file, key)
    if others and space.name not in others:
        listed = " or ".join(map(repr, others))
        raise CheckpointError(
            f"weights {str(file.path)!r} are of space {listed}, not {space.name!r}: "
            f"give --space {others[0]}, or weights of {space.name!r}"
        )


# -- shapes -----------------------------------------------------------------------------------------


def _fits(shape: tuple[int, ...], target: tuple[int, ...], name: str) -> bool:
    """Whether `_fitting` takes a tensor of this shape for the entry `name`."""
    if name.endswith("position_table") and len(shape) == 2 == len(target):
        return shape[1] == target[1] and _side(shape) > 0
    return _squeezed(shape) == _squeezed(target)


def _fitting(tensor: Tensor, target: Tensor, name: str, where: str) -> Tensor:
    """`tensor` in the shape of `target`: same numbers in a 1x1 kernel or linear form, or a resized position table."""
    if name.endswith(("position_table", "relative_position_bias_table")) and tensor.dim() == 2:
        tensor = _fitting_positions(tensor, target)
    if not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(f"weights {where!r}: key {name!r} holds NaN or infinity")
    return tensor.to(target.dtype).reshape(target.shape)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the trailing 1 x 1 of a pointwise kernel."""
    return tuple(shape[:2]) if len(shape) == 4 and shape[2:] == (1, 1) else tuple(shape)


def _side(shape: tuple[int, ...]) -> int:
    """Of the square that a position table's rows are; 0 where they are none."""
    side = round(shape[0] ** 0.5)
    return side if side * side == shape[0] else 0


def _fitting_positions(table: Tensor, target: Tensor) -> Tensor:
    side, wanted = _side(table.shape), _side(target.shape)
    if side == wanted:
        return table
    image = table.reshape(side, side, -1)
    return resize_positions(image.float(), (wanted, wanted)).reshape(wanted * wanted, -1)
