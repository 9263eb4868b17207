"""Foreign checkpoints are read, whatever they hold, and nothing in them is executed."""

from __future__ import annotations

import builtins
import collections
import contextlib
import io
import os
import pickle
import struct
import subprocess
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import one_line, only_user_errors

from nasvit_edge.errors import CheckpointError
from nasvit_edge.model import inert
from nasvit_edge.model.checkpoint import load_supernet, random_supernet
from nasvit_edge.model.published import published_state
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.model.weights_file import weights_file

ZIP, LEGACY = True, False


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a file by dotted name."""
    with weights_file(path) as file:
        return {name: entry.read() for name, entry in file.tensors.items()}


@pytest.fixture(scope="module")
def supernet(tiny) -> Supernet:
    return random_supernet(tiny, 5)


def _yacs_like() -> tuple[types.ModuleType, Any]:
    """A config object as yacs makes it, of a module that only exists while the file is written."""
    module = types.ModuleType("vanishing_yacs")
    source = (
        "class CfgNode(dict):\n"
        "    def __init__(self, init=None):\n"
        "        super().__init__(init or {})\n"
        "        self.__dict__['__immutable__'] = False\n"
        "    def __getattr__(self, name):\n"
        "        if name in self: return self[name]\n"
        "        raise AttributeError(name)\n"
        "    def __setattr__(self, name, value):\n"
        "        raise AttributeError('immutable')\n"
        "class Scheduler:\n"
        "    __slots__ = ('rate', 'seen')\n"
        "    def __init__(self): self.rate, self.seen = 0.1, {1, 2}\n"
    )
    exec(source, module.__dict__)  # its objects' __module__ is then the vanishing one
    for kind in ("CfgNode", "Scheduler"):
        getattr(module, kind).__module__ = module.__name__
    return module, module.CfgNode(
        {"DATA": module.CfgNode({"SIZE": 224}), "LIST": [1, 2], "FEW": frozenset({1})}
    )


def _training_checkpoint(supernet: Supernet, path: Path, form: bool, prefix: str = "module.") -> None:
    """What a training run leaves: two copies of the weights, an optimizer, a scheduler, a config object."""
    ema = {prefix + n: t for n, t in published_state(supernet).items()}
    model = {n: torch.nn.Parameter(t + 1) for n, t in ema.items()}
    parameters = [torch.nn.Parameter(torch.ones(3, 2)), torch.nn.Parameter(torch.ones(2))]
    optimizer = torch.optim.AdamW(parameters)
    sum(p.sum() for p in parameters).backward()
    optimizer.step()
    module, config = _yacs_like()
    state = {
        "model": collections.OrderedDict(model),
        "model_ema": _with_metadata(ema),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": module.Scheduler(),
        "max_accuracy": collections.defaultdict(float, {"top1": 82.79}),
        "rng": torch.get_rng_state(),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "shape": torch.Size((1, 2)),
        "path": Path("somewhere"),
        "epoch": 360,
        "config": config,
    }
    sys.modules[module.__name__] = module
    try:
        torch.save(state, path, _use_new_zipfile_serialization=form)
    finally:
        del sys.modules[module.__name__]


def _with_metadata(state: dict[str, torch.Tensor]) -> collections.OrderedDict[str, torch.Tensor]:
    """As `module.state_dict()` gives it."""
    ordered = collections.OrderedDict(state)
    ordered._metadata = collections.OrderedDict({"": {"version": 1}})
    return ordered


@pytest.mark.parametrize("form", [ZIP, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_training_checkpoint_is_read_without_the_modules_it_names(tmp_path, supernet, form, prefix):
    path = tmp_path / "checkpoint.pth"
    _training_checkpoint(supernet, path, form, prefix)
    again = load_supernet(path, supernet.space)
    state, expected = again.state_dict(), supernet.state_dict()
    assert all(torch.equal(state[n], expected[n]) for n in expected)  # model_ema, not model
    assert "vanishing_yacs" not in sys.modules


@pytest.mark.parametrize("form", [ZIP, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize("key", ["model", "state_dict", "deep.er"])
def test_tensors_are_named_by_the_keys_that_lead_to_them(tmp_path, form, key):
    state = {key: {"a": torch.arange(3.0)}, "epoch": 1}
    torch.save(state, tmp_path / "c.pth", _use_new_zipfile_serialization=form)
    assert read_tensors(tmp_path / "c.pth")[f"{key}.a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("form", [ZIP, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_views_types_and_shapes_come_back_as_they_were(tmp_path, form, protocol):
    base = torch.arange(24.0)
    kinds = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8]
    state = {
        str(kind): base.to(kind).view(2, 3, 4) for kind in [*kinds, torch.uint8, torch.bool, torch.complex64]
    }
    state |= {
        "view": base.view(4, 6)[1:3, ::2].T,
        "same": base,
        "none": torch.empty(0, 3),
        "one": torch.tensor(3.0),
    }
    state |= {
        "parameter": torch.nn.Parameter(base.view(2, 12)),
        "last": torch.zeros(4, 3).to_sparse().to_dense(),
    }
    torch.save(state, tmp_path / "c.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=form)
    tensors = read_tensors(tmp_path / "c.pth")
    assert list(tensors) == list(state)
    for name, tensor in state.items():
        assert tensors[name].dtype == tensor.dtype
        assert tensors[name].shape == tensor.shape
        assert torch.equal(tensors[name], tensor)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize("form", [ZIP, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: torch.eye(2).to_sparse(), "sparse"),
        (lambda: torch.quantize_per_tensor(torch.ones(2), 1, 0, torch.qint8), "quantised"),
        (lambda: torch.empty(2, device="meta"), "without numbers"),
        (lambda: torch.ones(2).to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (lambda: torch.ones(2).to(torch.float8_e5m2), "float8_e5m2"),
        (lambda: torch.ones(2).to(torch.uint16), "uint16"),
    ],
    ids=["sparse", "quantised", "meta", "e4m3", "e5m2", "uint16"],
)
def test_a_tensor_that_is_no_plain_one_is_named_where_it_is_asked_for(tmp_path, form, make, kind):
    state = {"a": torch.ones(2), "b": make()}
    torch.save(state, tmp_path / "c.pth", _use_new_zipfile_serialization=form)
    with weights_file(tmp_path / "c.pth") as file:
        assert file.tensors["a"].read().tolist() == [1, 1]
        with pytest.raises(CheckpointError, match=f"'b' holds .*{kind}") as caught:
            file.tensors["b"].read()
    assert "c.pth" in one_line(caught)


# -- nothing is executed ------------------------------------------------------------------------------


class Bomb:
    """Calls something when it is unpickled in the ordinary way."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def _bombs(marker: Path) -> dict[str, Any]:
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    return {
        "system": Bomb(os.system, f"touch {marker}"),
        "eval": Bomb(builtins.eval, code),
        "exec": Bomb(builtins.exec, code),
        "popen": Bomb(subprocess.Popen, ["touch", str(marker)]),
        "open": Bomb(builtins.open, str(marker), "w"),
        "mkdir": Bomb(os.mkdir, str(marker)),
        "loads": Bomb(pickle.loads, pickle.dumps(Bomb(os.mkdir, str(marker)))),
        "getattr": Bomb(builtins.getattr, Bomb(builtins.__import__, "os"), "system"),
        "save": Bomb(torch.save, {}, str(marker)),
        "hub": Bomb(torch.hub.load, str(marker), "x"),
    }


@pytest.mark.parametrize("form", [ZIP, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", _bombs(Path("x")))
def test_nothing_that_a_pickle_calls_is_called(tmp_path, name, form):
    marker, path = tmp_path / "marker", tmp_path / "bomb.pth"
    state = {"config": _bombs(marker)[name], "model": {"a": torch.ones(2)}, "more": [_bombs(marker)[name]]}
    torch.save(state, path, _use_new_zipfile_serialization=form)
    assert read_tensors(path)["model.a"].tolist() == [1, 1]
    assert not marker.exists()


def test_the_bombs_do_go_off_where_they_are_executed(tmp_path):
    """Without this, the test above could pass with duds."""
    for name in ("system", "eval", "exec", "open", "mkdir", "save", "loads"):
        marker = tmp_path / name
        pickle.loads(pickle.dumps(_bombs(marker)[name]))
        assert marker.exists(), name


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_torchscript_archive_is_not_run(tmp_path, tiny):
    module = torch.jit.script(torch.nn.Linear(2, 2))
    torch.jit.save(module, tmp_path / "script.pth")
    with pytest.raises(CheckpointError, match="no tensors") as caught:
        load_supernet(tmp_path / "script.pth", tiny)
    one_line(caught)


def test_a_whole_pickled_module_is_not_run(tmp_path, tiny):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(CheckpointError, match="no tensors"):
        load_supernet(tmp_path / "module.pth", tiny)


GLOBALS = [
    "torch._utils\n_rebuild_tensor_v2",
    "torch._utils\n_rebuild_parameter",
    "collections\nOrderedDict",
    "torch\nSize",
    "torch\nFloatStorage",
    "torch.storage\n_load_from_bytes",
    "torch\n_utils",
    "builtins\ndict",
    "os\nsystem",
]


@pytest.mark.parametrize("name", GLOBALS, ids=lambda name: name.replace("\n", "."))
def test_no_name_of_a_pickle_is_the_real_object(name):
    loaded = inert.load(io.BytesIO(f"c{name}\n.".encode()))
    module, attribute = name.split("\n")
    real = getattr(__import__(module, fromlist=["x"]), attribute)
    assert loaded is not real or loaded is tuple


@pytest.mark.parametrize("name", GLOBALS, ids=lambda name: name.replace("\n", "."))
def test_what_a_pickle_sets_on_a_name_does_not_outlive_it(name):
    """The build opcode sets attributes of whatever it is given; nothing shared may be given to it."""
    module, attribute = name.split("\n")
    real = getattr(__import__(module, fromlist=["x"]), attribute)
    before = dir(real), dir(inert.Inert), dir(inert._Ordered), dir(tuple)
    for state in (b"}U\x05dump_I01\ns", b"N}U\x05dump_I01\ns\x86"):  # a dict of attributes, and of slots
        only_errors(f"c{name}\n".encode() + state + b"b.")
    assert (dir(real), dir(inert.Inert), dir(inert._Ordered), dir(tuple)) == before
    assert "dump_" not in dir(inert.load(io.BytesIO(f"c{name}\n.".encode())))


def only_errors(content: bytes) -> None:
    """Unpickle; an error is as good as a result."""
    with contextlib.suppress(TypeError, AttributeError, ValueError, KeyError, pickle.UnpicklingError):
        inert.load(io.BytesIO(content))


def test_sources_in_old_files_are_not_written_anywhere(tmp_path, monkeypatch):
    """torch.load keeps a patch file where a pickled class says `dump_patches`; here nothing is written."""
    monkeypatch.chdir(tmp_path)
    old = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(value, old, 2)
    function = b"ctorch._utils\n_rebuild_tensor_v2\n"
    attributes = b"N}(U\x0cdump_patchesI01\nU\x08__name__U\x05evil2u\x86b"
    old.write(b"\x80\x02(U\x06module" + function + attributes + b"U\x01fU\x06sourcetQ.")
    pickle.dump([], old, 2)
    (tmp_path / "old.pth").write_bytes(old.getvalue())
    only_user_errors(_read, tmp_path / "old.pth")
    assert [p.name for p in tmp_path.iterdir()] == ["old.pth"]
    from torch import _utils

    assert _utils._rebuild_tensor_v2.__name__ == "_rebuild_tensor_v2"
    assert not hasattr(_utils._rebuild_tensor_v2, "dump_patches")


def _read(path: Path) -> Any:
    return read_tensors(path)


# -- descriptions that do not fit their numbers ---------------------------------------------------------


def _archive(path: Path, rebuild: tuple[Any, ...], numbers: bytes = bytes(16), **options: Any) -> Path:
    """A zip checkpoint with one tensor `a` whose description is `rebuild` = (start, size, stride)."""

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return (
                ("storage", options.get("kind", torch.FloatStorage), "0", "cpu", 4)
                if isinstance(value, Storage)
                else None
            )

    class Described:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (Storage(), *rebuild, False, {})

    stream = io.BytesIO()
    Pickler(stream, 2).dump({"model": {"a": Described()}})
    with zipfile.ZipFile(path, "w", options.get("compression", zipfile.ZIP_STORED)) as archive:
        archive.writestr("c/data.pkl", stream.getvalue())
        archive.writestr("c/byteorder", options.get("order", "little"))
        archive.writestr("c/data/0", numbers)
    return path


def test_a_description_that_fits_is_read(tmp_path):
    path = _archive(tmp_path / "c.pth", (0, (2, 2), (2, 1)), struct.pack("<4f", 1, 2, 3, 4))
    assert read_tensors(path)["model.a"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "rebuild",
    [
        (0, (5,), (1,)),
        (1, (4,), (1,)),
        (-1, (4,), (1,)),
        (0, (2, 2), (3, 1)),
        (0, (4,), (-1,)),
        (0, (-4,), (1,)),
        (0, (1 << 40, 1 << 40), (0, 0)),
        (0, (1 << 70,), (1,)),
        (0, (1000,), (0,)),  # four numbers repeated could fill any memory
        (0, (4,), ()),
        (0, 4, 1),
        ("0", (4,), (1,)),
        (0, (True, 4), (4, 1)),
        (0, (2.0,), (1,)),
    ],
    ids=str,
)
def test_a_description_that_reaches_beyond_its_numbers_names_the_key(tmp_path, rebuild):
    path = _archive(tmp_path / "c.pth", rebuild)
    with pytest.raises(CheckpointError, match=r"'model\.a'") as caught:
        read_tensors(path)
    assert "c.pth" in one_line(caught)


def test_empty_shapes_of_any_size_take_no_memory(tmp_path):
    assert read_tensors(_archive(tmp_path / "c.pth", (0, (0, 1 << 40), (1, 1))))["model.a"].numel() == 0


@pytest.mark.parametrize(
    "options",
    [{"order": "big"}, {"compression": zipfile.ZIP_DEFLATED}, {"kind": torch.UntypedStorage}],
    ids=str,
)
def test_forms_that_torch_save_does_not_write_for_weights_are_one_line(tmp_path, tiny, options):
    path = _archive(tmp_path / "c.pth", (0, (4,), (1,)), **options)
    with pytest.raises(CheckpointError) as caught:
        load_supernet(path, tiny)
    assert "c.pth" in one_line(caught)


def test_a_missing_or_damaged_member_names_the_key(tmp_path):
    path = _archive(tmp_path / "c.pth", (0, (4,), (1,)), b"\x11\x22\x33\x44" * 4)
    whole = path.read_bytes()
    for damaged in (
        whole.replace(b"c/data/0", b"c/data/9"),
        whole.replace(b"\x11\x22\x33\x44", b"\x11\x22\x33\x45", 1),
    ):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"'model\.a'") as caught:
            read_tensors(path)
        one_line(caught)


def test_a_damaged_memo_index_takes_no_memory(tmp_path):
    """The index of LONG_BINPUT is a number in the file; an array up to it would be 32 GB."""
    assert inert.load(io.BytesIO(b"\x80\x02]r\xff\xff\xff\xff.")) == []
