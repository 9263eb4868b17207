"""Networks of others are read block by block, and the space's largest subnet computes what they compute."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision

from nasvit_edge.adopting.reading import read_network
from nasvit_edge.adopting.spaces import Images, elastic_space, largest_space
from nasvit_edge.adopting.weights import difference, supernet_of
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.model.subnet import materialise, parameter_count
from nasvit_edge.ops import lower, macs
from nasvit_edge.space import read_space, space_toml

FEW = Images(size=64, resolutions=(48, 64), mean=(0.5,) * 3, std=(0.5,) * 3, crop_share=0.875)
READ = {  # of each family the smallest that timm or torchvision has, here for quick tests
    "mobilenetv2_035": 1_677_128,
    "tf_mobilenetv3_small_075": 2_041_872,
    "tv:mnasnet0_5": 2_218_512,
    "tinynet_e": 2_042_972,
}
MORE = [
    "mobilenetv2_100",
    "mobilenetv3_large_100",
    "tf_efficientnet_lite0",
    "efficientnet_b0",
    "tf_efficientnet_b1",
    "tf_efficientnetv2_b0",
    "mnasnet_100",
    "semnasnet_100",
    "fbnetc_100",
    "fbnetv3_b",
    "efficientnet_es",
    "spnasnet_100",
    "hardcorenas_a",
    "tv:mobilenet_v2",
    "tv:mobilenet_v3_small",
    "tv:mobilenet_v3_large",
    "tv:efficientnet_b0",
    "tv:efficientnet_v2_s",
    "tv:mnasnet1_0",
]
REFUSED = {
    "resnet18": "ResNet is none of the families",
    "mobilenetv4_conv_small": "depthwise, 1x1, depthwise, 1x1",
    "mobilenetv4_hybrid_medium": "has a LayerScale2d",
    "mixnet_s": "expands 12 channels to 36",
    "lcnet_100": "no 1x1 convolution before pooling",
    "ghostnet_100": "has a Sequential",
    "convnext_atto": "none of the families",
    "vit_tiny_patch16_224": "none of the families",
    "levit_128s": "none of the families",
    "regnetx_002": "none of the families",
    "mobilevit_xxs": "none of the families",
    "efficientvit_b0": "none of the families",
    "edgenext_xx_small": "none of the families",
    "repvgg_a0": "none of the families",
    "hgnetv2_b0": "none of the families",
    "tv:shufflenet_v2_x0_5": "none of the families",
    "tv:squeezenet1_1": "none of the families",
    "tv:alexnet": "features.0",
    "tv:densenet121": "none of the families",
    "fastvit_t8": "none of the families",
}


def network(name: str, *, meta: bool = False) -> torch.nn.Module:
    """A network with random weights, statistics of batch norm included."""
    torch.manual_seed(0)
    with torch.device("meta" if meta else "cpu"):
        if name.startswith("tv:"):
            module = getattr(torchvision.models, name[3:])()
        else:
            module = timm.create_model(name)
    if meta:
        return module
    for norm in module.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
            torch.nn.init.normal_(norm.running_mean, 0, 0.2)
            torch.nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return module.eval()


def _check(name: str, images: Images) -> None:
    module, batch = network(name), torch.randn(2, 3, images.size, images.size)
    read = read_network(module)
    plain = supernet_of(read, largest_space(read, images, "read"), order="none")
    assert difference(plain, module, batch) <= 1e-5
    space = elastic_space(read, images, "read")
    for order in ("importance", "random"):  # another order of the same sums
        ordered = supernet_of(read, space, order).double()
        assert difference(ordered, module.double(), batch.double()) <= 1e-9
    assert macs(plain.space, plain.space.largest()) == macs(space, space.largest())
    assert sum(map(parameter_count, lower(space, space.largest()))) == sum(
        p.numel() for p in module.parameters()
    )


@pytest.mark.parametrize("name", READ)
def test_the_largest_subnet_gives_the_networks_logits(name):
    assert sum(p.numel() for p in network(name).parameters()) == READ[name]
    _check(name, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_so_it_does_of_19_more_at_224_pixels(name):
    _check(name, Images(size=224, resolutions=(96, 224), mean=FEW.mean, std=FEW.std, crop_share=0.875))


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_with_block_and_reason_in_one_line(name):
    with pytest.raises(NasvitEdgeError) as refused:
        largest_space(read_network(network(name, meta=True)), FEW, "read")
    text = str(refused.value)
    assert REFUSED[name] in text
    assert "--fixed takes any network" in text
    assert "\n" not in text
    assert len(text) < 260


@pytest.mark.parametrize("name", ["mobilenetv3_large_100", "tf_efficientnet_lite0", "fbnetc_100"])
def test_the_space_is_a_toml_that_reads_back(name):
    read = read_network(network(name, meta=True))
    space = elastic_space(read, FEW, "read")
    assert read_space(space_toml(space), "read.toml") == space
    assert space.size() > 1e5


@pytest.mark.parametrize("least", [0.2, 0.25, 0.4, 0.5])
def test_the_smallest_keeps_the_share_of_macs_that_is_asked(least):
    read = read_network(network("tf_efficientnet_lite0", meta=True))
    space = elastic_space(read, FEW, "read", least)
    smallest = space.from_choices([64, *space.values(space.smallest())[1:]])
    assert least <= macs(space, smallest) / macs(space, space.largest()) < least + 0.12


def test_a_share_that_cannot_be_kept_is_refused():
    read = read_network(network("tf_efficientnet_lite0", meta=True))
    with pytest.raises(NasvitEdgeError, match=r"give a smaller --least-macs"):
        elastic_space(read, FEW, "read", 0.99)


def test_narrower_subnets_take_the_channels_that_matter():
    """Cut to a third, a network whose first channels are dead computes what it did, sorted by importance."""
    module = network("mobilenetv2_035")
    for block in (stage for part in module.blocks[1:] for stage in part):
        with torch.no_grad():
            block.conv_pwl.weight[:, : block.conv_pwl.in_channels // 2] = 0
    read, batch = read_network(module), torch.randn(2, 3, 64, 64)
    space = elastic_space(read, FEW, "read")
    half = space.largest().to_dict()
    half["expand_ratio"] = [ratios[0] for ratios in (gene.choices for gene in space.genes) if ratios[-1] == 6]
    config = space.config(**half)
    narrow = materialise(supernet_of(read, space), config)
    with torch.no_grad():
        theirs, ours = module(batch), narrow(batch)
        unsorted = materialise(supernet_of(read, space, "none"), config)(batch)
    assert (ours - theirs).abs().max() < 1e-4 * theirs.std()
    assert (unsorted - theirs).abs().max() > 0.1 * theirs.std()
