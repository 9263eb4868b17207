"""A small block table in nn-Meter's published format, with made-up latencies."""

from __future__ import annotations

from nasvit_edge.latency import nn_meter
from nasvit_edge.ops import MBConv, TransformerBlock, all_ops
from nasvit_edge.space import load_space

SPACE = load_space("nasvit")


def small_table():
    """Every op of the space whose sides are even, in the published format."""
    table = {"conv_56_24_24_4_1_hard_swish_3_se": 1.0, "transds_8_32_48_2_4": 2.0}
    for op in all_ops(SPACE):
        kind = op.key().split("/")[0]
        ms = 0.01 + op.macs() / 1e6
        if kind == "stem":
            table[f"firstconv_{op.height}_3_{op.channels}_2_3_swish"] = ms
        elif isinstance(op, MBConv) and op.height % 2 == 0:
            table[nn_meter._mbconv_keys(op)[0]] = ms
        elif isinstance(op, TransformerBlock):
            table[f"nasvit_transattn_{op.height}_{op.channels}_swish_4_ln"] = ms
            table[f"nasvit_transffn_{op.height}_{op.channels}_1_swish_ln"] = ms / 4
        elif kind == "head":
            table[f"mbpool_{op.height}_{op.in_channels}_{op.features}_6_swish"] = ms
    return table
