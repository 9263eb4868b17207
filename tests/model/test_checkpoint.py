"""Weights in and out: published names, our own files, and everything that can be wrong with them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch
from conftest import GOLDEN, one_line, only_user_errors
from held import load_tensors
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.data_sets.trained_on import TrainedOn
from nasvit_edge.errors import CheckpointError
from nasvit_edge.model.checkpoint import load_supernet, random_supernet, save_supernet
from nasvit_edge.model.published import published_names, published_state
from nasvit_edge.model.supernet import Supernet, resize_positions
from nasvit_edge.model.weights_file import weights_file

MANIFEST: dict[str, list[int]] = json.loads(
    gzip.decompress((GOLDEN / "parity" / "state_manifest.json.gz").read_bytes())
)
WITHOUT_EFFECT = (
    "bn_tracking",
    "relative_position_index",
    "num_batches_tracked",
    "mobile_inverted_conv.rescale",
)


@pytest.fixture(scope="module")
def supernet(tiny) -> Supernet:
    return random_supernet(tiny, 5)


@pytest.fixture(scope="module")
def published(supernet) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in published_state(supernet).items()}


def same(first: Supernet, second: Supernet) -> bool:
    """Whether two supernets have the same weights under the same names."""
    one, two = first.state_dict(), second.state_dict()
    return list(one) == list(two) and all(torch.equal(one[n], two[n]) for n in one)


def refused(path: Path, space) -> str:
    """The line with which a file is refused; it names the file."""
    with pytest.raises(CheckpointError) as caught:
        load_supernet(path, space)
    assert path.name in one_line(caught)
    return one_line(caught)


# -- names --------------------------------------------------------------------------------------------


def test_the_official_names_and_shapes_are_those_of_the_manifest(nasvit):
    with torch.device("meta"):
        state = published_state(Supernet(nasvit))
    needed = {n: tuple(s) for n, s in MANIFEST.items() if not any(part in n for part in WITHOUT_EFFECT)}
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == needed


def test_no_two_entries_have_the_same_published_name(supernet):
    names = published_names(supernet)
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize("prefix", ["", "module.", "module.module."])
def test_both_directions_of_naming_are_inverse(supernet, published, prefix):
    again = Supernet(supernet.space)
    load_tensors(again, {prefix + n: t for n, t in published.items()})
    assert same(again.eval(), supernet)


def test_our_own_names_are_read_too(supernet):
    again = Supernet(supernet.space)
    load_tensors(again, supernet.state_dict())
    assert same(again, supernet)


def test_entries_without_effect_are_not_needed_and_not_refused(supernet, published):
    extra = {
        "blocks.0.mobile_inverted_conv.depth_conv.bn.bn_tracking.0.running_mean": torch.zeros(3),
        "blocks.0.mobile_inverted_conv.rescale": torch.ones(1),
        "blocks.3.attn.relative_position_index": torch.zeros(4, dtype=torch.long),
        "first_conv.bn.bn.num_batches_tracked": torch.tensor(3),
    }
    again = Supernet(supernet.space)
    load_tensors(again, published | extra)
    assert same(again, supernet)


def test_half_precision_is_widened(supernet, published):
    again = Supernet(supernet.space)
    load_tensors(again, {n: t.half() for n, t in published.items()})
    assert all(v.dtype == torch.float32 for n, v in again.state_dict().items() if "num_batches" not in n)


# -- what does not fit --------------------------------------------------------------------------------


def _load(supernet: Supernet, tensors: dict[str, torch.Tensor]) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_tensors(Supernet(supernet.space), tensors)
    assert "some.pth" in one_line(caught)
    return one_line(caught)


def test_any_missing_key_is_named(supernet, published):
    for name in published:
        rest = {n: t for n, t in published.items() if n != name}
        if any(n.startswith("blocks.") for n in rest):
            assert repr(name) in _load(supernet, rest)


@pytest.mark.parametrize("key", ["blocks.99.norm1.weight", "surprise", "two\nlines"])
def test_an_unknown_key_is_named(supernet, published, key):
    assert repr(key) in _load(supernet, published | {key: torch.zeros(1)})


def test_a_wrong_shape_is_named_with_both_shapes(supernet, published):
    for name, tensor in published.items():
        line = _load(supernet, published | {name: torch.zeros(*tensor.shape, 2)})
        assert repr(name) in line
        assert "shape" in line


def test_transposed_weights_are_not_taken_for_others(supernet, published):
    name = "classifier.linear.linear.weight"
    assert repr(name) in _load(supernet, published | {name: published[name].T})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_named(supernet, published, value):
    name = "last_conv.final_expand_layer.bn.bn.running_var"
    spoiled = published[name].clone()
    spoiled[-1] = value
    assert repr(name) in _load(supernet, published | {name: spoiled})


def test_whole_numbers_are_no_weights(supernet, published):
    name = "classifier.linear.linear.bias"
    assert "floating point" in _load(supernet, published | {name: published[name].long()})


@pytest.mark.parametrize("window", [2, 3, 6, 9])
def test_a_position_table_of_another_window_is_resized_bicubically(supernet, published, window):
    side = 2 * window - 1
    name = next(n for n in published if n.endswith("relative_position_bias_table"))
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    table = torch.stack([y + 2 * x] * published[name].shape[1], -1).reshape(side * side, -1)
    again = Supernet(supernet.space)
    load_tensors(again, published | {name: table})
    ours = again.get_parameter(next(o for o, t in published_names(supernet).items() if t == name)).detach()
    expected = resize_positions(table.view(side, side, -1), (7, 7)).reshape(49, -1)
    assert torch.equal(ours, expected)
    assert float(ours[24].abs().max()) < 1e-5  # the centre stays the centre
    assert float(ours[-1].mean()) > 1.5


def test_a_position_table_of_no_window_is_refused(supernet, published):
    name = next(n for n in published if n.endswith("relative_position_bias_table"))
    assert repr(name) in _load(supernet, published | {name: torch.zeros(50, published[name].shape[1])})


# -- our own files ------------------------------------------------------------------------------------


def test_safetensors_round_trip(tmp_path, supernet):
    path = tmp_path / "ours.safetensors"
    save_supernet(supernet, path, {"kind": "trained", "data": "fashion-mnist"})
    again = load_supernet(path, supernet.space)
    assert same(again, supernet)
    assert not again.training
    assert again.source["data"] == "fashion-mnist"
    assert len(str(again.source["sha256"])) == 64


def test_the_same_weights_are_the_same_bytes_each_time(tmp_path, supernet):
    """Resuming compares files; with two entries of metadata safetensors alone writes one order or the other."""
    weights = random_supernet(supernet.space)
    weights.trained_on = TrainedOn()
    path, written = tmp_path / "ours.safetensors", set()
    for _ in range(12):
        save_supernet(weights, path, {"kind": "trained"})
        written.add(path.read_bytes())
    assert len(written) == 1
    assert same(load_supernet(path, weights.space), weights)


def test_random_weights_stay_marked_through_a_file(tmp_path, supernet):
    save_supernet(supernet, tmp_path / "r.safetensors", supernet.source)
    again = load_supernet(tmp_path / "r.safetensors", supernet.space)
    assert again.source["kind"] == "random"
    assert "RANDOM" in str(again.source["warning"])


def test_the_sum_in_the_source_is_that_of_the_file_whatever_it_says(tmp_path, supernet):
    save_supernet(supernet, tmp_path / "r.safetensors", {"sha256": "made up"})
    assert load_supernet(tmp_path / "r.safetensors", supernet.space).source["sha256"] != "made up"


def test_safetensors_with_published_names_are_read(tmp_path, supernet, published):
    from safetensors.torch import save_file

    save_file({n: t.contiguous() for n, t in published.items()}, tmp_path / "theirs.safetensors")
    assert same(load_supernet(tmp_path / "theirs.safetensors", supernet.space), supernet)


def test_safetensors_are_known_by_their_content(tmp_path, supernet):
    save_supernet(supernet, tmp_path / "ours.bin", {})
    assert same(load_supernet(tmp_path / "ours.bin", supernet.space), supernet)


def test_random_is_fixed_by_its_seed_and_marked(tiny):
    one, two = load_supernet("random", tiny), load_supernet("random:0", tiny)
    other = load_supernet("random:1", tiny)
    assert same(one, two)
    assert not same(one, other)
    assert same(other, load_supernet("random", tiny, seed=1))
    for supernet in (one, other):
        assert supernet.source["kind"] == "random"
        assert "RANDOM" in str(supernet.source["warning"])


def test_random_does_not_depend_on_the_state_of_torch(tiny):
    torch.manual_seed(1)
    one = random_supernet(tiny)
    torch.manual_seed(2)
    assert same(one, random_supernet(tiny))


# -- damaged files ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory, supernet, published) -> dict[str, bytes]:
    """The same weights in each of the three forms."""
    folder = tmp_path_factory.mktemp("whole")
    save_supernet(supernet, folder / "ours.safetensors", {})
    torch.save({"model_ema": published, "epoch": 1}, folder / "zip.pth")
    torch.save({"model": published}, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


FORMS = ["ours.safetensors", "zip.pth", "legacy.pth"]


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60)
@given(st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_one_line(tmp_path_factory, tiny, whole_files, form, share):
    path = tmp_path_factory.getbasetemp() / f"cut-{form}"
    path.write_bytes(whole_files[form][: int(share * len(whole_files[form]))])
    refused(path, tiny)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", [*range(1, 12), 100, -1, -2, -22, -100])
def test_a_file_cut_near_its_ends_is_one_line(tmp_path, tiny, whole_files, form, length):
    (tmp_path / form).write_bytes(whole_files[form][:length])
    refused(tmp_path / form, tiny)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes_never_give_a_traceback(tmp_path_factory, tiny, whole_files, form, changes):
    content = bytearray(whole_files[form])
    for share, value in changes:
        content[int(share**3 * len(content))] = value  # more of them near the start, where the pickle is
    path = tmp_path_factory.getbasetemp() / f"flipped-{form}"
    path.write_bytes(content)
    only_user_errors(load_supernet, path, tiny)


@settings(max_examples=100)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x80\x02", b"PK\x03\x04", b"\x08" + bytes(7) + b"{"]))
def test_any_bytes_are_one_line(tmp_path_factory, tiny, content, head):
    path = tmp_path_factory.getbasetemp() / "noise.pth"
    path.write_bytes(head + content)
    refused(path, tiny)


@pytest.mark.parametrize(
    "page",
    [
        "<!DOCTYPE html><html>",
        "\n  <html lang='en'>",
        "\ufeff<!doctype HTML>",
        "<!-- x --><html>",
        "<?xml version='1'?>",
    ],
)
@pytest.mark.parametrize("name", ["checkpoint.pth", "checkpoint.safetensors"])
def test_a_web_page_saved_as_a_checkpoint_is_recognised(tmp_path, tiny, page, name):
    (tmp_path / name).write_text(page + "<body>not found</body>" * 20)
    assert "web page" in refused(tmp_path / name, tiny)


def test_an_empty_file_a_folder_and_nothing_at_all_are_one_line(tmp_path, tiny):
    (tmp_path / "empty.pth").touch()
    (tmp_path / "folder.pth").mkdir()
    assert "empty" in refused(tmp_path / "empty.pth", tiny)
    assert "directory" in refused(tmp_path / "folder.pth", tiny)
    assert "No such file" in refused(tmp_path / "absent.pth", tiny)


def test_an_unknown_name_of_weights_says_what_there_is(tiny):
    with pytest.raises(CheckpointError, match="'random'") as caught:
        load_supernet("no-such-weights", tiny)
    one_line(caught)


@pytest.mark.parametrize(
    "state", [{}, {"model_ema": {}}, [1, 2], 7, None, {"model": [1]}, {"model": {1: 2, "a": 3}}]
)
def test_a_checkpoint_without_weights_says_so(tmp_path, tiny, state):
    torch.save(state, tmp_path / "none.pth")
    assert "no tensors" in refused(tmp_path / "none.pth", tiny)


def test_weights_for_another_space_name_the_key_that_does_not_fit(tmp_path, nano, published):
    torch.save({"model": published}, tmp_path / "tiny.pth")
    assert "key 'model.blocks." in refused(tmp_path / "tiny.pth", nano)


def test_reading_gives_the_tensors_as_they_are(tmp_path, published):
    torch.save(published, tmp_path / "plain.pth")
    with weights_file(tmp_path / "plain.pth") as file:
        assert file.metadata == {}
        assert list(file.tensors) == list(published)
        assert all(torch.equal(file.tensors[n].read(), published[n]) for n in published)
