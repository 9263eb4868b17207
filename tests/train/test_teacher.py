"""Teachers: the right probabilities from every kind of file, and one clear line where there are none."""

from __future__ import annotations

import io
import random
import sys
import urllib.request
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import one_line, only_user_errors, require_module
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nasvit_edge.errors import CheckpointError, MissingExtraError
from nasvit_edge.listening import SILENT
from nasvit_edge.model.checkpoint import random_supernet, save_supernet
from nasvit_edge.model.subnet import materialise
from nasvit_edge.space import space_toml
from nasvit_edge.train import run
from nasvit_edge.train import teacher as teachers
from nasvit_edge.train.loop import Settings
from nasvit_edge.train.recipe import load_recipe
from nasvit_edge.train.teacher import Member, Teacher, load_teacher, renormalised

pytestmark = pytest.mark.usefixtures("one_thread")


SMALL = "timm:mobilenetv3_small_050"


def images(tiny, count: int = 5) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(count, 3, 12, 12)


def scripted(path: Path, classes: int = 4, side: int = 12) -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, classes)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(str(path))
    return module


def test_a_torchscript_file_teaches_the_softmax_of_its_scaled_logits(tiny, tmp_path):
    module, x = scripted(tmp_path / "t.ts"), images(tiny)
    actual = load_teacher(str(tmp_path / "t.ts"), tiny, trust=True, scale=5.0)(x)
    assert torch.allclose(actual, (5 * module(x)).softmax(-1), atol=1e-6)
    assert not actual.requires_grad
    assert not actual.is_inference()  # cross-entropy keeps its targets for the backward pass


@pytest.mark.parametrize("scale", [0.5, 5.0])
def test_several_teachers_teach_the_mean_of_their_softmaxes(tiny, tmp_path, scale):
    x = images(tiny)
    one, two = scripted(tmp_path / "a.pt"), random_supernet(tiny, 3)
    save_supernet(two, tmp_path / "b.safetensors", {})
    both = load_teacher(f"{tmp_path / 'a.pt'} , {tmp_path / 'b.safetensors'}", tiny, scale=scale, trust=True)(
        x
    )
    largest = materialise(two, tiny.largest())
    with torch.no_grad():
        expected = ((scale * one(x)).softmax(-1) + (scale * largest(x)).softmax(-1)) / 2
    assert torch.allclose(both, expected, atol=1e-5)


def test_of_a_run_its_largest_subnet_teaches_with_its_own_normalisation(tiny, tmp_path):
    other_space = replace(tiny, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), resolutions=(8, 16))
    supernet = random_supernet(other_space, 1)
    save_supernet(supernet, tmp_path / "supernet.safetensors", {})
    (tmp_path / "space.toml").write_text(space_toml(other_space))
    pixels = torch.rand(3, 3, 16, 16)
    taught = load_teacher(str(tmp_path), tiny)(_normal(pixels, tiny))
    with torch.no_grad():
        expected = (5 * supernet(_normal(pixels, other_space), other_space.largest())).softmax(-1)
    assert torch.allclose(taught, expected, atol=1e-4)


def _normal(pixels, space):
    return (pixels - torch.tensor(space.mean)[:, None, None]) / torch.tensor(space.std)[:, None, None]


def test_a_teacher_of_other_classes_of_the_same_number_is_refused(tiny, tmp_path):
    save_supernet(random_supernet(tiny), tmp_path / "supernet.safetensors", {})
    (tmp_path / "space.toml").write_text(space_toml(tiny.with_labels(["a", "b", "c", "d"])))
    with pytest.raises(CheckpointError, match="a, b, c and 1 more"):
        load_teacher(str(tmp_path), tiny)
    load_teacher(str(tmp_path), tiny.with_labels(["a", "b", "c", "d"]))


@given(st.lists(st.floats(0.05, 2), min_size=12, max_size=12))
def test_renormalising_is_normalising_anew(values):
    old, new = (values[:3], values[3:6]), (values[6:9], values[9:])
    pixels = torch.rand(2, 3, 4, 4, dtype=torch.float64)

    def normal(pair):
        mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in pair)
        return (pixels - mean) / std

    assert torch.allclose(renormalised(normal(old), old, new), normal(new), atol=1e-9)


class Recorder(nn.Module):
    def forward(self, x):
        self.seen = x
        return x.flatten(1)[:, :4]


def test_a_member_gets_its_own_size_and_normalisation(tiny):
    module = Recorder()
    teach = Teacher([Member("m", module, 20, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))], tiny)
    teach(torch.zeros(2, 3, 12, 12))  # zeros are the space's mean
    assert module.seen.shape == (2, 3, 20, 20)
    assert torch.allclose(module.seen, torch.full((2, 3, 20, 20), 0.5), atol=1e-6)
    assert not module.training


def test_torchvision_models_take_a_state_dict_for_the_classes_of_the_data(tiny, tmp_path):
    models = require_module("torchvision.models")
    torch.manual_seed(0)
    module = models.mobilenet_v3_small(num_classes=4).eval()
    torch.save({"model": {f"module.{n}": v for n, v in module.state_dict().items()}}, tmp_path / "r.pth")
    teach = load_teacher(f"torchvision:mobilenet_v3_small@{tmp_path / 'r.pth'}", tiny)
    member = teach.members[0]
    assert (member.size, member.mean) == (224, (0.485, 0.456, 0.406))
    x = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(member.module(x), module(x), atol=1e-5)
    assert teach(images(tiny, 2)).sum(-1).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_timm_models_take_a_state_dict_of_any_form(tiny, tmp_path):
    timm = require_module("timm")
    torch.manual_seed(0)
    module = timm.create_model("mobilenetv3_small_050", num_classes=4).eval()
    torch.save({"state_dict": module.state_dict(), "optimizer": {}}, tmp_path / "t.pth.tar")
    teach = load_teacher(f"{SMALL}@{tmp_path / 't.pth.tar'}", tiny)
    x = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(teach.members[0].module(x), module(x), atol=1e-5)


def test_the_weights_of_a_library_s_model_are_found_in_any_wrapping(tiny, tmp_path):
    timm = require_module("timm")
    module, other = (timm.create_model("mobilenetv3_small_050", num_classes=4).eval() for _ in range(2))
    wrapped = {f"_orig_mod.{n}": v for n, v in module.state_dict().items()}
    torch.save({"student": wrapped, "teacher": other.state_dict()}, tmp_path / "two.pth")
    with pytest.raises(
        CheckpointError, match=r"'student\._orig_mod', 'teacher' all fit this model"
    ) as caught:
        load_teacher(f"{SMALL}@{tmp_path / 'two.pth'}", tiny)
    one_line(caught)
    torch.save({"model": other.state_dict(), "model_ema": module.state_dict()}, tmp_path / "ema.pth")
    assert "'model_ema'" in load_teacher(f"{SMALL}@{tmp_path / 'ema.pth'}", tiny).members[0].note
    teach = load_teacher(f"{SMALL}@{tmp_path / 'two.pth'}::student", tiny)
    for name, value in teach.members[0].module.state_dict().items():
        assert torch.equal(value, module.state_dict()[name]), name


def test_weights_of_another_model_or_other_classes_name_the_key(tiny, tmp_path):
    timm = require_module("timm")
    path = tmp_path / "w.pth"
    torch.save(timm.create_model("mobilenetv3_small_050", num_classes=10).state_dict(), path)
    with pytest.raises(
        CheckpointError, match=r"'classifier\.weight' has shape \(10, 1024\); \(4, 1024\)"
    ) as caught:
        load_teacher(f"{SMALL}@{path}", tiny)
    one_line(caught)
    with pytest.raises(CheckpointError, match=r"key .* is (unknown|missing)|has shape") as caught:
        load_teacher(f"timm:mobilenetv3_small_075@{path}", tiny)
    one_line(caught)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "names nothing"),
        ("nano,", "names nothing"),
        ("timm:no_such_model", "unknown teacher"),
        ("torchvision:no_such_model", "unknown teacher"),
        ("torchvision:fcn_resnet50", "unknown teacher"),  # segments
        ("resnet50.tflite", "timm:NAME, torchvision:NAME"),
        ("absent.onnx", "No such file"),
        ("no_such_weights", "no weights"),
        ("absent.pt", "No such file"),
        ("absent.safetensors", "No such file"),
        ("timm:resnet18@absent.pth", "No such file"),
        ("nano", "nano. knows the classes T-shirt"),
    ],
)
def test_what_cannot_teach_says_why_in_one_line(tiny, name, said):
    if name.startswith("timm"):
        require_module("timm")
    with pytest.raises(CheckpointError, match=said) as caught:
        load_teacher(name, tiny)
    one_line(caught)


def test_another_number_of_classes_is_refused(tiny, tmp_path):
    scripted(tmp_path / "t.pt", classes=7)
    with pytest.raises(CheckpointError, match="has 7 classes; the data have 4") as caught:
        load_teacher(str(tmp_path / "t.pt"), tiny, trust=True)
    one_line(caught)


def test_a_model_that_does_not_fit_the_images_is_refused_at_once(tiny, tmp_path):
    scripted(tmp_path / "t.pt", side=32)
    with pytest.raises(CheckpointError, match="does not take batches of 12 x 12 images") as caught:
        load_teacher(str(tmp_path / "t.pt"), tiny, trust=True)
    one_line(caught)


def test_without_network_the_libraries_weights_are_one_line(tiny, monkeypatch, tmp_path):
    require_module("torchvision.models")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody answers
    monkeypatch.setattr(urllib.request, "_opener", None)
    with pytest.raises(
        CheckpointError, match=r"could not be fetched .*give torchvision:resnet18@FILE"
    ) as caught:
        load_teacher("torchvision:resnet18", tiny)
    one_line(caught)


def test_a_library_that_is_absent_is_named(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match="timm is not installed") as caught:
        load_teacher(SMALL, tiny)
    one_line(caught)


def test_a_state_dict_alone_asks_for_its_model(tiny, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(CheckpointError, match=f"timm:resnet18@{path}"):
        load_teacher(str(path), tiny)


def test_programs_that_torch_would_unpickle_are_not_loaded(tiny, tmp_path, monkeypatch):
    program = torch.export.export(
        nn.Sequential(nn.Flatten(), nn.Linear(432, 4)), (torch.zeros(2, 3, 12, 12),)
    )
    torch.export.save(program, tmp_path / "p.pt2")
    monkeypatch.setattr(torch.export, "load", pytest.fail)
    with pytest.raises(CheckpointError, match=r"torch\.export program") as caught:
        load_teacher(str(tmp_path / "p.pt2"), tiny)
    one_line(caught)


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (self.mark.touch, ())


def test_nothing_in_a_pickle_is_executed(tiny, tmp_path):
    timm = require_module("timm")
    path, mark = tmp_path / "bomb.pth", tmp_path / "mark"
    state = timm.create_model("mobilenetv3_small_050", num_classes=4).state_dict()
    torch.save({"args": Bomb(mark), "state_dict": state}, path)
    load_teacher(f"{SMALL}@{path}", tiny)
    only_user_errors(load_teacher, str(path), tiny)
    assert not mark.exists()


@given(seed=st.integers(0, 2**31), cut=st.booleans())
@settings(max_examples=25)
def test_a_damaged_file_is_an_error_or_the_same_teacher(tiny, tmp_path_factory, seed, cut):
    folder, rng = tmp_path_factory.getbasetemp(), random.Random(seed)
    whole, broken = folder / "whole.ts", folder / "broken.ts"
    if not whole.exists():
        scripted(whole)
    content = bytearray(whole.read_bytes())
    if cut:
        content = content[: rng.randrange(len(content))]
    else:
        for _ in range(3):
            content[rng.randrange(len(content))] = rng.randrange(256)
    broken.write_bytes(content)
    outcome = only_user_errors(load_teacher, str(broken), tiny, trust=True)
    if not isinstance(outcome, str):
        assert outcome(torch.zeros(2, 3, 12, 12)).shape == (2, 4)


@given(st.text(alphabet="atimn:@,./ \x00é", max_size=20))
@settings(max_examples=40)
def test_any_text_as_a_name_is_a_teacher_or_one_line(tiny, text):
    only_user_errors(load_teacher, text, tiny)


def test_an_archive_of_something_else_is_no_teacher(tiny, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("letter.txt", "hello")
    (tmp_path / "x.pt").write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError, match="not TorchScript"):
        load_teacher(str(tmp_path / "x.pt"), tiny)


def test_nothing_of_a_teacher_is_trained(tiny, tmp_path):
    scripted(tmp_path / "t.pt")
    teach = load_teacher(str(tmp_path / "t.pt"), tiny, trust=True)
    assert not any(p.requires_grad for m in teach.members for p in m.module.parameters())
    assert teachers.Teacher is Teacher


# -- programs ---------------------------------------------------------------------------------------


class Writes(nn.Module):
    """A model whose script writes a file as soon as it is asked."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, self.where)
        return x.flatten(1)[:, :4]


class Pickled(nn.Module):
    """A model that leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        super().__init__()
        self.mark = Bomb(mark)

    def forward(self, x):
        return x.flatten(1)[:, :4]


def programs(folder: Path, mark: Path) -> list[Path]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Writes(str(mark))).save(str(folder / "scripted.pt"))
    torch.save(Pickled(mark), folder / "pickled.pth")
    torch.save(Pickled(mark), folder / "old.pt", _use_new_zipfile_serialization=False)
    torch.save({"model": Pickled(mark)}, folder / "within.pt")
    return sorted(folder.iterdir())


def test_programs_run_only_where_the_user_trusts_them(tiny, tmp_path):
    (tmp_path / "files").mkdir()
    mark = tmp_path / "mark"
    for path in programs(tmp_path / "files", mark):
        with pytest.raises(CheckpointError, match=r"is a program .*--trust-teacher") as caught:
            load_teacher(str(path), tiny)
        one_line(caught)
        assert not mark.exists()
        only_user_errors(load_teacher, str(path), tiny, trust=True)
        assert mark.exists()  # it is a program indeed
        mark.unlink()


def test_a_pickled_model_that_is_trusted_teaches(tiny, tmp_path):
    torch.save(Recorder(), tmp_path / "m.pth")
    x = images(tiny)
    actual = load_teacher(str(tmp_path / "m.pth"), tiny, trust=True)(x)
    assert torch.allclose(actual, (5 * x.flatten(1)[:, :4]).softmax(-1))


def test_a_run_that_is_resumed_asks_for_trust_again(tiny, tmp_path):
    """What a run folder holds never says that its teacher may run."""
    scripted(tmp_path / "t.ts", classes=4, side=12)
    (tmp_path / "space.toml").write_text(space_toml(tiny))
    options = {"space": str(tmp_path / "space.toml"), "data": "unused", "recipe": load_recipe("single")}
    request = run.TrainingRequest(**options, settings=Settings(out=tmp_path), teacher=str(tmp_path / "t.ts"))
    with pytest.raises(CheckpointError, match="--trust-teacher"):
        run._teacher(replace(request, resume=True), tiny, SILENT)
    assert run._teacher(replace(request, resume=True, trust_teacher=True), tiny, SILENT) is not None
    assert "trust" not in str(load_recipe("single").to_dict())


# -- ONNX -------------------------------------------------------------------------------------------


def onnx_file(path: Path, *, batch: object = "N", softmax: bool = False, kind: str = "float", **inside: str):
    """A linear classifier of 12 x 12 images, and its weights (432, 4)."""
    onnx = require_module("onnx")
    require_module("onnxruntime")
    helper, types = onnx.helper, onnx.TensorProto
    number, numpy_kind = (types.FLOAT16, "float16") if kind == "half" else (types.FLOAT, "float32")
    weights = (0.1 * torch.randn(432, 4, generator=torch.Generator().manual_seed(3))).numpy()
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    nodes += [helper.make_node("Softmax", ["y"], ["p"])] if softmax else []
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", number, [batch, 3, 12, 12])],
        [helper.make_tensor_value_info("p" if softmax else "y", number, [batch, 4])],
        [onnx.numpy_helper.from_array(weights.astype(numpy_kind), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, inside)
    onnx.save(model, str(path))
    return torch.from_numpy(weights)


@pytest.mark.parametrize("batch", ["N", 1, 3])
@pytest.mark.parametrize("kind", ["float", "half"])
def test_an_onnx_file_teaches_the_softmax_of_its_scaled_logits(tiny, tmp_path, batch, kind):
    weights, x = onnx_file(tmp_path / "t.onnx", batch=batch, kind=kind), images(tiny)
    actual = load_teacher(str(tmp_path / "t.onnx"), tiny, scale=5.0)(x)
    assert torch.allclose(
        actual, (5 * x.flatten(1) @ weights).softmax(-1), atol=2e-2 if kind == "half" else 1e-5
    )
    assert not actual.requires_grad


def test_an_onnx_file_that_ends_in_a_softmax_teaches_the_same(tiny, tmp_path):
    onnx_file(tmp_path / "a.onnx")
    onnx_file(tmp_path / "b.onnx", softmax=True)
    x = images(tiny)
    one, two = (load_teacher(str(tmp_path / name), tiny)(x) for name in ("a.onnx", "b.onnx"))
    assert torch.allclose(one, two, atol=1e-5)


def test_an_onnx_file_that_says_how_images_are_prepared_gets_them_so(tiny, tmp_path):
    preparation = '{"mean": [0, 0, 0], "std": [1, 1, 1]}'
    weights = onnx_file(tmp_path / "t.onnx", preparation=preparation)
    pixels = torch.rand(2, 3, 12, 12)
    actual = load_teacher(str(tmp_path / "t.onnx"), tiny)(_normal(pixels, tiny))
    assert torch.allclose(actual, (5 * pixels.flatten(1) @ weights).softmax(-1), atol=1e-4)


def test_an_onnx_file_of_other_classes_is_refused(tiny, tmp_path):
    onnx_file(tmp_path / "t.onnx", labels='["a", "b", "c", "d"]')
    with pytest.raises(CheckpointError, match="knows the classes a, b, c and 1 more"):
        load_teacher(str(tmp_path / "t.onnx"), tiny)


@pytest.mark.parametrize("place", ["/etc/hostname", "../w.bin", "a/w.bin", "link.bin", "absent.bin"])
def test_an_onnx_file_opens_no_file_that_is_not_beside_it(tiny, tmp_path, place):
    onnx = require_module("onnx")
    folder = tmp_path / "inner"
    folder.mkdir()
    onnx_file(folder / "t.onnx")
    model = onnx.load(str(folder / "t.onnx"))
    tensor = model.graph.initializer[0]
    (tmp_path / "w.bin").write_bytes(tensor.raw_data)
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    (folder / "w.bin").write_bytes(tensor.raw_data)
    onnx.external_data_helper.set_external_data(tensor, "w.bin")
    tensor.ClearField("raw_data")
    location = next(entry for entry in tensor.external_data if entry.key == "location")
    (folder / "t.onnx").write_bytes(model.SerializeToString())
    load_teacher(str(folder / "t.onnx"), tiny)
    location.value = place
    (folder / "t.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="no file beside it") as caught:
        load_teacher(str(folder / "t.onnx"), tiny)
    one_line(caught)


@given(seed=st.integers(0, 2**31), cut=st.booleans())
@settings(max_examples=25)
def test_a_damaged_onnx_file_is_an_error_or_a_teacher(tiny, tmp_path_factory, seed, cut):
    folder, rng = tmp_path_factory.getbasetemp(), random.Random(seed)
    onnx_file(folder / "whole.onnx")
    content = bytearray((folder / "whole.onnx").read_bytes())
    if cut:
        content = content[: rng.randrange(len(content))]
    else:
        content[rng.randrange(300)] = rng.randrange(256)
    (folder / "broken.onnx").write_bytes(content)
    outcome = only_user_errors(load_teacher, str(folder / "broken.onnx"), tiny)
    if not isinstance(outcome, str):
        assert outcome(torch.zeros(2, 3, 12, 12)).shape == (2, 4)
