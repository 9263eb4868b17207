"""Which ops of a subnet lose most in int8: each op alone is rounded to 8 bits, the rest stays exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nasvit_edge.export import parity

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nasvit_edge.model.subnet import Subnet

IMAGES = 16
_Array = np.ndarray[Any, np.dtype[np.float32]]


def ranked(subnet: Subnet, images: _Array | None) -> list[str]:
    """The ops' names, most sensitive first, by the signal-to-noise ratio each leaves of the logits."""
    import torch

    from nasvit_edge.model.subnet import fold

    if images is None:
        images, _ = parity.inputs(subnet.space, subnet.config.resolution)
    x = torch.from_numpy(images[: parity.SCENES if subnet.space.is_dense else IMAGES])
    folded = fold(subnet)
    with torch.no_grad():
        exact = folded(x).numpy()
        ratios = {op.name: parity.snr_db(_rounded_at(folded, op.name, x), exact) for op in subnet.ops}
    return sorted(ratios, key=ratios.__getitem__)


def _rounded_at(module: nn.Module, name: str, x: Tensor) -> _Array:
    """The logits with the weights and inputs of one op's layers rounded to 8 bits."""
    from torch import nn

    layers = [m for m in module.get_submodule(name).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    weights = [layer.weight.data for layer in layers]
    hooks = [layer.register_forward_pre_hook(lambda _, args: (_round(args[0]),)) for layer in layers]
    try:
        for layer in layers:
            layer.weight.data = _round(layer.weight.data, channels=True)
        logits: _Array = module(x).numpy()
    finally:
        for layer, weight in zip(layers, weights, strict=True):
            layer.weight.data = weight
        for hook in hooks:
            hook.remove()
    return logits


def _round(x: Tensor, *, channels: bool = False) -> Tensor:
    """To 255 even steps between -max and max, of the whole tensor or of each output channel."""
    largest = x.abs().flatten(1).amax(1) if channels else x.abs().max()
    scale = (largest / 127).clamp_min(1e-12)
    if channels:
        scale = scale.view(-1, *[1] * (x.dim() - 1))
    return (x / scale).round() * scale
