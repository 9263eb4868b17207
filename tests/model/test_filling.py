"""Weights of another space say which; what only looks like another space is not called one."""

from __future__ import annotations

import functools

import pytest
import torch
from conftest import TINY, edited, one_line, space_of
from held import held
from torch import Tensor

from nasvit_edge import files
from nasvit_edge.errors import CheckpointError
from nasvit_edge.model.checkpoint import load_supernet, random_supernet, save_supernet
from nasvit_edge.model.filling import is_segmenter, load_stages, load_weights, spaces_of
from nasvit_edge.model.published import published_state
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.space import SearchSpace, load_space, space_names
from nasvit_edge.train.initial import started

TWINS = {"nano", "nano-cifar10"}  # of the same shapes


@functools.cache
def weights_of(space: str) -> dict[str, Tensor]:
    """Published names and shapes of a space; one number each."""
    with torch.device("meta"):
        state = published_state(Supernet(load_space(space)))
    return {name: torch.tensor(0.5).expand(tensor.shape) for name, tensor in state.items()}


def wrapped(space: str) -> dict[str, Tensor]:
    return {f"state_dict.module.{name}": tensor for name, tensor in weights_of(space).items()}


def refused(space: SearchSpace, tensors: dict[str, Tensor], key: str | None = None) -> str:
    with torch.device("meta"):
        supernet = Supernet(space)
    with pytest.raises(CheckpointError) as caught:
        load_weights(supernet, held(tensors), key)
    return one_line(caught)


PAIRS = [(name, "nasvit") for name in space_names() if name != "nasvit"]


@pytest.mark.parametrize(("given", "asked"), [*PAIRS, ("nasvit", "alphanet"), ("nasvit", "nano-dense")])
def test_weights_of_another_known_space_say_which(given, asked):
    line = refused(load_space(asked), wrapped(given))
    assert f"are of space {given!r}" in line or (given in TWINS and "'nano' or 'nano-cifar10'" in line)
    assert f"not {asked!r}" in line
    assert "--space " in line


def test_every_known_space_knows_its_own_weights():
    for name in space_names():
        names = spaces_of(held(weights_of(name)))
        assert names == (sorted(TWINS) if name in TWINS else [name])


def test_another_number_of_classes_does_not_make_another_space(nasvit):
    tensors = dict(weights_of("alphanet"))
    for part in ("weight", "bias"):
        name = f"classifier.linear.linear.{part}"
        tensors[name] = torch.zeros(100, *tensors[name].shape[1:])
    assert spaces_of(held(tensors)) == ["alphanet"]
    assert "are of space 'alphanet'" in refused(nasvit, tensors)
    line = refused(load_space("alphanet"), tensors)
    assert "'classifier.linear.linear.weight' has shape (100, 1984)" in line
    assert "100 classes for the space's 1000" in line


def test_a_file_of_ours_says_itself_which_of_two_equal_spaces_it_is_of(tiny):
    path = files.data("weights", "nano-cifar10.safetensors")
    with pytest.raises(CheckpointError, match="are of space 'nano-cifar10', not 'tiny'") as caught:
        load_supernet(path, tiny)
    one_line(caught)


def test_weights_whose_classes_are_others_are_refused_where_both_spaces_are_shipped(nano):
    with pytest.raises(
        CheckpointError, match=r"of space 'nano-cifar10', whose classes .*--space nano-cifar10"
    ) as caught:
        load_supernet("nano-cifar10", nano)
    one_line(caught)
    assert load_supernet(
        "nano-cifar10", nano.with_labels([f"c{i}" for i in range(10)])
    )  # a space of one's own


def test_training_may_start_from_weights_with_other_classes(nano):
    assert started("nano-cifar10", nano, 0).source["space"] == "nano-cifar10"


def test_a_space_of_ones_own_with_known_shapes_is_not_called_another(tmp_path, nano):
    space = load_space_as(tmp_path, "mine")
    supernet = random_supernet(nano)
    with torch.no_grad():
        supernet.get_parameter("classifier.linear.bias")[0] = float("nan")
    save_supernet(supernet, tmp_path / "w.safetensors", {})
    with pytest.raises(CheckpointError, match="NaN") as caught:
        load_supernet(tmp_path / "w.safetensors", space)
    one_line(caught)


def load_space_as(folder, name: str) -> SearchSpace:
    text = files.data("spaces", "nano.toml").read_text()
    (folder / "mine.toml").write_text(edited(text, ('name = "nano"', f'name = "{name}"')))
    return load_space(str(folder / "mine.toml"))


def test_the_way_alphanet_publishes_its_weights_is_read():
    """As its training leaves them: `state_dict`, whose keys begin with `module.`, beside an epoch and an optimizer."""
    assert spaces_of(held({**wrapped("alphanet"), "optimizer.x": torch.ones(1)})) == ["alphanet"]


# -- stages -------------------------------------------------------------------------------------------

DENSE = edited(TINY, ("[head]\nwidth = [16, 32]\nexpand_ratio = 2", '[head]\nkind = "mlp"\nwidth = [16]'))


@pytest.mark.parametrize("wrapper", ["{}", "module.{}", "state_dict_ema.model.{}"])
@pytest.mark.parametrize("published", [True, False])
def test_stages_are_found_in_any_wrapping(tiny, wrapper, published):
    classifier = random_supernet(tiny, 5)
    state = published_state(classifier) if published else classifier.state_dict()
    segmenter = Supernet(space_of(DENSE))
    load_stages(segmenter, held({wrapper.format(name): tensor for name, tensor in state.items()}))
    for name, tensor in segmenter.state_dict().items():
        if name.startswith("mb"):
            assert torch.equal(tensor, classifier.state_dict()[name])


def test_stages_of_another_space_are_one_line():
    segmenter = Supernet(space_of(DENSE))
    with pytest.raises(CheckpointError, match="are of space 'nano'") as caught:
        load_stages(segmenter, held(weights_of("nano")))
    one_line(caught)


def test_a_decoder_is_seen_in_any_wrapping():
    assert is_segmenter(wrapped("nano-dense"))
    assert not is_segmenter(wrapped("nano"))
    assert not is_segmenter(["bilateral.x"])
