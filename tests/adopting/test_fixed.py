"""A network of others as a space of one: its files, its checks, and whose code is run."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from adopting.small_networks import written
from commands import run

from nasvit_edge import trusting
from nasvit_edge.errors import SpaceError
from nasvit_edge.model import networks
from nasvit_edge.model.checkpoint import load_supernet, random_supernet
from nasvit_edge.model.subnet import calibrate, fold, materialise
from nasvit_edge.ops import all_ops, lower, macs
from nasvit_edge.sizes import config_parameters
from nasvit_edge.space import load_space, parse_space, read_space, space_toml

OWN = "own_networks"


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A folder with the user's module and its network adopted into `net`."""
    folder = tmp_path_factory.mktemp("adopted")
    written(folder, OWN)
    done = run("adopt", f"{OWN}:small", "--fixed", "--size", 32, "--out", "net", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def own(once, tmp_path, monkeypatch):
    """A folder with the same, the current one, in which no code is trusted yet."""
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv(trusting.TRUSTED, "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, OWN, raising=False)
    _forget(str(once), str(tmp_path))
    yield OWN
    _forget(str(once), str(tmp_path))


def _forget(*folders):
    """Take folders off the path in place: what others put there meanwhile stays."""
    for folder in folders:
        while folder in sys.path:
            sys.path.remove(folder)


EXPLICIT = (
    "--space",
    "net/space.toml",
    "--supernet",
    "net/supernet.safetensors",
    "--config",
    "net/config.json",
)


def test_a_space_of_one_is_what_its_network_is(own):
    space = load_space("net/space.toml")
    config = space.largest()
    assert (space.size(), space.classes, space.resolutions) == (1, 5, (32,))
    assert macs(space, config) == 16 * 16 * 8 * 27 + 8 * 5
    assert config_parameters(space, config) == 8 * 27 + 2 * 8 + 8 * 5 + 5
    assert list(all_ops(space)) == list(lower(space, config))
    assert space.network.source == f"{own}:small"


def test_its_toml_is_read_back_as_it_was(own):
    space = load_space("net/space.toml")
    assert read_space(space_toml(space), "text") == space


@pytest.mark.parametrize(
    ("key", "value"), [("source", "no colon"), ("digest", "short"), ("macs", -1), ("more", 1)]
)
def test_a_wrong_key_of_a_network_is_named(own, key, value):
    table = tomllib.loads(space_toml(load_space("net/space.toml")))
    table["network"][key] = value
    with pytest.raises(SpaceError, match=f"network.{key}"):
        parse_space(table, Path("net.toml"))


def test_a_network_has_no_stem_beside_it(own):
    table = tomllib.loads(space_toml(load_space("net/space.toml")))
    with pytest.raises(SpaceError, match="'stem' is unknown"):
        parse_space(table | {"stem": {"width": 8, "kernel_size": 3, "stride": 1}}, Path("net.toml"))


def test_the_supernet_and_its_subnet_are_the_network_itself(own):
    trusting.trust(f"{own}:small")
    space = load_space("net/space.toml")
    supernet = load_supernet("net/supernet.safetensors", space)
    body = supernet.get_submodule("network.body")
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected = body(x)
        assert torch.equal(supernet(x, space.largest()), expected)
        assert torch.allclose(fold(materialise(supernet, space.largest()))(x), expected, atol=1e-6)


def test_calibrating_leaves_the_statistics_of_its_training(own):
    trusting.trust(f"{own}:small")
    space = load_space("net/space.toml")
    subnet = materialise(random_supernet(space), space.largest())
    before = {name: value.clone() for name, value in subnet.state_dict().items()}
    calibrate(subnet, [torch.randn(4, 3, 32, 32)])
    assert all(torch.equal(value, before[name]) for name, value in subnet.state_dict().items())


def test_generic_weights_are_fixed_by_their_seed(own):
    trusting.trust(f"{own}:small")
    space = load_space("net/space.toml")
    one, same, other = (random_supernet(space, seed).state_dict() for seed in (0, 0, 1))
    name = "network.body.fc.weight"
    assert torch.equal(one[name], same[name])
    assert not torch.equal(one[name], other[name])


def test_it_is_exported_and_verified_against_the_module(own):
    word = ("--trust-code", f"{own}:small")
    done = run(*word, "export", *EXPLICIT, "--out", "net.onnx", "--json", "--no-cache")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["passed"]
    assert report["error"] < 1e-5
    checked = run(*word, "verify", "net.onnx", "--supernet", "net/supernet.safetensors", "--json")
    assert (checked.returncode, json.loads(checked.stdout)["reference"]) == (0, "supernet")


def test_an_open_batch_axis_and_8_bit_weights_are_written(own):
    word = ("--trust-code", f"{own}:small")
    for more in (("--batch", "dynamic"), ("--precision", "w8"), ("--precision", "fp16")):
        done = run(*word, "export", *EXPLICIT, *more, "--out", f"{more[1]}.onnx", "--no-cache")
        assert done.returncode == 0, done.stderr


def test_a_program_that_only_a_file_names_is_not_run(own, monkeypatch):
    monkeypatch.setenv(trusting.TRUSTED, "")
    monkeypatch.setattr(networks, "_imported", lambda name: pytest.fail("was run"))
    done = run("export", *EXPLICIT, "--out", "net.onnx")
    assert done.returncode == 2
    assert f"--trust-code {own}:small" in done.stderr
    assert len(done.stderr.strip().splitlines()[-1:]) == 1


def test_verifying_a_foreign_artifact_goes_by_what_was_stored(own, monkeypatch):
    run("--trust-code", f"{own}:small", "export", *EXPLICIT, "--out", "net.onnx")
    monkeypatch.setenv(trusting.TRUSTED, "")
    monkeypatch.setattr(networks, "_imported", lambda name: pytest.fail("was run"))
    checked = run("verify", "net.onnx", "--json")
    assert (checked.returncode, json.loads(checked.stdout)["reference"]) == (0, "stored")


def test_a_changed_function_is_another_network(own, tmp_path):
    trusting.trust(f"{own}:small")
    file = tmp_path / f"{own}.py"
    file.write_text(file.read_text().replace("mean((2, 3))", "amax((2, 3))"))
    sys.modules.pop(own, None)
    with pytest.raises(SpaceError, match=r"its file was changed; adopt it again"):
        load_supernet("random", load_space("net/space.toml"))


@pytest.mark.parametrize(
    ("function", "more", "said"),
    [
        ("small", (), "add --size 224"),
        ("pair", ("--size", 32), "gives a tuple"),
        ("number", ("--size", 32), "gives a int"),
        ("nothing", ("--size", 32), "has no function"),
        ("small", ("--size", 32, "--classes", 7), "gives 5 classes, not 7"),
    ],
)
def test_what_is_no_classifier_is_refused_in_one_line(own, function, more, said):
    done = run("adopt", f"{own}:{function}", "--fixed", *more, "--out", "other")
    assert done.returncode == 2
    assert said in done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("net", "said"),
    [
        ("resnet18.never", "resnet18.a1_in1k"),
        ("no_such_network", "knows no network"),
        ("torchvision:resnet18", "torchvision.models:resnet18"),
    ],
)
def test_a_network_that_there_is_not_is_refused_with_what_there_is(own, net, said):
    done = run("adopt", net, "--fixed", "--weights", "random", "--out", "other")
    assert done.returncode == 2
    assert said in done.stderr.strip().splitlines()[-1]


def test_a_fixed_network_is_not_trained(own):
    done = run("train", "--space", "net/space.toml", "--data", "fashion-mnist", "--out", "run")
    assert done.returncode != 0
    assert "adopt it again with --weights FILE" in done.stderr


def test_an_elastic_adoption_needs_photographs(own):
    done = run("adopt", "mobilenetv2_100", "--out", "other")
    assert done.returncode == 2
    assert "--data PHOTOS (or --fixed" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "tflite"])
@pytest.mark.parametrize(
    "name",
    ["levit_128s", "mobilenetv4_conv_small", "efficientvit_b0", "convnext_atto", "hgnetv2_b1", "repvit_m0_9"],
)
def test_families_of_timm_are_exported_as_they_are(own, name, form):
    assert run("adopt", name, "--fixed", "--weights", "random", "--out", "timm").returncode == 0
    explicit = [str(word).replace("net/", "timm/") for word in EXPLICIT]
    done = run("export", *explicit, "--format", form, "--out", f"net.{form}", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["error"] < 1e-4
