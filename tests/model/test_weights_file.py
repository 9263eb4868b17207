"""Files of weights as people have them: in any wrapping, of any kind, and what is no checkpoint is named."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import one_line, only_user_errors
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nasvit_edge.errors import CheckpointError
from nasvit_edge.model.checkpoint import load_supernet, random_supernet, save_supernet
from nasvit_edge.model.published import published_state
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.model.weights_file import weights_file

State = dict[str, Any]


@pytest.fixture(scope="module")
def supernet(tiny) -> Supernet:
    return random_supernet(tiny, 5)


@pytest.fixture(scope="module")
def other(tiny) -> dict[str, Tensor]:
    """The weights that are not to be taken."""
    return plain(random_supernet(tiny, 6))


@pytest.fixture(scope="module")
def weights(supernet) -> dict[str, Tensor]:
    return plain(supernet)


def plain(supernet: Supernet) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in published_state(supernet).items()}


def prefixed(prefix: str, state: Mapping[str, Any]) -> State:
    return {f"{prefix}.{name}": value for name, value in state.items()}


def same(first: Supernet, second: Supernet) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return all(torch.equal(one[n], two[n]) for n in one)


def refused(path: Path, space: Any, **options: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_supernet(path, space, **options)
    assert path.name in one_line(caught)
    return one_line(caught)


def _zip(state: State, path: Path) -> None:
    torch.save(state, path)


def _legacy(state: State, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def _safetensors(state: State, path: Path) -> None:
    """Nested dictionaries as the dotted names that people make of them; only tensors."""
    from safetensors.torch import save_file

    save_file({name: tensor.clone() for name, tensor in _dotted(state)}, path)


def _dotted(state: State, prefix: str = "") -> Any:
    for key, value in state.items():
        if isinstance(value, Tensor):
            yield prefix + key, value
        elif isinstance(value, dict):
            yield from _dotted({str(k): v for k, v in value.items()}, f"{prefix}{key}.")


FORMS = [_zip, _legacy, _safetensors]


# -- wrapped ------------------------------------------------------------------------------------------

Wrap = Callable[[State, State], State]
WRAPPED: dict[str, Wrap] = {
    "plain": lambda w, o: w,
    "state_dict_ema": lambda w, o: {"state_dict": o, "state_dict_ema": w, "epoch": 3},
    "ema": lambda w, o: {"model": o, "ema": w},
    "model_ema.module": lambda w, o: {"model": o, "model_ema": {"module": w}},
    "model_ema with prefix": lambda w, o: {"model": prefixed("module", o), "model_ema": prefixed("module", w)},
    "_orig_mod": lambda w, o: prefixed("_orig_mod", w),
    "_orig_mod in module": lambda w, o: {"model": prefixed("module._orig_mod", w)},
    "_orig_mod around module": lambda w, o: {"model": prefixed("_orig_mod.module", w)},
    "_orig_mod of each block": lambda w, o: {
        name.replace("blocks.0.", "blocks.0._orig_mod."): tensor for name, tensor in w.items()
    },
    "lightning": lambda w, o: {
        "state_dict": prefixed("model", w) | {"criterion.weight": torch.ones(4)},
        "pytorch-lightning_version": "2.1",
        "callbacks": {"ModelCheckpoint{'monitor': 'acc'}": {"best_model_path": "x.ckpt"}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}],
    },
    "lightning with ema": lambda w, o: {
        "state_dict": prefixed("model", o) | prefixed("ema_model.module", w)
    },
    "AveragedModel": lambda w, o: {"n_averaged": torch.tensor(7), **prefixed("module", w)},
    "AveragedModel in a checkpoint": lambda w, o: {
        "net": o,
        "best": {"n_averaged": torch.tensor(7), **prefixed("module", w)},
    },
    "model_state_dict": lambda w, o: {"model_state_dict": w, "optimizer_state_dict": {"state": {}}},
    "net": lambda w, o: {"net": prefixed("module", w), "acc": 91.2, "epoch": 1},
    "student": lambda w, o: {"student": w, "teacher": {"conv1.weight": torch.ones(3)}},
    "further prefixes": lambda w, o: {"a": {"b": prefixed("c.backbone.module", w)}},
    "in a list": lambda w, o: {"models": [w]},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "write"),
    [(name, write) for name in WRAPPED for write in FORMS if (name, write) != ("in a list", _safetensors)],
)
def test_weights_are_found_in_whatever_people_wrap_them_in(tmp_path, supernet, weights, other, name, write):
    write(WRAPPED[name](weights, other), tmp_path / "people.pth")
    assert same(load_supernet(tmp_path / "people.pth", supernet.space), supernet)


@pytest.mark.parametrize("name", WRAPPED)
def test_our_own_names_are_found_there_too(tmp_path, supernet, tiny, name):
    ours, others = dict(supernet.state_dict()), dict(random_supernet(tiny, 6).state_dict())
    torch.save(WRAPPED[name](ours, others), tmp_path / "ours.pth")
    assert same(load_supernet(tmp_path / "ours.pth", tiny), supernet)


@pytest.mark.parametrize("write", FORMS)
def test_what_was_taken_is_told_and_kept_with_the_weights(tmp_path, supernet, weights, other, write):
    write({"state_dict": other, "state_dict_ema": prefixed("module", weights)}, tmp_path / "c.pth")
    source = load_supernet(tmp_path / "c.pth", supernet.space).source
    assert source["weights_key"] == "state_dict_ema.module"
    assert source["note"] == (
        "weights: those under 'state_dict_ema.module', which are averaged; "
        "--weights-key 'state_dict' takes others that fit"
    )


@pytest.mark.parametrize("write", FORMS)
def test_where_nothing_decides_a_key_does(tmp_path, supernet, weights, other, write):
    path = tmp_path / "c.pth"
    write({"student": weights, "teacher": other}, path)
    line = refused(path, supernet.space)
    assert "'student', 'teacher' all fit" in line
    assert "--weights-key" in line
    for chosen in (
        load_supernet(path, supernet.space, key="student"),
        load_supernet(f"{path}::student", supernet.space),
    ):
        assert same(chosen, supernet)
        assert chosen.source["weights_key"] == "student"
    assert not same(load_supernet(path, supernet.space, key="teacher"), supernet)
    line = refused(path, supernet.space, key="pupil")
    assert "no tensors under 'pupil'; it holds 'student' (" in line


def test_a_file_whose_own_name_has_colons_is_that_file(tmp_path, supernet, weights):
    torch.save(weights, tmp_path / "odd::name.pth")
    assert same(load_supernet(tmp_path / "odd::name.pth", supernet.space), supernet)


def test_generic_weights_have_no_parts(tiny):
    with pytest.raises(CheckpointError, match="random") as caught:
        load_supernet("random", tiny, key="ema")
    one_line(caught)


KEYS = st.sampled_from(
    [
        "state_dict",
        "model",
        "net",
        "student",
        "module",
        "_orig_mod",
        "a.b",
        "blocks",
        "blocks.0",
        "0",
        "classifier",
    ]
) | st.text(min_size=1, max_size=8).filter(lambda key: "optim" not in key)
JUNK = st.dictionaries(
    st.sampled_from(["epoch", "args", "optimizer", "log", "rng"]),
    st.none() | st.integers() | st.text(max_size=5) | st.lists(st.floats(), max_size=3)
    | st.sampled_from([{"state": {0: {"exp_avg": torch.ones(2)}}}, {"x": {"y": 1}}, torch.ones(1), [torch.ones(2)]]),
)  # fmt: skip


@given(st.lists(st.tuples(KEYS, st.booleans(), JUNK), max_size=4), st.sampled_from(FORMS))
@settings(max_examples=60)
def test_any_nesting_gives_the_same_weights(tmp_path_factory, supernet, weights, levels, write):
    state: State = weights
    for key, nested, junk in levels:
        state = {**junk, key: state} if nested else prefixed(key, state)
    path = tmp_path_factory.getbasetemp() / "nested.pth"
    write(state, path)
    assert same(load_supernet(path, supernet.space), supernet)


@given(KEYS, KEYS, st.sampled_from(FORMS))
@settings(max_examples=30)
def test_two_sets_of_weights_are_never_mixed(tmp_path_factory, supernet, weights, other, one, two, write):
    path = tmp_path_factory.getbasetemp() / "two.pth"
    write({one: weights, two: other}, path)
    outcome = only_user_errors(load_supernet, path, supernet.space)
    if one == two:
        assert same(outcome, random_supernet(supernet.space, 6))
    elif isinstance(outcome, str):
        assert "--weights-key" in outcome
        assert same(load_supernet(path, supernet.space, key=one), supernet)
    else:  # one of them is called an average
        assert same(outcome, supernet) or same(outcome, random_supernet(supernet.space, 6))


# -- numbers that are none ----------------------------------------------------------------------------


@pytest.mark.parametrize("write", FORMS)
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_fp8_is_one_line(tmp_path, supernet, weights, write, dtype):
    name = "classifier.linear.linear.weight"
    write({**weights, name: weights[name].to(dtype)}, tmp_path / "c.pth")
    line = refused(tmp_path / "c.pth", supernet.space)
    assert repr(name) in line
    assert f"holds {str(dtype)[6:]} numbers" in line
    assert "float16" in line


def test_a_pickled_model_is_named_and_what_to_do(tmp_path, tiny):
    for state, where in (
        (torch.nn.Linear(2, 2), "it holds (a"),
        ({"model": torch.nn.Linear(2, 2)}, "'model' (a"),
    ):
        torch.save(state, tmp_path / "module.pth")
        line = refused(tmp_path / "module.pth", tiny)
        assert f"{where} pickled torch.nn.modules.linear.Linear)" in line
        assert "state_dict()" in line


# -- other kinds of files -----------------------------------------------------------------------------

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 28312234\n"


@pytest.mark.parametrize("name", ["c.pth", "c.safetensors"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_git_lfs_pointer_is_named(tmp_path, tiny, name, encoding):
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    (tmp_path / name).write_bytes((mark + POINTER).encode(encoding))
    line = refused(tmp_path / name, tiny)
    assert "Git LFS pointer" in line
    assert "git lfs pull" in line


@pytest.mark.parametrize("name", ["c.pth", "c.safetensors"])
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\xff\xfe" + "PK\x03\x04 weights".encode("utf-16-le"), "UTF-16"),
        (b"\xfe\xff" + "PK\x03\x04 weights".encode("utf-16-be"), "UTF-16"),
        (b"\xef\xbb\xbf{}", "byte-order mark"),
        (b"\xff\xfe" + "<!DOCTYPE html>".encode("utf-16-le"), "web page"),
        (gzip.compress(b"weights", mtime=0), "packed by gzip"),
        (b"\xfd7zXZ\x00" + bytes(20), "packed by xz"),
    ],
)
def test_texts_and_packed_files_are_named(tmp_path, tiny, name, content, kind):
    (tmp_path / name).write_bytes(content)
    assert kind in refused(tmp_path / name, tiny)


def test_a_tar_is_named_and_what_is_only_called_tar_is_read(tmp_path, supernet, weights):
    torch.save({"state_dict": prefixed("module", weights)}, tmp_path / "c.pth.tar")
    assert same(load_supernet(tmp_path / "c.pth.tar", supernet.space), supernet)
    with tarfile.open(tmp_path / "real.pth.tar", "w") as archive:
        archive.add(tmp_path / "c.pth.tar", "c.pth")
    assert "packed by tar" in refused(tmp_path / "real.pth.tar", supernet.space)


@pytest.mark.parametrize("length", [0xFEFF, 0x1FEFF, 0xFFFE, 0xBFBBEF, 0x18B1F])
def test_a_safetensors_file_whose_length_looks_like_a_mark_is_read(tmp_path, supernet, weights, length):
    """Its first bytes are the length of its header, which is then that of another kind of file."""
    from safetensors.torch import save

    content = save({n: t.contiguous() for n, t in weights.items()})
    size = struct.unpack("<Q", content[:8])[0]
    assert size < length
    header = content[8 : 8 + size].ljust(length)
    (tmp_path / "c.bin").write_bytes(struct.pack("<Q", length) + header + content[8 + size :])
    assert same(load_supernet(tmp_path / "c.bin", supernet.space), supernet)


# -- hostile structure --------------------------------------------------------------------------------


def _pickled(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("c/data.pkl", content)
    return path


def _doubled(times: int) -> Any:
    value: Any = {}
    for _ in range(times):
        value = {"a": value, "b": value}
    return value


def _own_child() -> Any:
    value: dict[str, Any] = {}
    value["a"] = value
    return {"cycle": value, "list": [value]}


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(_doubled(64)),
        pickle.dumps(_own_child()),
        b"\x80\x02" + b"}X\x01\x00\x00\x00a" * 5000 + b"}" + b"s" * 5000 + b".",
        pickle.dumps({"k" * 1_000_000: {"k" * 1_000_000: {}}}),
    ],
    ids=["doubled", "cycle", "deep", "long names"],
)
def test_a_small_file_cannot_ask_for_much_time(tmp_path, tiny, content):
    path = _pickled(tmp_path / "c.pth", content)
    start = time.perf_counter()
    line = refused(path, tiny)
    assert len(line) < 2000
    assert time.perf_counter() - start < 20


def test_a_cycle_beside_them_does_not_hide_weights(tmp_path, supernet, weights):
    torch.save({**_own_child(), "model": weights}, tmp_path / "c.pth")
    assert same(load_supernet(tmp_path / "c.pth", supernet.space), supernet)


def test_a_shape_that_doubles_in_itself_is_one_line(tmp_path, tiny):
    size: Any = (1,)
    for _ in range(64):
        size = (size, size)

    class Described:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (None, 0, size, (1,), False, {})

    stream = io.BytesIO()
    pickle.dump({"model": {"first_conv.conv.conv.weight": Described()}}, stream, 2)
    assert "is missing" in refused(_pickled(tmp_path / "c.pth", stream.getvalue()), tiny)


def test_two_tensors_of_one_name_are_refused(tmp_path, tiny):
    torch.save({"a.b": torch.ones(1), "a": {"b": torch.zeros(1)}}, tmp_path / "c.pth")
    assert "two tensors are called 'a.b'" in refused(tmp_path / "c.pth", tiny)


def test_only_what_is_taken_is_read(tmp_path, supernet, weights):
    """The optimizer's moments, and other weights, cost neither time nor memory."""
    damaged = _first(weights) | {"model_ema": weights}
    torch.save(damaged, tmp_path / "c.pth")
    content = (tmp_path / "c.pth").read_bytes()
    marked = content.replace(struct.pack("<4f", *[8.125] * 4), struct.pack("<4f", *[9.125] * 4))
    assert marked != content  # whose sum in the archive is then wrong: reading it would fail
    (tmp_path / "c.pth").write_bytes(marked)
    assert same(load_supernet(tmp_path / "c.pth", supernet.space), supernet)
    with weights_file(tmp_path / "c.pth") as file, pytest.raises(CheckpointError, match="damaged"):
        file.tensors["optimizer.moment"].read()


def _first(weights: Mapping[str, Tensor]) -> State:
    return {
        "optimizer": {"moment": torch.full((64,), 8.125)},
        "model": {n: t + 1 for n, t in weights.items()},
    }


@pytest.mark.parametrize("folder", ["caf\udce9", "café"])
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_a_path_of_any_bytes_is_read(tmp_path, supernet, tiny, folder, ending):
    path = tmp_path / folder / f"w.{ending}"
    path.parent.mkdir()
    if ending == "pth":
        torch.save(published_state(supernet), path)
    else:
        save_supernet(supernet, path, {"kind": "trained"})
    assert same(load_supernet(str(path), tiny), supernet)
