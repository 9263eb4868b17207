"""`adopt`: a network and photographs become a run of a space of its own."""

from __future__ import annotations

import pytest
import torch
from image_folders import make
from safetensors.torch import load_file

from nasvit_edge import load_space, records
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.flows.adopt import ABOUT, START, Adopted, adopt, prepare
from nasvit_edge.listening import Listener
from nasvit_edge.requests.adopt import Request

NET = "timm:mobilenetv2_035"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make(tmp_path_factory.mktemp("photos") / "photos", ("cat", "dog"), count=12, side=40)


@pytest.fixture(scope="module")
def adopted(photos, tmp_path_factory):
    """The request of a run, its report, and what a person heard."""
    out, notes = tmp_path_factory.mktemp("run") / "mine", []
    request = Request(
        network=NET,
        data=str(photos),
        out=out,
        weights="random",
        size=32,
        epochs=1,
        batch_size=4,
        workers=0,
    )
    return request, adopt(request, listener=Listener(note=notes.append)), notes


def test_the_run_holds_a_space_weights_and_what_was_adopted(adopted):
    request, report, _ = adopted
    space = load_space(request.out / "space.toml")
    about = records.read(Adopted, request.out / ABOUT, "adoption")
    assert report.network == about
    assert (space.name, space.label_names()) == ("mobilenetv2_035-2c", ["cat", "dog"])
    assert about.difference <= 1e-5
    assert about.smallest_macs >= 0.35 * about.largest_macs
    assert about.licences["weights"] == "random"
    assert "timm" in about.licences["code"]
    assert set(report.accuracy) == {"smallest", "largest"}
    assert (request.out / "supernet.safetensors").exists()


def test_a_person_hears_what_it_is_and_what_it_may_be_used_for(adopted):
    notes = "\n".join(adopted[2])
    assert "is the largest of" in notes
    assert "licence of its code: Apache" in notes


def test_of_few_images_the_stem_stays_as_it_is(adopted):
    request, _, notes = adopted
    before, after = (load_file(request.out / name) for name in (START, "supernet.safetensors"))
    assert any("the stem stays as it is" in note for note in notes)
    assert torch.equal(before["first_conv.body.conv.weight"], after["first_conv.body.conv.weight"])
    assert not torch.equal(before["mb2.0.expand.conv.weight"], after["mb2.0.expand.conv.weight"])


def test_a_folder_that_holds_a_run_is_refused_without_resume(adopted):
    with pytest.raises(NasvitEdgeError, match="holds an adopted network already: go on with --resume"):
        adopt(adopted[0])


def test_without_a_run_there_is_nothing_to_resume(photos, tmp_path):
    request = Request(network=NET, data=str(photos), out=tmp_path, resume=True)
    with pytest.raises(NasvitEdgeError, match="holds nothing to resume"):
        adopt(request)


@pytest.mark.parametrize(
    ("network", "weights", "line"),
    [
        ("mobilenetv2_1", "random", "timm has no network 'mobilenetv2_1'; there are mobilenet"),
        ("torchvision:mobile", "random", "torchvision has no network 'mobile'"),
        ("hub:x", "random", "network 'hub:x' is unknown: give timm:NAME"),
        ("efficientnet-lite4", "pretrained", "there is no package with weights of efficientnet-lite4"),
        ("resnet18", "random", "none of the families"),
    ],
)
def test_what_cannot_be_adopted_is_one_clear_line(photos, tmp_path, network, weights, line):
    with pytest.raises(NasvitEdgeError) as refused:
        prepare(Request(network=network, data=str(photos), out=tmp_path, weights=weights))
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def test_small_photographs_are_not_blown_up_to_the_networks_size(photos, tmp_path):
    notes: list[str] = []
    request = Request(network=NET, data=str(photos), out=tmp_path, weights="random")
    space, about = prepare(request, Listener(note=notes.append))
    assert (space.resolutions, space.image_size, space.crop_share) == ((96,), 96, 1.0)
    assert about.macs > about.largest_macs
    assert any("--size says otherwise" in note for note in notes)


def test_weights_of_a_file_are_taken_by_name(photos, tmp_path):
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(3)
    state = timm.create_model("mobilenetv2_035").state_dict()
    save_file(state, tmp_path / "own.safetensors")
    request = Request(
        network=NET, data=str(photos), out=tmp_path, weights=str(tmp_path / "own.safetensors"), size=32
    )
    _, about = prepare(request)
    assert about.weights == "file own.safetensors"
    kept = load_file(tmp_path / START)
    assert torch.equal(kept["first_conv.body.conv.weight"], state["conv_stem.weight"])
    other = timm.create_model("mobilenetv2_050").state_dict()
    save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(NasvitEdgeError, match="are not of timm:mobilenetv2_035"):
        prepare(
            Request(
                network=NET,
                data=str(photos),
                out=tmp_path,
                weights=str(tmp_path / "other.safetensors"),
                size=32,
            )
        )
