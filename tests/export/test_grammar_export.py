"""What a space's grammar lets blocks compute, exports compute as well."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import require_module
from grammar_spaces import space_with

from nasvit_edge.export import onnx
from nasvit_edge.model.checkpoint import random_supernet
from nasvit_edge.model.subnet import Subnet, fold_for, materialise

SPACES = {
    "unmixed": space_with(
        {"form": "fused"},
        attention={
            "mixing": "none",
            "norm": "token",
            "mlps": 1,
            "mlp_ratio": 2,
            "bias": False,
            "scaling": False,
        },
        common={"activation": "hard_swish", "squeeze": {"gate": "sigmoid", "of": "input"}},
    ),
    "identity": space_with(
        {"shortcut": "identity", "activation": "relu6", "last_activation": True},
        {"counts_first": False},
        {"norm": "token", "mlps": 3},
        {"kind": "pooled", "width": [16]},
        {"activation": "gelu"},
    ),
}


def _folded(name: str, runtime: str) -> tuple[Subnet, torch.Tensor, np.ndarray]:
    """A subnet as a runtime has it, an image, and its logits."""
    space = SPACES[name]
    subnet = fold_for(materialise(random_supernet(space, 1), space.largest()), runtime)
    image = torch.randn(1, 3, *subnet.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return subnet, image, subnet(image).numpy()


@pytest.mark.parametrize("name", SPACES)
def test_onnx_files_compute_every_kind_of_block(name):
    runtime = require_module("onnxruntime")
    subnet, image, expected = _folded(name, "onnxruntime")
    session = runtime.InferenceSession(onnx.convert(subnet, tuple(image.shape)))
    (result,) = session.run(None, {"image": image.numpy()})
    assert np.abs(result - expected).max() < 1e-4 * max(1, np.abs(expected).max())
