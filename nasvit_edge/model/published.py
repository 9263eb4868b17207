"""The names and shapes that published checkpoints have for the entries of a supernet."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from nasvit_edge.model.supernet import Supernet
from nasvit_edge.network_ops import PLACE

DECODER = ("lateral.", "pixel_classifier.")
_TRANSFORMER = {
    "norm1": "norm1",
    "norm2": "norm2",
    "norm3": "norm3",
    "attention.query": "attn.q.linear",
    "attention.key": "attn.k.linear",
    "attention.value": "attn.v.linear",
    "attention.value_conv": "attn.vconv",
    "attention.mix_logits": "attn.proj_l.linear",
    "attention.mix_weights": "attn.proj_w.linear",
    "attention.project": "attn.proj.linear",
    "mlp1.inner": "mlp1.linear1.linear",
    "mlp1.outer": "mlp1.linear2.linear",
    "mlp2.inner": "mlp2.linear1.linear",
    "mlp2.outer": "mlp2.linear2.linear",
    "attention.position_table": "attn.relative_position_bias_table",
    "scale_attention": "rescale_attn",
    "scale_mlp": "rescale_mlp",
}
_MBCONV = {
    "expand.conv": "mobile_inverted_conv.inverted_bottleneck.conv.conv",
    "expand.norm": "mobile_inverted_conv.inverted_bottleneck.bn.bn",
    "depthwise.conv": "mobile_inverted_conv.depth_conv.conv.conv",
    "depthwise.norm": "mobile_inverted_conv.depth_conv.bn.bn",
    "se.reduce": "mobile_inverted_conv.depth_conv.se.fc.reduce",
    "se.expand": "mobile_inverted_conv.depth_conv.se.fc.expand",
    "project.conv": "mobile_inverted_conv.point_linear.conv.conv",
    "project.norm": "mobile_inverted_conv.point_linear.bn.bn",
    "shortcut.conv": "shortcut.conv.conv",
}
_ENDS = {
    "first_conv.body.conv": "first_conv.conv.conv",
    "first_conv.body.norm": "first_conv.bn.bn",
    "last_conv.expand.conv": "last_conv.final_expand_layer.conv.conv",
    "last_conv.expand.norm": "last_conv.final_expand_layer.bn.bn",
    "last_conv.features": "last_conv.feature_mix_layer.conv.conv",
    "classifier.linear": "classifier.linear.linear",
}
_PARTS = _TRANSFORMER | _MBCONV


def published_names(supernet: Supernet) -> dict[str, str]:
    """Our name -> published name, for every entry of the supernet that the published one has.

    Of a network that is taken as it is, the one that it has where it was made.
    """
    if supernet.space.network is not None:
        begin = f"{PLACE}.body."
        return {
            n: n.removeprefix(begin) for n in supernet.state_dict() if not n.endswith("num_batches_tracked")
        }
    numbers = {name: i for i, name in enumerate(n for n in supernet.ops if "." in n)}
    return {
        name: _published_name(name, numbers)
        for name in supernet.state_dict()
        if not name.endswith("num_batches_tracked")
    }


def _published_name(name: str, numbers: Mapping[str, int]) -> str:
    for ours, theirs in _ENDS.items():
        if name.startswith(f"{ours}."):
            return theirs + name[len(ours) :]
    if name.startswith(DECODER):
        return name  # nothing published has one
    stage, index, rest = name.split(".", 2)
    block = f"blocks.{numbers[f'{stage}.{index}']}"
    if rest in _PARTS:
        return f"{block}.{_PARTS[rest]}"
    part, leaf = rest.rsplit(".", 1)
    return f"{block}.{_PARTS.get(part, part)}.{leaf}"  # what no published one has keeps its name


def published_state(supernet: Supernet) -> dict[str, Tensor]:
    """The weights under published names and in published shapes (linear layers as (out, in))."""
    names = published_names(supernet)
    state = supernet.state_dict()
    return {theirs: _published_shape(theirs, state[ours]) for ours, theirs in names.items()}


def _published_shape(name: str, tensor: Tensor) -> Tensor:
    if name.endswith(".linear.weight"):
        return tensor.flatten(1)
    if name == "last_conv.feature_mix_layer.conv.conv.weight":
        return tensor[:, :, None, None]
    return tensor
