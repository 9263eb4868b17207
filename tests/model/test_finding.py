"""The weights of a network are found by their keys, whatever they are wrapped in; what does not decide is not guessed."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from conftest import one_line, only_user_errors
from held import held
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nasvit_edge.errors import CheckpointError
from nasvit_edge.model.finding import StoredTensor, places
from nasvit_edge.model.weights_file import Found, WeightsFile, find

NAMES = ("stem.weight", "blocks.0.norm.weight", "blocks.0.norm.bias", "blocks.10.conv.weight", "head.bias")
WANTED = {name: f"own {name}" for name in NAMES}
SHAPES = {parameter: (i + 1,) for i, parameter in enumerate(WANTED.values())}


def network(value: float = 0.0) -> dict[str, Tensor]:
    """The whole network, every number of it `value`."""
    return {name: torch.full(SHAPES[parameter], value) for name, parameter in WANTED.items()}


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def fits(parameter: str, entry: StoredTensor) -> bool:
    return entry.shape == SHAPES[parameter]


def found(file: WeightsFile | Mapping[str, Tensor], key: str | None = None, **options: Any) -> Found:
    file = file if isinstance(file, WeightsFile) else held(file)
    return find(file, [WANTED], fits, "the network", key=key, **options)


def value(tensors: Mapping[str, Tensor], key: str | None = None) -> float:
    """The number that all found weights have."""
    place = found(tensors, key).place
    assert set(place.names) == set(WANTED.values())
    (only,) = {float(x) for name in place.names.values() for x in tensors[name]}
    return only


def refused(tensors: Mapping[str, Tensor], key: str | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        found(tensors, key)
    assert "some.pth" in one_line(caught)
    return one_line(caught)


# -- prefixes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix",
    [
        *(
            "module",
            "module.module",
            "_orig_mod",
            "_orig_mod.module",
            "module._orig_mod",
            "model",
            "net",
            "student",
        ),
        *(
            "state_dict_ema",
            "ema",
            "model_ema.module",
            "model_state_dict",
            "model._orig_mod.module",
            "a.b.c.d",
        ),
        *("state_dict.model", "blocks", "blocks.0", "stem.weight", "_fsdp_wrapped_module", "0"),
    ],
)
def test_any_prefix_is_found(prefix):
    assert found(prefixed(prefix, network())).place.prefix == prefix


WORD = st.sampled_from(["module", "_orig_mod", "model", "net", "blocks", "0", "norm", "ema"]) | st.text(
    string.ascii_letters + string.digits + "_-", min_size=1, max_size=6
).filter(lambda word: not word.startswith("optim"))


@given(
    st.lists(WORD, max_size=5),
    st.lists(st.sampled_from(["module", "_orig_mod"]), max_size=2),
    st.lists(st.integers(1, 3), min_size=len(NAMES), max_size=len(NAMES)),
)
@settings(max_examples=150)
def test_any_prefix_with_wrappers_anywhere_is_found(words, wrappers, depths):
    tensors = {}
    for (name, tensor), depth in zip(network(7).items(), depths, strict=True):
        parts = name.split(".")
        depth = min(depth, len(parts) - 1)
        tensors[".".join([*words, *parts[:depth], *wrappers, *parts[depth:]])] = tensor
    assert value(tensors) == 7


@given(st.lists(WORD, max_size=3).map(".".join), st.sampled_from(NAMES))
def test_a_missing_key_is_named_as_the_file_would_have_it(prefix, name):
    rest = {n: t for n, t in network().items() if n != name}
    begin = f"{prefix}." if prefix else ""
    assert f"key {begin + name!r} is missing" in refused({begin + n: t for n, t in rest.items()})


@pytest.mark.parametrize("prefix", ["", "model."])
def test_an_unknown_key_beside_them_is_named(prefix):
    tensors = {prefix + n: t for n, t in network().items()}
    assert f"unknown key '{prefix}blocks.11.x'" in refused(tensors | {f"{prefix}blocks.11.x": torch.ones(1)})


def test_keys_under_another_prefix_are_not_beside_them():
    assert value(prefixed("model", network(3)) | {"loss.weight": torch.ones(1)}) == 3


def test_what_averaged_model_counts_is_no_unknown_key():
    assert value({**prefixed("module", network(3)), "n_averaged": torch.tensor(9)}) == 3
    assert value({**network(3), "n_averaged": torch.tensor(9)}) == 3


def test_two_keys_for_one_are_named():
    twice = network() | {"stem._orig_mod.weight": torch.ones(1)}
    assert "'stem.weight' and 'stem._orig_mod.weight'" in refused(twice)


def test_other_dictionaries_may_hold_anything():
    file = held(network())
    entries = {**file.tensors, "optimizer.x": StoredTensor("optimizer", (1,), 0, lambda: torch.ones(1))}
    assert found(WeightsFile(file.path, entries, {}, {})).place.prefix == ""


def test_moments_are_no_weights_even_where_they_have_their_names():
    tensors = prefixed("model", network(1)) | prefixed("optimizer.exp_avg", network(2))
    assert value(tensors) == 1
    assert value(prefixed("model", network(1)) | prefixed("optimizer_state.ema", network(2))) == 1


# -- several ------------------------------------------------------------------------------------------

AVERAGED = [
    "ema",
    "model_ema",
    "state_dict_ema",
    "ema_model",
    "modelEMA",
    "swa_model",
    "averaged",
    "ema.module",
    "ema2",
]


@pytest.mark.parametrize("other", ["model", "state_dict", "schema", "team", "module", "student", "emanate"])
@pytest.mark.parametrize("averaged", AVERAGED)
def test_averaged_weights_are_preferred_and_it_is_said(averaged, other):
    for tensors in (
        prefixed(averaged, network(1)) | prefixed(other, network(2)),
        prefixed(other, network(2)) | prefixed(averaged, network(1)),
    ):
        assert value(tensors) == 1
        note = found(tensors).note
        assert repr(averaged) in note
        assert "averaged" in note
        assert f"--weights-key {other!r}" in note
        assert value(tensors, other) == 2


def test_averaged_weights_beside_the_trained_ones_in_one_dictionary():
    tensors = network(2) | prefixed("ema", network(1))
    assert value(tensors) == 1
    assert value(tensors, "") == 2


def test_what_averaged_model_wrote_is_averaged_whatever_it_is_called():
    average = {**prefixed("best.module", network(1)), "best.n_averaged": torch.tensor(3)}
    assert value(prefixed("model", network(2)) | average) == 1


@pytest.mark.parametrize(
    "pair", [("student", "teacher"), ("model", "state_dict"), ("ema", "model_ema"), ("", "net")]
)
def test_where_nothing_decides_the_keys_are_listed_and_each_can_be_named(pair):
    tensors = {}
    for number, prefix in enumerate(pair):
        tensors |= prefixed(prefix, network(number)) if prefix else network(number)
    line = refused(tensors)
    assert "--weights-key" in line
    assert all(repr(prefix) in line for prefix in pair)
    assert [value(tensors, prefix) for prefix in pair] == [0, 1]


def test_the_same_numbers_twice_are_no_choice():
    file = held(prefixed("model", network()))
    again = {name.replace("model", "state_dict"): entry for name, entry in file.tensors.items()}
    both = WeightsFile(file.path, {**file.tensors, **again}, {}, {})
    assert found(both).place.prefix == "model"


def test_a_copy_of_the_numbers_is_no_choice():
    tensors = prefixed("best", network(3)) | prefixed("last", network(3))
    assert found(tensors).place.prefix == "best"
    tensors["last.head.bias"] = tensors["last.head.bias"] + 1
    assert "'best', 'last' all fit" in refused(tensors)


def test_shapes_decide_before_averages_do():
    larger = {name: torch.zeros(99) for name in NAMES}
    assert value(prefixed("ema", larger) | prefixed("model", network(2))) == 2


def test_averages_that_are_not_whole_are_told_of():
    some = {name: tensor for name, tensor in network(1).items() if name != "head.bias"}
    note = found(prefixed("ema", some) | prefixed("model", network(2))).note
    assert "'model'" in note
    assert "'ema' lack 1 key" in note


@pytest.mark.parametrize("prefix", ["", "module", "_orig_mod.module"])
def test_where_there_is_nothing_to_choose_nothing_is_said(prefix):
    assert found(prefixed(prefix, network()) if prefix else network()).note == ""


# -- a key that is given ------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["state_dict", "state_dict.model", "state_dict.model.module"])
def test_a_key_can_name_any_part_of_the_way(key):
    tensors = prefixed("state_dict.model.module", network(1)) | prefixed("other", network(2))
    assert value(tensors, key) == 1


def test_a_key_names_its_own_place_before_those_within():
    tensors = prefixed("state_dict", network(1)) | prefixed("state_dict.ema", network(2))
    assert value(tensors, "state_dict") == 1
    assert value(tensors, "state_dict.ema") == 2


def test_a_key_that_is_a_wrapper_itself_names_that_one():
    tensors = prefixed("module", network(1)) | prefixed("_orig_mod", network(2))
    assert [value(tensors, key) for key in ("module", "_orig_mod")] == [1, 2]
    assert "all fit" in refused(tensors)


def test_a_key_that_is_not_there_lists_those_that_are():
    line = refused(prefixed("model", network()) | prefixed("net", network()), "modl")
    assert "'modl'" in line
    assert "'model' (5 tensors), 'net' (5 tensors)" in line


def test_a_key_with_something_else_under_it_says_so():
    line = refused(prefixed("model", network()) | {"loss.x": torch.ones(1)}, "loss")
    assert "under 'loss'" in line


def test_weights_of_something_else_list_what_there_is():
    line = refused({f"layer{i}.conv.weight": torch.ones(1) for i in range(14)})
    assert "'layer0' (1 tensor)" in line
    assert "and 4 more" in line
    assert "--weights-key" in line


# -- any names at all ---------------------------------------------------------------------------------

PARTS = st.sampled_from(
    [
        "module",
        "_orig_mod",
        "ema",
        "n_averaged",
        "",
        "optimizer",
        "x",
        *("stem", "blocks", "0", "10", "norm", "conv", "head", "weight", "bias"),
    ]
)
ANY = st.dictionaries(st.lists(PARTS, min_size=1, max_size=6).map(".".join), st.integers(0, 9), max_size=12)


@given(ANY, st.booleans(), st.none() | st.lists(PARTS, max_size=2).map(".".join))
@settings(max_examples=200)
def test_any_names_beside_a_network_give_its_weights_or_one_line(names, with_network, key):
    tensors = {name: torch.full((1,), float(number)) for name, number in names.items()}
    tensors |= prefixed("deep.model", network(77)) if with_network else {}
    line = only_user_errors(value, tensors, key)
    assert line == 77 or "some.pth" in line
    assert line == 77 or not with_network or key is not None


def test_every_place_has_only_names_of_the_file():
    tensors = prefixed("a", network()) | prefixed("a.module", network())
    for place in places(held(tensors).tensors, WANTED):
        assert set(place.names.values()) <= set(tensors)
