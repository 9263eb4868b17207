"""Networks and families that others published, as TOML over the grammar: nothing of them is in the package."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nasvit_edge.model.checkpoint import random_supernet
from nasvit_edge.model.subnet import materialise
from nasvit_edge.ops import MBConv, lower
from nasvit_edge.sizes import config_parameters
from nasvit_edge.space import SearchSpace, parse_space


def _space(stem: int, rows: str, head: dict, **common) -> SearchSpace:
    """A space of rows `blocks kernel stride ratio width`; behind them `se`, `separable`, `fused`, `conv` and activations."""
    table = {"schema": 1, "name": "published", "resolutions": [224], "classes": 1000}
    table |= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "head": head} | common
    table["stem"] = {"width": [stem], "kernel_size": 3, "stride": 2}
    return parse_space(table | {"stage": [*map(_stage, enumerate(rows.split("\n")))]}, Path("published.toml"))


def _stage(numbered: tuple[int, str]) -> dict:
    number, (blocks, kernel, stride, ratio, width, *more) = numbered[0], numbered[1].split()
    stage = {
        "name": f"mb{number}",
        "kind": "mbconv",
        "width": int(width),
        "depth": int(blocks),
        "stride": int(stride),
    }
    stage |= {
        "kernel_size": int(kernel),
        "expand_ratio": float(ratio),
        "se": "se" in more,
        "shortcut": "identity",
    }
    stage |= {"form": "fused"} if {"fused", "conv"} & set(more) else {}
    stage |= {"last_activation": True} if "conv" in more else {}
    return stage | ({"activation": "relu"} if "relu" in more else {})


POOLED = {"kind": "pooled", "width": [1280]}
SQUEEZED = {"squeeze": {"of": "input", "rounded": False, "activation": "silu", "gate": "sigmoid"}}
MOBILENET_2 = """1 3 1 1 16
2 3 2 6 24
3 3 2 6 32
4 3 2 6 64
3 3 1 6 96
3 3 2 6 160
1 3 1 6 320"""
EFFICIENTNET_B0 = """1 3 1 1 16 se
2 3 2 6 24 se
2 5 2 6 40 se
3 3 2 6 80 se
3 5 1 6 112 se
4 5 2 6 192 se
1 3 1 6 320 se"""
EFFICIENTNET_2S = """2 3 1 1 24 conv
4 3 2 4 48 fused
4 3 2 4 64 fused
6 3 2 4 128 se
9 3 1 6 160 se
15 3 2 6 256 se"""
MOBILENET_3L = """1 3 1 1 16 relu
1 3 2 4 24 relu
1 3 1 3 24 relu
3 5 2 3 40 se relu
1 3 2 6 80
1 3 1 2.5 80
2 3 1 2.3 80
2 3 1 6 112 se
3 5 2 6 160 se"""
NETWORKS = {
    "MobileNetV2": (_space(32, MOBILENET_2, POOLED, activation="relu6"), 3_504_872),
    "EfficientNet-B0": (_space(32, EFFICIENTNET_B0, POOLED, **SQUEEZED), 5_288_548),
    "EfficientNetV2-S": (_space(24, EFFICIENTNET_2S, POOLED, **SQUEEZED), 21_458_488),
    "MobileNetV3-Large": (
        _space(16, MOBILENET_3L, {"width": [1280], "expand_ratio": 6, "bias": True}, activation="hard_swish"),
        5_483_032,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_published_network_has_the_published_number_of_parameters(name):
    space, parameters = NETWORKS[name]
    assert space.size() == 1
    assert config_parameters(space, space.largest()) == parameters


def test_a_family_whose_blocks_choose_for_themselves_is_a_space():
    """Once-for-all's MobileNetV3 (Cai et al., ICLR 2020): five stages of two to four blocks, each with its kernel and ratio."""
    chosen = {"kernel_size": [[3, 5, 7]] * 4, "expand_ratio": [[3, 4, 6]] * 4, "depth": [2, 3, 4]}
    rows = (
        (24, 2, "relu", False),
        (40, 2, "relu", True),
        (80, 2, None, False),
        (112, 1, None, True),
        (160, 2, None, True),
    )
    stages = [_stage((0, "1 3 1 1 16 relu"))]
    for number, (width, stride, act, se) in enumerate(rows, 1):
        keys = {"name": f"mb{number}", "width": width, "stride": stride, "se": se, "form": "inverted"}
        stages.append(stages[0] | keys | chosen | {"activation": act or "hard_swish"})
    head = {"width": [1280], "expand_ratio": 6}
    table = {
        "schema": 1,
        "name": "ofa",
        "resolutions": [128, 224],
        "classes": 10,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    table |= {"stem": {"width": [16], "kernel_size": 3, "stride": 2}, "stage": stages, "head": head}
    space = parse_space(table | {"activation": "hard_swish"}, Path("ofa.toml"))
    assert space.counts == {"width": 2, "depth": 5, "kernel_size": 20, "expand_ratio": 20}
    values = space.largest().to_dict() | {
        "resolution": 128,
        "kernel_size": [3, 5, 7, 3] * 5,
        "depth": [2, 3, 4, 2, 3],
    }
    config = space.config(**values)
    kernels = [op.kernel_size for op in lower(space, config) if isinstance(op, MBConv)]
    assert kernels == [3, 3, 5, 3, 5, 7, 3, 5, 7, 3, 3, 5, 3, 5, 7]
    supernet, image = random_supernet(space, 1), torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        assert torch.equal(materialise(supernet, config)(image), supernet(image, config))
